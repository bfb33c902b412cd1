"""What a reply is written from."""

from pathlib import Path

import pytest

from gateway.turns.context import read_context
from storage.errors import StorageUnavailableError
from tests.gateway.runs.fakes import ANNA, a_run
from tests.gateway.turns.exchange import RULES, exchange, reply


async def test_it_is_the_message_and_what_went_before(tmp_path: Path) -> None:
    async with exchange(tmp_path) as chat:
        chat.model.scripts = [reply("One!", memory="Likes tea.")]
        first = await chat.talk("first", id="s1", character="sora")
        second = await chat.talk("second", id="s2", session_id=first["session_id"])
        run = await chat.row(second["run_id"])
        context = await read_context(chat.store.of(ANNA), run, RULES)
        assert context is not None
        assert (context.character, context.asked.content) == ("sora", "second")
        assert [message.content for message in context.earlier] == ["first", "One!"]
        assert [memory.value for memory in context.memories] == ["Likes tea."]


async def test_there_is_none_of_a_session_that_was_forgotten(tmp_path: Path) -> None:
    async with exchange(tmp_path) as chat:
        assert await read_context(chat.store.of(ANNA), a_run(), RULES) is None


async def test_a_store_that_refuses_is_an_error(tmp_path: Path) -> None:
    async with exchange(tmp_path) as chat:
        chat.store.refuse("memories.newest")
        with pytest.raises(StorageUnavailableError):
            await read_context(chat.store.of(ANNA), a_run(), RULES)
