"""Faults on request: those that API Gateway and Lambda have in earnest, when a test wants them.

A fault strikes because it was ordered (`Chaos.order`) or by chance (a rate). Chance is a seed's: the nth
opportunity of a fault has the same fate in every run, whatever happens between.
"""

import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What can go wrong. The target of an order is a connection id, or the name of a function."""

    DROP_DISCONNECT = "drop-disconnect"
    """`$disconnect` is best effort: its function is not invoked. Target: connection."""
    DUPLICATE_MESSAGE = "duplicate-message"
    """The event of a message is delivered twice. Target: connection."""
    POST_GONE = "post-gone"
    """A post is answered 410 though the connection is there. Target: connection, as of all posts."""
    POST_LIMIT = "post-limit"
    """A post is answered 429."""
    POST_FORBIDDEN = "post-forbidden"
    """A post is answered 403."""
    POST_ERROR = "post-error"
    """A post is answered 500."""
    POST_LOST_REPLY = "post-lost-reply"
    """A post arrives at the client, but its answer is lost: the HTTP connection is cut."""
    POST_DUPLICATE = "post-duplicate"
    """A post arrives twice."""
    POST_DELAY = "post-delay"
    """A post takes up to `delay_s`."""
    POST_REORDER = "post-reorder"
    """A post is answered 200, but arrives after the next one, or after `delay_s`."""
    DROP_INVOKE = "drop-invoke"
    """An asynchronous invocation is accepted and forgotten. Target: function, from here on."""
    DUPLICATE_INVOKE = "duplicate-invoke"
    """An asynchronous invocation runs twice."""
    DELAY_INVOKE = "delay-invoke"
    """An asynchronous invocation begins up to `delay_s` late."""
    DUPLICATE_RECORD = "duplicate-record"
    """A message of a queue comes again although it was dealt with."""
    THROTTLE = "throttle"
    """An invocation is throttled."""
    KILL_WORKER = "kill-worker"
    """The process is killed within `delay_s` after an invocation began, if it still runs then."""


@dataclass(slots=True)
class _Order:
    fault: Fault
    target: str
    times: int


class Chaos:
    """Says which faults strike. May be told from any thread.

    Args:
        rates: probabilities between 0 and 1.
        seed: of chance.
        delay_s: longest delay, in seconds.
    """

    def __init__(
        self, rates: Mapping[Fault, float] | None = None, *, seed: int = 0, delay_s: float = 0.2
    ) -> None:
        self.rates = dict(rates or {})
        self.seed = seed
        self.delay_s = delay_s
        self.struck: Counter[Fault] = Counter()
        """How often each has struck."""
        self._chance = {fault: _chance(f"{seed}:{fault}") for fault in Fault}
        self._delays = {fault: _chance(f"{seed}:{fault}:delay") for fault in Fault}
        self._orders: list[_Order] = []
        self._lock = threading.Lock()

    def order(self, fault: Fault | str, *, times: int = 1, target: str = "") -> None:
        """Let the next opportunities of a fault strike.

        Args:
            fault: or its name.
            times: how many.
            target: only those of this connection or function; any, if empty.
        """
        with self._lock:
            self._orders.append(_Order(Fault(fault), target, times))

    def strikes(self, fault: Fault, target: str) -> bool:
        """Whether a fault strikes at this opportunity, which is used up by asking."""
        with self._lock:
            by_chance = self._chance[fault].random() < self.rates.get(fault, 0.0)
            if self._ordered(fault, target) or by_chance:
                self.struck[fault] += 1
                return True
            return False

    def delay(self, fault: Fault) -> float:
        """Return for how many seconds a fault delays something."""
        with self._lock:
            return self._delays[fault].uniform(0.0, self.delay_s)

    def _ordered(self, fault: Fault, target: str) -> bool:
        for order in self._orders:
            if order.fault is fault and order.target in ("", target):
                order.times -= 1
                if order.times <= 0:
                    self._orders.remove(order)
                return True
        return False


def _chance(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - to be repeatable is what it is for
