"""The variables of worker processes: those that Lambda sets, and the function's own."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.emulator.deployment import Deployment

_NOBODY: Final = {
    "AWS_ACCESS_KEY_ID": "EMULATOREMULATOR0000",
    "AWS_SECRET_ACCESS_KEY": "emulator",
    "AWS_SESSION_TOKEN": "emulator",
}
"""Credentials that no service of AWS accepts, so that nothing of a developer's account is touched."""


def inherited_environment() -> dict[str, str]:
    """Return this process's variables but for `AWS_*`: no handler finds its developer's credentials."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - handed on, not read
        if not name.startswith("AWS_")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is the same for all functions of an emulator.

    Attributes:
        inherited: the lowest layer of variables.
        root: the folder of the handlers.
        authorities: a file of certificates to trust.
        url: of the WebSocket API.
        connections_url: of the @connections API.
        lambda_url: of Lambda.
    """

    inherited: Mapping[str, str]
    root: Path
    authorities: Path
    url: str
    connections_url: str
    lambda_url: str

    def filled_in(self, value: str) -> str:
        """Replace `{url}`, `{connections_url}` and `{lambda_url}`, which nobody knows in advance."""
        for name in ("url", "connections_url", "lambda_url"):
            value = value.replace(f"{{{name}}}", getattr(self, name))
        return value


def function_environment(
    name: str, deployment: Deployment, surroundings: Surroundings
) -> dict[str, str]:
    """Return all variables of a function's processes."""
    function = deployment.functions[name]
    return {
        **surroundings.inherited,
        **_NOBODY,
        "AWS_REGION": deployment.region,
        "AWS_DEFAULT_REGION": deployment.region,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{secrets.token_hex(16)}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "TZ": ":UTC",
        "_HANDLER": function.handler.replace(":", "."),
        "LAMBDA_TASK_ROOT": str(surroundings.root),
        "AWS_ENDPOINT_URL_LAMBDA": surroundings.lambda_url,
        "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": surroundings.connections_url,
        "AWS_CA_BUNDLE": str(surroundings.authorities),
        "SSL_CERT_FILE": str(surroundings.authorities),
        **{key: surroundings.filled_in(value) for key, value in function.environment.items()},
    }
