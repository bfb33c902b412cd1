"""What a process of `reply` keeps between its invocations, the model above all."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from gateway.aws_settings import AwsSettings, read_aws_settings
from gateway.bootstrap.aws import ordinary_settings
from gateway.bootstrap.generation import open_model
from gateway.hosts.aws.invocation import Process, open_process
from gateway.hosts.aws.secrets import ModelSecret
from gateway.settings import key_variable
from streaming.models.chat_model import ChatModel


class ReplyProcess:
    """A process that can generate replies; `open_reply_process` makes it.

    Args:
        shared: what the invocations of any function share.
        secret: where the model's key is, if not in the environment.
    """

    def __init__(self, shared: Process, secret: ModelSecret | None) -> None:
        self.shared = shared
        self._secret = secret
        self._model: ChatModel | None = None
        self._made_of: Mapping[str, str] = {}
        self._opened = AsyncExitStack()

    async def model(self) -> ChatModel:
        """Return the model; another one when its key has been rotated.

        Raises:
            ModelSecretError, SettingsError: there is no key, or no request can be made with it.
        """
        values = await _values(self._secret)
        if self._model is None or values != self._made_of:
            self._model = None  # if the new key is of no use, the old model is closed all the same
            await self._opened.aclose()
            settings = ordinary_settings(self.shared.backend.aws, values)
            self._model = await open_model(settings, stack=self._opened)
            self._made_of = values
        return self._model

    async def settle(self) -> None:
        """Wait for a reading of the secret that is under way."""
        if self._secret is not None:
            await self._secret.settle()


async def open_reply_process() -> ReplyProcess:
    """Read the settings and the secret, and open what invocations share.

    Raises:
        ValueError, ModelSecretError, SettingsError: a setting is missing or not valid; one line.
    """
    aws = read_aws_settings()
    secret = _secret(aws) if aws.model_secret else None
    return ReplyProcess(await open_process(await _values(secret)), secret)


def _secret(aws: AwsSettings) -> ModelSecret:
    region, credentials = aws.signing()
    return ModelSecret(
        aws.model_secret,
        region=region,
        credentials=credentials,
        plain=key_variable(aws.rest),
        endpoint_urls={"secretsmanager": aws.secretsmanager_url, "ssm": aws.ssm_url},
    )


async def _values(secret: ModelSecret | None) -> Mapping[str, str]:
    return {} if secret is None else await secret.values()
