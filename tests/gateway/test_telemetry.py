"""Logs: one JSON object a line, whatever is logged."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry import JsonFormatter, set_up_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the lines of this test go; the process's own handlers come back afterwards."""
    root = logging.getLogger()
    names = ("uvicorn.error", "uvicorn", "asyncio")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    stream = io.StringIO()
    set_up_logs("info", stream=stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().split("\n") if line]


log = logging.getLogger("gateway.somewhere")


def test_a_line(stream: io.StringIO) -> None:
    log.info("command", extra={"connection_id": "c1", "ms": 1.25, "code": None})
    (line,) = lines(stream)
    assert list(line) == ["at", "level", "from", "message", "connection_id", "ms"]
    at = line.pop("at")
    assert len(at) == len("2026-01-01T00:00:00.000+00:00")
    assert at.endswith("+00:00")
    assert line == {
        "level": "info",
        "from": "gateway.somewhere",
        "message": "command",
        "connection_id": "c1",
        "ms": 1.25,
    }


def test_a_record_stays_one_line(stream: io.StringIO) -> None:
    log.warning("forged\nline", extra={"field": "a\r\nb\u2028c"})
    assert len(stream.getvalue().split("\n")) == 2
    (line,) = lines(stream)
    assert (line["message"], line["field"]) == ("forged\nline", "a\r\nb\u2028c")


def test_japanese_is_written_as_it_is(stream: io.StringIO) -> None:
    log.info("started", extra={"folder": "/srv/データ"})
    assert "/srv/データ" in stream.getvalue()


def test_arguments_of_other_peoples_messages_are_filled_in(stream: io.StringIO) -> None:
    log.info("%s of %d", "one", 2)
    assert lines(stream)[0]["message"] == "one of 2"


@pytest.mark.parametrize("name", ["at", "level", "from"])
def test_a_field_never_replaces_one_of_ours(stream: io.StringIO, name: str) -> None:
    log.info("said", extra={name: "forged"})
    assert "forged" not in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        Path("/srv/data"),
        {1: {2, 3}},
        b"bytes",
        2**80,
        "\ud83d",
        {"\udcff": 1},
        object(),
        float("nan"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_can_be_logged(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], value: object
) -> None:
    log.info("odd", extra={"value": value})
    (line,) = lines(stream)
    assert line["message"] == "odd"
    assert "value" in line
    assert capsys.readouterr().err == ""


def test_a_trace_is_there_once(stream: io.StringIO) -> None:
    try:
        raise ZeroDivisionError("by design")
    except ZeroDivisionError:
        log.exception("broke")
    (line,) = lines(stream)
    assert line["trace"].startswith("Traceback (most recent call last):")
    assert line["trace"].endswith("ZeroDivisionError: by design")
    assert stream.getvalue().count("by design") == 2  # the line of the source, and the error
    assert "exc_info" not in line
    assert "exc_text" not in line


def test_a_record_without_an_error_has_no_trace(stream: io.StringIO) -> None:
    log.error("bad", exc_info=None)
    assert "trace" not in lines(stream)[0]


def test_nothing_of_the_record_itself_is_shown() -> None:
    record = logging.makeLogRecord({"msg": "said", "taskName": "Task-1", "asctime": "now"})
    line = json.loads(JsonFormatter().format(record))
    assert set(line) == {"at", "level", "from", "message"}


# Setting up


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_the_least_severe_line_that_is_written(stream: io.StringIO, level: str, shown: int) -> None:
    set_up_logs(level, stream=stream)
    for each in (log.debug, log.info, log.warning, log.error):
        each("said")
    assert len(lines(stream)) == shown


def test_setting_up_twice_does_not_double_the_lines(stream: io.StringIO) -> None:
    set_up_logs("info", stream=stream)
    log.info("said")
    assert len(lines(stream)) == 1


def test_the_chatter_of_the_server_is_left_out(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("uvicorn.error").warning("trouble")
    assert [line["message"] for line in lines(stream)] == ["trouble"]


@pytest.mark.parametrize(
    "name", ["botocore.parsers", "aiobotocore.endpoint", "openai._base_client"]
)
def test_what_an_sdk_was_told_is_left_out_even_at_debug(stream: io.StringIO, name: str) -> None:
    set_up_logs("debug", stream=stream)
    logging.getLogger(name).debug("the whole answer")
    logging.getLogger(name).info("a secret")
    assert lines(stream) == []


def test_logs_go_to_standard_error(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info")
    log.info("said")
    written = capsys.readouterr()
    assert written.out == ""
    assert json.loads(written.err)["message"] == "said"
