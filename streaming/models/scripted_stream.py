"""A scripted reply -> the server-sent events a provider would have sent for it.

Written with the habits of real providers: the call's name in a chunk of its own, its arguments in
fragments of a few characters that cut escapes apart, usage in a last chunk without choices.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from streaming.models.chat_model import ModelRequest
from streaming.models.scripted_reply import ScriptedReply
from streaming.models.scripted_words import Failure, Wishes

__all__ = ["Ending", "ScriptedStream", "scripted_stream"]

Ending: TypeAlias = Literal["end", "stall", "break"]
"""What follows the last event: the end of the body, silence, or a broken connection."""

ERROR_CODES = {
    "auth": "invalid_api_key",
    "quota": "insufficient_quota",
    "rate": "rate_limit_exceeded",
    "request": "context_length_exceeded",
    "refused": "content_policy_violation",
    "filtered": "content_filter",
    "unavailable": "server_error",
}
"""The machine-readable code with which a provider reports each kind of failure."""

_FRAGMENT_SIZES = (3, 5, 2, 4, 1, 6)
_LONG_CHARACTERS = 16_384
"""A longer text is cut into longer fragments, not into more: they are all made at once, and the longest
message has to be echoed within the deadline of a reply."""

_BYTES_PER_TOKEN = 4
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedStream:
    """The body of one response: its events, then its ending."""

    events: tuple[bytes, ...]
    ending: Ending = "end"


def scripted_stream(
    request: ModelRequest,
    reply: ScriptedReply,
    wishes: Wishes,
    *,
    max_output_tokens: int | None = None,
) -> ScriptedStream:
    """Return the response that carries `reply` in the form, and with the failure, asked for.

    Of the failures, those that a provider reports before any stream are not made here.

    Args:
        request: The whole prompt.
        reply: What is said.
        wishes: What the message asks for.
        max_output_tokens: How many fragments there may be; None for any number.
    """
    body = list(_body(request, reply, wishes))
    body, finish_reason = _shortened(body, wishes, max_output_tokens)
    if wishes.failure is not None:
        shown = body[: len(body) // 2] if wishes.failure.later else []
        return _failing([_first_chunk(), *shown], wishes.failure)
    end = (_chunk({}, finish_reason), _usage(request, completion_tokens=len(body)), _DONE)
    return ScriptedStream(events=(_first_chunk(), *body, *end))


def _body(request: ModelRequest, reply: ScriptedReply, wishes: Wishes) -> Iterator[bytes]:
    if "refuse" in wishes.words:
        yield from (_chunk({"refusal": piece}) for piece in _pieces(reply.content))
    elif "plain" in wishes.words:
        yield from (_chunk({"content": piece}) for piece in _pieces(reply.content))
    else:
        if "tool" in wishes.words:
            yield from _call(1, "look_up", '{"query": "nothing"}')
        yield from _call(0, request.function.name, *_argument_pieces(request, reply, wishes))


def _argument_pieces(request: ModelRequest, reply: ScriptedReply, wishes: Wishes) -> Sequence[str]:
    properties = request.function.parameters.get("properties")
    arguments = reply.arguments(properties if isinstance(properties, dict) else {})
    # Escapes beyond ASCII for emoji alone: providers send Japanese text as it is.
    text = json.dumps(arguments, ensure_ascii="emoji" in wishes.words)
    return [text] if "large" in wishes.words else _pieces(text)


def _pieces(text: str) -> list[str]:
    pieces: list[str] = []
    at = 0
    times = 1 + len(text) // _LONG_CHARACTERS
    while at < len(text):
        size = _FRAGMENT_SIZES[len(pieces) % len(_FRAGMENT_SIZES)] * times
        pieces.append(text[at : at + size])
        at += size
    return pieces


def _shortened(
    body: list[bytes], wishes: Wishes, max_output_tokens: int | None
) -> tuple[list[bytes], str]:
    if "filter" in wishes.words:
        return body[: len(body) // 2], "content_filter"
    limit = len(body) // 2 if "truncate" in wishes.words else max_output_tokens
    if limit is not None and limit < len(body):
        return body[:limit], "length"
    return body, "stop"


def _failing(events: list[bytes], failure: Failure) -> ScriptedStream:
    match failure.kind:
        case "stall":
            return ScriptedStream(events=tuple(events), ending="stall")
        case "break":
            return ScriptedStream(events=tuple(events), ending="break")
        case "cut":
            return ScriptedStream(events=tuple(events))
        case "protocol":
            return ScriptedStream(events=(*events, b"data: this is not JSON\n\n"))
        case kind:
            error = {"message": "scripted", "type": None, "code": ERROR_CODES[kind]}
            return ScriptedStream(events=(*events, _event({"error": error})))


def _call(index: int, name: str, *pieces: str) -> Iterator[bytes]:
    start = {"id": f"call_{index}", "type": "function", "index": index}
    yield _chunk({"tool_calls": [{**start, "function": {"name": name, "arguments": ""}}]})
    for piece in pieces:
        yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})


def _first_chunk() -> bytes:
    return _chunk({"role": "assistant", "content": None})


def _usage(request: ModelRequest, *, completion_tokens: int) -> bytes:
    """Report one token per fragment sent, and per four bytes of the prompt, as English text has."""
    prompt_bytes = sum(len(m.content.encode()) for m in request.messages)
    prompt_tokens = -(-prompt_bytes // _BYTES_PER_TOKEN)
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return _event({"object": "chat.completion.chunk", "choices": [], "usage": counts})


def _chunk(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _event({"object": "chat.completion.chunk", "choices": [choice]})


def _event(data: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
