"""What a provider's chunk says beside the reply itself; nothing in it is taken on trust."""

import re
from collections.abc import Mapping
from typing import Final

from streaming.errors import ParseError, UpstreamError
from streaming.json_values import decode_bytes
from streaming.parts import JsonValue, Usage

_MACHINE_WORD: Final = re.compile(r"[A-Za-z_]{1,64}")
_ERROR_STATUS: Final = re.compile(r"[45][0-9]{2}")

_COUNT_LIMIT: Final = 2**53
"""A greater count is none: clients would not read it exactly, and not every store keeps it."""


def decode_chunk(data: bytes) -> dict[str, JsonValue]:
    """Decode the data of one event, `sse.DONE` excepted.

    Halves of characters stay as they are: `ToolCallAccumulator` joins them.

    Returns:
        The chunk; an empty one for empty data, with which servers keep a connection alive.

    Raises:
        ParseError: `syntax`, `not_finite`, `encoding`, `too_deep` or `not_an_object`; the
            provider's fault.
    """
    if not data.strip():
        return {}
    chunk = decode_bytes(data)
    if not isinstance(chunk, dict):
        raise ParseError("not_an_object")
    return chunk


def read_usage(usage: Mapping[str, object]) -> Usage:
    """The provider's count, from a chunk's `usage`; what is missing in it, or no number, counts 0."""
    prompt = _count(usage, "prompt_tokens")
    completion = _count(usage, "completion_tokens")
    return Usage(
        prompt,
        completion,
        _count(usage, "total_tokens") or prompt + completion,
        _count(usage.get("prompt_tokens_details"), "cached_tokens"),
        _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: object, name: str) -> int:
    count = counts.get(name) if isinstance(counts, Mapping) else None
    return count if type(count) is int and 0 < count < _COUNT_LIMIT else 0


def read_error(error: object) -> UpstreamError:
    """The error that the provider reports as a chunk's `error`, without its message."""
    fields = error if isinstance(error, dict) else {}
    kind = _word(fields.get("code")) or _word(fields.get("type"))
    status = http_status(fields.get("code")) or http_status(fields.get("status"))
    return UpstreamError(kind, status)


def _word(value: object) -> str:
    return value if isinstance(value, str) and _MACHINE_WORD.fullmatch(value) else ""


def http_status(value: object) -> int:
    """The HTTP error status that a field of an error gives as a number or as its digits; 0 if none."""
    digits = str(value) if isinstance(value, int | str) else ""
    return int(digits) if _ERROR_STATUS.fullmatch(digits) else 0
