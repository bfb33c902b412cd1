"""When to fetch an issuer's keys, and what to do when that fails.

The rules, for one issuer with one fixed URL (no token ever names a URL):

- keys serve for 24 hours; after that they go on serving while one background refresh runs;
- a `kid` that is not known starts one refresh, shared by all who ask meanwhile, at most every 10
  seconds; names found absent by it start no other for half a minute (a bounded list);
- a failed refresh keeps the old keys, however old;
- where a key *might* exist but cannot be had (none ever loaded, or the refresh that would tell has
  failed) the answer is `KeysUnavailableError`, a 503, and not a 401 that makes clients drop good tokens.

Where several processes share a store (`KeyDocuments`), a refresh looks there first:

- what another process has stored is taken over if it is newer than what this one holds, and asks the
  issuer nothing if it answers the question: it holds the `kid`, or has not aged when age was the reason;
- a document fetched less than 10 seconds ago stands for a refresh of our own, so that the gap holds
  for all processes together as long as fetches succeed;
- neither side needs the other: a store that is down costs at most a second and a log line.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from gateway.identity.errors import JwksDocumentError, JwksError, KeysUnavailableError
from gateway.identity.issuers import require_safe_url
from gateway.identity.keys import KeySet, PublicKey, read_jwks
from storage.errors import StorageError
from storage.records import KeyDocument
from storage.repositories import KeyDocuments

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches a URL's body; raises `JwksFetchError`. Cancelled when it takes too long."""

CLOSE_WAIT_S: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksPolicy:
    """How often and how long; all in seconds but for the last.

    Attributes:
        max_age_s: age after which keys are refreshed in the background.
        refresh_gap_s: least time from the start of one refresh to the next.
        cold_gap_s: the same while no key was ever loaded, so that a start is not held up.
        timeout_s: a fetch that takes longer has failed.
        store_timeout_s: the same for one question to the store.
        absent_s: how long a name that a refresh did not bring starts no other one.
        absent_limit: how many such names are remembered; the oldest goes first.
    """

    max_age_s: float = 24 * 3600
    refresh_gap_s: float = 10
    cold_gap_s: float = 1
    timeout_s: float = 2.5
    store_timeout_s: float = 1
    absent_s: float = 30
    absent_limit: int = 256


class JwksCache:
    """The keys of one issuer. Lives as long as the process; end it with `aclose`.

    Belongs to one event loop. Nothing is fetched before the first `find`. Where nothing runs between
    two calls of the host, each call ends with `settle`.

    Args:
        url: of the key document; `https`, or `http` on loopback.
        fetch: how to get it.
        clock: Unix time in seconds. It may step: a time that lies ahead is taken for long ago.
        documents: where processes share what they have fetched, if there are several.
        policy: the figures above.

    Raises:
        ValueError: the URL could be read or changed on its way.
    """

    def __init__(
        self,
        url: str,
        *,
        fetch: Fetch,
        clock: Callable[[], float],
        documents: KeyDocuments | None = None,
        policy: JwksPolicy | None = None,
    ) -> None:
        require_safe_url(url)
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._documents = documents
        self._policy = policy or JwksPolicy()
        self._keys: KeySet = {}
        self._fetched_at = -math.inf
        self._attempted_at = -math.inf
        self._attempt_failed = False
        self._absent_since: dict[str, float] = {}
        self._refresh: asyncio.Task[bool] | None = None
        self._closed = False

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of that name, or `None` if the issuer has none.

        A known name is answered without waiting. Otherwise this may wait for two refreshes, one that
        others have begun and its own, each no longer than the policy's timeouts together. Cancelling is
        safe: the refresh goes on for those who share it.

        Raises:
            KeysUnavailableError: the issuer could not be asked; the token may be good.
        """
        key = self._keys.get(kid) or await self._ask(kid)
        if key is not None and not self._is_within(self._policy.max_age_s, self._fetched_at):
            self._start_refresh_if_due(None)
        return key

    async def settle(self) -> None:
        """Wait for a refresh that is under way, if any (where nothing runs between two calls)."""
        refresh = self._in_flight()
        if refresh is not None:
            await asyncio.wait({refresh})

    async def aclose(self) -> None:
        """Stop a refresh that is under way; waits at most a second for it to end."""
        self._closed = True
        refresh = self._in_flight()
        if refresh is not None:
            refresh.cancel()
            await asyncio.wait({refresh}, timeout=CLOSE_WAIT_S)

    async def _ask(self, kid: str) -> PublicKey | None:
        if self._is_within(self._policy.absent_s, self._absent_since.get(kid, -math.inf)):
            return None
        asked = await self._ask_if_due(kid)
        key = self._keys.get(kid)
        if key is None:
            if not self._keys or self._attempt_failed:
                raise KeysUnavailableError("the issuer's keys could not be fetched")
            if asked:
                self._remember_absent(kid)
        return key

    async def _ask_if_due(self, kid: str) -> bool:
        """Wait for a refresh, a new one or the one under way; tell whether there was any."""
        for again in (False, True):
            self._start_refresh_if_due(kid)
            refresh = self._in_flight()
            if refresh is None:
                return again
            # Unlike awaiting the task, this neither cancels it with a waiter nor a waiter with it.
            await asyncio.wait({refresh})
            if kid in self._keys or _answers_all(refresh):
                break
        return True

    def _start_refresh_if_due(self, kid: str | None) -> None:
        """Start one, for the name that is missing or (`None`) because the keys have aged."""
        if self._closed or self._in_flight() is not None or not self._is_due():
            return
        # A context of its own: the log lines of a shared refresh belong to no one connection.
        self._refresh = asyncio.create_task(
            self._load(kid), name="jwks refresh", context=contextvars.Context()
        )
        self._refresh.add_done_callback(_log_defect)

    async def _load(self, kid: str | None) -> bool:
        """Refresh; tell whether other names than this one are answered by it, too."""
        if await self._recalled(kid):
            return self._is_within(self._policy.refresh_gap_s, self._fetched_at)
        now = self._attempted_at = self._clock()
        self._attempt_failed = True
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                body = await self._fetch(self._url)
            keys = read_jwks(body)
        except (JwksError, TimeoutError) as exc:
            self._warn("key refresh failed", exc)
            return True
        self._keys, self._fetched_at = keys, now
        self._attempt_failed = False
        await self._keep(KeyDocument(url=self._url, body=body, fetched_at=now))
        return True

    async def _recalled(self, kid: str | None) -> bool:
        """Take over what another process has stored; tell whether that spares a fetch."""
        document = await self._stored()
        if document is None or not self._take_over(document):
            return False
        if self._is_within(self._policy.refresh_gap_s, document.fetched_at):
            self._attempted_at = document.fetched_at
            self._attempt_failed = False
            return True
        if kid is None:
            return self._is_within(self._policy.max_age_s, document.fetched_at)
        return kid in self._keys

    def _take_over(self, document: KeyDocument) -> bool:
        """Use a stored document, unless ours is newer or it dates from the future."""
        ahead = document.fetched_at - self._clock()
        if document.fetched_at < self._fetched_at or ahead > self._policy.refresh_gap_s:
            return False
        try:
            self._keys = read_jwks(document.body)
        except JwksDocumentError as exc:
            self._warn("stored keys are not usable", exc)
            return False
        self._fetched_at = document.fetched_at
        return True

    async def _stored(self) -> KeyDocument | None:
        if self._documents is None:
            return None
        try:
            async with asyncio.timeout(self._policy.store_timeout_s):
                return await self._documents.get(self._url)
        except (StorageError, TimeoutError) as exc:
            self._warn("stored keys could not be read", exc)
            return None

    async def _keep(self, document: KeyDocument) -> None:
        if self._documents is None:
            return
        try:
            async with asyncio.timeout(self._policy.store_timeout_s):
                await self._documents.put(document)
        except (StorageError, TimeoutError) as exc:
            self._warn("keys could not be stored", exc)

    def _warn(self, message: str, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        log.warning(message, extra={"jwks_url": self._url, "cause": cause, "kept": len(self._keys)})

    def _in_flight(self) -> asyncio.Task[bool] | None:
        return None if self._refresh is None or self._refresh.done() else self._refresh

    def _is_due(self) -> bool:
        gap = self._policy.refresh_gap_s if self._keys else self._policy.cold_gap_s
        return not self._is_within(gap, self._attempted_at)

    def _is_within(self, seconds: float, then: float) -> bool:
        """Whether less time has passed since; a time ahead by more than a skew of clocks is long ago."""
        passed = self._clock() - then
        return -self._policy.refresh_gap_s <= passed < seconds

    def _remember_absent(self, kid: str) -> None:
        self._absent_since.pop(kid, None)
        if len(self._absent_since) >= self._policy.absent_limit:
            del self._absent_since[next(iter(self._absent_since))]
        self._absent_since[kid] = self._clock()


def _answers_all(ended: asyncio.Task[bool]) -> bool:
    return ended.cancelled() or ended.exception() is not None or ended.result()


def _log_defect(task: asyncio.Task[bool]) -> None:
    """Say what a fetch raised against its contract; nobody may be waiting to see it."""
    if not task.cancelled() and task.exception() is not None:
        log.error("key refresh broke", exc_info=task.exception())
