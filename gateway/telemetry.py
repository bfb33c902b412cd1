"""Structured logs: one JSON object a line, on standard error.

A record's message is constant; what varies is in its fields. Tokens, secrets and message text never get
into one, by what callers hand over; uvicorn's access log, which would show query strings, is off.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

import orjson

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


def set_up_logs(level: str, *, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error by default) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
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
