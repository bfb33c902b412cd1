"""A budget of posts per second over all processes of an account, shared fairly by its tenants.

API Gateway counts each post against the 10,000 requests per second of the whole account, and answers 429
above them to whoever comes next. With a budget, those who would post too often wait instead: their next
frame holds what came meanwhile, so the interval between frames widens and no text is lost.

Time is cut into slots, as many a second as posts may leave, and a slot belongs to whoever takes it first. The
slots of a tenant are spread: after its latest it leaves one to each other tenant seen in the last second.
A slot that is near and that nobody has taken is for all. So a tenant with one answer gets its share beside
one with a hundred, and what it does not need is used. It is the virtual clock of fair queueing (L. Zhang,
"VirtualClock", SIGCOMM 1990) on a timetable.
"""

import asyncio
import hashlib
import logging
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import count, islice
from typing import Final, Protocol

from storage import ttl
from storage.errors import StorageError

PLACES: Final = 64
"""How many slots are stored together; with 11 bytes each they stay under 1 KB."""

NEAR_S: Final = 0.05
"""A free slot that is due so soon is for whoever comes."""

SEEN_S: Final = 1.0
"""For how long a tenant that posted counts as one that wants to."""

SLACK_S: Final = 0.04
"""The slots of a second take so much longer: within it, posts that are late do not exceed the budget."""

LATE_S: Final = 0.02
"""A slot missed by more is not used. The rest of the slack is for the way, and for clocks that differ."""

MISSES: Final = 3
"""After so many missed slots the next is used, however late: the process is short of CPU."""

ANSWER_S: Final = 2.0
"""A reservation that takes longer has failed."""

BLIND_S: Final = 5.0
BLIND_EVERY_S: Final = 0.5
"""When reservations fail, so often a process posts for so long without, before it asks again."""

_FIRST_LEAD_S: Final = 0.01
_LONGEST_LEAD_S: Final = 0.3
"""How far ahead slots are looked for: as long as a reservation takes."""

_TENANT: Final = 4

log = logging.getLogger(__name__)


class PostSlots(Protocol):
    """Where slots are taken; see `storage.dynamodb.post_slots`."""

    async def take(
        self, window: str, place: int, *, holder: str, expires_at: float
    ) -> Mapping[int, str]:
        """Take a place unless somebody has it, and return who has which place of the window now.

        Raises:
            StorageUnavailableError: it is not known whether it was taken.
        """
        ...


def choose(
    holders: Mapping[int, str], tenant: str, *, earliest: int, near: int, passing: int = 0
) -> int:
    """Return the slot that a tenant asks for next. Pure.

    Args:
        holders: which tenant has which slot, as far as is known, and nothing older than `SEEN_S`.
        tenant: who asks.
        earliest: the first slot that can be reached.
        near: how many slots from there on are for everybody.
        passing: how many of those it might have to leave out, for others who ask at the same instant.
    """
    mine = [slot for slot, holder in holders.items() if holder == tenant]
    due = max(mine) + len(set(holders.values())) if mine else earliest
    free = (
        slot
        for slot in count(earliest)
        if slot not in holders and (slot >= due or slot < earliest + near)
    )
    return next(islice(free, passing, None))


class PostBudget:
    """Says when a post may leave. One for each process; keeps what it has seen of the timetable.

    A reservation is one write unit, two or three where many want to post. No two posts leave in one slot,
    so that at most `per_second` are under way to API Gateway in any second.

    Args:
        slots: where slots are taken.
        per_second: the budget, the same in all processes; above 0.
        clock: Unix time in seconds.
        chance: a random number between 0 and 1.
    """

    def __init__(
        self,
        slots: PostSlots,
        *,
        per_second: float,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._slots = slots
        self._name = f"{per_second:g}"
        self._rate = per_second / (1 + SLACK_S)
        self._clock = clock
        self._chance = chance
        self._holders: dict[int, str] = {}
        self._lead_s = _FIRST_LEAD_S
        self._blind_until = 0.0
        self._blind_next = 0.0

    def share_of(self, tenant_id: str) -> Callable[[], Awaitable[None]]:
        """Return what that tenant's posts await before they leave."""
        tenant = hashlib.sha256(tenant_id.encode()).hexdigest()[:_TENANT]
        return lambda: self._wait(tenant)

    async def _wait(self, tenant: str) -> None:
        """Wait for a slot of that tenant. When cancelled, the slot stays unused."""
        for _ in range(MISSES):
            try:
                slot = await self._reserve(tenant)
            except (StorageError, TimeoutError) as error:
                self._go_blind(error)
                slot = None
            if slot is None:
                await self._wait_blindly()
                return
            due = slot / self._rate
            await self._sleep_until(due)
            if self._clock() - due <= LATE_S:
                return

    async def _reserve(self, tenant: str) -> int | None:
        """Take a slot and return its number; `None` while reservations are not to be tried."""
        refused = 0
        while self._clock() >= self._blind_until:
            began = self._clock()
            earliest = math.ceil((began + self._lead_s) * self._rate)
            self._forget_before(earliest - math.ceil(SEEN_S * self._rate))
            slot = choose(
                self._holders,
                tenant,
                earliest=earliest,
                near=math.ceil(NEAR_S * self._rate),
                passing=self._passing(refused),
            )
            async with asyncio.timeout(ANSWER_S):
                taken = await self._take(slot, tenant)
            self._took(self._clock() - began)
            if taken:
                return slot
            refused += 1
        return None

    async def _take(self, slot: int, tenant: str) -> bool:
        window, place = divmod(slot, PLACES)
        holder = tenant + secrets.token_hex(2)
        holders = await self._slots.take(
            f"{self._name}#{window}",
            place,
            holder=holder,
            expires_at=(window + 1) * PLACES / self._rate + ttl.MINUTE,
        )
        for other, its in holders.items():
            self._holders[window * PLACES + other] = its[:_TENANT]
        return holders.get(place) == holder

    def _took(self, seconds: float) -> None:
        """Look for slots as far ahead as the slowest of the latest reservations would have needed."""
        self._lead_s = min(max(1.2 * seconds, 0.7 * self._lead_s), _LONGEST_LEAD_S)

    def _passing(self, refused: int) -> int:
        """Return how many free slots to leave to others who want the same one just now.

        The first refusal only brings the timetable; after that, at random, as many as may be asked for
        while a reservation takes, then twice as many.
        """
        if refused < 2:
            return 0
        return int(self._chance() * (1 + self._lead_s * self._rate) * 2 ** min(refused - 1, 4))

    def _forget_before(self, slot: int) -> None:
        for old in [each for each in self._holders if each < slot]:
            del self._holders[old]

    async def _sleep_until(self, due: float) -> None:
        await asyncio.sleep(max(0.0, due - self._clock()))

    # Without a timetable

    def _go_blind(self, why: Exception) -> None:
        if self._clock() >= self._blind_until:
            log.warning("no post budget for a while, but a low rate", exc_info=why)
            self._blind_until = self._clock() + BLIND_S

    async def _wait_blindly(self) -> None:
        self._blind_next = max(self._blind_next + BLIND_EVERY_S, self._clock())
        await self._sleep_until(self._blind_next)
