from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dynamodb.keys import MESSAGES, OwnerKeys, key_of, slot_name
from storage.records import Owner
from tests.storage.samples import ANNA

PARTITION_BYTES = 2048
SORT_BYTES = 1024
"""The most that DynamoDB takes."""

parts = st.text(alphabet=st.sampled_from('ab#%$!" \0日🌸'), max_size=6)


def partition(key: dict[str, dict[str, str]]) -> str:
    return key["pk"]["S"]


def sort(key: dict[str, dict[str, str]]) -> str:
    return key["sk"]["S"]


def all_keys(tenant: str, user: str, first: str, second: str, third: str) -> set[tuple[str, str]]:
    keys = OwnerKeys(Owner(tenant_id=tenant, user_id=user))
    found = [
        keys.session(first),
        keys.question(first, second),
        keys.reply(first, second, third),
        keys.session_run(first, second),
        keys.place(first),
        keys.head(first),
        keys.slot(first, 1),
        keys.memory(first),
        keys.usage(first, 1.5),
        keys.payload(first),
    ]
    return {(partition(key), sort(key)) for key in found}


@given(st.tuples(parts, parts, parts, parts, parts), st.tuples(parts, parts, parts, parts, parts))
def test_two_people_never_share_a_key(
    mine: tuple[str, str, str, str, str], theirs: tuple[str, str, str, str, str]
) -> None:
    shared = all_keys(*mine) & all_keys(*theirs)

    assert len(all_keys(*mine)) == 10
    assert not shared or mine[:2] == theirs[:2]


@given(parts, parts, parts, parts)
def test_two_things_of_a_person_never_share_a_key(a: str, b: str, c: str, d: str) -> None:
    keys = OwnerKeys(ANNA)

    assert (keys.question(a, b) == keys.question(c, d)) == ((a, b) == (c, d))
    assert (keys.reply(a, b, c) == keys.reply(a, b, d)) == (c == d)
    assert (keys.reply("s", a, b) == keys.reply("s", c, d)) == ((a, b) == (c, d))


@given(st.lists(parts, min_size=2, max_size=6, unique=True), st.lists(parts, max_size=3))
def test_replies_sort_right_after_what_they_answer(
    questions: list[str], replies: list[str]
) -> None:
    keys = OwnerKeys(ANNA)
    stored = [(sort(keys.question("s", question)), question) for question in questions]
    stored += [
        (sort(keys.reply("s", question, reply)), question)
        for question in questions
        for reply in set(replies)
    ]
    groups = [question for _, question in sorted(stored)]

    assert sum(a != b for a, b in pairwise(groups)) == len(questions) - 1
    for name, question in sorted(stored):
        assert sort(keys.question("s", question)) <= name


def test_what_is_made_here_keeps_its_order() -> None:
    keys = OwnerKeys(ANNA)
    ids = ["01jd8xk3v9q2m7r5t0w4y6z8ab", "01jd8xk3v9q2m7r5t0w4y6z8ac", "01jd8xk3wa0000000000000000"]

    assert sorted(ids, key=lambda each: sort(keys.memory(each))) == ids
    assert sorted(ids, key=lambda each: sort(keys.question("s", each))) == ids
    numbers = [1, 9, 10, 99, 100, 12_345_678]
    assert sorted(numbers, key=slot_name) == numbers


@pytest.mark.parametrize("letter", ["x", "#", "日", "🌸", "\0"])
def test_the_longest_ids_fit(letter: str) -> None:
    longest = letter * 128
    keys = all_keys(longest, longest, longest, longest, longest)

    assert max(len(name.encode()) for name, _ in keys) <= PARTITION_BYTES
    assert max(len(name.encode()) for _, name in keys) <= SORT_BYTES
    assert all(name for _, name in keys)


def test_ids_that_are_too_long_stay_apart() -> None:
    keys = OwnerKeys(ANNA)

    assert keys.head("🌸" * 500) != keys.head("🌸" * 501)


def test_a_key_is_taken_from_an_item() -> None:
    key = OwnerKeys(ANNA).question("s", "m")

    assert key_of({**key, "content": {"S": "text"}}) == key
    assert sort(key).startswith(MESSAGES)
