"""The key of the model's provider: read from Secrets Manager or SSM Parameter Store, kept for minutes.

It is in no template and in no function's configuration, where many may read it, and never in a log line.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson

from storage.sigv4 import Credentials

TTL_S: Final = 300.0
"""How long a value is taken for current, in seconds."""

RETRY_S: Final = 15.0
"""How long after a refresh that failed the next one is tried."""

PATIENCE: Final = 4.5
"""Seconds until a service that does not answer is given up."""

NAMES: Final = frozenset(
    {
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_MODEL",
        "OPENAI_API_VERSION",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_DEPLOYMENT",
        "AZURE_OPENAI_ENDPOINT",
    }
)
"""The settings that a secret may hold."""

_CONNECT_TIMEOUT_S: Final = 1.0
_READ_TIMEOUT_S: Final = 1.4

log = logging.getLogger(__name__)


class ModelSecretError(Exception):
    """The secret cannot be had, or is none. The text is one line for the operator, without any of it."""


class SecretValues(Mapping[str, str]):
    """Settings by name that do not show their values when they are printed."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        """Return the value of a setting."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._values)

    def __repr__(self) -> str:
        return f"<secret values of {', '.join(sorted(self._values))}>"


class ModelSecret:
    """A secret, read at its first use and again in the background of one after `TTL_S`.

    Belongs to one event loop, until `aclose`. Lambda freezes a process when its handler returns, so a
    handler awaits `settle` before.

    Args:
        where: the ARN or name of a secret, or `ssm:` and the name or ARN of a SecureString parameter.
            Its value is a key, or a JSON object of `NAMES` and their values.
        plain: the setting that a value which is no JSON object stands for.
        region: as `eu-central-1`, unless an ARN says another; `None` for what the SDK finds.
        endpoint_url: where the service is, if not at AWS; `None` for what the SDK finds.
        credentials: of a role that may read it (`secretsmanager:GetSecretValue` or `ssm:GetParameter`,
            and `kms:Decrypt` with a key of one's own); `None` for what the SDK finds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        where: str,
        *,
        plain: str = "OPENAI_API_KEY",
        region: str | None = None,
        endpoint_url: str | None = None,
        credentials: Credentials | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service, self._name, region_of_arn = _place(where)
        self._plain = plain
        self._region = region_of_arn or region
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._clock = clock
        self._values: SecretValues | None = None
        self._fresh_until = 0.0
        self._refreshing: asyncio.Task[SecretValues] | None = None
        self._client: Any = None
        self._opened = AsyncExitStack()

    async def values(self) -> SecretValues:
        """Return the settings that the secret holds. Only the first use waits.

        It does for the SDK to start (0.4 s) and for the service, 5 seconds at most. While the secret cannot
        be read again, the old values serve. Cancelling leaves a reading to those who wait for it too.

        Raises:
            ModelSecretError: it has never been read.
        """
        if self._refreshing is None and self._clock() >= self._fresh_until:
            self._refreshing = asyncio.create_task(self._refresh(), name="read the model's secret")
            self._refreshing.add_done_callback(self._refreshed)
        if self._values is not None:
            return self._values
        assert self._refreshing is not None
        return await asyncio.shield(self._refreshing)

    async def value(self, name: str) -> str:
        """Return one setting; as a model's credential it follows the rotation of the key.

        Raises:
            ModelSecretError: it has never been read, or holds no such setting.
        """
        values = await self.values()
        if name not in values:
            raise ModelSecretError(f"MAKOTO_MODEL_SECRET holds no {name}")
        return values[name]

    async def settle(self) -> None:
        """Wait for a reading that is under way, whatever becomes of it."""
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing})

    async def aclose(self) -> None:
        """End a reading that is under way and close the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await self.settle()
        self._client = None
        await self._opened.aclose()

    async def _refresh(self) -> SecretValues:
        values = _parsed(await self._read(), self._plain)
        self._values = values
        return values

    def _refreshed(self, task: "asyncio.Task[SecretValues]") -> None:
        self._refreshing = None
        failed = task.cancelled() or task.exception() is not None
        if self._values is not None:
            self._fresh_until = self._clock() + (RETRY_S if failed else TTL_S)
        if failed and not task.cancelled():
            log.warning(
                "the model's secret could not be read",
                extra={"error": str(task.exception()), "has_old_value": self._values is not None},
            )

    async def _read(self) -> str:
        """Return the text. What the SDK raises may quote it, so that is not kept, as a cause neither."""
        try:
            client = (
                self._client or await self._open()
            )  # that it takes time is no fault of the service
            async with asyncio.timeout(PATIENCE):
                return await _ASK[self._service](client, self._name)
        except Exception as error:  # noqa: BLE001 - any of the SDK's, and of those below it
            failure = ModelSecretError(f"MAKOTO_MODEL_SECRET cannot be read: {_kind(error)}")
        raise failure

    async def _open(self) -> Any:
        # Here and not above: who only passes through this module shall not pay for the SDK.
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        # At DEBUG it writes whole answers, secrets and all.
        logging.getLogger("botocore.parsers").setLevel(logging.INFO)
        session = get_session()
        if self._credentials is not None:
            session.set_credentials(
                self._credentials.access_key_id,
                self._credentials.secret_access_key,
                self._credentials.session_token,
            )
        creating = session.create_client(
            self._service,
            region_name=self._region,
            endpoint_url=self._endpoint_url,
            config=AioConfig(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": 3},
                warm_up_loader_caches=True,  # reads its models in a thread
            ),
        )
        self._client = await self._opened.enter_async_context(creating)
        return self._client


async def _ask_secrets_manager(client: Any, name: str) -> str:
    answer = await client.get_secret_value(SecretId=name)
    text: str = answer["SecretString"]  # missing from one that holds bytes
    return text


async def _ask_parameter_store(client: Any, name: str) -> str:
    answer = await client.get_parameter(Name=name, WithDecryption=True)
    text: str = answer["Parameter"]["Value"]
    return text


_ASK: Final = {"secretsmanager": _ask_secrets_manager, "ssm": _ask_parameter_store}


def _place(where: str) -> tuple[str, str, str | None]:
    """Return service, name and, of an ARN, the region; see `ModelSecret`."""
    name = where.removeprefix("ssm:")
    arn = name.split(":") if name.startswith("arn:") else []
    in_ssm = name != where or arn[2:3] == ["ssm"]
    region = arn[3] if len(arn) > 3 else None
    return "ssm" if in_ssm else "secretsmanager", name, region


def _kind(error: Exception) -> str:
    """Return the service's code for an error, or its class: its text may quote what was asked or read."""
    said = getattr(error, "response", None)
    return str(said["Error"]["Code"]) if isinstance(said, dict) else type(error).__name__


def _parsed(text: str, plain: str) -> SecretValues:
    """Return the settings in a secret's text.

    Raises:
        ModelSecretError: it is empty, or no key and no JSON object of settings.
    """
    text = text.strip()
    if not text.startswith("{"):
        values: Any = {plain: text}
    else:
        values = _loaded(text)
    if not isinstance(values, dict) or not all(isinstance(each, str) for each in values.values()):
        raise ModelSecretError("MAKOTO_MODEL_SECRET is no JSON object of texts")
    if not NAMES.issuperset(values):
        raise ModelSecretError(
            f"MAKOTO_MODEL_SECRET holds a name that is none of {', '.join(sorted(NAMES))}"
        )
    if not values or not all(
        each.isascii() and each.isprintable() and each for each in values.values()
    ):
        raise ModelSecretError("MAKOTO_MODEL_SECRET holds an empty or malformed value")
    return SecretValues(values)


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None  # the error holds the text
