"""PROTOCOL.md is true: each example passes the models, and each name of the protocol is explained."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import orjson
import pytest
from pydantic import BaseModel, TypeAdapter

from gateway.wire.answers import AnyAnswer, Events, http_error
from gateway.wire.commands import COMMAND_TYPES, AnyCommand, Command, decode
from gateway.wire.errors import CloseCode, ErrorCode, RateLimitedError
from gateway.wire.events import AnyEvent, DoneReason
from gateway.wire.generate import REPOSITORY
from gateway.wire.json_schema import error_classes, protocol_schema

TEXT = (REPOSITORY / "PROTOCOL.md").read_text("utf-8")
ANSWER: TypeAdapter[AnyAnswer] = TypeAdapter(AnyAnswer)


def fences(language: str) -> Iterator[tuple[int, str]]:
    """Yield line number and body of each fenced block of that language."""
    for block in re.finditer(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        yield TEXT[: block.start(1)].count("\n") + 1, block[1]


def lines() -> Iterator[Any]:
    """Yield every line of every dialogue."""
    for first, body in fences("text"):
        for number, line in enumerate(body.splitlines(), first):
            yield pytest.param(line, id=f"line-{number}")


def dialogues() -> Iterator[Any]:
    for first, body in fences("text"):
        yield pytest.param(body.splitlines(), id=f"line-{first}")


def said(line: str) -> Command | AnyAnswer | None:
    """Read a line of a dialogue: `>` from the client, `<` from the server, brackets a remark."""
    match line[:2]:
        case "> ":
            return decode(line[2:])
        case "< ":
            return ANSWER.validate_json(line[2:], strict=True)
    assert re.fullmatch(r"  \(.*\)", line)
    return None


def rows(after: str) -> list[list[str]]:
    """Return the cells of the first table behind that text, without its head."""
    table = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(after) :], re.MULTILINE)
    assert table is not None
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table[0].splitlines()[2:]
    ]


# Examples


@pytest.mark.parametrize("line", list(lines()))
def test_every_line_of_a_dialogue_is_of_the_protocol(line: str) -> None:
    frame = said(line)
    if isinstance(frame, BaseModel):
        shown = orjson.loads(line[2:])
        assert shown == frame.model_dump(include=set(shown), exclude_none=True, mode="json")
        assert line[2:].startswith('{"type":')


def test_there_are_dialogues_and_they_show_everything_that_goes_over_the_socket() -> None:
    frames = [frame for param in lines() if (frame := said(param.values[0]))]
    shown = {type(frame).__name__ for frame in frames}
    for frame in frames:
        if isinstance(frame, Events):
            shown |= {type(event).__name__ for event in frame.events}
    definitions = protocol_schema()["$defs"]
    wanted = {
        member["$ref"].rpartition("/")[2]
        for union in ("AnyCommand", "AnyAnswer", "AnyEvent")
        for member in definitions[union]["oneOf"]
    }
    assert shown == wanted - {"ToolCallDelta"}


@pytest.mark.parametrize("dialogue", list(dialogues()))
def test_events_in_a_dialogue_are_numbered_as_promised(dialogue: list[str]) -> None:
    following: dict[str, int] = {}
    for line in dialogue:
        frame = said(line)
        if isinstance(frame, Events):
            assert frame.last_seq == frame.first_seq + len(frame.events) - 1
            assert (frame.first_seq == 1) == (frame.events[0].type == "started")
            for number, event in enumerate(frame.events, frame.first_seq):
                assert event.type != "done" or number == frame.last_seq
            following[frame.run_id] = frame.last_seq + 1


def test_the_json_blocks_are_a_frame_and_http_bodies() -> None:
    frame, ticket, error = (orjson.loads(body) for _, body in fences("json"))
    assert isinstance(ANSWER.validate_python(frame), Events)
    assert set(ticket) == {"ticket", "expires_at"}
    assert re.fullmatch(r"[A-Za-z0-9_-]{21}[AQgw]", ticket["ticket"])
    request_id = error["error"]["request_id"]
    assert error == http_error(RateLimitedError(retry_after_ms=1500), request_id=request_id)


# Names


def test_every_definition_has_one_table() -> None:
    named = re.findall(r"^<!-- fields: (\w+) -->$", TEXT, re.MULTILINE)
    definitions = protocol_schema()["$defs"]
    assert sorted(named) == sorted(
        name for name in definitions if "properties" in definitions[name]
    )


@pytest.mark.parametrize(
    "name",
    [
        *sorted(COMMAND_TYPES),
        *[
            kind.model_fields["type"].default
            for union in (AnyAnswer, AnyEvent)
            for kind in get_args(get_args(union)[0])
        ],
    ],
)
def test_every_type_has_a_section_that_begins_with_a_sentence(name: str) -> None:
    assert re.search(rf"^### {re.escape(name)}\n\n[A-Z].*\.$", TEXT, re.MULTILINE)


def section(name: str) -> str:
    return TEXT.partition(f"\n### {name}\n")[2].partition("\n### ")[0]


@pytest.mark.parametrize("command", get_args(AnyCommand), ids=lambda command: command.__name__)
def test_a_section_says_what_the_schema_demands_of_its_fields(command: type[Command]) -> None:
    schema = protocol_schema()["$defs"][command.__name__]
    text = section(schema["properties"]["type"]["const"])
    if choice := [one["required"][0] for one in schema.get("oneOf", ())]:
        assert "\nExactly one of `{}` and `{}`.\n".format(*choice) in text
    if limit := schema["properties"].get("limit"):
        assert f", {limit['minimum']} to {limit['maximum']}; " in text


def test_the_table_of_error_codes_is_whole_and_right_about_retrying() -> None:
    retryable = {kind.code: "yes" if kind.retryable else "no" for kind in error_classes()}
    told = {row[0].strip("`"): row[1] for row in rows("<!-- codes: ErrorCode -->")}
    assert told == retryable
    assert list(told) == list(get_args(ErrorCode))


def test_the_table_of_close_codes_is_whole() -> None:
    told = [int(row[0]) for row in rows("\n## Close codes")]
    assert told == sorted({*map(int, CloseCode), 1006})


def test_the_table_of_reasons_is_whole() -> None:
    assert [row[0].strip("`") for row in rows("| `reason` | the text is")] == list(
        get_args(DoneReason)
    )


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (REPOSITORY / target).exists(), target
