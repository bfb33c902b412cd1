"""Everything a provider has been seen to do wrong, and how an answer ends that meets it.

One row a fault. `FAULTS` holds on every host: `test_provider_faults` has each happen to a real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from gateway.wire.errors import ErrorCode
from gateway.wire.events import DoneReason
from streaming.models.errors import TimeoutPhase
from tests.streaming.models.openai_endpoint import (
    DONE,
    Behaviour,
    Do,
    Step,
    answer,
    call,
    call_events,
    chunk,
    event,
    hang_up,
    plain,
    raw,
    reply_events,
    stall,
    status,
    stream,
    usage,
)

WORDS = "UPSTREAM: key sk-1234 was refused by 10.0.0.7 for 'Hi'"
"""What the provider writes wherever it says something else than a reply."""

LEAKS = ("UPSTREAM", "sk-1234", "10.0.0.7")

TEXT = "Once upon a time, 昔々"
REST = '", "emotion": "happy", "category": "story", "memory": null}'
REPLY = f'{{"content": "{TEXT}{REST}'
BEGUN = call_events(f'{{"content": "{TEXT}')
"""A reply that has shown `TEXT` and is not over."""

JSON = "application/json"
HTML = f"<html><h1>502 Bad Gateway</h1>{WORDS}</html>".encode()
HUGE_LINE = (f"data: {WORDS}".encode(), *(b"x" * 1_000_000,) * 20)
KEEP_ALIVE = f": {WORDS}\n\n".encode()

SHORT_S = 0.6
"""The deadline that a row is about; all others are far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the provider does with the requests of one answer, and what must come of it.

    Attributes:
        name: of the fault.
        provider: how it answers each request; the last for all further ones.
        deadline: the one that is short, `SHORT_S`.
        reason: of `done`.
        code: of its error.
        retryable: whether its error says that it may be asked for again.
        retry_after_ms: what its error says to wait.
        text: what is shown and stored; empty where there is nothing to be stored.
        values: of other events, by type.
        requests: how many the provider gets.
        waits_s: how long it must not be asked again after it was asked.
    """

    name: str
    provider: tuple[Behaviour, ...]
    deadline: TimeoutPhase | None = None
    reason: DoneReason = "error"
    code: ErrorCode | None = None
    retryable: bool = True
    retry_after_ms: int | None = None
    text: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    requests: int = 1
    waits_s: float = 0.0


def failed(
    code: int, error: str | None = None, *, error_type: str | None = None, **headers: str
) -> Behaviour:
    """Answer with an error as OpenAI words it: all that matters is beside the message."""
    fields = {"x-request-id": WORDS} | {name.replace("_", "-"): v for name, v in headers.items()}
    return status(code, {"message": WORDS, "type": error_type, "code": error}, headers=fields)


def error_event(**fields: object) -> bytes:
    """Return the event of an error inside a stream."""
    return event({"error": {"message": WORDS, **fields}})


def silent(name: str, *steps: Step, deadline: TimeoutPhase, text: str = "") -> Fault:
    """A stream that does not go on."""
    return Fault(
        name=name,
        provider=(stream(*steps),),
        deadline=deadline,
        reason="timeout",
        code="model.timeout",
        text=text,
    )


def broken(name: str, *steps: Step, code: ErrorCode = "model.protocol", text: str = TEXT) -> Fault:
    """A stream that breaks off or its rules; the provider would go on, if it were let."""
    return Fault(name=name, provider=(stream(*steps),), code=code, text=text)


def turned_away(
    name: str, *provider: Behaviour, code: ErrorCode = "model.unavailable", requests: int = 3
) -> Fault:
    """What may pass: the provider is asked three times."""
    return Fault(name=name, provider=provider, code=code, requests=requests)


def given_up(
    name: str,
    *provider: Behaviour,
    code: ErrorCode = "model.unavailable",
) -> Fault:
    """What asking again does not mend: the provider is asked once."""
    retryable = code == "model.protocol"  # a person may well try again what was only garbled
    return Fault(name=name, provider=provider, code=code, retryable=retryable)


def whole(
    name: str, *steps: Step, text: str = TEXT, reason: DoneReason = "stop", **values: object
) -> Fault:
    """What an answer survives, or how the model itself ends it."""
    return Fault(name=name, provider=(stream(*steps),), reason=reason, text=text, values=values)


def ended(arguments: str, finish_reason: str = "stop") -> list[bytes]:
    """Return a stream with these arguments that ends as it should."""
    return list(reply_events(arguments, size=1000, finish_reason=finish_reason))


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


SILENCES = (
    Fault(
        name="stall before the headers",
        provider=(stall,),
        deadline="first_token",
        reason="timeout",
        code="model.timeout",
    ),
    silent("stall after the headers", Do.STALL, deadline="first_token"),
    silent("stall after the role", BEGUN[0], Do.STALL, deadline="first_token"),
    silent("keep-alives only", Do.REPEAT, KEEP_ALIVE, deadline="first_token"),
    silent("stall mid-answer", *BEGUN, Do.STALL, deadline="between_chunks", text=TEXT),
    silent(
        "keep-alives mid-answer",
        *BEGUN,
        Do.REPEAT,
        KEEP_ALIVE,
        deadline="between_chunks",
        text=TEXT,
    ),
    silent(
        "drip of bytes that make no event",
        *(*BEGUN, b"data: ", Do.REPEAT, b" "),
        deadline="between_chunks",
        text=TEXT,
    ),
    silent(
        "drip of events without an end", *BEGUN, Do.REPEAT, chunk(), deadline="total", text=TEXT
    ),
)

STATUSES = (
    Fault(
        name="429 with Retry-After",
        provider=(failed(429, retry_after_ms="150"),),
        code="model.busy",
        retry_after_ms=150,
        requests=3,
        waits_s=0.15,
    ),
    turned_away("429 without Retry-After", failed(429), code="model.busy"),
    Fault(
        name="429 with a Retry-After beyond the deadline",
        provider=(failed(429, "rate_limit_exceeded", retry_after="120"),),
        code="model.busy",
        retry_after_ms=120_000,
    ),
    Fault(
        name="429 with a Retry-After of ages",
        provider=(failed(429, retry_after="1e300"),),
        code="model.busy",
        retry_after_ms=86_400_000,
    ),
    turned_away(
        "429 with a Retry-After that is no date",
        failed(429, retry_after=f"Mon, 01 Jan 2029 00:00:00 +{'9' * 14}"),
        code="model.busy",
    ),
    Fault(
        name="429 once",
        provider=(failed(429, retry_after="0.2"), answer(REPLY)),
        reason="stop",
        text=TEXT,
        requests=2,
        waits_s=0.2,
    ),
    given_up("429 for want of quota", failed(429, "insufficient_quota", retry_after="1")),
    given_up("401", failed(401, "invalid_api_key")),
    given_up("401 whose body stalls", stream(HTML, Do.STALL, status=401)),
    given_up("403", failed(403)),
    given_up("400", failed(400, error_type="invalid_request_error"), code="model.refused"),
    given_up("400 for a long prompt", failed(400, "context_length_exceeded"), code="model.refused"),
    given_up("400 by the policy", failed(400, "content_policy_violation"), code="model.refused"),
    Fault(
        name="400 by the filter of prompts",
        provider=(failed(400, "content_filter"),),
        reason="filtered",
    ),
    given_up("404 for an unknown model", failed(404, "model_not_found")),
    given_up("404 for an unknown path", plain(404, HTML, content_type="text/html")),
    given_up(
        "a redirection",
        plain(307, b"", content_type="text/html", headers={"Location": "/elsewhere"}),
        code="model.protocol",
    ),
    turned_away("500", failed(500, error_type="server_error")),
    turned_away("502 with HTML", plain(502, HTML, content_type="text/html")),
    turned_away("503", failed(503)),
    turned_away("503 whose body breaks off", stream(HTML, Do.CUT, status=503)),
    Fault(
        name="503 once",
        provider=(failed(503), answer(REPLY)),
        reason="stop",
        text=TEXT,
        requests=2,
    ),
)

BEFORE_THE_TEXT = (
    # A kept connection that ends without a byte is replaced once, beside the retries.
    turned_away("hang-up instead of the headers", hang_up, requests=4),
    turned_away("reset before the first chunk", stream(Do.RESET)),
    turned_away("cut before the first chunk", stream(Do.CUT)),
    given_up("no HTTP", raw(f"SSH-2.0-{WORDS}\r\n".encode()), code="model.protocol"),
    given_up("200 with HTML", plain(200, HTML, content_type="text/html"), code="model.protocol"),
    turned_away(
        "200 with a JSON error",
        status(200, {"message": WORDS, "code": "server_error"}),
    ),
    given_up(
        "200 with a JSON error for want of quota",
        status(200, {"message": WORDS, "code": "insufficient_quota"}),
    ),
    given_up(
        "200 with a JSON error and no end",
        stream(
            orjson.dumps({"error": {"message": WORDS, "code": "invalid_api_key"}}) + b" " * 65_536,
            Do.STALL,
            content_type=JSON,
        ),
    ),
    turned_away(
        "200 with a JSON error of 5,000 digits",
        status(200, {"message": WORDS, "code": "4" * 5_000}),
    ),
    turned_away(
        "in-stream error before the text",
        stream(error_event(type="server_error"), Do.STALL),
    ),
    turned_away(
        "in-stream limit before the text",
        stream(error_event(code=429), Do.STALL),
        code="model.busy",
    ),
    broken("nothing at all", text=""),
    broken("only the end mark", DONE, text=""),
    broken("malformed SSE before the text", WORDS.encode(), b"\n\n", DONE, Do.STALL, text=""),
    broken("no JSON before the text", f"data: {{{WORDS}\n\n".encode(), Do.STALL, text=""),
    broken("bad UTF-8 before the text", b'data: {"a": "\xff"}\n\n', Do.STALL, text=""),
    broken("20 MB line before the text", *HUGE_LINE, Do.STALL, text=""),
    broken("no words in the reply", *ended('{"emotion": "happy", "category": "story"}'), text=""),
)

BEHIND_THE_TEXT = (
    # Once a part of the answer has come there is no second try, though it be only the call's name.
    broken("cut behind the name", *BEGUN[:2], Do.CUT, code="model.unavailable", text=""),
    broken("cut", *BEGUN, Do.CUT, code="model.unavailable"),
    broken("reset", *BEGUN, Do.RESET, code="model.unavailable"),
    broken("EOF without a finish", *BEGUN),
    broken("end mark without a finish", *BEGUN, DONE, Do.STALL),
    broken("plain text without a finish", chunk({"content": TEXT}), DONE, Do.STALL),
    broken("truncated arguments", *BEGUN, chunk(finish_reason="stop"), DONE, Do.STALL),
    broken(
        "in-stream error",
        *BEGUN,
        error_event(type="server_error"),
        Do.STALL,
        code="model.unavailable",
    ),
    broken("in-stream limit", *BEGUN, error_event(code=429), Do.STALL, code="model.busy"),
    broken(
        "in-stream error of words",
        *BEGUN,
        event({"error": WORDS}),
        Do.STALL,
        code="model.unavailable",
    ),
    broken("no JSON", *BEGUN, f"data: {{{WORDS}\n\n".encode(), Do.STALL),
    broken("JSON that is no chunk", *BEGUN, event([WORDS]), Do.STALL),
    broken("bad UTF-8", *BEGUN, b"data: \xff " + WORDS.encode() + b"\n\n", Do.STALL),
    broken("20 MB line", *BEGUN, *HUGE_LINE, Do.STALL),
    broken(
        "5,000-deep arguments",
        *(*BEGUN, call(f'", "memory": {deep(5_000)}}}'), chunk(finish_reason="stop"), Do.STALL),
    ),
    broken("5,000-deep chunk", *BEGUN, f'data: {{"x": {deep(5_000)}}}\n\n'.encode(), Do.STALL),
    broken("a field twice", *BEGUN, call(f'", "content": "{WORDS}"}}'), Do.STALL),
    broken("words behind the arguments", *BEGUN, call(REST + WORDS), Do.STALL),
)

SURVIVED = (
    whole("drip of single bytes", *(bytes([byte]) for event in ended(REPLY) for byte in event)),
    whole("cut behind the whole reply", *BEGUN, call(REST), Do.CUT),
    whole("EOF behind the whole reply", *BEGUN, call(REST)),
    whole(
        "lines that are no SSE",
        *(*BEGUN, f"{WORDS}\n\nretry\n{WORDS}: 1\nevent: error\n\n".encode()),
        *(call(REST), chunk(finish_reason="stop"), DONE),
    ),
    whole("missing fields of the reply", *ended(f'{{"content": "{TEXT}"}}'), emotion="neutral"),
    whole(
        "missing fields of the chunks",
        *(
            event({}),
            event({"choices": None}),
            event({"choices": [{}]}),
            event({"choices": [None]}),
        ),
        *(*BEGUN, call(REST), event({"choices": [{"finish_reason": "stop"}]}), DONE),
    ),
    whole(
        "unknown values of enums",
        *ended(
            f'{{"content": "{TEXT}", "emotion": "{WORDS}", "category": 7, "other": "{WORDS}"}}',
            finish_reason="UPSTREAM_invented_this",
        ),
        emotion="neutral",
        category="general",
    ),
    whole(
        "usage beyond all numbers",
        *(*BEGUN, call(REST), chunk(finish_reason="stop")),
        usage({"prompt_tokens": 2**64 - 1, "completion_tokens": 2**63}),
        DONE,
    ),
    whole(
        "a reply that is no text",
        *ended(f'{{"content": {deep(300)}, "emotion": "happy"}}'),
        text=deep(300),
    ),
    whole("length", *BEGUN, chunk(finish_reason="length"), DONE, reason="length"),
    whole("content_filter", *BEGUN, chunk(finish_reason="content_filter"), DONE, reason="filtered"),
    whole(
        "content_filter before the text",
        chunk(finish_reason="content_filter"),
        DONE,
        reason="filtered",
        text="",
    ),
    Fault(
        name="in-stream filter",
        provider=(stream(*BEGUN, error_event(code="content_filter"), Do.STALL),),
        reason="filtered",
        text=TEXT,
    ),
    whole("refusal", chunk({"refusal": TEXT}), chunk(finish_reason="stop"), DONE),
)

FAULTS = (*SILENCES, *STATUSES, *BEFORE_THE_TEXT, *BEHIND_THE_TEXT, *SURVIVED)
