"""The variables of worker processes: those that Lambda sets, and the function's own."""

import os
import secrets
from collections.abc import Mapping
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


def function_environment(
    name: str, deployment: Deployment, *, inherited: Mapping[str, str], endpoint: Mapping[str, str]
) -> dict[str, str]:
    """Return all variables of a function's processes.

    Args:
        name: of the function.
        deployment: that it is in.
        inherited: the lowest layer.
        endpoint: says where the emulator is.
    """
    function = deployment.functions[name]
    return {
        **inherited,
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
        **endpoint,
        **function.environment,
    }
