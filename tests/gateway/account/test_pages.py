"""Pages of whole items, as many as fit a frame."""

from dataclasses import dataclass
from functools import partial
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.account.pages import fitting_page, memory_item, message_item, session_item
from gateway.wire.answers import MemoryItem, MessageItem, SessionItem
from gateway.wire.limits import FRAME_TARGET_BYTES, SPILL_ABOVE_BYTES
from storage import cursors
from storage.paging import OpenPage
from storage.records import Memory, Message, Page, Room, Session

OVERHEAD = 200
"""What one item of an empty memory takes, and more."""


@dataclass
class Rows:
    """A list in pages; a cursor is the number of the row before it."""

    sizes: list[int]
    character: str = "x"
    read: int = 0

    def memory(self, number: int) -> Memory:
        return Memory(
            memory_id=f"m{number}",
            value=self.character * self.sizes[number],
            created_at=1_000.5,
            session_id="s",
            message_id="q",
        )

    async def page(self, before: str | None, limit: int, room: Room[Memory]) -> Page[Memory]:
        start = cursors.decode(before, (int, int))[0] + 1 if before else 0
        page = OpenPage(limit, room)
        for number in range(start, len(self.sizes)):
            self.read += 1
            if not page.takes(self.memory(number), (number, 0)):
                break
        return page.close()

    async def read_all(self, limit: int) -> list[list[str]]:
        """Follow the cursors to the end; return the ids of each page."""
        pages: list[list[str]] = []
        before: str | None = None
        while True:
            page = await fitting_page(
                "c1", read=partial(self.page, before, limit), item=memory_item
            )
            pages.append([item.memory_id for item in page.items if isinstance(item, MemoryItem)])
            frame = page.encode()
            assert len(frame) <= SPILL_ABOVE_BYTES or len(page.items) == 1
            before = page.next
            if before is None:
                return pages


async def test_what_fits_is_one_page() -> None:
    assert await Rows([10] * 5).read_all(20) == [["m0", "m1", "m2", "m3", "m4"]]


async def test_a_page_is_cut_between_items_and_goes_on_behind_the_last() -> None:
    assert await Rows([3_000] * 5).read_all(20) == [["m0", "m1"], ["m2", "m3"], ["m4"]]


async def test_what_does_not_fit_is_not_read() -> None:
    rows = Rows([3_000] * 50)
    await fitting_page("c1", read=partial(rows.page, None, 20), item=memory_item)
    assert rows.read == 3


async def test_a_single_large_item_is_a_page_of_its_own() -> None:
    rows = Rows([10, 100_000, 10, 10])
    assert await rows.read_all(20) == [["m0"], ["m1"], ["m2", "m3"]]


async def test_a_large_first_item_is_not_left_out() -> None:
    assert await Rows([100_000]).read_all(20) == [["m0"]]


async def test_size_counts_bytes_not_characters() -> None:
    assert await Rows([1_500] * 4, character="春").read_all(20) == [["m0"], ["m1"], ["m2"], ["m3"]]


async def test_an_empty_list_is_an_empty_page() -> None:
    page = await fitting_page("c1", read=partial(Rows([]).page, None, 20), item=memory_item)
    assert (page.id, page.items, page.next) == ("c1", (), None)


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_no_more_items_than_were_asked_for(limit: int) -> None:
    pages = await Rows([10] * 5).read_all(limit)
    assert len(pages[0]) == min(limit, 5)
    assert list(chain(*pages)) == [f"m{number}" for number in range(5)]


@given(st.lists(st.integers(0, 20_000), max_size=15), st.integers(1, 20))
async def test_following_the_cursors_shows_each_item_once(sizes: list[int], limit: int) -> None:
    pages = await Rows(sizes).read_all(limit)
    assert list(chain(*pages)) == [f"m{number}" for number in range(len(sizes))]


async def test_two_items_that_just_fit() -> None:
    rows = Rows([FRAME_TARGET_BYTES // 2 - OVERHEAD] * 2)
    assert len(await rows.read_all(20)) == 1


# Items


def test_a_message_on_the_wire() -> None:
    message = Message(
        message_id="m",
        session_id="s",
        role="assistant",
        content="春",
        created_at=12.3456,
        run_id="r",
        reply_to="q",
        emotion="happy",
        category="story",
        end="stop",
    )
    assert message_item(message) == MessageItem(
        message_id="m",
        session_id="s",
        role="assistant",
        content="春",
        created_at=12345,
        run_id="r",
        reply_to="q",
        emotion="happy",
        category="story",
        end="stop",
    )


def test_a_session_on_the_wire() -> None:
    session = Session(
        session_id="s",
        title="題",
        character="誠",
        created_at=1.0,
        updated_at=2.5,
        active_run="r",
    )
    assert session_item(session) == SessionItem(
        session_id="s",
        title="題",
        character="誠",
        created_at=1000,
        updated_at=2500,
        active_run="r",
    )


def test_a_memory_on_the_wire_says_which_reply_noted_it() -> None:
    memory = Memory(memory_id="k", value="v", created_at=3.0, session_id="s", message_id="q")
    assert memory_item(memory) == MemoryItem(
        memory_id="k", value="v", created_at=3000, session_id="s", message_id="q"
    )
