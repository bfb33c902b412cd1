"""Who may have a demo token: the page that this server itself shows on this very machine.

Signing in anybody who asks is only safe while nobody else can ask. Each rule closes one way in:

- the peer is a loopback address: not another machine;
- `Host` is a loopback name with this server's port: not a page whose name an attacker's DNS points here
  (DNS rebinding: the browser then connects to loopback, but still sends the attacker's name);
- `Origin` is this server's own, or absent where the browser says `Sec-Fetch-Site: same-origin`: not
  another page on this machine or on the net. Browsers send `Origin` with every POST
  (https://fetch.spec.whatwg.org/#origin-header), and pages can set neither header (Fetch, "forbidden
  request-header"; https://www.w3.org/TR/fetch-metadata/);
- `POST`: not an image, a link or a form of method GET;
- no header of a proxy, and not HTTP/1.0, which nginx speaks to its upstreams unless told otherwise: behind
  a proxy every peer is loopback.

A proxy may hide itself completely. The caller must not offer demo tokens at all unless the server is
bound to loopback and every allowed origin is a loopback one.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

_HTTP_DEFAULT_PORT: Final = 80
_PROXY_HEADERS: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-real-ip",
        "cf-connecting-ip",
        "true-client-ip",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """What the guard judges by.

    Attributes:
        method: the HTTP method, upper case.
        http_version: as ASGI writes it: ``1.0``, ``1.1``, ``2``.
        peer: the address of the other end of the TCP connection itself; `None` if it has none.
        headers: all request headers in order, one pair per line as received; names in any case.
    """

    method: str
    http_version: str
    peer: str | None
    headers: tuple[tuple[str, str], ...]


def may_have_demo_token(request: DemoRequest, *, port: int) -> bool:
    """Tell whether to answer with a token. If not, answer as for a path that does not exist.

    Args:
        request: as received, before any forwarded header is believed.
        port: the TCP port that this server is bound to.
    """
    named = [(name.lower(), value) for name, value in request.headers]
    return (
        request.method == "POST"
        and request.http_version != "1.0"
        and _is_loopback(request.peer)
        and _PROXY_HEADERS.isdisjoint(name for name, _ in named)
        and _is_from_own_page(named, port)
    )


def _is_loopback(peer: str | None) -> bool:
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_from_own_page(headers: Sequence[tuple[str, str]], port: int) -> bool:
    hosts, origins, sites = (
        [value for named, value in headers if named == name]
        for name in ("host", "origin", "sec-fetch-site")
    )
    if len(hosts) != 1 or hosts[0] not in _own_hosts(port):
        return False
    if sites not in ([], ["same-origin"]):
        return False
    return origins == [f"http://{hosts[0]}"] or (not origins and sites == ["same-origin"])


def _own_hosts(port: int) -> frozenset[str]:
    names = {f"{name}:{port}" for name in LOOPBACK_NAMES}
    if port == _HTTP_DEFAULT_PORT:
        names.update(LOOPBACK_NAMES)
    return frozenset(names)
