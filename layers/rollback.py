"""Putting the functions of a stack back on a version of the layer that they used before."""

from collections.abc import Sequence
from typing import Any

from layers import stack as stacks
from layers.errors import LayerError
from layers.samconfig import Target
from layers.stack import IN_USE, READY, Stack
from layers.versions import Version, number_of, published


def choose(
    stack: Stack, versions: Sequence[Version], *, to: int | None = None, force: bool = False
) -> Version:
    """Return the version that a stack is put back on.

    Args:
        stack: as it is.
        versions: all that are published.
        to: number of the version; None for the one before.
        force: take one that was published for another template, too, or nobody knows for which.

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
    if not force:
        _refuse_unless_for_same_template(stack, versions, version)
    return version


def rollback(
    functions: Any, cloudformation: Any, target: Target, *, to: int | None, force: bool
) -> tuple[Version, Stack]:
    """Put all functions of a stack back on another version, and wait for the end.

    Returns:
        The version in use now, and the stack as it was.

    Raises:
        LayerError: it cannot be done, or CloudFormation failed to do it.
    """
    stack = stacks.describe(cloudformation, target.stack)
    if stack is None:
        raise LayerError(f"there is no stack {target.stack} in this account and region")
    version = choose(stack, published(functions, target.layer), to=to, force=force)
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


def _refuse_unless_for_same_template(
    stack: Stack, versions: Sequence[Version], version: Version
) -> None:
    current = next((each for each in versions if each.arn == stack.in_use), None)
    theirs, ours = (each.made.contract if each and each.made else "" for each in (version, current))
    if theirs != ours or not ours:
        commit = f" of commit {version.made.commit}" if version.made else ""
        raise LayerError(
            f"version {version.number}{commit} was not published for the handlers and variables that "
            f"{stack.name} has now: deploy that commit instead, or use --force"
        )
