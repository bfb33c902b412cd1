"""Structured logs: one JSON object a line, on standard error.

A record's message is constant; what varies is in its fields. Tokens, secrets and message text never get
into one, by what callers hand over; uvicorn's access log, which would show query strings, is off.
"""

import asyncio
import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import MemoryHandler
from typing import Final, TextIO

import orjson

DEFER_S: Final = 0.05
"""How long a deferred line may wait, in seconds."""

DEFERRED_MAX: Final = 1_000
"""Lines that may wait."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: `at`, `level`, `from`, `message`, then its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. What a record says by a name of ours is left out."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and value is not None:
                line.setdefault(name, value)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # a lone surrogate, such as Python makes of a file name that is not UTF-8
            return json.dumps(line, default=str)


class DeferredHandler(MemoryHandler):
    """Keeps the records of an event loop for a moment, because to write one costs more than a frame.

    Hands on at once what is a warning or worse, what no event loop runs for, and the `DEFERRED_MAX`th, each
    with all before it. A process that is killed loses at most the lines of its last `DEFER_S` seconds.
    """

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(DEFERRED_MAX, flushLevel=logging.WARNING, target=target)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, or hand it on."""
        is_first = not self.buffer
        super().emit(record)
        if is_first and self.buffer:
            asyncio.get_running_loop().call_later(DEFER_S, self.flush)

    def shouldFlush(self, record: logging.LogRecord) -> bool:  # noqa: N802 - the library's name
        """Whether a record and all before it are to be handed on now."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            return super().shouldFlush(record)
        return True


def set_up_logs(level: str, *, stream: TextIO | None = None, deferred: bool = False) -> None:
    """Send all logs of this process to `stream` (standard error by default) as JSON lines.

    Args:
        level: of the least severe lines that are written.
        stream: where they go.
        deferred: write them a moment later; for a process that nobody freezes or ends between two events.
    """
    handler: logging.Handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    if deferred:
        handler = DeferredHandler(handler)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At DEBUG these tell whole requests and answers, secrets and texts among them.
    for name in (
        "aiobotocore",
        "asyncio",
        "botocore",
        "httpx2",
        "openai",
        "uvicorn",
        "uvicorn.error",
    ):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
