"""`makoto page`: what it refuses. The browser's tests show what it serves."""

import pytest

from gateway.cli.main import main


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gateway", "https://x.example/"], "no wss or ws URL"),
        (["--gateway", "wss://x.example;script-src/"], "no wss or ws URL"),
        (["--gateway", "wss:///v1/ws"], "no wss or ws URL"),
        (["--gateway", "wss://x.example", "--tickets", "wss://x.example"], "no https or http URL"),
        (["--gateway", "wss://x.example", "--payloads", "*"], "no https or http URL"),
        (["--gateway", "wss://x.example", "--payloads", "https://*"], "no https or http URL"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["page", *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
