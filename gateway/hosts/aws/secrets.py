"""The key of the model's provider: read from Secrets Manager or SSM Parameter Store, kept for minutes.

It is in no template and in no function's configuration, where many may read it, and never in a log line.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson

from storage.attempts import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    THROTTLED_PAUSE_S,
    AttemptFailedError,
    until_answered,
)
from storage.signed_http import NoAnswerError, Response, SignedEndpoint
from storage.sigv4 import Credentials

TTL_S: Final = 300.0
"""How long a value is taken for current, in seconds."""

RETRY_S: Final = 15.0
"""How long after a refresh that failed the next one is tried."""

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

_CONTENT_TYPE: Final = "application/x-amz-json-1.1"
_TARGETS: Final = {
    "secretsmanager": "secretsmanager.GetSecretValue",
    "ssm": "AmazonSSM.GetParameter",
}
_THROTTLED: Final = frozenset(
    {
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
_PASSING: Final = frozenset({"RequestTimeout", "RequestTimeoutException"})

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
        region: as `eu-central-1`, unless an ARN says another.
        credentials: of a role that may read it (`secretsmanager:GetSecretValue` or `ssm:GetParameter`,
            and `kms:Decrypt` with a key of one's own).
        plain: the setting that a value which is no JSON object stands for.
        endpoint_urls: where these services are, by their names, if not at AWS.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        where: str,
        *,
        region: str,
        credentials: Credentials,
        plain: str = "OPENAI_API_KEY",
        endpoint_urls: Mapping[str, str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service, name, region_of_arn = _place(where)
        self._question = _question(self._service, name)
        self._plain = plain
        self._clock = clock
        self._values: SecretValues | None = None
        self._fresh_until = 0.0
        self._refreshing: asyncio.Task[SecretValues] | None = None
        self._endpoint = SignedEndpoint(
            service=self._service,
            region=region_of_arn or region,
            credentials=credentials,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            read_timeout_s=READ_TIMEOUT_S,
            url=(endpoint_urls or {}).get(self._service),
        )

    async def values(self) -> SecretValues:
        """Return the settings that the secret holds. Only the first use waits.

        It does for 5 seconds at most. While the secret cannot be read again, the old values serve.
        Cancelling leaves a reading to those who wait for it too.

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

    async def settle(self) -> None:
        """Wait for a reading that is under way, whatever becomes of it."""
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing})

    async def aclose(self) -> None:
        """End a reading that is under way and close the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await self.settle()
        self._endpoint.close()

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
        """Return the text. An error from below may quote it, so that is not kept, as a cause neither."""
        try:
            return await until_answered(self._attempt)
        except Exception as error:  # noqa: BLE001 - also of an answer in a form that nobody foresaw
            failure = ModelSecretError(f"MAKOTO_MODEL_SECRET cannot be read: {_kind(error)}")
        raise failure

    async def _attempt(self) -> str:
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": _TARGETS[self._service]}
        try:
            response = await self._endpoint.ask(headers, self._question)
        except NoAnswerError as error:
            raise AttemptFailedError(str(error)) from None
        if response.status != HTTPStatus.OK:
            raise _refusal(response)
        return _text(self._service, orjson.loads(response.body))


class _RefusedError(Exception):
    """No repeat would change the answer. The text is the service's code for it."""


def _refusal(response: Response) -> AttemptFailedError | _RefusedError:
    code = _code(response.body) or str(response.status)
    if code in _THROTTLED or response.status == HTTPStatus.TOO_MANY_REQUESTS:
        return AttemptFailedError(code, pause_s=THROTTLED_PAUSE_S)
    passes = code in _PASSING or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return AttemptFailedError(code) if passes else _RefusedError(code)


def _code(body: bytes) -> str:
    """Return the code in the body of an error, without its namespace; nothing if it has none.

    See https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    named = said.get("__type") or said.get("code") if isinstance(said, dict) else None
    code = str(named or "").rpartition("#")[2].partition(":")[0]
    return code if code.isidentifier() else ""


def _question(service: str, name: str) -> bytes:
    if service == "ssm":
        return orjson.dumps({"Name": name, "WithDecryption": True})
    return orjson.dumps({"SecretId": name})


def _text(service: str, answer: Any) -> str:
    """Return the text in an answer; one of bytes has none."""
    text: str = answer["Parameter"]["Value"] if service == "ssm" else answer["SecretString"]
    return text


def _place(where: str) -> tuple[str, str, str | None]:
    """Return service, name and, of an ARN, the region; see `ModelSecret`."""
    name = where.removeprefix("ssm:")
    arn = name.split(":") if name.startswith("arn:") else []
    in_ssm = name != where or arn[2:3] == ["ssm"]
    region = arn[3] if len(arn) > 3 else None
    return "ssm" if in_ssm else "secretsmanager", name, region


def _kind(error: Exception) -> str:
    """Return the service's code for an error, or its class: its text may quote what was asked or read."""
    named = isinstance(error, AttemptFailedError | _RefusedError)
    return str(error) if named else type(error).__name__


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
