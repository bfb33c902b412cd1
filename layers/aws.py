"""Clients of the SDK, which finds credentials and region as it does for everybody; its errors as one line."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

from layers.errors import LayerError
from layers.samconfig import Target

_RETRIES: Final = {"mode": "standard", "max_attempts": 5}
_ANSWER_S: Final = 300.0
"""How long to wait for an answer: a layer of 30 MB is read before it comes."""


@contextmanager
def clients(target: Target) -> Iterator[tuple[Any, Any]]:
    """Open clients of Lambda and of CloudFormation for where a target's stack is.

    Raises:
        LayerError: the SDK is missing, or has no region or profile.
    """
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ModuleNotFoundError:
        raise LayerError(
            "the AWS SDK is missing: use make layer, or install the extra `aws`"
        ) from None
    config = Config(retries=_RETRIES, read_timeout=_ANSWER_S)
    with ExitStack() as stack:
        with one_line(), _setting_named():
            session = Session(profile=target.profile)
            functions, cloudformation = (
                stack.enter_context(
                    closing(session.create_client(name, target.region, config=config))
                )
                for name in ("lambda", "cloudformation")
            )
        yield functions, cloudformation


@contextmanager
def _setting_named() -> Iterator[None]:
    """Turn what the SDK raises for a variable or a file that it cannot read into a `LayerError`."""
    try:
        yield
    except ValueError as error:
        raise LayerError(f"AWS: {error}") from None


@contextmanager
def one_line() -> Iterator[None]:
    """Turn what the SDK raises into a `LayerError`."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except NoCredentialsError:
        raise LayerError("there are no AWS credentials: log in, or set AWS_PROFILE") from None
    except NoRegionError:
        raise LayerError(
            "there is no AWS region: set AWS_DEFAULT_REGION, or `region` in samconfig.toml"
        ) from None
    except (ClientError, BotoCoreError) as error:
        raise LayerError(" ".join(f"AWS: {error}".split())) from error
