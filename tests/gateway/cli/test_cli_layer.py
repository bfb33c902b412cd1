"""`makoto layer`: what it prints, and how it ends, against moto's Lambda and CloudFormation."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.main import main
from layers import aws, canary, publishing, samconfig
from layers.archive import Archive
from layers.contract import BEFORE, IN_USE, read_contract
from layers.publishing import Built, publish
from layers.samconfig import Target, read_target
from tests.engines.processes import Engine
from tests.infra.deployment import sdk_for
from tests.layers.zips import small

Says = pytest.CaptureFixture[str]

METADATA = {
    "Handlers": [{"InlineCode": line} for line in read_contract().handlers],
    **dict.fromkeys(read_contract().variables, ""),
}
"""What is expected of the layer, where moto has no functions that expect it."""

TEMPLATE = {
    "Parameters": {
        name: {"Type": "String", "Default": ""}
        for name in (IN_USE, BEFORE, "Runtime", "Architecture")
    },
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Metadata": METADATA}},
}


@pytest.fixture(autouse=True)
def target(
    moto_server: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Target]:
    """Of an environment `dev` that no other test has used."""
    config = tmp_path / "samconfig.toml"
    config.write_text(
        f'[dev.deploy.parameters]\nstack_name = "a-{uuid.uuid4().hex[:8]}"\n'
        'parameter_overrides = ["Runtime=python3.13", "Architecture=arm64"]\n'
    )
    monkeypatch.setattr(samconfig, "SAMCONFIG", config)
    monkeypatch.setattr(publishing, "BUILT", tmp_path / "build")
    with sdk_for(moto_server):
        yield read_target("dev")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """What is built at once, where the real layer takes half a minute."""
    archive = small(tmp_path, answers="x = 1")
    monkeypatch.setattr(publishing, "build", lambda **_: Built(archive=archive, compiled=False))
    monkeypatch.setattr(canary, "verify", lambda *_, **__: "all was imported")
    return archive


def publish_more(target: Target, folder: Path, *numbers: int) -> list[str]:
    with aws.clients(target) as (functions, _):
        made = [small(folder / str(number), answers=f"x = {number}") for number in numbers]
        return [publish(functions, target, archive)[0].arn for archive in made]


def deploy(target: Target, *, in_use: str, before: str = "") -> None:
    said = {IN_USE: in_use, BEFORE: before, "Runtime": "python3.13", "Architecture": "arm64"}
    parameters = [{"ParameterKey": name, "ParameterValue": said[name]} for name in said]
    with aws.clients(target) as (_, cloudformation):
        cloudformation.create_stack(
            StackName=target.stack, TemplateBody=json.dumps(TEMPLATE), Parameters=parameters
        )


def layer(*arguments: str) -> int:
    return main(["layer", *arguments])


def failure(capsys: Says, *arguments: str) -> str:
    assert layer(*arguments) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    return written.err.removeprefix("makoto: ").removesuffix("\n")


# Building and publishing


def test_build_says_the_sizes_and_the_hash(archive: Archive, capsys: Says) -> None:
    assert layer("build") == 0
    said = capsys.readouterr()
    assert said.out == (
        f"layer.zip: 0.0 MB zipped, 0.0 MB unzipped (of 250.0 MB), sha256 {archive.sha256}\n"
    )
    assert "no working python3.13 on PATH, so cold starts compile the code" in said.err


def test_verify_wants_a_build(capsys: Says) -> None:
    said = failure(capsys, "verify")
    assert said == "there is no built common-python3.13-arm64.zip: makoto layer build"


def test_publish_says_which_version_and_publishes_nothing_twice(
    archive: Archive, target: Target, capsys: Says
) -> None:
    assert layer("publish") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "all was imported",
        f"{target.layer} published: version 1",
    ]
    assert layer("publish") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{target.layer} has this content already, so nothing was published: version 1"
    )


def test_what_sam_is_told_stands_alone_on_the_output(
    archive: Archive,
    target: Target,
    tmp_path: Path,
    capsys: Says,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (old,) = publish_more(target, tmp_path, 7)
    deploy(target, in_use=old)
    monkeypatch.setattr(publishing, "commit", lambda _: "another")
    assert layer("publish", "--overrides") == 0
    said = capsys.readouterr()
    new = old.removesuffix(":1") + ":2"
    assert said.out == (
        f"Runtime=python3.13 Architecture=arm64 CommonLayerArn={new} PreviousLayerArn={old}\n"
    )
    assert "published: version 2" in said.err


def test_a_layer_that_does_not_work_is_not_published(
    archive: Archive, target: Target, monkeypatch: pytest.MonkeyPatch, capsys: Says
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise canary.LayerError("the layer does not work: it is broken")

    monkeypatch.setattr(canary, "verify", broken)
    assert layer("publish") == 1
    assert "does not work" in capsys.readouterr().err
    assert layer("list") == 0
    assert capsys.readouterr().out == f"no version of {target.layer} is published\n"


# Listing, rolling back, pruning


def test_list_says_which_version_is_used(target: Target, tmp_path: Path, capsys: Says) -> None:
    first, second, _ = publish_more(target, tmp_path, 1, 2, 3)
    deploy(target, in_use=first, before=second)
    assert layer("list") == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["VERSION", "PUBLISHED", "FOR", "COMMIT", "SHA256", "USED"]
    assert [row[0] for row in rows] == ["3", "2", "1"]
    assert [row[6:] for row in rows] == [[], ["before"], ["in", "use"]]
    assert rows[0][2:4] == ["python3.13", "arm64"]
    assert len(rows[0][5]) == 12


def test_rollback_says_what_is_used_now(target: Target, tmp_path: Path, capsys: Says) -> None:
    first, _, third = publish_more(target, tmp_path, 1, 2, 3)
    deploy(target, in_use=third, before=first)
    assert layer("rollback") == 0
    assert capsys.readouterr().out == f"{target.stack} uses version 1 of its layer instead of 3\n"
    assert layer("rollback", "--to", "2") == 0
    assert capsys.readouterr().out == f"{target.stack} uses version 2 of its layer instead of 1\n"
    assert failure(capsys, "rollback", "--to", "2") == f"{target.stack} uses version 2 already"


def test_prune_deletes_what_nobody_needs(target: Target, tmp_path: Path, capsys: Says) -> None:
    first, second, *_ = publish_more(target, tmp_path, 1, 2, 3, 4, 5)
    deploy(target, in_use=second, before=first)
    for _ in range(2):
        assert layer("prune", "--keep", "1", "--dry-run") == 0
        assert capsys.readouterr().out.splitlines() == [
            "would delete version 3",
            "would delete version 4",
            f"3 of 5 versions of {target.layer} stay",
        ]
    assert layer("prune", "--keep", "1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "deleted version 3",
        "deleted version 4",
        f"3 of 5 versions of {target.layer} stay",
    ]
    assert layer("prune", "--keep", "1") == 0
    assert capsys.readouterr().out == f"3 of 3 versions of {target.layer} stay\n"


def test_prune_deletes_all_of_a_stack_that_is_gone(
    target: Target, tmp_path: Path, capsys: Says
) -> None:
    publish_more(target, tmp_path, 1, 2)
    assert layer("prune", "--keep", "0") == 0
    assert capsys.readouterr().out.endswith(f"0 of 2 versions of {target.layer} stay\n")


# What goes wrong


@pytest.mark.parametrize("verb", ["build", "verify", "publish", "list", "rollback"])
def test_an_environment_that_nobody_described(verb: str, capsys: Says) -> None:
    assert failure(capsys, verb, "--env", "qa") == "infra/samconfig.toml has no qa"


def test_no_stack(target: Target, capsys: Says) -> None:
    said = f"there is no stack {target.stack} in this account and region"
    assert failure(capsys, "rollback") == said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_DEFAULT_REGION", None, "there is no AWS region: set AWS_DEFAULT_REGION, or"),
        ("AWS_ACCESS_KEY_ID", None, "there are no AWS credentials: log in, or set AWS_PROFILE"),
        ("AWS_PROFILE", "nobody", "AWS: The config profile (nobody) could not be found"),
        ("AWS_ENDPOINT_URL", "nowhere", "AWS: Invalid endpoint: nowhere"),
    ],
)
def test_what_the_sdk_lacks(
    name: str,
    value: str | None,
    told: str,
    tmp_path: Path,
    capsys: Says,
) -> None:
    with pytest.MonkeyPatch.context() as patch:  # undone before what the fixture has set is
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        if value is None:
            patch.delenv(name)
        else:
            patch.setenv(name, value)
        assert told in failure(capsys, "list")


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["prune"], ["prune", "--keep", "-1"], ["rollback", "--to", "latest"]],
)
def test_wrong_usage(arguments: list[str], capsys: Says) -> None:
    with pytest.raises(SystemExit) as ended:
        layer(*arguments)
    assert ended.value.code == 2
    assert "usage: makoto layer" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["build", "verify", "publish", "list", "rollback", "prune"])
def test_help(verb: str, capsys: Says) -> None:
    with pytest.raises(SystemExit) as ended:
        layer(verb, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: makoto layer {verb}" in said
    assert "--env" in said
