"""The raw template in MiniStack, with real functions, and a real client that chats through it."""

import asyncio
import base64
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from playwright.sync_api import expect
from websockets.exceptions import InvalidStatus

from gateway.cli.main import main
from layers import aws
from layers.contract import read_contract
from layers.publishing import publish
from layers.stack import describe, use
from tests.gateway.hosts import client as sockets
from tests.gateway.hosts.client import Client, text_of
from tests.gateway.web.chat_page import ChatPage
from tests.infra.aws_local import page_for
from tests.infra.deployment import ENV, RUNTIME, STACK, Deployment, sdk_for, target_with
from tests.layers.zips import small
from tests.ops.browser import open_page

pytestmark = [
    pytest.mark.timeout(400),  # the first test builds and deploys
    pytest.mark.xdist_group("built"),
]

PATIENCE_S = 60.0
"""A cold start here unpacks a layer and imports what it needs, on a machine that others use too."""

PROBE = """
import importlib

def handler(event, context):
    return {name: importlib.import_module(name).__file__ for name in event}
"""


OTHER = """
def handler(event, context):
    return {"statusCode": 200, "body": '{"status": "other"}'}
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "BOUND_S", PATIENCE_S)


def connect(deployed: Deployment, **how: Any) -> AbstractAsyncContextManager[Client]:
    how.setdefault("headers", bearer(deployed))
    url = deployed.socket_url + how.pop("query", "")
    return sockets.connect(url, origin_url=deployed.engine.url, **how)


def bearer(deployed: Deployment) -> dict[str, str]:
    return {"Authorization": f"Bearer {deployed.pool.tokens['access']}"}


async def test_a_chat_is_streamed_and_stored(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        assert client.ready["user_id"] == deployed.pool.sub
        accepted, events = await client.exchange("Please remember that I like tea")
        assert (events[0]["type"], events[-1]["type"]) == ("started", "done")
        assert (events[-1]["reason"], events[-1]["saved"]) == ("stop", True)
        assert sum(frame["type"] == "events" for frame in client.frames) > 2
        question, answer = await client.history(accepted["session_id"])
        assert question["content"] == "Please remember that I like tea"
        assert answer["content"] == text_of(events)
        assert (await client.ask("memories"))["items"]
        again = await client.send("Please remember that I like tea", id=accepted["id"])
        assert (again["run_id"], again["duplicate"]) == (accepted["run_id"], True)


async def test_a_large_reply_is_fetched_from_the_bucket(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        accepted, events = await client.exchange("large")
        payloads = [frame for frame in client.frames if frame["type"] == "payload"]
        assert deployed.outputs["BucketName"] in payloads[0]["url"]
        _, answer = await client.history(accepted["session_id"])
    assert len(text_of(events)) > 12_000
    assert answer["content"] == text_of(events)


async def test_cancel_stops_an_answer(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        accepted = await client.send("slow long")
        begun = await client.events(accepted["run_id"], until="content.delta")
        await client.say("cancel", run_id=accepted["run_id"])
        rest = await client.events(accepted["run_id"], after=len(begun))
        assert (rest[-1]["reason"], rest[-1]["saved"]) == ("cancelled", True)
        _, answer = await client.history(accepted["session_id"])
        assert answer["content"] == text_of(begun + rest)


async def test_an_answer_goes_on_after_a_cut(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        accepted = await client.send("slow long")
        seen = await client.events(accepted["run_id"], until="content.delta")
        client.ws.transport.abort()
    async with connect(deployed) as client:
        assert [run["run_id"] for run in client.ready["runs"]] == [accepted["run_id"]]
        await client.say("resume", run_id=accepted["run_id"], after=len(seen))
        assert (await client.hear("resumed"))["state"] == "running"
        rest = await client.events(accepted["run_id"], after=len(seen))
        assert (rest[-1]["reason"], rest[-1]["saved"]) == ("stop", True)
        _, answer = await client.history(accepted["session_id"])
    assert answer["content"] == text_of(seen + rest)


async def test_a_ticket_opens_one_socket(deployed: Deployment) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(deployed.tickets_url, headers=bearer(deployed)) as answer,
    ):
        assert answer.status == 200
        ticket = (await answer.json())["ticket"]
    async with connect(deployed, headers=None, query=f"?ticket={ticket}") as client:
        assert client.ready["user_id"] == deployed.pool.sub
    await be_refused(deployed, headers=None, query=f"?ticket={ticket}")


async def test_what_nobody_offers_reaches_no_function(deployed: Deployment) -> None:
    site = deployed.tickets_url.removesuffix("/v1/tickets")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{site}/healthz") as healthy:
            assert (healthy.status, await healthy.json()) == (200, {"status": "ok"})
        async with session.get(f"{site}/.env") as unknown:
            # Our own answer would have an `error`.
            assert (unknown.status, await unknown.json()) == (404, {"message": "Not Found"})


async def test_a_wrong_token_is_refused(deployed: Deployment) -> None:
    header, payload, signature = deployed.pool.tokens["access"].split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(orjson.dumps({**claims, "sub": "eve"})).decode().rstrip("=")
    for token in (f"{header}.{forged}.{signature}", deployed.pool.tokens["id"]):
        await be_refused(deployed, headers={"Authorization": f"Bearer {token}"})
    await be_refused(deployed, headers=None)


async def be_refused(deployed: Deployment, **how: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(deployed, hello=False, **how):
            pass
    # MiniStack says this whatever `$connect` answers; that it is 401 is a test of the function.
    assert refused.value.response.status_code == 403


async def test_the_row_of_a_connection_lives_as_long_as_it(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        row = f"CONNECTION#{client.ready['connection_id']}"
        assert row in await door(deployed)
    async with asyncio.timeout(40):
        while row in await door(deployed):
            await asyncio.sleep(0.1)


async def door(deployed: Deployment) -> set[str]:
    async with deployed.client("dynamodb") as dynamodb:
        page = await dynamodb.scan(TableName=deployed.outputs["DoorTableName"])
    return {item["pk"]["S"] for item in page["Items"]}


async def test_a_reply_that_cannot_begin_is_ended_through_the_queue(deployed: Deployment) -> None:
    async with connect(deployed) as client:
        async with broken(deployed, "ReplyFunctionArn"):
            accepted = await client.send("Hello")
            events = await client.events(accepted["run_id"])
        assert (events[-1]["type"], events[-1]["reason"]) == ("done", "error")
        _, after = await client.exchange("Again", session_id=accepted["session_id"])
        assert after[-1]["reason"] == "stop"


@asynccontextmanager
async def broken(deployed: Deployment, function: str) -> AsyncIterator[None]:
    """Have a function fail whenever it is invoked."""
    async with deployed.client("lambda") as functions:
        name = deployed.outputs[function]
        handler = (await functions.get_function_configuration(FunctionName=name))["Handler"]
        await functions.update_function_configuration(FunctionName=name, Handler="no.such.handler")
        try:
            yield
        finally:
            await functions.update_function_configuration(FunctionName=name, Handler=handler)


@pytest.mark.browser
def test_the_demo_page_talks_to_it(deployed: Deployment, page_port: int) -> None:
    """With a ticket, for MiniStack answers no subprotocol; a large text comes from the bucket itself."""
    with page_for(deployed, page_port), open_page() as page:
        chat = ChatPage(page=page, url=f"http://127.0.0.1:{page_port}/")
        page.goto(chat.url)
        page.get_by_label("Token (JWT)").fill(deployed.pool.tokens["access"])
        page.get_by_role("button", name="Sign in", exact=True).click()
        chat.wait_until_connected()
        reply = chat.ask("large")
        expect(reply).to_contain_text("A large reply.", timeout=PATIENCE_S * 1000)
        assert chat.faults == []


async def test_functions_run_what_is_in_the_layer(deployed: Deployment) -> None:
    """MiniStack's own packages lie on their path too."""
    names = [*("gateway", "streaming", "storage"), *("aiohttp", "botocore", "cryptography")]
    names += ["fastapi", "jose", "mangum", "msgspec", "openai", "orjson", "pydantic", "urllib3"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("probe.py", PROBE)
    async with deployed.client("lambda") as functions:
        twin = deployed.outputs["HttpFunctionArn"]
        await functions.create_function(
            FunctionName="probe",
            Runtime=RUNTIME,
            Role=(await functions.get_function_configuration(FunctionName=twin))["Role"],
            Handler="probe.handler",
            Code={"ZipFile": archive.getvalue()},
            Layers=[deployed.outputs["CommonLayerArn"]],
            Timeout=60,
        )
        answer = await functions.invoke(FunctionName="probe", Payload=orjson.dumps(names))
        places = orjson.loads(await answer["Payload"].read())
    assert set(places) == set(names), places
    assert [place for place in places.values() if "/layer_0/python/" not in place] == []


async def test_a_rollback_brings_the_layer_before_back_to_every_function(
    deployed: Deployment, tmp_path: Path
) -> None:
    """By one that only says that it is another one, and with the command that operators type."""
    handlers = {line.split()[1].rpartition(".")[2]: OTHER for line in read_contract().handlers}
    other = small(tmp_path, folder="gateway/hosts/aws", **handlers)
    with sdk_for(deployed.engine), aws.clients(target_with()) as (functions, cloudformation):
        version, _ = publish(functions, target_with(), other)
        stack = describe(cloudformation, STACK)
        assert stack is not None
        use(cloudformation, stack, version.arn)
        assert await health(deployed) == "other"
        assert main(["layer", "rollback", "--env", ENV]) == 0
    assert await health(deployed) == "ok"
    async with connect(deployed) as client:
        _, events = await client.exchange("Hello")
        assert events[-1]["reason"] == "stop"


async def health(deployed: Deployment) -> str:
    site = deployed.tickets_url.removesuffix("/v1/tickets")
    async with aiohttp.ClientSession() as session, session.get(f"{site}/healthz") as answer:
        return str((await answer.json())["status"])
