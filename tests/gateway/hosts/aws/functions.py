"""The functions of the template on loopback: real handlers in Amazon's runtime client, over engines.

What stands around them is simulated at its HTTP surface: DynamoDB and S3 by engines behind fault proxies,
the @connections API and Lambda's Invoke here, an issuer that publishes its keys. What a test does by hand
is what API Gateway and Lambda would do: it makes the events, and has `reply` run for each invocation.
"""

import asyncio
import base64
import http.client
import os
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.identity.local_issuer import LocalIssuer
from storage.dynamodb.signed_client import SignedClient
from storage.dynamodb.tables import create_tables
from tests.engines.connections_api import CREDENTIALS, REGION, ConnectionsApi, connections_api
from tests.engines.fault_proxy import FaultProxy, fault_proxy
from tests.engines.processes import Engine
from tests.engines.runtime_api import LambdaFunction, lambda_function

ORIGIN = "https://chat.example"
ISSUER = "https://issuer.example/"
AUDIENCE = "makoto"
TENANT = "acme"
REPLY_ARN = "arn:aws:lambda:eu-central-1:000000000000:function:makoto-reply:$LATEST"


@dataclass
class Functions:
    """All six, each started by its first event; made by `running_functions`.

    Attributes:
        user: who connects.
    """

    api: ConnectionsApi
    dynamodb: FaultProxy
    s3: FaultProxy
    lambdas: "Lambdas"
    issuer: LocalIssuer
    environ: dict[str, str]
    logs: Path
    stack: ExitStack
    user: str = "anna"
    made: dict[str, LambdaFunction] = field(default_factory=dict)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def __getitem__(self, name: str) -> LambdaFunction:
        if name not in self.made:
            self.made[name] = self.stack.enter_context(
                lambda_function(f"gateway.hosts.aws.{name}.handler", self.environ, logs=self.logs)
            )
        return self.made[name]

    def another(self, name: str, **variables: str) -> LambdaFunction:
        """Return a second process of a function, as concurrent events get; perhaps with other settings."""
        logs = self.logs / secrets.token_hex(4)
        logs.mkdir()
        return self.stack.enter_context(
            lambda_function(
                f"gateway.hosts.aws.{name}.handler", self.environ | variables, logs=logs
            )
        )

    def token(self, *, ttl_s: int = 900) -> str:
        return self.issuer.mint(self.user, ttl_s=ttl_s, now=time.time())

    def cut_idle_connections(self) -> None:
        """End every connection that a function has kept open, as happens to a frozen process."""
        self.dynamodb.cut_idle()
        self.s3.cut_idle()
        self.api.drop_idle_connections()

    # What API Gateway does

    def connect(self) -> str:
        """Open a connection as a browser does, and return its id."""
        connection_id = new_connection_id()
        answer = self["connect"].invoke(connect_event(connection_id, token=self.token()))
        assert answer["statusCode"] == 200, answer
        return connection_id

    def command(self, connection_id: str, **fields: Any) -> None:
        """Deliver one command, and have it carried out."""
        answer = self["message"].invoke(message_event(connection_id, orjson.dumps(fields).decode()))
        assert answer == {"statusCode": 200}

    def frames(self, connection_id: str) -> list[dict[str, Any]]:
        """Return what a client has got so far."""
        return [orjson.loads(frame) for frame in self.api.arrived(connection_id) if frame]

    def last(self, connection_id: str) -> dict[str, Any]:
        return self.frames(connection_id)[-1]

    # What Lambda does

    def reply(self, payload: bytes, *, timeout_s: float = 60.0) -> None:
        self["reply"].invoke(payload, timeout_s=timeout_s)

    def reply_to_all(self) -> None:
        """Have `reply` run for each invocation that was asked for, also those that come of it."""
        while self.lambdas.asked:
            self.reply(self.lambdas.asked.pop(0))

    def in_background(self, function: LambdaFunction, event: object) -> "Future[Any]":
        return self.pool.submit(function.invoke, event, timeout_s=120.0)


class Lambdas:
    """Lambda's Invoke, which takes every event.

    Attributes:
        asked: the payloads, in order; a test takes them out.
        status: what is answered.
        serves_keys: whether the issuer, which is served here too, publishes its keys.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.status = 202
        self.serves_keys = True
        self.url = ""


@contextmanager
def running_functions(
    dynamodb: Engine, s3: Engine, folder: Path, **variables: str
) -> Iterator[Functions]:
    """Make tables and a bucket of fresh names, and have functions that use them until the end.

    Args:
        dynamodb, s3: engines.
        folder: for logs.
        variables: further ones for the functions.
    """
    name = secrets.token_hex(6)
    data, door, bucket = f"data-{name}", f"door-{name}", f"payloads-{name}"
    issuer = LocalIssuer(
        rsa.generate_private_key(65537, 2048), issuer=ISSUER, audience=AUDIENCE, tenant_id=TENANT
    )
    with ExitStack() as stack:
        api = stack.enter_context(connections_api())
        lambdas = Lambdas()
        others = stack.enter_context(_others(issuer.jwks_document(), lambdas))
        lambdas.url = others
        proxies = [stack.enter_context(fault_proxy(engine)) for engine in (dynamodb, s3)]
        _prepare(dynamodb, s3, data=data, door=door, bucket=bucket)
        trusted = {
            "issuer": ISSUER,
            "jwks_url": f"{others}/jwks.json",
            "audience": [AUDIENCE],
            "tenant": TENANT,
            "token_use": "access",
        }
        assert CREDENTIALS.session_token is not None
        functions = Functions(
            api=api,
            dynamodb=proxies[0],
            s3=proxies[1],
            lambdas=lambdas,
            issuer=issuer,
            environ={
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key_id,
                "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key,
                "AWS_SESSION_TOKEN": CREDENTIALS.session_token,
                "AWS_ENDPOINT_URL_DYNAMODB": proxies[0].url,
                "AWS_ENDPOINT_URL_S3": proxies[1].url,
                "AWS_ENDPOINT_URL_LAMBDA": others,
                "MAKOTO_DATA_TABLE": data,
                "MAKOTO_DOOR_TABLE": door,
                "MAKOTO_BUCKET": bucket,
                "MAKOTO_REPLY_FUNCTION": "makoto-reply",
                "MAKOTO_CONNECTIONS_URL": api.url,
                "MAKOTO_ISSUERS": orjson.dumps([trusted]).decode(),
                "MAKOTO_ALLOWED_ORIGINS": ORIGIN,
                "MAKOTO_LIVE_RUNS": "100",
                "MAKOTO_SCRIPTED_PACE": "0",
                **variables,
            },
            logs=folder,
            stack=stack,
        )
        try:
            yield functions
        finally:
            functions.pool.shutdown(wait=False, cancel_futures=True)


def _prepare(dynamodb: Engine, s3: Engine, *, data: str, door: str, bucket: str) -> None:
    async def create() -> None:
        client = SignedClient(region=REGION, credentials=CREDENTIALS, endpoint_url=dynamodb.url)
        await create_tables(client, data=data, door=door)
        await client.aclose()

    asyncio.run(create())
    connection = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=30)
    body = (
        "<CreateBucketConfiguration xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
    )
    connection.request("PUT", f"/{bucket}", body)
    assert connection.getresponse().status == 200
    connection.close()


@contextmanager
def _others(jwks: bytes, lambdas: Lambdas) -> Iterator[str]:
    """Serve the issuer's keys and Lambda's Invoke; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/jwks.json"
            self._answer(200 if lambdas.serves_keys else 500, jwks)

        def do_POST(self) -> None:
            assert self.path == "/2015-03-31/functions/makoto-reply/invocations"
            assert self.headers["X-Amz-Invocation-Type"] == "Event"
            assert "x-amz-invocation-type" in self.headers["Authorization"]
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if lambdas.status == 202:
                lambdas.asked.append(body)
            self._answer(lambdas.status, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# The events of a WebSocket API


def new_connection_id() -> str:
    """Return an id of the form that API Gateway gives."""
    return base64.b64encode(os.urandom(11)).decode()


def connect_event(
    connection_id: str,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return the event of an upgrade, by default that of a browser with a token."""
    if headers is None:
        headers = {"Origin": ORIGIN}
        if token is not None:
            headers["Sec-WebSocket-Protocol"] = f"makoto.v1, bearer.{token}"
    event = _event(connection_id, "$connect", "CONNECT")
    event["headers"] = headers
    event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    if query is not None:
        event["queryStringParameters"] = query
        event["multiValueQueryStringParameters"] = {k: [v] for k, v in query.items()}
    return event


def message_event(connection_id: str, body: str | None, *, binary: bool = False) -> dict[str, Any]:
    """Return the event of a message."""
    event = _event(connection_id, "$default", "MESSAGE")
    event["requestContext"]["messageId"] = base64.b64encode(os.urandom(11)).decode()
    if body is not None:
        event["body"] = body
    event["isBase64Encoded"] = binary
    return event


def disconnect_event(connection_id: str) -> dict[str, Any]:
    """Return the event of a connection's end."""
    event = _event(connection_id, "$disconnect", "DISCONNECT")
    event["requestContext"] |= {"disconnectStatusCode": 1001, "disconnectReason": "Going away"}
    return event


def failure_event(*payloads: object) -> dict[str, Any]:
    """Return what SQS delivers of failed invocations of `reply`."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "handle",
                "eventSource": "aws:sqs",
                "body": orjson.dumps(
                    {
                        "version": "1.0",
                        "timestamp": "2026-11-21T14:00:00.000Z",
                        "requestContext": {
                            "requestId": "e4b46cbf-b738-xmpl-8880-a18cdf61200e",
                            "functionArn": REPLY_ARN,
                            "condition": "RetriesExhausted",
                            "approximateInvokeCount": 1,
                        },
                        "requestPayload": payload,
                        "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
                        "responsePayload": {"errorMessage": "RequestId: ... Error: timed out"},
                    }
                ).decode(),
            }
            for number, payload in enumerate(payloads)
        ]
    }


def http_event(
    path: str = "/v1/tickets", *, method: str = "POST", token: str | None = None
) -> dict[str, Any]:
    """Return the event of a request to the HTTP API (payload format 2.0)."""
    headers = {"host": "abc123.execute-api.eu-central-1.amazonaws.com", "origin": ORIGIN}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "abc123",
            "domainName": headers["host"],
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "21/Nov/2026:14:00:00 +0000",
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }


def _event(connection_id: str, route: str, kind: str) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    return {
        "requestContext": {
            "routeKey": route,
            "eventType": kind,
            "extendedRequestId": "dGVzdA=",
            "requestTime": "21/Nov/2026:14:00:00 +0000",
            "messageDirection": "IN",
            "stage": "dev",
            "connectedAt": now_ms,
            "requestTimeEpoch": now_ms,
            "identity": {"sourceIp": "192.0.2.1"},
            "requestId": "dGVzdA=",
            "domainName": "abc123.execute-api.eu-central-1.amazonaws.com",
            "connectionId": connection_id,
            "apiId": "abc123",
        },
        "isBase64Encoded": False,
    }
