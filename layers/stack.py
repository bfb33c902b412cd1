"""Which version of the layer the functions of a stack use, and putting another one in its place.

The stack's parameters `CommonLayerArn` and `PreviousLayerArn` are the one in use and the one before it, so
that both change with the functions or not at all.
"""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from layers.aws import one_line
from layers.contract import BEFORE, IN_USE
from layers.errors import LayerError
from layers.versions import number_of

READY: Final = {
    *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
    *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
}
"""From which CloudFormation updates a stack, see
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html"""

_BUSY: Final = "_IN_PROGRESS"
_CAPABILITIES: Final = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")
_POLL_S: Final = 2.0
_BOUND_S: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack as CloudFormation describes it.

    Attributes:
        status: such as `UPDATE_COMPLETE`.
        parameters: values by name.
        in_use: ARN of the version that its functions use.
        before: ARN of the one that they used before that, if any.
    """

    name: str
    status: str
    parameters: Mapping[str, str]
    in_use: str | None
    before: str | None


def describe(cloudformation: Any, name: str) -> Stack | None:
    """Return a stack, or None where there is none of that name.

    Raises:
        LayerError: AWS refuses, or cannot be reached.
    """
    with one_line():
        try:
            (said,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        except cloudformation.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
    parameters = _pairs(said.get("Parameters", ()), "Parameter")
    outputs = _pairs(said.get("Outputs", ()), "Output")
    return Stack(
        name=name,
        status=said["StackStatus"],
        parameters=parameters,
        # A stack of before these were parameters has the output, too.
        in_use=parameters.get(IN_USE) or outputs.get(IN_USE),
        before=parameters.get(BEFORE) or None,
    )


def template(cloudformation: Any, name: str) -> str:
    """Return the template that a stack has, before CloudFormation transformed it, as YAML or JSON.

    Raises:
        LayerError: AWS refuses, or cannot be reached.
    """
    with one_line():
        said = cloudformation.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
    return said if isinstance(said, str) else json.dumps(said, indent=1)  # the SDK has read JSON


def refuse_if_busy(stack: Stack) -> None:
    """Let pass a stack that CloudFormation is not at work on.

    Raises:
        LayerError: it is.
    """
    if stack.status.endswith(_BUSY):
        raise LayerError(f"{stack.name} is busy ({stack.status}): wait until that is over")


def use(cloudformation: Any, stack: Stack, arn: str) -> None:
    """Have all functions of a stack use a version, or none, and wait for the end; 1 to 2 minutes on AWS.

    Nothing else of the stack changes: its template and its other parameters stay as they are. Whoever
    interrupts this does not interrupt CloudFormation.

    Args:
        cloudformation: its client.
        stack: ready.
        arn: of the version.

    Raises:
        LayerError: CloudFormation refuses, or fails; the text says whether it put everything back.
    """
    changed = {IN_USE: arn, BEFORE: stack.in_use or ""}
    token = str(uuid.uuid4())  # so that a request that is repeated is the same one
    with one_line():
        cloudformation.update_stack(
            StackName=stack.name,
            UsePreviousTemplate=True,
            Parameters=[
                {"ParameterKey": name, "ParameterValue": changed[name]}
                if name in changed
                else {"ParameterKey": name, "UsePreviousValue": True}
                for name in stack.parameters
            ],
            Capabilities=_CAPABILITIES,
            ClientRequestToken=token,
        )
    status = _wait(cloudformation, stack.name)
    if status != "UPDATE_COMPLETE":
        now = "as it was before" if status == "UPDATE_ROLLBACK_COMPLETE" else "to be mended by hand"
        raise LayerError(
            f"{stack.name} is not on version {number_of(arn)}, but {now} ({status}): "
            f"{_reason(cloudformation, stack.name, token)}"
        )


def _wait(cloudformation: Any, name: str) -> str:
    """Return the status that an update ends with."""
    deadline = time.monotonic() + _BOUND_S
    while (stack := describe(cloudformation, name)) is None or stack.status.endswith(_BUSY):
        if time.monotonic() > deadline:
            raise LayerError(f"{name} is still busy after {_BOUND_S / 60:.0f} minutes")
        time.sleep(_POLL_S)
    return stack.status


def _reason(cloudformation: Any, name: str, token: str) -> str:
    """Return why an update failed: what failed first, not what was cancelled for it."""
    with one_line():
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
        for event in events
        if event["ResourceStatus"].endswith("_FAILED")
        if event.get("ClientRequestToken", token) == token
    ]
    return reasons[-1] if reasons else "its events say why"


def _pairs(said: Any, kind: str) -> dict[str, str]:
    return {each[f"{kind}Key"]: each.get(f"{kind}Value", "") for each in said}
