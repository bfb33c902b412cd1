import base64
import hashlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import IdSource, blob_key, is_blob_key, owns, run_id
from storage.records import Owner

USER_ID = st.text(string.ascii_letters + string.digits + "_.:@=|+-", min_size=1, max_size=128)
ANY = st.text(st.characters(codec=None), max_size=130)
OWNERS = st.builds(Owner, tenant_id=ANY, user_id=USER_ID | ANY)


def owner(tenant_id: str = "acme", user_id: str = "anna") -> Owner:
    return Owner(tenant_id=tenant_id, user_id=user_id)


def test_a_run_id_is_the_hash_of_tenant_user_and_send_id() -> None:
    framed = b"\0\0\0\4acme\0\0\0\4anna\0\0\0\6send-1"
    expected = base64.b32encode(hashlib.sha256(framed).digest()).decode().lower()[:26]

    assert run_id(owner(), "send-1") == expected


@given(st.tuples(ANY, ANY, ANY), st.tuples(ANY, ANY, ANY))
def test_different_requests_have_different_run_ids(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    ids = [run_id(owner(tenant, user), send) for tenant, user, send in (one, two)]

    assert (ids[0] == ids[1]) == (one == two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a", "bc", "d"), ("ab", "c", "d")),
        (("a", "b", "cd"), ("a", "bc", "d")),
        (("", "a", "b"), ("a", "", "b")),
        (("a\0", "b", "c"), ("a", "\0b", "c")),
    ],
)
def test_letters_moved_between_the_parts_make_another_run_id(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    assert run_id(owner(*one[:2]), one[2]) != run_id(owner(*two[:2]), two[2])


class Times:
    def __init__(self, *times: float) -> None:
        self._times = list(times)

    def __call__(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


def test_an_id_holds_the_time_and_the_random_bytes() -> None:
    ids = IdSource(lambda: 1469918176.385, lambda size: b"\0" * size)

    # The ULID specification's example of the time part is 01ARYZ6S41.
    assert ids.new() == "01aryz6s41" + "0" * 16


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=30), st.binary(min_size=10, max_size=10))
def test_ids_rise_whatever_the_clock_does(times: list[float], random: bytes) -> None:
    ids = IdSource(Times(*times), lambda size: random[:size])
    made = [ids.new() for _ in range(40)]

    assert made == sorted(set(made))
    assert all(re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", each) for each in made)


def test_ids_rise_when_the_random_part_is_exhausted() -> None:
    ids = IdSource(lambda: 1.0, lambda size: b"\xff" * size)
    made = [ids.new() for _ in range(100)]

    assert made == sorted(set(made))


@given(OWNERS, ANY)
def test_a_blob_key_is_three_plain_parts(owner: Owner, payload_id: str) -> None:
    key = blob_key(owner, payload_id)

    assert re.fullmatch("[a-z0-9_-]+/[a-z0-9_-]+/[a-z0-9_-]+", key)
    assert all(len(part) <= 255 for part in key.split("/"))
    assert len(key) <= 1024
    assert is_blob_key(key)
    assert owns(owner, key)


@given(OWNERS, OWNERS, ANY, ANY)
def test_only_its_owner_owns_a_key(one: Owner, two: Owner, first: str, second: str) -> None:
    key = blob_key(one, first)

    assert owns(two, key) == (one == two)
    assert (blob_key(two, second) == key) == ((one, first) == (two, second))


@pytest.mark.parametrize(
    ("user_id", "part"),
    [
        ("anna", "anna"),
        (".", "_2e"),
        ("..", "_2e_2e"),
        ("a/b", "a_2fb"),
        ("Anna", "_41nna"),
        ("a_b", "a_5fb"),
        ("あ", "_e3_81_82"),
        ("", "__" + hashlib.sha256(b"").hexdigest()),
        ("." * 128, "__" + hashlib.sha256(b"." * 128).hexdigest()),
    ],
)
def test_what_might_mislead_a_file_system_is_escaped(user_id: str, part: str) -> None:
    assert blob_key(owner("t", user_id), "p") == f"t/{part}/p"


@pytest.mark.parametrize(
    "key",
    [
        "acme/anna",
        "acme/anna/",
        "acme/anna/p/q",
        "acme/anna/../ben",
        "acme/anna/..",
        "acme/anna/p\n",
        "acme/anna/P",
        "acme/annabel/p",
        "/acme/anna/p",
        "",
    ],
)
def test_what_is_no_key_of_the_owner_is_not_owned(key: str) -> None:
    assert not owns(owner(), key)
