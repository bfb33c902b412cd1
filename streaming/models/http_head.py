"""The head of an HTTP/1.1 request: made once, sent with every body."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Origin", "RequestHead", "post_head"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VISIBLE: Final = re.compile(r"[!-~]+")
# RFC 9110 sections 5.1 and 5.5: no line end, so that no field can bring a second one along.
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Whom a connection is made to (RFC 9110 section 4.3.1)."""

    host: str
    """An ASCII name or an address; IPv6 without brackets."""
    port: int
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """All of a request but its body; the same for every turn until the credential changes."""

    origin: Origin
    lines: bytes = field(repr=False)
    """The request line and the header fields, the length of the body excepted. Carries the credential."""

    def with_body(self, body: bytes) -> bytes:
        """Return the whole request, as it is sent."""
        return b"%bContent-Length: %d\r\n\r\n%b" % (self.lines, len(body), body)


def post_head(url: str, fields: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Return the head of a POST request.

    Args:
        url: Absolute, ``http`` or ``https``, percent-encoded. A fragment and a user are dropped.
        fields: The header fields in order, without Host and Content-Length.

    Raises:
        ValueError: No request can be made of these. The text may quote the URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not an absolute HTTP URL")
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    host = parts.netloc.rpartition("@")[2]
    if not _VISIBLE.fullmatch(host + target):
        raise ValueError("the URL is not percent-encoded")
    parts.hostname.encode(
        "idna"
    )  # as resolving it will; raises for a label that is too long or empty
    lines = [f"POST {target} HTTP/1.1".encode()]
    lines += [_line(name, value) for name, value in [(b"Host", host.encode()), *fields]]
    return RequestHead(
        origin=Origin(
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            tls=parts.scheme == "https",
        ),
        lines=b"".join(line + b"\r\n" for line in lines),
    )


def _line(name: bytes, value: bytes) -> bytes:
    if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
        raise ValueError("not a header field")
    return name + b": " + value
