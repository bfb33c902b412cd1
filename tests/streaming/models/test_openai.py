"""`OpenAIModel` against a real HTTP endpoint on loopback."""

import asyncio
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from streaming.models import openai_head
from streaming.models.chat_model import ChatMessage, Deadlines, Function, ModelRequest
from streaming.models.errors import (
    ModelAuthError,
    ModelError,
    ModelProtocolError,
    ModelRateLimitedError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from streaming.models.http_head import RequestHead
from streaming.models.openai import AzureAccount, OpenAIAccount, OpenAIModel
from streaming.models.openai_head import build_head
from streaming.models.reply_reader import MAX_REPLY_CHARS
from streaming.models.retry import RetryPolicy
from streaming.parts import (
    ArgumentsDelta,
    CallStarted,
    FieldDelta,
    FieldDone,
    FieldValue,
    Finished,
    Part,
    RefusalDelta,
    TextDelta,
    Usage,
)
from tests.engines.certificate import Certificate
from tests.streaming.models.openai_endpoint import (
    DONE,
    Behaviour,
    Do,
    OpenAIEndpoint,
    Step,
    answer,
    call,
    call_events,
    chunk,
    event,
    hang_up,
    openai_endpoint,
    plain,
    reply_events,
    stall,
    status,
    stream,
)

KEY = "sk-test-SECRET"
WORDS = "upstream words with SECRET"
PATIENT = Deadlines(first_token=60.0, between_chunks=60.0, total=60.0)
SOON_FIRST = Deadlines(first_token=0.3, between_chunks=10.0, total=10.0)
SOON_SILENT = Deadlines(first_token=10.0, between_chunks=0.3, total=10.0)
SOON_OVER = Deadlines(first_token=10.0, between_chunks=10.0, total=0.1)
AT_ONCE = RetryPolicy(first_wait=0.0)
NEVER = RetryPolicy(retries=0)

REQUEST = ModelRequest(
    messages=(
        ChatMessage(role="system", content="Be kind."),
        ChatMessage(role="user", content="こんにちは 😀"),
    ),
    function=Function(
        name="reply",
        description="Say something.",
        parameters={"type": "object", "properties": {"content": {"type": "string"}}},
    ),
)

MakeModel = Callable[..., OpenAIModel]


@pytest.fixture
async def endpoint() -> AsyncIterator[OpenAIEndpoint]:
    async with openai_endpoint() as running:
        yield running


@pytest.fixture
async def make_model(endpoint: OpenAIEndpoint) -> AsyncIterator[MakeModel]:
    models: list[OpenAIModel] = []

    def make(
        account: OpenAIAccount | AzureAccount | None = None,
        *,
        max_output_tokens: int | None = None,
        deadlines: Deadlines = PATIENT,
        retry: RetryPolicy = NEVER,
    ) -> OpenAIModel:
        default = OpenAIAccount(credential=KEY, base_url=endpoint.base_url)
        model = OpenAIModel(
            "gpt-test",
            account or default,
            max_output_tokens=max_output_tokens,
            deadlines=deadlines,
            retry=retry,
        )
        models.append(model)
        return model

    yield make
    for model in models:
        await model.aclose()


async def parts_of(model: OpenAIModel) -> list[Part]:
    """Read a whole reply."""
    async with asyncio.timeout(10), aclosing(model.stream(REQUEST)) as reply:
        return [part async for parts in reply for part in parts]


async def failure_of(model: OpenAIModel) -> tuple[list[Part], ModelError]:
    """Read a reply that fails; return what came of it before."""
    came: list[Part] = []
    try:
        async with asyncio.timeout(10), aclosing(model.stream(REQUEST)) as reply:
            async for parts in reply:
                came += parts
    except ModelError as error:
        return came, error
    raise AssertionError("the reply did not fail")


def text_of(parts: list[Part]) -> str:
    return "".join(p.text for p in parts if isinstance(p, FieldDelta | TextDelta | RefusalDelta))


# What is sent


async def test_openai_is_asked_for_a_forced_streamed_call(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    await parts_of(make_model())

    received = endpoint.requests[0]
    assert received.path == "/v1/chat/completions"
    assert received.headers["Authorization"] == f"Bearer {KEY}"
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["Accept-Encoding"] == "identity"
    assert "api-key" not in received.headers
    assert received.body == {
        "model": "gpt-test",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "こんにちは 😀"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "reply",
                    "description": "Say something.",
                    "parameters": {"type": "object", "properties": {"content": {"type": "string"}}},
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "reply"}},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_limit_of_tokens_is_asked_for(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    await parts_of(make_model(max_output_tokens=256))

    assert endpoint.requests[0].body["max_completion_tokens"] == 256


async def test_every_header_is_sent_once(endpoint: OpenAIEndpoint, make_model: MakeModel) -> None:
    await parts_of(make_model())

    names = [name.lower() for name in endpoint.requests[0].headers]
    assert sorted(names) == sorted(set(names))


async def test_azure_is_asked_at_its_deployment(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    account = AzureAccount(
        credential=KEY, endpoint=endpoint.url, deployment="my-gpt", api_version="2024-10-21"
    )

    parts = await parts_of(make_model(account))

    received = endpoint.requests[0]
    assert received.path == "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert "Authorization" not in received.headers
    assert received.headers["api-key"] == KEY
    assert text_of(parts) == "Hello 世界"


async def test_the_account_alone_says_whose_request_it_is(
    endpoint: OpenAIEndpoint, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "from-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")

    await parts_of(make_model())

    assert "from-the-environment" not in str(endpoint.requests[0].headers)


async def test_nothing_is_sent_before_the_first_turn(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    await make_model().warm()

    assert endpoint.requests == []


@pytest.fixture
def heads_built_for(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models for which the SDK has been asked how a request begins."""
    asked: list[str] = []

    def counting(account: OpenAIAccount, *, model: str) -> RequestHead:
        asked.append(model)
        return build_head(account, model=model)

    monkeypatch.setattr(openai_head, "build_head", counting)
    return asked


async def test_the_sdk_is_asked_once(make_model: MakeModel, heads_built_for: list[str]) -> None:
    model = make_model()
    for _ in range(3):
        await parts_of(model)

    assert heads_built_for == ["gpt-test"]


async def test_the_sdk_names_itself_and_adds_the_operators_headers(
    endpoint: OpenAIEndpoint, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Team: makoto")
    await parts_of(make_model())

    headers = endpoint.requests[0].headers
    assert headers["User-Agent"].startswith("OpenAI/Python ")
    assert headers["X-Stainless-Lang"] == "python"
    assert headers["X-Gateway-Team"] == "makoto"


@pytest.mark.parametrize("line", ["X-Team: 組織", "X-Team: a\x01b"], ids=["text", "control"])
async def test_operators_headers_that_cannot_be_sent_are_told(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", line)
    _, error = await failure_of(make_model(retry=AT_ONCE))

    assert error.code == "bad_request"
    assert_tells_nothing(error)


@pytest.mark.parametrize("credential", ["", "sk-\n", "sk a", "鍵"])
async def test_a_malformed_credential_is_never_sent(
    endpoint: OpenAIEndpoint, make_model: MakeModel, credential: str
) -> None:
    model = make_model(OpenAIAccount(credential=credential, base_url=endpoint.base_url))

    _, error = await failure_of(model)

    assert isinstance(error, ModelAuthError)
    assert endpoint.requests == []


# What is read


async def test_a_reply_streams_part_by_part(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(answer('{"content": "Hi", "emotion": "happy", "memory": null}', size=64))

    assert await parts_of(make_model()) == [
        CallStarted(call=0, id="call_0", name="reply"),
        FieldDelta(name="content", text="Hi", call=0),
        FieldDone(name="content", call=0),
        FieldValue(name="emotion", value="happy", call=0),
        FieldValue(name="memory", value=None, call=0),
        Usage(prompt_tokens=11, completion_tokens=7, total_tokens=18),
        Finished(reason="stop"),
    ]


async def test_each_part_leaves_with_the_read_that_brought_it(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    seen = [asyncio.Event() for _ in range(2)]
    endpoint.will(
        stream(call('{"content": "a', name="reply"), seen[0], call("b"), seen[1], call('"}'), DONE)
    )

    texts = []
    async with asyncio.timeout(5), aclosing(make_model().stream(REQUEST)) as reply:
        async for parts in reply:
            if text := text_of(parts):
                texts.append(text)
                seen[len(texts) - 1].set()

    assert texts == ["a", "b"]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_cuts_of_the_network_do_not_matter(
    endpoint: OpenAIEndpoint, make_model: MakeModel, size: int
) -> None:
    body = b"\xef\xbb\xbf: hello\r\n\r\n" + b"".join(
        reply_events('{"content": "日本語 \\ud83d\\ude00"}', size=3)
    )
    endpoint.will(stream(*(body[at : at + size] for at in range(0, len(body), size))))

    parts = await parts_of(make_model())

    assert text_of(parts) == "日本語 😀"


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        pytest.param([chunk({"content": "Hi"}), chunk(finish_reason="stop")], "Hi", id="content"),
        pytest.param([chunk({"refusal": "No."}), chunk(finish_reason="stop")], "No.", id="refusal"),
    ],
)
async def test_plain_text_is_a_reply(
    endpoint: OpenAIEndpoint, make_model: MakeModel, steps: list[Step], text: str
) -> None:
    endpoint.will(stream(*steps, DONE))

    parts = await parts_of(make_model())

    assert text_of(parts) == text
    assert parts[-1] == Finished("stop")


async def test_another_function_s_arguments_come_raw(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(
        stream(
            call('{"q": ', name="look_up", index=1),
            call("1}", index=1),
            *reply_events('{"content": ""}'),
        )
    )

    parts = await parts_of(make_model())

    raw = [part.text for part in parts if isinstance(part, ArgumentsDelta)]
    assert "".join(raw) == '{"q": 1}'


async def test_usage_after_the_finish_reason_still_comes_before_the_end(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    parts = await parts_of(make_model())

    assert [type(part) for part in parts[-2:]] == [Usage, Finished]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        pytest.param([*call_events('{"content": "a"}'), DONE], "stop", id="done-alone"),
        pytest.param([*call_events('{"content": "a"}')], "stop", id="end-of-body-alone"),
        pytest.param([*call_events('{"content": "a"}'), Do.CUT], "stop", id="cut"),
        pytest.param([*call_events('{"content": "a"}'), Do.STALL], "stop", id="stall"),
        pytest.param(
            [*reply_events('{"content": "a"}')[:-2], Do.CUT], "stop", id="cut-before-usage"
        ),
        pytest.param(
            [*call_events('{"content": "a'), chunk(finish_reason="length"), DONE],
            "length",
            id="length",
        ),
        pytest.param(
            [*call_events('{"content": "a'), chunk(finish_reason="content_filter"), DONE],
            "content_filter",
            id="content-filter",
        ),
    ],
)
async def test_a_whole_reply_may_end_silently_and_a_cut_one_on_purpose(
    endpoint: OpenAIEndpoint, make_model: MakeModel, steps: list[Step], reason: str
) -> None:
    endpoint.will(stream(*steps))

    deadlines = SOON_SILENT if Do.STALL in steps else PATIENT
    parts = await parts_of(make_model(deadlines=deadlines))

    assert text_of(parts) == "a"
    assert parts[-1] == Finished(reason)


# What goes wrong


async def test_a_reply_without_an_end_is_ended_and_its_connection_closed(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(Do.REPEAT, chunk({"content": "x" * 65_536})))

    parts = await parts_of(make_model())

    assert text_of(parts) == "x" * MAX_REPLY_CHARS
    assert parts[-1] == Finished("length")
    async with asyncio.timeout(10):
        await endpoint.closed()


HUGE = b"data: " + b"x" * 1_100_000
STARTED = [*call_events('{"content": "a')]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        pytest.param(status(401, {"code": "invalid_api_key", "message": WORDS}), "auth", id="401"),
        pytest.param(status(403), "auth", id="403"),
        pytest.param(status(404, {"code": "model_not_found"}), "not_found", id="404"),
        pytest.param(status(400, {"code": "content_filter"}), "filtered", id="filtered"),
        pytest.param(status(400, {"code": "content_policy_violation"}), "refused", id="refused"),
        pytest.param(status(429, {"code": "insufficient_quota"}), "quota", id="quota"),
        pytest.param(status(429), "rate_limited", id="rate"),
        pytest.param(status(500, {"message": WORDS}), "unavailable", id="500"),
        pytest.param(
            plain(502, f"<html>{WORDS}</html>".encode(), content_type="text/html"),
            "unavailable",
            id="502-html",
        ),
        pytest.param(
            plain(302, b"", content_type="text/html", headers={"Location": "/elsewhere"}),
            "protocol",
            id="redirect",
        ),
        pytest.param(
            plain(
                200,
                b'{"error": {"message": "upstream words with SECRET", "code": "rate_limit_exceeded"}}',
                content_type="application/json",
            ),
            "rate_limited",
            id="200-json-error",
        ),
        pytest.param(
            plain(200, b'{"choices": []}', content_type="application/json"),
            "protocol",
            id="200-json",
        ),
        pytest.param(
            plain(200, WORDS.encode(), content_type="text/plain"), "protocol", id="200-text"
        ),
        pytest.param(
            plain(200, b"<html>sign in</html>", content_type="text/html"), "protocol", id="200-html"
        ),
        pytest.param(hang_up, "unavailable", id="hang-up"),
        pytest.param(stream(Do.RESET), "unavailable", id="reset"),
        pytest.param(stream(), "protocol", id="nothing"),
        pytest.param(stream(DONE), "protocol", id="done-alone"),
        pytest.param(stream(b"data: {not JSON\n\n"), "protocol", id="malformed"),
        pytest.param(stream(b"data: [1]\n\n"), "protocol", id="not-a-chunk"),
        pytest.param(stream(b'data: {"a": "\xff"}\n\n'), "protocol", id="not-utf-8"),
        pytest.param(stream(HUGE, Do.STALL), "protocol", id="huge-line"),
        pytest.param(
            stream(event({"error": {"message": WORDS, "type": "server_error"}})),
            "unavailable",
            id="error-event",
        ),
        pytest.param(
            stream(event({"error": {"message": WORDS, "code": "insufficient_quota"}})),
            "quota",
            id="quota-event",
        ),
        pytest.param(stream(event({"error": WORDS})), "unavailable", id="error-event-text"),
    ],
)
async def test_a_failure_before_the_first_part_is_typed_and_tells_nothing(
    endpoint: OpenAIEndpoint, make_model: MakeModel, behaviour: Behaviour, code: str
) -> None:
    endpoint.will(behaviour)

    parts, error = await failure_of(make_model())

    assert parts == []
    assert error.code == code
    assert_tells_nothing(error)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        pytest.param([DONE], "protocol", id="done-alone"),
        pytest.param([], "protocol", id="end-of-body-alone"),
        pytest.param([chunk(finish_reason="stop"), DONE], "protocol", id="arguments-cut"),
        pytest.param([Do.CUT], "unavailable", id="cut"),
        pytest.param([Do.RESET], "unavailable", id="reset"),
        pytest.param([b"data: {\n\n"], "protocol", id="malformed"),
        pytest.param([b"data: \xff\n\n"], "protocol", id="not-utf-8"),
        pytest.param([call('", "content": "again"}')], "protocol", id="duplicate-key"),
        pytest.param(
            [event({"error": {"message": WORDS, "code": 429}})], "rate_limited", id="error-event"
        ),
        pytest.param([Do.STALL], "timeout", id="stall"),
    ],
)
async def test_a_failure_in_the_middle_keeps_what_came_and_is_not_retried(
    endpoint: OpenAIEndpoint, make_model: MakeModel, steps: list[Step], code: str
) -> None:
    endpoint.will(stream(*STARTED, *steps))

    deadlines = SOON_SILENT if Do.STALL in steps else PATIENT
    parts, error = await failure_of(make_model(retry=AT_ONCE, deadlines=deadlines))

    assert text_of(parts) == "a"
    assert Finished not in {type(part) for part in parts}
    assert error.code == code
    assert_tells_nothing(error)
    assert len(endpoint.requests) == 1


async def test_text_without_a_finish_reason_is_not_complete(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(chunk({"content": "Hi"}), DONE))

    parts, error = await failure_of(make_model())

    assert text_of(parts) == "Hi"
    assert isinstance(error, ModelProtocolError)


async def test_what_one_read_brought_before_an_error_is_kept(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(b"".join([*STARTED, event({"error": {"code": "server_error"}})])))

    parts, error = await failure_of(make_model())

    assert text_of(parts) == "a"
    assert isinstance(error, ModelUnavailableError)


async def test_an_unreachable_provider_is_unavailable(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    model = make_model(OpenAIAccount(credential=KEY, base_url="http://127.0.0.1:1/v1"))

    _, error = await failure_of(model)

    assert isinstance(error, ModelUnavailableError)
    assert_tells_nothing(error)


@pytest.mark.parametrize(
    "account",
    [
        pytest.param(OpenAIAccount(credential=KEY, base_url="localhost:80/v1"), id="no-scheme"),
        pytest.param(OpenAIAccount(credential=KEY, base_url="ftp://127.0.0.1/"), id="not-http"),
        pytest.param(OpenAIAccount(credential=KEY, base_url="http://"), id="no-host"),
        pytest.param(OpenAIAccount(credential=KEY, base_url="http://[::1"), id="no-url"),
    ],
)
async def test_settings_that_make_no_request_are_told_as_such(
    make_model: MakeModel, account: OpenAIAccount
) -> None:
    _, error = await failure_of(make_model(account, retry=AT_ONCE))

    assert error.code == "bad_request"
    assert_tells_nothing(error)


def assert_tells_nothing(error: BaseException) -> None:
    """No secret and nothing the provider wrote, anywhere a logger may look."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or link.__context__
    logged = "".join(traceback.format_exception(error, chain=True))
    told = " ".join([logged, *(f"{one!r} {one} {one.args} {vars(one)}" for one in seen)])
    assert all(isinstance(one, ModelError | asyncio.CancelledError) for one in seen)
    for word in ("SECRET", "words", "html", "127.0.0.1"):
        assert word not in told


# Time


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(stall, id="before-the-head"),
        pytest.param(stream(Do.STALL), id="after-the-head"),
        pytest.param(stream(chunk({"role": "assistant"}), Do.STALL), id="after-the-role"),
        pytest.param(stream(b": keep\n\n", Do.STALL), id="after-a-comment"),
    ],
)
async def test_the_first_token_has_a_deadline_and_the_request_is_closed(
    endpoint: OpenAIEndpoint, make_model: MakeModel, behaviour: Behaviour
) -> None:
    endpoint.will(behaviour)

    _, error = await failure_of(make_model(retry=AT_ONCE, deadlines=SOON_FIRST))

    assert isinstance(error, ModelTimeoutError)
    assert error.phase == "first_token"
    async with asyncio.timeout(5):
        await endpoint.requests[0].disconnected.wait()


@pytest.mark.parametrize("comment", [b": keep-alive\n\n", b":", b"\n"], ids=["line", "byte", "end"])
async def test_keep_alives_do_not_hide_a_provider_that_hangs(
    endpoint: OpenAIEndpoint, make_model: MakeModel, comment: bytes
) -> None:
    endpoint.will(stream(*STARTED, Do.REPEAT, comment))

    _, error = await failure_of(make_model(deadlines=SOON_SILENT))

    assert isinstance(error, ModelTimeoutError)
    assert error.phase == "between_chunks"
    async with asyncio.timeout(5):
        await endpoint.requests[0].disconnected.wait()


async def test_the_total_ends_a_reply_that_never_does(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(*STARTED, Do.STALL))

    _, error = await failure_of(make_model(deadlines=SOON_OVER))

    assert isinstance(error, ModelTimeoutError)
    assert error.phase == "total"


# Retries


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(status(503), id="503"),
        pytest.param(status(429, headers={"retry-after-ms": "1"}), id="429"),
        pytest.param(hang_up, id="hang-up"),
        pytest.param(stream(event({"error": {"type": "server_error"}})), id="error-event"),
    ],
)
async def test_what_may_pass_is_tried_again(
    endpoint: OpenAIEndpoint, make_model: MakeModel, behaviour: Behaviour
) -> None:
    endpoint.will(behaviour, behaviour, answer())

    parts = await parts_of(make_model(retry=AT_ONCE))

    assert text_of(parts) == "Hello 世界"
    assert len(endpoint.requests) == 3


async def test_two_retries_are_enough(endpoint: OpenAIEndpoint, make_model: MakeModel) -> None:
    endpoint.will(status(503))

    await failure_of(make_model(retry=AT_ONCE))

    assert len(endpoint.requests) == 3


async def test_a_wait_beyond_the_deadline_fails_at_once(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(status(429, headers={"Retry-After": "3600"}))

    _, error = await failure_of(make_model(retry=AT_ONCE))

    assert isinstance(error, ModelRateLimitedError)
    assert error.retry_after == 3600.0
    assert len(endpoint.requests) == 1


# Connections


async def test_a_warm_turn_reuses_the_connection(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    model = make_model()
    for _ in range(3):
        await parts_of(model)

    assert len({received.connection for received in endpoint.requests}) == 1


async def test_a_connection_is_reused_even_if_the_body_ends_a_little_late(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    model = make_model()
    for _ in range(2):
        answered = asyncio.Event()
        endpoint.will(stream(*reply_events(), answered))
        async with asyncio.timeout(5), aclosing(model.stream(REQUEST)) as reply:
            async for parts in reply:
                if parts[-1] == Finished("stop"):
                    answered.set()

    assert endpoint.requests[0].connection == endpoint.requests[1].connection


@pytest.mark.parametrize(
    "answering",
    [stall, stream(*STARTED, Do.STALL)],
    ids=["before the head", "in the middle"],
)
async def test_cancelling_closes_the_request_at_once(
    endpoint: OpenAIEndpoint, make_model: MakeModel, answering: Behaviour
) -> None:
    endpoint.will(answering)
    task = asyncio.create_task(parts_of(make_model()))
    received = await endpoint.received(1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        await received.disconnected.wait()


async def test_closing_the_generator_closes_the_request_at_once(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(*STARTED, Do.STALL))
    reply = make_model().stream(REQUEST)
    async with asyncio.timeout(5):
        await anext(reply)
        await reply.aclose()
        await endpoint.requests[0].disconnected.wait()


async def test_after_a_cancelled_turn_the_model_works_on(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(*STARTED, Do.STALL), answer())
    model = make_model()
    reply = model.stream(REQUEST)
    await anext(reply)
    await reply.aclose()

    assert text_of(await parts_of(model)) == "Hello 世界"


async def test_a_provider_is_asked_over_tls(
    make_model: MakeModel, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    async with openai_endpoint(tls=certificate.server()) as endpoint:
        model = make_model(OpenAIAccount(credential=KEY, base_url=endpoint.base_url))

        texts = [text_of(await parts_of(model)) for _ in range(2)]

        assert texts == ["Hello 世界"] * 2
        assert endpoint.requests[0].connection == endpoint.requests[1].connection
        await model.aclose()


async def test_a_closed_model_answers_no_more(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    model = make_model(retry=AT_ONCE)
    await parts_of(model)
    await model.aclose()
    await model.aclose()

    _, error = await failure_of(model)

    assert isinstance(error, ModelUnavailableError)
    assert len(endpoint.requests) == 1


async def test_the_first_turns_prepare_together(
    make_model: MakeModel, heads_built_for: list[str]
) -> None:
    model = make_model()

    await asyncio.gather(*(parts_of(model) for _ in range(5)))

    assert heads_built_for == ["gpt-test"]


async def test_any_number_of_replies_stream_side_by_side(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    count = 101
    all_there = asyncio.Event()
    endpoint.will(stream(all_there, *reply_events()))
    model = make_model()
    replies = asyncio.gather(*(parts_of(model) for _ in range(count)))
    await endpoint.received(count)
    all_there.set()

    assert [text_of(parts) for parts in await replies] == ["Hello 世界"] * count


async def test_a_body_that_does_not_end_does_not_hold_up_the_reply(
    endpoint: OpenAIEndpoint, make_model: MakeModel
) -> None:
    endpoint.will(stream(*reply_events(), Do.STALL))

    parts = await parts_of(make_model())

    assert parts[-1] == Finished("stop")
    async with asyncio.timeout(5):
        await endpoint.requests[0].disconnected.wait()


async def test_the_sdk_is_loaded_by_the_first_turn_alone() -> None:
    program = (
        "import sys, streaming.models.openai, streaming.models.scripted;"
        "sys.exit('openai' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_secret_is_in_the_text_of_an_account() -> None:
    azure = AzureAccount(credential=KEY, endpoint="e", deployment="d", api_version="v")

    assert "SECRET" not in f"{OpenAIAccount(credential=KEY)!r} {azure!r}"
