"""Lambda's Invoke: `POST /2015-03-31/functions/{name}/invocations`.

See https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
"""

import re
from http import HTTPStatus
from typing import Final

import orjson

from gateway.emulator.deployment import Deployment
from gateway.emulator.http import Request, Response, refusal
from gateway.emulator.invocations import Invocations, NoSuchFunctionError
from gateway.emulator.limits import Limits
from gateway.emulator.pools import ThrottledError
from gateway.emulator.signatures import unsigned

PATH: Final = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)/invocations")

SERVICE: Final = "lambda"

_ARN: Final = re.compile(
    r"(?:(?:arn:aws[\w-]*:lambda:[\w-]+:)?\d{12}:)?(?:function:)?(?P<name>[\w-]+)(?::[\w$-]+)?"
)

_LATEST: Final = {"X-Amz-Executed-Version": "$LATEST", "Content-Type": "application/json"}


class LambdaApi:
    """Answers invocations of functions by name or ARN.

    Args:
        deployment: for ARNs in errors.
        invocations: of its functions.
        limits: sizes.
    """

    def __init__(self, deployment: Deployment, *, invocations: Invocations, limits: Limits) -> None:
        self._deployment = deployment
        self._invocations = invocations
        self._limits = limits

    async def answer(self, request: Request, function: str) -> Response:
        """Carry out an invocation. The function is decoded."""
        if (refused := unsigned(request, service=SERVICE)) is not None:
            return refused
        if request.method != "POST":
            return refusal(405, "MethodNotAllowedException", Message="Method not allowed")
        named = _ARN.fullmatch(function)
        name = named["name"] if named else function
        try:
            return await self._invoke(request, name)
        except NoSuchFunctionError:
            text = f"Function not found: {self._deployment.function_arn(name)}"
            return refusal(404, "ResourceNotFoundException", Type="User", Message=text)
        except ThrottledError:
            return refusal(
                429,
                "TooManyRequestsException",
                Type="User",
                message="Rate Exceeded.",
                Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
            )

    async def _invoke(self, request: Request, name: str) -> Response:
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        event = request.body or b"{}"
        if (refused := self._refused(kind, event)) is not None:
            return refused
        if kind == "DryRun":
            return Response(status=HTTPStatus.NO_CONTENT)
        if kind == "Event":
            request_id = self._invocations.start(name, event)
            return Response(status=HTTPStatus.ACCEPTED, headers={"x-amzn-RequestId": request_id})
        outcome = await self._invocations.run(name, event)
        headers = {**_LATEST, "X-Amz-Function-Error": outcome.error} if outcome.error else _LATEST
        return Response(status=HTTPStatus.OK, body=outcome.payload, headers=headers)

    def _refused(self, kind: str, event: bytes) -> Response | None:
        if kind not in ("RequestResponse", "Event", "DryRun"):
            return refusal(
                400, "InvalidParameterValueException", Type="User", message=f"Unknown type {kind}"
            )
        most = self._limits.event_bytes if kind == "Event" else self._limits.payload_bytes
        if len(event) > most:
            text = f"{len(event)} bytes are too large for the {kind} invocation type (limit {most} bytes)"
            return refusal(413, "RequestTooLargeException", Type="User", message=text)
        try:
            orjson.loads(event)
        except orjson.JSONDecodeError:
            text = "Could not parse request body into json."
            return refusal(400, "InvalidRequestContentException", Type="User", message=text)
        return None
