"""What a conversation's item says of its runs that have not ended: the active one, and those that wait.

Accept and finish change it inside their transactions: they guess what it says, and when the guess was
wrong, the transaction's answer brings the item to try with. So the common case needs no read.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from storage.dynamodb import expressions
from storage.dynamodb.client import Item
from storage.dynamodb.expressions import Value, number, text, texts
from storage.dynamodb.keys import Key
from storage.dynamodb.tables import UPDATED_AT

STANDS: Final = "attribute_exists(#pk) AND attribute_not_exists(#forgotten)"
"""The condition that a conversation is there, and nobody has begun to delete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRuns:
    """One state of it.

    Attributes:
        active: the run that is queued or running now.
        waiting: the queued runs after it, in order.
        updated_at: when the conversation's latest turn was accepted or finished.
    """

    active: str | None = None
    waiting: tuple[str, ...] = ()
    updated_at: float = 0.0

    @property
    def all(self) -> tuple[str, ...]:
        """All runs that have not ended, in order."""
        return () if self.active is None else (self.active, *self.waiting)

    def plus(self, run_id: str, *, at: float) -> "SessionRuns":
        """Return the state after that run was accepted."""
        return self._with((*self.all, run_id), at)

    def minus(self, run_id: str, *, at: float) -> "SessionRuns":
        """Return the state after that run has ended."""
        return self._with(tuple(each for each in self.all if each != run_id), at)

    def _with(self, runs: tuple[str, ...], at: float) -> "SessionRuns":
        return replace(
            self,
            active=runs[0] if runs else None,
            waiting=runs[1:],
            updated_at=max(self.updated_at, at),  # clocks differ: it never goes back
        )


def stands(item: Item | None) -> bool:
    """Whether that is a conversation that nobody has begun to delete."""
    return item is not None and "forgotten" not in item


def session_runs_of(item: Item) -> SessionRuns:
    """Read it."""
    return SessionRuns(
        active=item["active_run"]["S"] if "active_run" in item else None,
        waiting=tuple(each["S"] for each in item["next"]["L"]) if "next" in item else (),
        updated_at=float(item[UPDATED_AT]["N"]),
    )


def change(key: Key, before: SessionRuns, after: SessionRuns) -> dict[str, Any]:
    """Return the update from one state to the other, which fails if the first is not what is stored."""
    values: dict[str, Value] = {":updated_at": number(after.updated_at)}
    conditions = [STANDS, f"#{UPDATED_AT} <= :updated_at"]
    sets, removes = [f"#{UPDATED_AT} = :updated_at"], []
    for name, was, becomes in (
        ("active_run", before.active, after.active),
        ("next", before.waiting, after.waiting),
    ):
        if was:
            conditions.append(f"#{name} = :{name}_before")
            values[f":{name}_before"] = _value(was)
        else:
            conditions.append(f"attribute_not_exists(#{name})")
        if was == becomes:
            continue
        if becomes:
            sets.append(f"#{name} = :{name}")
            values[f":{name}"] = _value(becomes)
        else:
            removes.append(f"#{name}")
    expression = f"SET {', '.join(sets)}"
    if removes:
        expression += f" REMOVE {', '.join(removes)}"
    return expressions.update(key, expression, " AND ".join(conditions), values)


def _value(runs: str | tuple[str, ...]) -> Value:
    return text(runs) if isinstance(runs, str) else texts(runs)
