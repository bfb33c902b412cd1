"""Streaming chunks as OpenAI's chat completions endpoint writes them in function-call mode.

Each carries `obfuscation`, random padding the service adds unless `include_obfuscation` is false.
"""

from pathlib import Path
from typing import Any

import orjson

# Both relays ask for the same: this file is what they send beside the messages.
_REQUEST = orjson.loads((Path(__file__).parent / "relays" / "request.json").read_bytes())
MODEL: str = _REQUEST["model"]
TOOL: Any = _REQUEST["tool"]
FUNCTION: str = _REQUEST["tool"]["function"]["name"]

_TOP = {
    "id": "chatcmpl-BqTf0m5n6o7p8q9r0s1t2u3v4w5x6",
    "object": "chat.completion.chunk",
    "created": 1_760_000_000,
    "model": MODEL,
    "service_tier": "default",
    "system_fingerprint": "fp_1a2b3c4d5e",
}


def _compact(value: object) -> str:
    return orjson.dumps(value).decode()


def _chunk(delta: object, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _compact({**_TOP, "choices": [choice], "usage": None, "obfuscation": "VtJ1kLcQwE"})


def call_started() -> str:
    """Write the chunk that names the called function and carries no arguments yet."""
    function = {"name": FUNCTION, "arguments": ""}
    call = {"index": 0, "id": "call_9XyZ8wVu7tSr6qPo", "type": "function", "function": function}
    return _chunk({"role": "assistant", "content": None, "tool_calls": [call], "refusal": None})


def arguments_fragment(fragment: str) -> str:
    """Write the chunk that carries one fragment of the arguments."""
    return _chunk({"tool_calls": [{"index": 0, "function": {"arguments": fragment}}]})


def finished() -> str:
    """Write the chunk that closes the choice."""
    return _chunk({}, "tool_calls")


def usage(prompt_tokens: int, completion_tokens: int) -> str:
    """Write the last chunk: token counts and no choice."""
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return _compact({**_TOP, "choices": [], "usage": counts})
