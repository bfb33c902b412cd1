"""The real template and layer, published by our tool and deployed by the real SAM CLI, into MiniStack.

It takes the raw template, runs the functions with its own interpreter, and its URLs are not those of AWS:
what it cannot show is listed in docs/aws.md.
"""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiobotocore.session import get_session

from layers import aws, publishing
from layers.archive import Archive
from layers.samconfig import Target
from tests.engines.processes import ENGINES, Engine
from tests.gateway.identity.user_pools import REGION, UserPool

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "infra" / "template.yaml"
STACK = "makoto-dev"
ENV = "dev"
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]

_BOUND_S = 300.0
_CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stack that is up.

    Attributes:
        outputs: of the template, by name.
        pool: whose tokens it accepts.
    """

    engine: Engine
    outputs: Mapping[str, str]
    pool: UserPool

    @property
    def connections_url(self) -> str:
        """Where MiniStack takes posts."""
        return f"{self.engine.url}/_aws/execute-api/{self.outputs['SocketApiId']}/{ENV}"

    @property
    def socket_url(self) -> str:
        """Where clients connect to; the output names a host of AWS."""
        return self.connections_url.replace("http", "ws", 1)

    @property
    def tickets_url(self) -> str:
        """Where tickets are sold."""
        return f"{self.engine.url}/_aws/execute-api/{self.outputs['HttpApiId']}/$default/v1/tickets"

    def client(self, service: str) -> AbstractAsyncContextManager[Any]:
        """Return a client of the SDK, to be entered."""
        return engine_client(self.engine, service)


def engine_client(engine: Engine, service: str) -> AbstractAsyncContextManager[Any]:
    """Return a client of the SDK for a service of the engine, to be entered."""
    client: AbstractAsyncContextManager[Any] = get_session().create_client(
        service, region_name=REGION, endpoint_url=engine.url, **_CREDENTIALS
    )
    return client


def build(path: Path | None = None) -> Archive:
    """Build the layer for this machine's Python, into a zip."""
    return publishing.build(runtime=RUNTIME, architecture=ARCHITECTURE, path=path).archive


async def deploy(
    engine: Engine, built: Archive, pool: UserPool, *, parameters: Mapping[str, str] | None = None
) -> Deployment:
    """Publish a layer, deploy with it, and tell the stack where its own sockets are: on AWS it knows that."""
    given = {
        "Env": ENV,
        "Architecture": ARCHITECTURE,
        "Alarms": "no",  # MiniStack has no metric math
        "Issuers": issuers(pool),
        **(parameters or {}),
    }
    target = target_with(*(f"{name}={_quoted(value)}" for name, value in given.items()))
    with sdk_for(engine), aws.clients(target) as (functions, _):
        version, _ = publishing.publish(functions, target, built)
    given["CommonLayerArn"] = version.arn
    sam(
        *("deploy", "--template-file", str(TEMPLATE), "--stack-name", STACK),
        *("--resolve-s3", "--no-confirm-changeset", "--no-progressbar"),
        *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"),
        *("--parameter-overrides", *shlex.split(publishing.overrides(target, version, None, []))),
        environment=told_to_sdk(engine),
    )
    async with engine_client(engine, "cloudformation") as cloudformation:
        first = Deployment(engine=engine, outputs=await _outputs(cloudformation), pool=pool)
        given["ConnectionsUrl"] = first.connections_url
        await cloudformation.update_stack(
            StackName=STACK,
            UsePreviousTemplate=True,
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in given.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        await cloudformation.get_waiter("stack_update_complete").wait(
            StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
    if "AllowedOrigins" in given:
        await _allow(given["AllowedOrigins"].split(","), first)
    return first


async def _allow(origins: list[str], deployed: Deployment) -> None:
    """Say the template's CORS again: MiniStack does not read CloudFormation's spelling of it."""
    async with deployed.client("apigatewayv2") as apis:
        await apis.update_api(
            ApiId=deployed.outputs["HttpApiId"],
            CorsConfiguration={
                "AllowOrigins": origins,
                "AllowMethods": ["GET", "POST"],
                "AllowHeaders": ["authorization", "content-type"],
            },
        )
    # AWS drops what a function says of it. MiniStack hands on both, of which a browser takes neither.
    async with deployed.client("lambda") as functions:
        name = deployed.outputs["HttpFunctionArn"]
        told = await functions.get_function_configuration(FunctionName=name)
        variables = told["Environment"]["Variables"]
        del variables["MAKOTO_ALLOWED_ORIGINS"]
        await functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": variables}
        )


def target_with(*overrides: str) -> Target:
    """Return what samconfig.toml would say of this stack, whose functions run on this machine's Python."""
    runtime = "python3.13"  # of the template; MiniStack does not heed it
    return Target(stack=STACK, runtime=runtime, architecture=ARCHITECTURE, overrides=overrides)


def told_to_sdk(engine: Engine) -> dict[str, str]:
    """Return the variables by which any SDK finds an engine instead of AWS."""
    return {
        "AWS_ENDPOINT_URL": engine.url,
        "AWS_DEFAULT_REGION": REGION,
        **{name.upper(): value for name, value in _CREDENTIALS.items()},
    }


@contextmanager
def sdk_for(engine: Engine) -> Iterator[None]:
    """Have the SDK in this process find an engine instead of AWS."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told_to_sdk(engine).items():
            patch.setenv(name, value)
        yield


def issuers(pool: UserPool) -> str:
    """Return the parameter `Issuers` for the access tokens of a pool."""
    return orjson.dumps(
        [
            {
                "issuer": pool.issuer,
                "jwks_url": pool.jwks_url,
                "audience": [pool.client_id],
                "token_use": "access",
                "tenant": pool.name,
            }
        ]
    ).decode()


def sam(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run the SAM CLI and return what it says; fail with that if it fails."""
    done = subprocess.run(
        [sam_environment() / "bin" / "sam", *arguments],
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", **environment},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_BOUND_S,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def sam_environment() -> Path:
    """Return where the SAM CLI is installed."""
    folder = ENGINES / "sam"
    if not (folder / "bin" / "sam").is_file():
        reason = "the SAM CLI is missing: sh tests/install-engines.sh"
        return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


async def _outputs(cloudformation: Any) -> dict[str, str]:
    (stack,) = (await cloudformation.describe_stacks(StackName=STACK))["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
