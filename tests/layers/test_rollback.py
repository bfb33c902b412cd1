"""Which version a stack is put back on, and what it is not put back on."""

import pytest

from layers.contract import read_contract
from layers.errors import LayerError
from layers.rollback import choose, refuse_unless_for
from layers.stack import Stack
from layers.versions import Made, Version

ARN = "arn:aws:lambda:eu-central-1:123456789012:layer:makoto-dev-common"


def version(
    number: int, *, contract: str | None = "c0ffee", runtime: str = "python3.13", of: str = "arm64"
) -> Version:
    made = (
        None if contract is None else Made(sha256="", contract=contract, commit=f"commit{number}")
    )
    return Version(
        number=number,
        arn=f"{ARN}:{number}",
        created="2026-11-21T20:15:00.000+0000",
        runtimes=(runtime,),
        architectures=(of,),
        made=made,
    )


def stack(
    *, in_use: int = 5, before: int | None = 3, status: str = "UPDATE_COMPLETE", old: bool = False
) -> Stack:
    said = {"Runtime": "python3.13", "Architecture": "arm64"}
    return Stack(
        name="makoto-dev",
        status=status,
        parameters=said if old else said | {"CommonLayerArn": f"{ARN}:{in_use}"},
        in_use=f"{ARN}:{in_use}",
        before=f"{ARN}:{before}" if before else None,
    )


VERSIONS = [version(number) for number in (5, 4, 3, 2)]


def test_it_is_the_one_used_before_not_the_one_published_before() -> None:
    assert choose(stack(), VERSIONS).number == 3


def test_it_is_the_one_that_was_asked_for() -> None:
    assert choose(stack(before=None), VERSIONS, to=2).number == 2


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_whose_last_update_failed_is_put_back_too(status: str) -> None:
    assert choose(stack(status=status), VERSIONS).number == 3


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("UPDATE_IN_PROGRESS", "makoto-dev is busy (UPDATE_IN_PROGRESS)"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "is busy"),
        ("ROLLBACK_COMPLETE", "makoto-dev cannot be updated (ROLLBACK_COMPLETE)"),
        ("UPDATE_ROLLBACK_FAILED", "cannot be updated"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_left_alone(status: str, told: str) -> None:
    refused(stack(status=status), told)


def test_the_version_in_use_is_none_to_go_back_to() -> None:
    refused(stack(), "makoto-dev uses version 5 already", to=5)


@pytest.mark.parametrize("number", [1, 6, 0])
def test_a_version_that_is_not_there(number: int) -> None:
    refused(stack(), f"there is no version {number}", to=number)


def test_the_one_before_was_deleted() -> None:
    refused(stack(before=1), "there is no version 1 of")


def test_nothing_was_used_before() -> None:
    refused(stack(before=None), "has used no other version: name one with --to")


def test_a_stack_that_takes_no_version() -> None:
    refused(stack(old=True), "make deploy first")


@pytest.mark.parametrize("other", [version(2, runtime="python3.12"), version(2, of="x86_64")])
def test_a_version_that_the_functions_cannot_run(other: Version) -> None:
    refused(stack(before=2), "version 2 is for python3.1", [*VERSIONS[:3], other])


TEMPLATE = """
Resources:
  One:
    Properties:
      InlineCode: from one import handler
      Environment:
        Variables:
          MAKOTO_WORD: hello
"""
OTHER = TEMPLATE + "          MAKOTO_MORE: words\n"


def test_a_version_for_the_template_that_is_deployed_is_taken() -> None:
    """Whatever the one in use was published for, which may have been forced."""
    fitting = version(3, contract=read_contract(TEMPLATE).fingerprint)
    refuse_unless_for(stack(), fitting, TEMPLATE)


@pytest.mark.parametrize("contract", [read_contract(OTHER).fingerprint, None])
def test_a_version_for_another_template_needs_force(contract: str | None) -> None:
    with pytest.raises(
        LayerError, match=r"version 3.* was not published for the handlers and vari"
    ):
        refuse_unless_for(stack(), version(3, contract=contract), TEMPLATE)


def test_it_says_what_to_deploy_instead() -> None:
    with pytest.raises(LayerError, match="version 3 of commit commit3 was not"):
        refuse_unless_for(stack(), version(3), TEMPLATE)


def refused(
    stack: Stack,
    told: str,
    versions: list[Version] = VERSIONS,
    *,
    to: int | None = None,
) -> None:
    with pytest.raises(LayerError) as failed:
        choose(stack, versions, to=to)
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)
