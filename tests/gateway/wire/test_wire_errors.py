"""The tree of errors and the lists of codes say the same."""

import re
from typing import get_args

import pytest

from gateway.wire import errors
from gateway.wire.errors import CloseCode, ErrorCode, WireError
from gateway.wire.json_schema import described, error_classes


def test_every_code_has_one_class_and_every_class_a_code() -> None:
    assert sorted(kind.code for kind in error_classes()) == sorted(get_args(ErrorCode))


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.code)
def test_the_tree_in_the_module_names_class_code_and_retryable(kind: type[WireError]) -> None:
    line = re.search(rf"[├└]── {kind.__name__} +(\S+)( +retryable)?$", errors.__doc__ or "", re.M)
    assert line is not None
    assert (line[1], bool(line[2])) == (kind.code, kind.retryable)


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.code)
def test_the_public_message_is_a_sentence_of_ours(kind: type[WireError]) -> None:
    error = kind()
    assert str(error) == error.public_message == kind.default_message
    assert re.fullmatch(r"[A-Z].*\.", error.public_message)
    assert error.retry_after_ms is None


def test_an_error_may_say_more() -> None:
    error = errors.NotFoundError("There is no such upload.", retry_after_ms=5)
    assert (error.public_message, error.retry_after_ms) == ("There is no such upload.", 5)


def test_every_close_code_is_described_and_allowed() -> None:
    described_names = described(CloseCode.__doc__ or "")[1]
    assert set(described_names) == set(CloseCode.__members__)
    for code in CloseCode:
        assert code in {1001, 1009, 1012} or 4000 <= code <= 4999
