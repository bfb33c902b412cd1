"""DynamoDB through the AWS SDK (aiobotocore), where nobody waits for its start."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from storage.dynamodb.attempts import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    repeatable,
    until_answered,
)
from storage.dynamodb.faults import AttemptFailedError, fault_of
from storage.dynamodb.json_format import encoded
from storage.errors import StorageUnavailableError
from storage.sigv4 import Credentials

_CONNECTIONS: Final = 50


class SdkClient:
    """`DynamoClient` by the SDK; for one event loop, from its first call until `aclose`.

    Making one imports the SDK (0.4 s of CPU on a first start), and the first call reads its models (0.2 s,
    most of it in a thread): a function does both before its first event.

    Args:
        region: as `eu-central-1`; `None` for what the SDK finds (`AWS_REGION`).
        endpoint_url: where DynamoDB is, if not at AWS; `None` for what the SDK finds.
        credentials: `None` for what the SDK finds.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        # Here and not above: who only passes through this module shall not pay for the SDK.
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        self._session = get_session()
        if credentials is not None:
            self._session.set_credentials(
                credentials.access_key_id,
                credentials.secret_access_key,
                credentials.session_token,
            )
        self._options = {
            "region_name": region,
            "endpoint_url": endpoint_url,
            "config": AioConfig(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                max_pool_connections=_CONNECTIONS,
                warm_up_loader_caches=True,  # reads its models in a thread
                parameter_validation=False,  # DynamoDB does it again, and costs no CPU of ours
                retries={"mode": "standard", "total_max_attempts": 1},  # see `attempts`
            ),
        }
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._opened = AsyncExitStack()

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation; see `DynamoClient.call`."""
        encoded(request)  # refuses half a surrogate pair, of which the SDK would make an escape
        once = repeatable(operation, request)
        return await until_answered(lambda: self._attempt(operation, once))

    async def aclose(self) -> None:
        """Close the connections."""
        self._client = None
        await self._opened.aclose()

    async def _attempt(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        from botocore import exceptions, parsers, xform_name

        try:
            client = self._client or await self._open()
            answer: dict[str, Any] = await getattr(client, xform_name(operation))(**request)
        except exceptions.ClientError as error:
            said = error.response
            status = said["ResponseMetadata"]["HTTPStatusCode"]
            raise fault_of(status, said["Error"]["Code"], said) from error
        except (
            exceptions.ConnectionError,
            exceptions.HTTPClientError,
            parsers.ResponseParserError,
        ) as error:
            raise AttemptFailedError(type(error).__name__) from error
        except exceptions.BotoCoreError as error:
            raise StorageUnavailableError(f"the SDK fails: {type(error).__name__}") from error
        answer.pop("ResponseMetadata", None)
        return answer

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                creating = self._session.create_client("dynamodb", **self._options)
                self._client = await self._opened.enter_async_context(creating)
            return self._client
