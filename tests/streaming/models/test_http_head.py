import pytest

from streaming.models.http_head import Origin, post_head

FIELDS = [(b"Authorization", b"Bearer SECRET"), (b"X-Name", "é".encode())]


def test_a_request_is_the_head_and_the_body() -> None:
    head = post_head("https://api.example.com/v1/chat?a=b", FIELDS)

    assert head.with_body(b"{}") == (
        b"POST /v1/chat?a=b HTTP/1.1\r\n"
        b"Host: api.example.com\r\n"
        b"Authorization: Bearer SECRET\r\n"
        b"X-Name: \xc3\xa9\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert "SECRET" not in repr(head)


@pytest.mark.parametrize(
    ("url", "origin", "host", "target"),
    [
        ("http://a.test", Origin(host="a.test", port=80, tls=False), "a.test", "/"),
        ("https://a.test/", Origin(host="a.test", port=443, tls=True), "a.test", "/"),
        ("https://A.test/x", Origin(host="a.test", port=443, tls=True), "A.test", "/x"),
        ("http://a.test:8080?q", Origin(host="a.test", port=8080, tls=False), "a.test:8080", "/?q"),
        ("http://[::1]:9/p", Origin(host="::1", port=9, tls=False), "[::1]:9", "/p"),
        ("http://u:p@a.test/p#f", Origin(host="a.test", port=80, tls=False), "a.test", "/p"),
    ],
)
def test_a_url_says_whom_to_ask_for_what(url: str, origin: Origin, host: str, target: str) -> None:
    head = post_head(url, [])

    assert head.origin == origin
    assert head.lines == f"POST {target} HTTP/1.1\r\nHost: {host}\r\n".encode()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.test/x",
        "/x",
        "ftp://a.test/",
        "http://",
        "http:///x",
        "http://[::1",
        "http://a.test:port/",
        "http://a.test:65536/",
        "http://a.test/a b",
        "http://a.test/é",
        "http://é.test/",
        "http://a b.test/",
        "http://a\x00.test/",
        "http://a..test/",
        f"http://{'a' * 64}.test/",
    ],
)
def test_a_url_that_makes_no_request_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some are the standard library's own
        post_head(url, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"v"),
        (b"X Y", b"v"),
        (b"X:", b"v"),
        (b"X\r\nY", b"v"),
        ("é".encode(), b"v"),
        (b"X", b"v\r\nY: w"),
        (b"X", b"v\n"),
        (b"X", b"\r"),
        (b"X", b"\x00"),
        (b"X", b"\x7f"),
    ],
)
def test_a_field_cannot_bring_another_along(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="not a header field"):
        post_head("http://a.test/", [(name, value)])
