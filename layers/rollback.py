"""Putting the functions of a stack back on a version of the layer that they used before."""

from collections.abc import Sequence
from typing import Any

from layers import stack as stacks
from layers.contract import IN_USE, read_contract
from layers.errors import LayerError
from layers.samconfig import Target
from layers.stack import READY, Stack
from layers.versions import Version, number_of, published


def choose(stack: Stack, versions: Sequence[Version], *, to: int | None = None) -> Version:
    """Return the version that a stack is put back on.

    Args:
        stack: as it is.
        versions: all that are published.
        to: number of the version; None for the one before.

    Raises:
        LayerError: there is none, or the functions cannot use it.
    """
    stacks.refuse_if_busy(stack)
    if stack.status not in READY:
        raise LayerError(f"{stack.name} cannot be updated ({stack.status})")
    if IN_USE not in stack.parameters:
        raise LayerError(f"{stack.name} was last deployed by an older version: make deploy first")
    version = _named(stack, versions, to)
    if version.arn == stack.in_use:
        raise LayerError(f"{stack.name} uses version {version.number} already")
    runtime, architecture = (stack.parameters.get(n, "") for n in ("Runtime", "Architecture"))
    if not version.is_for(runtime, architecture):
        suited = ", ".join((*version.runtimes, *version.architectures))
        raise LayerError(
            f"version {version.number} is for {suited}; {stack.name} is {runtime}, {architecture}"
        )
    return version


def refuse_unless_for(stack: Stack, version: Version, template: str) -> None:
    """Let pass a version that was published for the handlers and variables of a stack's template.

    Raises:
        LayerError: it was not, or nobody knows for which.
    """
    if version.made is None or version.made.contract != read_contract(template).fingerprint:
        commit = f" of commit {version.made.commit}" if version.made else ""
        raise LayerError(
            f"version {version.number}{commit} was not published for the handlers and variables that "
            f"{stack.name} has now: deploy that commit instead, or use --force"
        )


def rollback(
    functions: Any, cloudformation: Any, target: Target, *, to: int | None, force: bool
) -> tuple[Version, Stack]:
    """Put all functions of a stack back on another version, and wait for the end.

    Args:
        functions: client of Lambda.
        cloudformation: its client.
        target: whose stack it is.
        to: number of the version; None for the one before.
        force: take one, too, that was published for another template than the stack has.

    Returns:
        The version in use now, and the stack as it was.

    Raises:
        LayerError: it cannot be done, or CloudFormation failed to do it.
    """
    stack = stacks.describe(cloudformation, target.stack)
    if stack is None:
        raise LayerError(f"there is no stack {target.stack} in this account and region")
    version = choose(stack, published(functions, target.layer), to=to)
    if not force:
        refuse_unless_for(stack, version, stacks.template(cloudformation, stack.name))
    stacks.use(cloudformation, stack, version.arn)
    return version, stack


def _named(stack: Stack, versions: Sequence[Version], to: int | None) -> Version:
    if to is None and stack.before is None:
        raise LayerError(f"{stack.name} has used no other version: name one with --to")
    for version in versions:
        if version.number == to if to is not None else version.arn == stack.before:
            return version
    wanted = number_of(stack.before or "") if to is None else to
    raise LayerError(f"there is no version {wanted} of {stack.name}'s layer")
