"""What a reply is written from, read from the store."""

import asyncio

from gateway.turns.prompt import PromptRules
from storage.records import Context, Run
from storage.repositories import Repositories


async def read_context(its: Repositories, run: Run, rules: PromptRules) -> Context | None:
    """Return what a run answers from; `None` if its session was forgotten.

    Args:
        its: what the run's owner has.
        run: whose message is answered.
        rules: say how much is read.

    Raises:
        StorageUnavailableError: the store refuses.
    """
    session, asked, earlier, memories = await asyncio.gather(
        its.sessions.get(run.session_id),
        its.messages.get(run.message_id),
        its.messages.turns_before(run.message_id, max_bytes=rules.history_bytes),
        its.memories.newest(max_bytes=rules.memories_bytes),
    )
    if session is None or asked is None:
        return None
    return Context(character=session.character, asked=asked, earlier=earlier, memories=memories)
