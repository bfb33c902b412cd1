import asyncio
import base64
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest

from gateway import telemetry
from gateway.hosts.aws import secrets
from gateway.hosts.aws.secrets import NAMES, RETRY_S, TTL_S, ModelSecret, ModelSecretError
from gateway.settings import Settings, variable
from storage.sigv4 import Credentials, Scope, signed
from tests.engines.fault_proxy import (
    THROTTLE_ACCOUNT,
    Answer,
    Fault,
    FaultProxy,
    fault_proxy,
    refusal,
)
from tests.engines.processes import Engine

REGION = "eu-central-1"
KEYS = Credentials(access_key_id="any", secret_access_key="any")
KEY = "sk-HIDDEN-0123456789"
OPERATION = {"secretsmanager": "GetSecretValue", "ssm": "GetParameter"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


TARGETS = {"secretsmanager": "secretsmanager", "ssm": "AmazonSSM"}


async def tell(url: str, service: str, operation: str, **request: Any) -> dict[str, Any]:
    """Ask that service for something; without the SDK, whose clients take long to make."""
    body = orjson.dumps(request)
    headers = signed(
        {
            "Host": urlsplit(url).netloc,
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{TARGETS[service]}.{operation}",
        },
        method="POST",
        path="/",
        body=body,
        scope=Scope(region=REGION, service=service),
        credentials=KEYS,
        now=time.time(),
    )
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as response,
    ):
        answer: dict[str, Any] = orjson.loads(await response.read())
        assert response.status == 200, answer
        return answer


async def keep(url: str, kind: str, text: str) -> str:
    """Keep a text in that service; return what MAKOTO_MODEL_SECRET would be."""
    name = f"makoto-{uuid.uuid4().hex}"
    if kind == "ssm":
        await tell(url, kind, "PutParameter", Name=f"/{name}", Value=text, Type="SecureString")
        return f"ssm:/{name}"
    made = await tell(url, kind, "CreateSecret", Name=name, SecretString=text)
    return str(made["ARN"])


async def change(url: str, where: str, text: str) -> None:
    if where.startswith("ssm:"):
        place = {"Name": where.removeprefix("ssm:"), "Type": "SecureString", "Overwrite": True}
        await tell(url, "ssm", "PutParameter", Value=text, **place)
    else:
        await tell(url, "secretsmanager", "PutSecretValue", SecretId=where, SecretString=text)


@pytest.fixture
def proxy(moto_server: Engine) -> Iterator[FaultProxy]:
    with fault_proxy(moto_server) as proxy:
        yield proxy


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_secret(proxy: FaultProxy, clock: Clock) -> AsyncIterator[Callable[..., ModelSecret]]:
    opened: list[ModelSecret] = []

    def open_it(where: str, **options: Any) -> ModelSecret:
        options = {"region": REGION, "credentials": KEYS, "clock": clock, **options}
        secret = ModelSecret(where, endpoint_urls=dict.fromkeys(OPERATION, proxy.url), **options)
        opened.append(secret)
        return secret

    yield open_it
    for secret in opened:
        await secret.aclose()


Open = Callable[..., ModelSecret]
KINDS = pytest.mark.parametrize("kind", OPERATION)


# What it may hold


@KINDS
async def test_a_key(open_secret: Open, moto_server: Engine, kind: str) -> None:
    where = await keep(moto_server.url, kind, f"{KEY}\n")

    assert dict(await open_secret(where).values()) == {"OPENAI_API_KEY": KEY}
    of_azure = await open_secret(where, plain="AZURE_OPENAI_API_KEY").values()
    assert dict(of_azure) == {"AZURE_OPENAI_API_KEY": KEY}


@KINDS
async def test_settings_by_name(open_secret: Open, moto_server: Engine, kind: str) -> None:
    settings = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com"}
    where = await keep(moto_server.url, kind, orjson.dumps(settings).decode())
    secret = open_secret(where)

    assert dict(await secret.values()) == settings


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "{]" + KEY,
        f'{{"OPENAI_API_KEY": ["{KEY}"]}}',
        f'{{"OPENAI_API_KEY": "{KEY}\\n"}}',
        '{"OPENAI_API_KEY": ""}',
        f'{{"{KEY}": "x"}}',
        f'{{"PATH": "{KEY}"}}',
        f"two\nlines {KEY}",
        f"春{KEY}",
    ],
)
async def test_what_is_no_key_is_told_in_one_line_without_it(
    open_secret: Open, moto_server: Engine, text: str
) -> None:
    secret = open_secret(await keep(moto_server.url, "secretsmanager", text))
    with pytest.raises(ModelSecretError, match=r"^MAKOTO_MODEL_SECRET ") as raised:
        await secret.values()

    assert "\n" not in str(raised.value)
    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None


async def test_a_secret_of_bytes_is_none(open_secret: Open, moto_server: Engine) -> None:
    name, body = uuid.uuid4().hex, base64.b64encode(KEY.encode()).decode()
    await tell(moto_server.url, "secretsmanager", "CreateSecret", Name=name, SecretBinary=body)
    with pytest.raises(ModelSecretError, match="cannot be read: KeyError"):
        await open_secret(name).values()


def test_a_secret_may_hold_the_models_settings_and_no_others() -> None:
    of_models = {variable(field) for field in Settings.model_fields}
    assert {name for name in of_models if "OPENAI" in name} == NAMES


# Where it is


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("makoto", ("secretsmanager", "makoto", None)),
        (
            "arn:aws:secretsmanager:us-west-2:1:secret:m-Ab",
            ("secretsmanager", "arn:aws:secretsmanager:us-west-2:1:secret:m-Ab", "us-west-2"),
        ),
        ("ssm:/makoto/key", ("ssm", "/makoto/key", None)),
        (
            "arn:aws:ssm:us-west-2:1:parameter/key",
            ("ssm", "arn:aws:ssm:us-west-2:1:parameter/key", "us-west-2"),
        ),
        (
            "ssm:arn:aws-cn:ssm:cn-north-1:1:parameter/key",
            ("ssm", "arn:aws-cn:ssm:cn-north-1:1:parameter/key", "cn-north-1"),
        ),
    ],
)
def test_where_it_is(where: str, expected: tuple[str, str, str | None]) -> None:
    assert secrets._place(where) == expected


@pytest.mark.parametrize("where", ["nowhere", "ssm:/nowhere", KEY])
async def test_one_that_is_not_there(open_secret: Open, where: str) -> None:
    """Also the key itself, given for its place by mistake."""
    with pytest.raises(ModelSecretError, match=r"cannot be read: \w+NotFound") as raised:
        await open_secret(where).values()
    assert KEY not in str(raised.value)


# How long it is kept


@KINDS
async def test_it_is_read_once_for_all_who_ask(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy, clock: Clock, kind: str
) -> None:
    secret = open_secret(await keep(moto_server.url, kind, KEY))
    await asyncio.gather(*(secret.values() for _ in range(5)))
    clock.now += TTL_S - 1
    await secret.values()
    await secret.settle()

    assert proxy.asked == [OPERATION[kind]]


@KINDS
async def test_a_new_value_comes_in_the_background(
    open_secret: Open, moto_server: Engine, clock: Clock, kind: str
) -> None:
    where = await keep(moto_server.url, kind, KEY)
    secret = open_secret(where)
    await secret.values()
    await change(moto_server.url, where, "sk-rotated")
    clock.now += TTL_S

    assert (await secret.values())["OPENAI_API_KEY"] == KEY, "nobody waits"
    await secret.settle()
    assert (await secret.values())["OPENAI_API_KEY"] == "sk-rotated"


@pytest.mark.parametrize(
    "fault", [Fault.HANG, Fault.CUT, THROTTLE_ACCOUNT, refusal("AccessDenied")]
)
async def test_the_old_value_serves_while_a_new_one_cannot_be_had(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy, clock: Clock, fault: Answer | Fault
) -> None:
    where = await keep(moto_server.url, "secretsmanager", KEY)
    secret = open_secret(where)
    await secret.values()
    await change(moto_server.url, where, "sk-rotated")
    proxy.fail("GetSecretValue", fault, times=99)
    clock.now += TTL_S
    for _ in range(3):
        async with asyncio.timeout(1):
            assert (await secret.values())["OPENAI_API_KEY"] == KEY
    await secret.settle()
    asked = len(proxy.asked)
    assert (await secret.values())["OPENAI_API_KEY"] == KEY
    await secret.settle()
    assert len(proxy.asked) == asked, "not again at once"

    proxy.heal()
    clock.now += RETRY_S
    await secret.values()
    await secret.settle()
    assert (await secret.values())["OPENAI_API_KEY"] == "sk-rotated"


async def test_a_new_value_that_is_no_key_is_not_taken(
    open_secret: Open, moto_server: Engine, clock: Clock
) -> None:
    where = await keep(moto_server.url, "secretsmanager", KEY)
    secret = open_secret(where)
    await secret.values()
    await change(moto_server.url, where, "{")
    clock.now += TTL_S
    await secret.values()
    await secret.settle()

    assert (await secret.values())["OPENAI_API_KEY"] == KEY


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("secretsmanager", Fault.HANG),
        ("secretsmanager", refusal("InternalFailure", 500)),
        ("ssm", Fault.CUT),
    ],
)
async def test_one_that_cannot_be_had_is_told_within_five_seconds(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy, kind: str, fault: Answer | Fault
) -> None:
    secret = open_secret(await keep(moto_server.url, kind, KEY))
    proxy.fail(OPERATION[kind], fault, times=99)
    async with asyncio.timeout(5):
        with pytest.raises(ModelSecretError, match=r"cannot be read: \w+$") as raised:
            await secret.values()
    assert raised.value.__context__ is None

    proxy.heal()
    assert (await secret.values())["OPENAI_API_KEY"] == KEY, "the next use tries again"


@KINDS
@pytest.mark.parametrize(
    "fault",
    [
        Fault.CUT,
        Fault.HALF_REPLY,
        THROTTLE_ACCOUNT,
        refusal("InternalFailure", 500),
        Answer(status=429),
    ],
    ids=["cut", "half", "throttle", "500", "429"],
)
async def test_what_passes_is_asked_again(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy, kind: str, fault: Answer | Fault
) -> None:
    secret = open_secret(await keep(moto_server.url, kind, KEY))
    proxy.fail(OPERATION[kind], fault, times=2)

    assert (await secret.values())["OPENAI_API_KEY"] == KEY
    assert proxy.asked == [OPERATION[kind]] * 3


@KINDS
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (refusal("AccessDeniedException"), "AccessDeniedException"),
        (Answer(status=403, body=b'{"__type": "Denied:http://x"}'), "Denied"),
        (Answer(status=403, body=b'{"code": "two\\nlines"}'), "403"),
        (Answer(status=403, body=b'["HIDDEN"]'), "403"),
        (Answer(status=403, body=b"HIDDEN"), "403"),
        (Answer(status=200, body=b"HIDDEN"), "JSONDecodeError"),
        (Answer(status=200, body=b"[]"), "TypeError"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_does_not_pass_is_told_at_once_by_its_code(
    open_secret: Open, proxy: FaultProxy, kind: str, said: Answer, told: str
) -> None:
    proxy.fail(OPERATION[kind], said, times=99)
    with pytest.raises(ModelSecretError, match=f"cannot be read: {told}$"):
        await open_secret("ssm:/x" if kind == "ssm" else "x").values()

    assert proxy.asked == [OPERATION[kind]]


async def test_who_gives_up_waiting_leaves_it_to_the_others(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy
) -> None:
    secret = open_secret(await keep(moto_server.url, "secretsmanager", KEY))
    waiting = [asyncio.create_task(secret.values()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()

    assert await waiting[1] == {"OPENAI_API_KEY": KEY}
    assert proxy.asked == ["GetSecretValue"]


async def test_closing_ends_a_reading(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy
) -> None:
    secret = open_secret(await keep(moto_server.url, "secretsmanager", KEY))
    proxy.fail("GetSecretValue", Fault.HANG)
    waiting = asyncio.create_task(secret.values())
    async with asyncio.timeout(5):
        while not proxy.asked:
            await asyncio.sleep(0.01)
        await secret.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting


# Where it must not get


class Heard(logging.Handler):
    """Formats every record as the functions do, whatever its level."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        everything = {name: repr(value) for name, value in vars(record).items()}
        self.lines.append(telemetry.JsonFormatter().format(record) + str(everything))


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Everything that any logger says, at the lowest level."""
    heard, root = Heard(), logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    yield heard
    root.removeHandler(heard)
    root.setLevel(level)


@KINDS
async def test_no_log_line_holds_it_at_any_level(
    open_secret: Open, moto_server: Engine, proxy: FaultProxy, clock: Clock, heard: Heard, kind: str
) -> None:
    secret = open_secret(await keep(moto_server.url, kind, KEY))
    values = await secret.values()
    logging.getLogger("any").info("read", extra={"values": values, "secret": secret})
    for fault in (Fault.HALF_REPLY, refusal("InternalFailure", 500), None):
        if fault is not None:
            proxy.fail(OPERATION[kind], fault, times=3)
        clock.now += TTL_S
        await secret.values()
        await secret.settle()
    try:
        values["OPENAI_MODEL"]
    except KeyError:
        logging.getLogger("any").exception("failed")

    said = "\n".join(heard.lines)
    assert "the model's secret could not be read" in said
    assert KEY not in said


async def test_a_value_of_another_form_reaches_no_log_line(
    open_secret: Open, moto_server: Engine, heard: Heard
) -> None:
    secret = open_secret(await keep(moto_server.url, "secretsmanager", f"{{{KEY}"))
    try:
        await secret.values()
    except ModelSecretError:
        logging.getLogger("any").exception("failed")

    assert "failed" in heard.lines[-1]
    assert KEY not in "\n".join(heard.lines)


async def test_it_is_not_shown(open_secret: Open, moto_server: Engine) -> None:
    secret = open_secret(await keep(moto_server.url, "secretsmanager", KEY))
    values = await secret.values()

    assert KEY not in f"{values} {values!r} {secret!r} {[values]}"
    assert repr(values) == "<secret values of OPENAI_API_KEY>"
