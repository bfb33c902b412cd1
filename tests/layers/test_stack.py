"""A stack with real functions in MiniStack, put back on the layer that they used before."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from layers import aws, publishing, stack
from layers.archive import Archive
from layers.contract import read_contract
from layers.errors import LayerError
from layers.publishing import publish
from layers.rollback import rollback
from layers.samconfig import Target
from layers.versions import Version
from tests.engines.processes import Engine
from tests.infra.deployment import sdk_for
from tests.layers.zips import small

FUNCTION = {
    "Type": "AWS::Serverless::Function",
    "Properties": {
        "Handler": "index.handler",
        "InlineCode": "from answers import handler",
        "Runtime": {"Ref": "Runtime"},
        "Architectures": [{"Ref": "Architecture"}],
        "Layers": [{"Ref": "CommonLayerArn"}],
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Environment": {"Variables": {"WORD": {"Ref": "Word"}}},
    },
}
ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []}},
}
REQUIRED, OPTIONAL = {"Type": "String"}, {"Type": "String", "Default": ""}
TEMPLATE = {
    "Transform": "AWS::Serverless-2016-10-31",
    "Parameters": {
        "Runtime": REQUIRED,
        "Architecture": REQUIRED,
        "CommonLayerArn": REQUIRED,
        "PreviousLayerArn": OPTIONAL,
        "Word": OPTIONAL,
    },
    "Resources": {"One": FUNCTION, "Two": FUNCTION, "Role": ROLE},
    "Outputs": {"CommonLayerArn": {"Value": {"Ref": "CommonLayerArn"}}},
}

OTHER = {"Resources": {"One": {"InlineCode": "from more.answers import handler"}}}

ANSWER = """
import os

def handler(event, context):
    return "{} {}".format(os.environ["WORD"], NUMBER)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A stack that is up, on the first of three versions; two more are for another template."""

    functions: Any
    cloudformation: Any
    target: Target
    versions: list[Version]

    def describe(self) -> stack.Stack:
        described = stack.describe(self.cloudformation, self.target.stack)
        assert described is not None
        return described

    def use(self, arn: str) -> None:
        stack.use(self.cloudformation, self.describe(), arn)

    def rollback(self, to: int | None = None, *, force: bool = False) -> int:
        version, _ = rollback(self.functions, self.cloudformation, self.target, to=to, force=force)
        return version.number

    def answers(self) -> list[str]:
        """What both functions say."""
        told = []
        for name in ("One", "Two"):
            (resource,) = self.cloudformation.describe_stack_resources(
                StackName=self.target.stack, LogicalResourceId=name
            )["StackResources"]
            done = self.functions.invoke(FunctionName=resource["PhysicalResourceId"])
            with done["Payload"] as payload:
                told.append(json.loads(payload.read()))
        return told


@pytest.fixture(scope="module")
def world(ministack: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    target = Target(
        stack=f"a-{uuid.uuid4().hex[:12]}",
        runtime="python3.13",
        architecture="arm64",
        overrides=(),
    )
    with sdk_for(ministack), aws.clients(target) as (functions, cloudformation):
        versions = []
        for number in (1, 2, 3, 4, 5):
            answer = ANSWER.replace("NUMBER", str(number))
            archive = small(tmp_path_factory.mktemp("layer"), answers=answer)
            template = OTHER if number > 3 else TEMPLATE
            versions.append(publish_for(template, functions, target, archive))
        parameters = {
            "Runtime": target.runtime,
            "Architecture": target.architecture,
            "CommonLayerArn": versions[0].arn,
            "Word": "Hello",
        }
        cloudformation.create_stack(
            StackName=target.stack,
            TemplateBody=json.dumps(TEMPLATE),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value}
                for name, value in parameters.items()
            ],
            Tags=[{"Key": "Env", "Value": "dev"}],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=target.stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
        yield World(
            functions=functions, cloudformation=cloudformation, target=target, versions=versions
        )


def publish_for(
    template: Mapping[str, Any], functions: Any, target: Target, archive: Archive
) -> Version:
    with pytest.MonkeyPatch.context() as patch:
        contract = read_contract(json.dumps(template, indent=1))
        patch.setattr(publishing, "read_contract", lambda: contract)
        return publish(functions, target, archive)[0]


@pytest.fixture(autouse=True)
def begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both functions use the first version, whatever the last test did, and no wait is long."""
    monkeypatch.setattr(stack, "_POLL_S", 0.05)
    if world.describe().in_use != world.versions[0].arn:
        world.use(world.versions[0].arn)


def test_a_stack_says_what_it_uses(world: World) -> None:
    described = world.describe()
    assert described.in_use == world.versions[0].arn
    assert described.parameters["Word"] == "Hello"
    assert stack.describe(world.cloudformation, "no-such-stack") is None


def test_functions_answer_from_the_old_layer_after_a_rollback(world: World) -> None:
    world.use(world.versions[2].arn)
    assert world.answers() == ["Hello 3", "Hello 3"]
    before = world.cloudformation.describe_stacks(StackName=world.target.stack)["Stacks"][0]
    assert world.rollback() == 1
    assert world.answers() == ["Hello 1", "Hello 1"]
    described = world.describe()
    assert (described.in_use, described.before) == (world.versions[0].arn, world.versions[2].arn)
    after = world.cloudformation.describe_stacks(StackName=world.target.stack)["Stacks"][0]
    assert after["Tags"] == before["Tags"]
    assert after["Outputs"][0]["OutputValue"] == world.versions[0].arn
    others = {
        name: value for name, value in described.parameters.items() if not name.endswith("LayerArn")
    }
    assert others == {"Runtime": "python3.13", "Architecture": "arm64", "Word": "Hello"}


def test_a_second_time_goes_forward_again(world: World) -> None:
    world.use(world.versions[2].arn)
    assert [world.rollback(), world.rollback()] == [1, 3]
    assert world.answers() == ["Hello 3", "Hello 3"]


def test_it_goes_further_back_when_it_is_told_where(world: World) -> None:
    world.use(world.versions[2].arn)
    assert world.rollback(to=2) == 2
    assert world.answers() == ["Hello 2", "Hello 2"]
    with pytest.raises(LayerError, match="uses version 2 already"):
        world.rollback(to=2)


def test_force_does_not_change_what_fits(world: World) -> None:
    """That is for the template to say, not for the version in use."""
    with pytest.raises(LayerError, match=r"version 4 of commit .* was not published for"):
        world.rollback(to=4)
    assert world.rollback(to=4, force=True) == 4
    with pytest.raises(LayerError, match=r"version 5 .* was not published for"):
        world.rollback(to=5)
    assert world.rollback() == 1
    with pytest.raises(LayerError, match=r"version 4 .* was not published for"):
        world.rollback()
    assert world.answers() == ["Hello 1", "Hello 1"]


def test_what_cannot_be_put_back_changes_nothing_and_says_why(world: World) -> None:
    """Such as a version that somebody deletes at that moment."""
    with pytest.raises(LayerError) as failed:
        world.use(world.versions[0].arn.removesuffix(":1") + ":99")
    said = "is not on version 99, but as it was before (UPDATE_ROLLBACK_COMPLETE): "
    assert said in str(failed.value)
    assert ": One: " in str(failed.value) or ": Two: " in str(failed.value)
    assert "\n" not in str(failed.value)
    assert world.answers() == ["Hello 1", "Hello 1"]
    assert world.describe().in_use == world.versions[0].arn
    assert world.rollback(to=2) == 2  # and from there the next one works


def test_what_could_not_even_be_undone_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine gets that far: the status is the test's own."""
    monkeypatch.setattr(stack, "_wait", lambda *_: "UPDATE_ROLLBACK_FAILED")
    with pytest.raises(LayerError, match=r"to be mended by hand \(UPDATE_ROLLBACK_FAILED\): "):
        world.use(world.versions[1].arn)
    monkeypatch.undo()
    stack._wait(world.cloudformation, world.target.stack)


def test_a_stack_that_is_not_there(world: World) -> None:
    target = replace(world.target, stack="no-such-stack")
    with pytest.raises(LayerError, match="there is no stack no-such-stack in this account"):
        rollback(world.functions, world.cloudformation, target, to=None, force=False)


def test_a_wait_has_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_BOUND_S", 0.0)
    busy = replace(world.describe(), status="UPDATE_IN_PROGRESS")
    monkeypatch.setattr(stack, "describe", lambda *_: busy)
    with pytest.raises(LayerError, match="still busy after 0 minutes"):
        stack._wait(world.cloudformation, world.target.stack)
