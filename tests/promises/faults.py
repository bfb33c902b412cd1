"""Between a process and its store: verbs that refuse, lose their reply or hang, and processes that die."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from storage.errors import StorageUnavailableError
from storage.records import LogEntry, Owner
from storage.repositories import Acknowledge

_REPOSITORIES = (
    "sessions",
    "messages",
    "memories",
    "runs",
    "log",
    "payloads",
    "subscribers",
)

HANGS_FOR_S = 5.0


@dataclass(slots=True)
class Faults:
    """What goes wrong with the backend, for all processes.

    Attributes:
        refused: how many coming calls of a verb do nothing and fail.
        lost: how many coming calls of a verb do what they shall and seem to fail.
        hanging: while it is there, what is called waits for it, before or after it took effect.
    """

    refused: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    hanging: asyncio.Event | None = None
    hangs_after: bool = False

    def heal(self) -> None:
        self.refused.clear()
        self.lost.clear()
        self.go_on()

    def hang(self, *, after: bool) -> None:
        if self.hanging is None:
            self.hanging, self.hangs_after = asyncio.Event(), after

    def go_on(self) -> None:
        if self.hanging is not None:
            self.hanging.set()
            self.hanging = None

    def refuses(self, verb: str) -> bool:
        return _took_one(self.refused, verb)

    def loses(self, verb: str) -> bool:
        return _took_one(self.lost, verb)

    async def wait(self, *, after: bool) -> None:
        """Hang for as long as a store may before it has to fail."""
        if self.hanging is None or self.hangs_after != after:
            return
        try:
            async with asyncio.timeout(HANGS_FOR_S):
                await self.hanging.wait()
        except TimeoutError:
            raise StorageUnavailableError("told to hang") from None


def _took_one(counter: Counter[str], verb: str) -> bool:
    if counter[verb] <= 0:
        return False
    counter[verb] -= 1
    return True


class FaultyStore:
    """The store of one process.

    Attributes:
        dead: the process was killed: nothing that it still asks for takes effect, or comes back.
    """

    def __init__(self, store: Any, faults: Faults) -> None:
        self.dead = False
        self.store = store
        self._faults = faults

    def of(self, owner: Owner) -> Any:
        its = self.store.of(owner)
        names = [name for name in _REPOSITORIES if hasattr(its, name)]
        faulty: dict[str, Any] = {name: self._faulty(name, getattr(its, name)) for name in names}
        return replace(its, **faulty)

    def _faulty(self, name: str, repository: Any) -> "_Faulty":
        kind = _FaultyLog if name == "log" else _Faulty
        return kind(self, self._faults, name, repository)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class _Faulty:
    def __init__(self, process: FaultyStore, faults: Faults, name: str, repository: Any) -> None:
        self._process, self._faults = process, faults
        self._name, self._repository = name, repository

    def __getattr__(self, verb: str) -> Any:
        name = f"{self._name}.{verb}"

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._faults.wait(after=False)
            self._check_alive()
            if self._faults.refuses(name):
                raise StorageUnavailableError("told to refuse")
            result = await getattr(self._repository, verb)(*arguments, **named)
            await self._faults.wait(after=True)
            self._check_alive()
            if self._faults.loses(name):
                raise StorageUnavailableError("told to lose")
            return result

        return call

    def _check_alive(self) -> None:
        if self._process.dead:
            raise asyncio.CancelledError


class _FaultyLog(_Faulty):
    def append(self, entry: LogEntry, *, claimed_by: str, acknowledge: Acknowledge) -> None:
        if self._process.dead:
            return
        if self._faults.refuses("log.append"):
            self._answer(acknowledge, StorageUnavailableError("told to refuse"))
            return
        lost = self._faults.loses("log.append")

        def answered(error: Any) -> None:
            lie = StorageUnavailableError("told to lose") if lost and error is None else error
            self._answer(acknowledge, lie)

        self._repository.append(entry, claimed_by=claimed_by, acknowledge=answered)

    def _answer(self, acknowledge: Acknowledge, error: Any) -> None:
        """Acknowledge later, in the order of the appends, and only to a process that lives."""

        def say() -> None:
            if not self._process.dead:
                acknowledge(error)

        asyncio.get_running_loop().call_soon(say)
