"""Who may have a demo token."""

from dataclasses import replace

import pytest

from gateway.identity.demo_guard import DemoRequest, may_have_demo_token

PORT = 8765


def request(*headers: tuple[str, str], peer: str | None = "127.0.0.1") -> DemoRequest:
    return DemoRequest(method="POST", http_version="1.1", peer=peer, headers=headers)


def page(host: str) -> tuple[tuple[str, str], ...]:
    """What a browser sends from a page that was loaded from this host."""
    return (("Host", host), ("Origin", f"http://{host}"), ("Sec-Fetch-Site", "same-origin"))


HOST = ("Host", "localhost:8765")
ORIGIN = ("Origin", "http://localhost:8765")
SAME = ("Sec-Fetch-Site", "same-origin")
OWN = request(*page("localhost:8765"))

ALLOWED = {
    "localhost": OWN,
    "127.0.0.1": request(*page("127.0.0.1:8765")),
    "[::1]": request(*page("[::1]:8765"), peer="::1"),
    "IPv4 on an IPv6 socket": request(*page("127.0.0.1:8765"), peer="::ffff:127.0.0.1"),
    "another loopback address": request(*page("localhost:8765"), peer="127.8.9.10"),
    "names in lower case": request(("host", HOST[1]), ("origin", ORIGIN[1])),
    "without Sec-Fetch-Site, as on plain http": request(HOST, ORIGIN),
    "without Origin, but said to be same-origin": request(HOST, SAME),
    "other headers beside": request(*page("localhost:8765"), ("Accept", "*/*"), ("Cookie", "a=b")),
}


@pytest.mark.parametrize("asked", ALLOWED.values(), ids=ALLOWED.keys())
def test_the_own_page_on_this_machine_may(asked: DemoRequest) -> None:
    assert may_have_demo_token(asked, port=PORT)


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1", "[::1]"])
def test_port_80_may_go_unsaid(host: str) -> None:
    assert may_have_demo_token(request(*page(host)), port=80)
    assert not may_have_demo_token(request(*page(host)), port=PORT)


DENIED = {
    **{
        f"method {method!r}": replace(OWN, method=method)
        for method in ("GET", "HEAD", "PUT", "OPTIONS", "DELETE", "post", "")
    },
    **{
        f"peer {peer!r}": replace(OWN, peer=peer)
        for peer in (
            *(None, "", "192.168.1.5", "10.0.0.1", "0.0.0.0", "169.254.169.254", "203.0.113.9"),
            *("::", "fe80::1", "2001:db8::1", "::ffff:10.0.0.1", "localhost", "127.0.0.1.evil"),
            *("127.1", "2130706433", "0x7f000001", " 127.0.0.1", "unix:"),
        )
    },
    **{
        f"Host {host!r}": request(*page(host))
        for host in (
            *("evil.example:8765", "evil.example", "localhost", "localhost:8766", "localhost:80"),
            *("localhost.evil.example:8765", "localhost.:8765", "127.0.0.1", "127.0.0.2:8765"),
            *("0.0.0.0:8765", "[::]:8765", "::1:8765", "[::1]", "[::ffff:127.0.0.1]:8765", ""),
            *(
                "localhost:8765, evil.example",
                "user@localhost:8765",
                "LOCALHOST:8765",
                "localhost:",
            ),
            *("localhost:8765/", "localhost:08765", "localhost:8765\x00", "127.0.0.1.nip.io:8765"),
        )
    },
    "no Host": request(ORIGIN, SAME),
    "two Hosts": request(HOST, HOST, ORIGIN),
    "two Hosts, one foreign": request(HOST, ("Host", "evil.example"), ORIGIN),
    **{
        f"Origin {origin!r}": request(HOST, ("Origin", origin), SAME)
        for origin in (
            *("null", "", "https://evil.example", "https://localhost:8765", "http://localhost"),
            *("http://localhost:3000", "http://127.0.0.1:8765", "http://localhost:8765/", "*"),
            *("http://localhost:8765.evil.example", "HTTP://LOCALHOST:8765", "file://"),
        )
    },
    "a rebound name throughout": request(*page("rebound.example:8765")),
    "neither Origin nor Sec-Fetch-Site": request(HOST),
    "two Origins": request(HOST, ORIGIN, ORIGIN),
    **{
        f"Sec-Fetch-Site {site!r} with the right Origin": request(
            HOST, ORIGIN, ("Sec-Fetch-Site", site)
        )
        for site in (
            "cross-site",
            "same-site",
            "none",
            "",
            "Same-Origin",
            "same-origin, cross-site",
        )
    },
    **{
        f"Sec-Fetch-Site {site!r} without Origin": request(HOST, ("Sec-Fetch-Site", site))
        for site in ("cross-site", "same-site", "none", "")
    },
    "two Sec-Fetch-Sites": request(HOST, ORIGIN, SAME, ("Sec-Fetch-Site", "cross-site")),
    **{
        f"behind a proxy that says {name}": request(*page("localhost:8765"), (name, "203.0.113.9"))
        for name in ("X-Forwarded-For", "x-real-ip", "Forwarded", "Via", "X-Forwarded-Host")
    },
    "behind nginx with its defaults": replace(OWN, http_version="1.0"),
}


@pytest.mark.parametrize("asked", DENIED.values(), ids=DENIED.keys())
def test_nobody_else_may(asked: DemoRequest) -> None:
    assert not may_have_demo_token(asked, port=PORT)
