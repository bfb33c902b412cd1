"""Posting to a WebSocket that another implementation of API Gateway holds: MiniStack's @connections."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import botocore.session
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.hosts.aws.connections_api import ConnectionsApi
from gateway.hosts.aws.transport import ConnectionsTransport
from gateway.runs.transport import GoneError
from tests.engines.connections_api import CREDENTIALS, REGION
from tests.engines.processes import Engine

# It says its own id: the one thing that a client cannot know.
FUNCTION = """
def handler(event, context):
    return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketApi:
    """A deployed API whose `$default` route answers with the id of the connection."""

    ws_url: str
    callback_url: str

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[ClientConnection, str]]:
        async with connect(self.ws_url, compression=None, proxy=None) as ws:
            await ws.send('{"type":"who"}')
            async with asyncio.timeout(30):
                yield ws, str(await ws.recv())


@pytest.fixture(scope="module")
def api(ministack: Engine) -> WebSocketApi:
    session = botocore.session.get_session()

    def client(service: str) -> object:
        return session.create_client(
            service,
            region_name=REGION,
            endpoint_url=ministack.url,
            aws_access_key_id=CREDENTIALS.access_key_id,
            aws_secret_access_key=CREDENTIALS.secret_access_key,
        )

    functions, gateway = client("lambda"), client("apigatewayv2")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("who.py", FUNCTION)
    function = functions.create_function(
        FunctionName="who",
        Runtime="python3.12",
        Role="arn:aws:iam::000000000000:role/who",
        Handler="who.handler",
        Code={"ZipFile": code.getvalue()},
    )
    made = gateway.create_api(
        Name="who", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.type"
    )
    integration = gateway.create_integration(
        ApiId=made["ApiId"],
        IntegrationType="AWS_PROXY",
        IntegrationUri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
        f"{function['FunctionArn']}/invocations",
    )
    for route in ("$connect", "$default"):
        gateway.create_route(
            ApiId=made["ApiId"],
            RouteKey=route,
            Target=f"integrations/{integration['IntegrationId']}",
        )
    gateway.create_stage(ApiId=made["ApiId"], StageName="dev", AutoDeploy=True)
    path = f"127.0.0.1:{ministack.port}/_aws/execute-api/{made['ApiId']}/dev"
    return WebSocketApi(ws_url=f"ws://{path}", callback_url=f"http://{path}")


class Posting:
    def __init__(self, api: WebSocketApi) -> None:
        self.gone: list[str] = []
        self.client = ConnectionsApi(url=api.callback_url, region=REGION, credentials=CREDENTIALS)
        self.transport = ConnectionsTransport(self.client, on_gone=self._on_gone)

    async def _on_gone(self, connection_id: str) -> None:
        self.gone.append(connection_id)


@pytest.fixture
async def posting(api: WebSocketApi) -> AsyncIterator[Posting]:
    posting = Posting(api)
    yield posting
    await posting.transport.settle(within_s=0)
    await posting.client.aclose()


async def test_frames_arrive_whole_and_in_their_order(api: WebSocketApi, posting: Posting) -> None:
    frames = [f'{{"text":"{number} こんにちは 🌊"}}' for number in range(20)]
    async with api.connection() as (ws, connection_id):
        for frame in frames:
            posting.transport.post(connection_id, frame.encode())
        assert [await ws.recv() for _ in frames] == frames


async def test_a_connection_is_closed_after_what_was_posted(
    api: WebSocketApi, posting: Posting
) -> None:
    async with api.connection() as (ws, connection_id):
        posting.transport.post(connection_id, b'{"type":"error","fatal":true}')
        await posting.transport.close(connection_id, 4401, "auth.expired")
        assert await ws.recv() == '{"type":"error","fatal":true}'
        with pytest.raises(ConnectionClosed):
            await ws.recv()


async def test_a_connection_that_left_is_gone(api: WebSocketApi, posting: Posting) -> None:
    async with api.connection() as (_, connection_id):
        await posting.transport.post(connection_id, b"{}")
    with pytest.raises(GoneError):
        await post_for_ever(posting, connection_id)
    await posting.transport.settle(within_s=5)
    assert posting.gone == [connection_id]


async def post_for_ever(posting: Posting, connection_id: str) -> None:
    async with asyncio.timeout(10):
        while True:
            await posting.transport.post(connection_id, b"{}")
