"""Where a request comes from, behind proxies too. Pure."""

from collections.abc import Iterable


def client_address(peer: str, headers: Iterable[tuple[str, str]], proxies: frozenset[str]) -> str:
    """Return the address of the client.

    Args:
        peer: the other end of the TCP connection.
        headers: the request's headers; `X-Forwarded-For` counts only if `peer` is a known proxy, and
            then from the right, since a client can write anything to its left.
        proxies: addresses of the known proxies.
    """
    if peer not in proxies:
        return peer
    hops = [
        hop.strip()
        for name, value in headers
        if name.lower() == "x-forwarded-for"
        for hop in value.split(",")
    ]
    for hop in reversed(hops):
        if hop not in proxies:
            return hop or peer
    return peer
