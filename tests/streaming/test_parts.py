import copy
import itertools

import pytest

from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)

PARTS: list[Part] = [
    FieldDelta("a", "b"),
    FieldDone("a"),
    FieldValue("a", "b"),
    CallStarted(0, "a", "b"),
    ArgumentsDelta(0, "a"),
    TextDelta("a"),
    RefusalDelta("a"),
    Usage(0, 0, 0),
    Finished("a"),
]


def test_parts_with_the_same_fields_are_equal() -> None:
    assert copy.deepcopy(PARTS) == PARTS
    assert FieldDelta("a", "b") == FieldDelta("a", "b", 0) != FieldDelta("a", "b", 1)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(PARTS, 2)))
def test_parts_of_two_kinds_are_never_equal(one: Part, other: Part) -> None:
    assert one != other


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_takes_no_other_attribute(part: Part) -> None:
    with pytest.raises(AttributeError):
        part.more = 1  # type: ignore[union-attr]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_cannot_be_changed(part: Part) -> None:
    for name in part.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(part, name, "other")
