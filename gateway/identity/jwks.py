"""When to fetch an issuer's keys, and what to do when that fails.

The rules, for one issuer with one fixed URL (no token ever names a URL):

- keys serve for 24 hours; after that they go on serving while one background refresh runs;
- a `kid` that is not known starts one refresh, shared by all who ask meanwhile, at most every 10
  seconds; names found absent by it start no other for half a minute (a bounded list);
- a failed refresh keeps the old keys, however old;
- where a key *might* exist but cannot be had (none ever loaded, or the refresh that would tell has
  failed) the answer is `KeysUnavailableError`, a 503, and not a 401 that makes clients drop good tokens.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.identity.errors import JwksError, KeysUnavailableError
from gateway.identity.keys import KeySet, PublicKey, read_jwks

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches a URL's body; raises `JwksFetchError`. Cancelled when it takes too long."""

CLOSE_WAIT_S: Final = 1.0

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JwksPolicy:
    """How often and how long; all in seconds but for the last.

    Attributes:
        max_age_s: age after which keys are refreshed in the background.
        refresh_gap_s: least time from the start of one refresh to the next.
        cold_gap_s: the same while no key was ever loaded, so that a start is not held up.
        timeout_s: a refresh that takes longer has failed.
        absent_s: how long a name that a refresh did not bring starts no other one.
        absent_limit: how many such names are remembered; the oldest goes first.
    """

    max_age_s: float = 24 * 3600
    refresh_gap_s: float = 10
    cold_gap_s: float = 1
    timeout_s: float = 2.5
    absent_s: float = 30
    absent_limit: int = 256


class JwksCache:
    """The keys of one issuer. Lives as long as the process; end it with `aclose`.

    Belongs to one event loop. Nothing is fetched before the first `find`.

    Args:
        url: of the key document; `https`, or `http` on loopback.
        fetch: how to get it.
        clock: seconds, never going back (`time.monotonic`).
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
        policy: JwksPolicy | None = None,
    ) -> None:
        _require_safe(url)
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._policy = policy or JwksPolicy()
        self._keys: KeySet = {}
        self._loaded_at: float | None = None
        self._attempted_at: float | None = None
        self._attempt_failed = False
        self._absent_until: dict[str, float] = {}
        self._refresh: asyncio.Task[None] | None = None
        self._closed = False

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of that name, or `None` if the issuer has none.

        A known name is answered without waiting. Otherwise this may wait for a refresh, no longer than
        the policy's timeout. Cancelling is safe: the refresh goes on for those who share it.

        Raises:
            KeysUnavailableError: the issuer could not be asked; the token may be good.
        """
        key = self._keys.get(kid)
        if key is not None:
            if self._is_stale():
                self._start_refresh_if_due()
            return key
        if self._is_known_absent(kid):
            return None
        asked = await self._ask_if_due()
        key = self._keys.get(kid)
        if key is None:
            if self._loaded_at is None or self._attempt_failed:
                raise KeysUnavailableError("the issuer's keys could not be fetched")
            if asked:
                self._remember_absent(kid)
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

    async def _ask_if_due(self) -> bool:
        """Wait for a refresh, a new one or the one under way; tell whether there was any."""
        self._start_refresh_if_due()
        refresh = self._in_flight()
        if refresh is None:
            return False
        # Unlike awaiting the task, this neither cancels it with a waiter nor a waiter with it.
        await asyncio.wait({refresh})
        return True

    def _start_refresh_if_due(self) -> None:
        if self._closed or self._in_flight() is not None or not self._is_due():
            return
        self._attempted_at = self._clock()
        self._attempt_failed = True
        # A context of its own: the log lines of a shared refresh belong to no one connection.
        self._refresh = asyncio.create_task(
            self._load(), name="jwks refresh", context=contextvars.Context()
        )
        self._refresh.add_done_callback(_log_defect)

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                document = await self._fetch(self._url)
            keys = read_jwks(document)
        except (JwksError, TimeoutError) as exc:
            log.warning(
                "key refresh failed",
                extra={
                    "jwks_url": self._url,
                    "cause": str(exc) or "timeout",
                    "kept": len(self._keys),
                },
            )
            return
        self._keys = keys
        self._loaded_at = self._clock()
        self._attempt_failed = False

    def _in_flight(self) -> asyncio.Task[None] | None:
        return None if self._refresh is None or self._refresh.done() else self._refresh

    def _is_due(self) -> bool:
        if self._attempted_at is None:
            return True
        cold = self._loaded_at is None
        gap = self._policy.cold_gap_s if cold else self._policy.refresh_gap_s
        return self._clock() - self._attempted_at >= gap

    def _is_stale(self) -> bool:
        return (
            self._loaded_at is not None
            and self._clock() - self._loaded_at >= self._policy.max_age_s
        )

    def _is_known_absent(self, kid: str) -> bool:
        return self._clock() < self._absent_until.get(kid, 0)

    def _remember_absent(self, kid: str) -> None:
        self._absent_until.pop(kid, None)
        if len(self._absent_until) >= self._policy.absent_limit:
            del self._absent_until[next(iter(self._absent_until))]
        self._absent_until[kid] = self._clock() + self._policy.absent_s


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOOPBACK_HOSTS:
        return
    raise ValueError(f"key document URL must be https, or http on loopback: {url}")


def _log_defect(task: asyncio.Task[None]) -> None:
    """Say what a fetch raised against its contract; nobody may be waiting to see it."""
    if not task.cancelled() and task.exception() is not None:
        log.error("key refresh broke", exc_info=task.exception())
