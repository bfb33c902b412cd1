"""`makoto emulate`: API Gateway's WebSocket APIs and Lambda on this machine, for anyone's handlers."""

import argparse
import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.cli.failure import CommandFailedError, WrongUsageError
from gateway.cli.ports import port

if TYPE_CHECKING:
    from gateway.emulator import Chaos, Deployment, Emulator, Limits

T = TypeVar("T")

PORT = 8766


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "emulate",
        help="run your own Lambda handlers behind an emulated WebSocket API",
        description="Emulate a WebSocket API of API Gateway and the Python Lambda functions behind it, on "
        "loopback, until Ctrl-C. A handler is written module:function; docs/emulator.md says more.",
    )
    _add_functions(parser)
    _add_api(parser)
    _add_limits(parser)
    parser.set_defaults(carry_out=_emulate)


def _add_functions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("functions")
    group.add_argument("--connect", metavar="HANDLER", help="of the route $connect")
    group.add_argument("--default", metavar="HANDLER", help="of the route $default")
    group.add_argument("--disconnect", metavar="HANDLER", help="of the route $disconnect")
    _add_pairs(group, "--route", "KEY=HANDLER", "of another route")
    _add_pairs(group, "--function", "NAME=HANDLER", "that others invoke through Lambda's API")
    _add_pairs(group, "--env", "NAME=VALUE", "variable of every function")
    _add_pairs(group, "--timeout", "NAME=SECONDS", "of a function (60)")
    _add_pairs(
        group, "--concurrency", "NAME=COUNT", "most invocations of a function at a time (32)"
    )
    _add_pairs(group, "--retries", "NAME=COUNT", "of asynchronous invocations of a function (2)")
    _add_pairs(group, "--event-age", "NAME=SECONDS", "most age of those (21600)")
    _add_pairs(
        group,
        "--on-failure",
        "NAME=CONSUMER",
        "function that gets failed ones of a function, from a queue",
    )
    group.add_argument("--root", default=".", help="folder that handlers are imported from (.)")


def _add_api(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the API")
    group.add_argument("--port", type=port, default=PORT, help=f"port, 0 for a free one ({PORT})")
    group.add_argument("--stage", default="dev", help="path of the API (dev)")
    group.add_argument(
        "--select",
        metavar="EXPRESSION",
        default="$request.body.action",
        help="RouteSelectionExpression ($request.body.action)",
    )
    group.add_argument(
        "--respond",
        metavar="KEY",
        action="append",
        default=[],
        help="route that has a route response: what its function returns is sent (repeatable)",
    )
    group.add_argument(
        "--binary",
        action="store_true",
        help="hand over binary frames, where API Gateway closes with 1003",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits and faults")
    group.add_argument("--idle", type=float, default=600.0, help="seconds (600)")
    group.add_argument("--lifetime", type=float, default=7200.0, help="seconds (7200)")
    group.add_argument(
        "--integration-timeout", type=float, default=29.0, help="seconds that a client waits (29)"
    )
    _add_pairs(
        group, "--chaos", "FAULT=RATE", "probability of a fault; docs/emulator.md lists them"
    )
    group.add_argument("--delay", type=float, default=0.2, help="longest of a fault, seconds (0.2)")
    group.add_argument("--seed", type=int, default=0, help="of chance (0)")


def _add_pairs(group: "argparse._ArgumentGroup", option: str, form: str, text: str) -> None:
    group.add_argument(
        option,
        metavar=form,
        action="append",
        default=[],
        type=_pair,
        help=f"{text} (repeatable)",
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _emulate(asked: argparse.Namespace) -> int:
    from gateway.emulator import DeploymentError

    printout = Printout()
    try:
        emulator = _emulator_of(asked, printout)
    except DeploymentError as exc:
        raise WrongUsageError(str(exc)) from None
    try:
        asyncio.run(_serve(emulator, printout))
    except DeploymentError as exc:
        raise CommandFailedError(str(exc)) from None
    except OSError as exc:
        raise CommandFailedError(f"cannot listen on port {asked.port}: {exc.strerror}") from None
    return 0


class Printout:
    """Prints what functions print; from the moment on when they are known to be there.

    Until then it is kept: of a handler whose name was mistyped one line is said, and no trace.
    """

    def __init__(self) -> None:
        self._kept: list[str] | None = []

    def __call__(self, name: str, line: str) -> None:
        """Print a line that a function has printed, or keep it."""
        if self._kept is None:
            print(f"{name} | {line}", flush=True)
        else:
            self._kept.append(f"{name} | {line}")

    def release(self) -> None:
        """Print what was kept, and all that comes at once."""
        kept, self._kept = self._kept or [], None
        for line in kept:
            print(line, flush=True)


def _emulator_of(asked: argparse.Namespace, printout: Printout) -> "Emulator":
    from gateway.emulator import Emulator

    return Emulator(
        deployment_of(asked),
        port=asked.port,
        root=Path(asked.root),
        limits=_limits_of(asked),
        chaos=_chaos_of(asked),
        output=printout,
    )


async def _serve(emulator: "Emulator", printout: Printout) -> None:
    over = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, over.set)
    async with emulator as running:
        ending = asyncio.create_task(over.wait())
        starting = asyncio.create_task(_start(running, printout))
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # an import may take its time, but not after Ctrl-C
            starting.cancel()
            await asyncio.wait({starting})
            return
        starting.result()
        await ending


async def _start(running: "Emulator", printout: Printout) -> None:
    from gateway.emulator import DeploymentError, HandlerAbsentError

    try:
        await running.warm_up()
    except HandlerAbsentError:
        raise
    except DeploymentError:
        printout.release()
        raise
    _greet(running)
    printout.release()


def _greet(running: "Emulator") -> None:
    print(f"WebSocket API   {running.url}")
    print(f"@connections    {running.connections_url}/@connections/{{connectionId}}")
    print(f"Lambda          {running.lambda_url}")
    for key, name in running.deployment.routes.items():
        print(f"  {key:<13} {running.deployment.functions[name].handler}")
    print("Ctrl-C ends it.", flush=True)


def deployment_of(asked: argparse.Namespace) -> "Deployment":
    """Return what the command line deploys.

    Raises:
        DeploymentError, WrongUsageError: it does not fit together.
    """
    from gateway.emulator import DeploymentError, Queue
    from gateway.emulator.setup import deployment

    if not (asked.connect or asked.default or asked.disconnect or asked.route or asked.function):
        raise WrongUsageError("name a handler: --connect, --default, --route, ...")

    deployed = deployment(
        connect=asked.connect,
        default=asked.default,
        disconnect=asked.disconnect,
        routes=dict(asked.route),
        functions=dict(asked.function),
        environment=dict(asked.env),
        responses=frozenset(asked.respond),
        route_selection=asked.select,
        stage=asked.stage,
        binary_frames=asked.binary,
    )
    functions = dict(deployed.functions)
    changes: tuple[tuple[Sequence[tuple[str, str]], str, Callable[[str], Any]], ...] = (
        (asked.timeout, "timeout_s", float),
        (asked.concurrency, "concurrency", int),
        (asked.retries, "retries", int),
        (asked.event_age, "event_age_s", float),
        (asked.on_failure, "on_failure", lambda consumer: f"failures-for-{consumer}"),
    )
    for pairs, attribute, kind in changes:
        for name, value in pairs:
            if name not in functions:
                raise DeploymentError(f"there is no function {name!r}")
            functions[name] = replace(functions[name], **{attribute: _number(value, kind)})
    queues = {
        f"failures-for-{consumer}": Queue(consumer=consumer) for _, consumer in asked.on_failure
    }
    return replace(deployed, functions=functions, queues=queues)


def _number(text: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(text)
    except ValueError:
        raise WrongUsageError(f"{text!r} is no number") from None


def _limits_of(asked: argparse.Namespace) -> "Limits":
    from gateway.emulator import Limits

    return Limits(
        idle_s=asked.idle, lifetime_s=asked.lifetime, integration_s=asked.integration_timeout
    )


def _chaos_of(asked: argparse.Namespace) -> "Chaos":
    from gateway.emulator import Chaos, Fault

    try:
        rates = {Fault(name): _number(rate, float) for name, rate in asked.chaos}
    except ValueError:
        known = ", ".join(sorted(Fault))
        raise WrongUsageError(f"--chaos: the faults are {known}") from None
    return Chaos(rates, seed=asked.seed, delay_s=asked.delay)
