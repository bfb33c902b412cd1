"""Requests and answers as bytes of JSON, in which B attributes are base64."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from storage.errors import UnstorableTextError


def encoded(request: Mapping[str, Any]) -> bytes:
    """Return the request as it is sent.

    Raises:
        UnstorableTextError: a text in it holds a lone surrogate.
    """
    try:
        return orjson.dumps(request, default=_base64)
    except orjson.JSONEncodeError as error:
        raise UnstorableTextError("a value cannot be stored") from error


def decoded(body: bytes) -> dict[str, Any]:
    """Return the answer, with bytes for B.

    Raises:
        ValueError: it is not a JSON object.
    """
    answer = orjson.loads(body) if body else {}
    if b'"B' in body:
        _restore_bytes(answer)
    if isinstance(answer, dict):
        return answer
    raise ValueError("an answer is an object")


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(type(value).__name__)


def _restore_bytes(value: object) -> None:
    """Turn base64 into bytes in place: only a type has a text below "B", a name there has a mapping."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "B" and isinstance(inner, str):
                value[name] = base64.b64decode(inner)
            elif name == "BS" and isinstance(inner, list):
                value[name] = [base64.b64decode(each) for each in inner]
            else:
                _restore_bytes(inner)
    elif isinstance(value, list):
        for inner in value:
            _restore_bytes(inner)
