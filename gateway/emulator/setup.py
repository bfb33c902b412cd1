"""The short way to an emulator: handlers by their names, everything else as AWS has it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.emulator.chaos import Chaos
from gateway.emulator.deployment import CONNECT, DEFAULT, DISCONNECT, Deployment, Function, Queue
from gateway.emulator.emulator import Emulator, to_stderr
from gateway.emulator.limits import Limits
from gateway.emulator.output import Output

Handler = str | Function
"""`module:function`, or a function with more to say."""


def deployment(
    *,
    connect: Handler | None = None,
    default: Handler | None = None,
    disconnect: Handler | None = None,
    routes: Mapping[str, Handler] | None = None,
    functions: Mapping[str, Handler] | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Deployment:
    """Return a deployment, with a function for each route.

    Args:
        connect: of `$connect`.
        default: of `$default`.
        disconnect: of `$disconnect`.
        routes: of other routes, by route key.
        functions: that are not behind a route, by name. Those of routes are called `connect`, `default`,
            `disconnect` and by their route keys. Where a route names one of these, it shares it.
        environment: variables of all functions; a function's own count more.
        options: fields of `Deployment`.

    Raises:
        DeploymentError: it does not fit together.
    """
    named = {CONNECT: connect, DEFAULT: default, DISCONNECT: disconnect, **(routes or {})}
    deployed = {name: _function(handler) for name, handler in (functions or {}).items()}
    leads_to: dict[str, str] = {}
    for key, handler in named.items():
        if handler is None:
            continue
        if isinstance(handler, str) and handler in deployed:
            leads_to[key] = handler
            continue
        name = key.removeprefix("$")
        deployed[name] = _function(handler)
        leads_to[key] = name
    if environment:
        deployed = {
            name: replace(each, environment={**environment, **each.environment})
            for name, each in deployed.items()
        }
    return Deployment(functions=deployed, routes=leads_to, **options)


def emulator(
    *,
    connect: Handler | None = None,
    default: Handler | None = None,
    disconnect: Handler | None = None,
    routes: Mapping[str, Handler] | None = None,
    functions: Mapping[str, Handler] | None = None,
    queues: Mapping[str, Queue] | None = None,
    environment: Mapping[str, str] | None = None,
    stage: str = "dev",
    port: int = 0,
    root: Path | None = None,
    limits: Limits | None = None,
    chaos: Chaos | None = None,
    output: Output = to_stderr,
    **options: Any,
) -> Emulator:
    """Return an emulator, to be used with `async with`.

    Args:
        connect: see `deployment`, as the next five.
        default: see there.
        disconnect: see there.
        routes: see there.
        functions: see there.
        environment: see there.
        queues: by name, for functions whose `on_failure` names one.
        stage: the path of the API.
        port: to listen on; 0 for a free one.
        root: the folder that handlers are imported from and run in; the current one, if it is not said.
        limits: instead of those of AWS.
        chaos: orders and rates of faults.
        output: gets what worker processes print.
        options: further fields of `Deployment`.

    Raises:
        DeploymentError: it does not fit together.
    """
    deployed = deployment(
        connect=connect,
        default=default,
        disconnect=disconnect,
        routes=routes,
        functions=functions,
        environment=environment,
        queues=queues or {},
        stage=stage,
        **options,
    )
    return Emulator(deployed, port=port, root=root, limits=limits, chaos=chaos, output=output)


def _function(handler: Handler) -> Function:
    return Function(handler=handler) if isinstance(handler, str) else handler
