"""DynamoDB without the SDK, which takes half a second to start and two to three times the CPU per call."""

import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from storage.attempts import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    AttemptFailedError,
    until_answered,
)
from storage.dynamodb.faults import fault_of
from storage.dynamodb.json_format import decoded, encoded
from storage.errors import StorageUnavailableError
from storage.signed_http import NoAnswerError, Response, SignedEndpoint
from storage.sigv4 import Credentials

_CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_TARGET: Final = "DynamoDB_20120810"


class SignedClient:
    """`DynamoClient` by the standard library; for one event loop, until `aclose`.

    Args:
        region: as `eu-central-1`.
        credentials: of whoever asks; they must outlive the client.
        endpoint_url: where DynamoDB is, if not at AWS: `http://host:port` or `https://...`.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        *,
        region: str,
        credentials: Credentials,
        endpoint_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = SignedEndpoint(
            service="dynamodb",
            region=region,
            credentials=credentials,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            read_timeout_s=READ_TIMEOUT_S,
            url=endpoint_url,
            clock=clock,
        )

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation; see `DynamoClient.call`."""
        body = encoded(_repeatable(operation, request))
        try:
            return await until_answered(lambda: self._attempt(operation, body))
        except TimeoutError as error:
            raise StorageUnavailableError("DynamoDB does not answer") from error
        except AttemptFailedError as error:
            raise StorageUnavailableError(f"DynamoDB fails: {error}") from error

    async def aclose(self) -> None:
        """Close the connections; what is still under way ends by its own timeout."""
        self._endpoint.close()

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": f"{_TARGET}.{operation}"}
        try:
            response = await self._endpoint.ask(headers, body)
        except NoAnswerError as error:
            raise AttemptFailedError(str(error)) from error
        return _answer(response)


def _repeatable(operation: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the request so that its repeat is known as such: a transaction is carried out once."""
    if operation == "TransactWriteItems" and "ClientRequestToken" not in request:
        return {**request, "ClientRequestToken": str(uuid.uuid4())}
    return request


def _answer(response: Response) -> dict[str, Any]:
    status = response.status
    try:
        answer = decoded(response.body)
    except ValueError as error:
        raise AttemptFailedError(f"{status} with a body that is no JSON") from error
    if status == HTTPStatus.OK:
        return answer
    code = str(answer.get("__type", "")).rpartition("#")[2]
    raise fault_of(status, code, answer)
