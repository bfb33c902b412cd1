"""`makoto serve`: run the gateway on this machine."""

import argparse
import asyncio
import os
import resource
from contextlib import suppress

import uvloop

from gateway.cli.ports import port
from gateway.hosts.local.server import serve
from gateway.settings import Settings, read_settings
from gateway.telemetry import set_up_logs


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "serve",
        help="run the gateway on this machine",
        description="Run the gateway on one port until SIGTERM or Ctrl-C; a second one exits at once.",
    )
    parser.add_argument("--host", help="address to listen on (MAKOTO_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=port, help="port, 0 for a free one (MAKOTO_PORT, 8765)")
    parser.add_argument("--data-dir", help="folder of all data (MAKOTO_DATA_DIR, var)")
    parser.set_defaults(carry_out=_serve)


def _serve(asked: argparse.Namespace) -> int:
    settings = read_settings({"host": asked.host, "port": asked.port, "data_dir": asked.data_dir})
    set_up_logs(settings.log_level)
    _allow_descriptors()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, on_ready=lambda url: _greet(settings, url)))
    return 0


def _allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard one: a socket and an answer take one each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _greet(settings: Settings, url: str) -> None:
    answered_by = {
        "azure": f"{settings.azure_deployment} on Azure OpenAI",
        "openai": settings.openai_model,
        "scripted": "the scripted demo model (no key is set)",
    }
    print(
        f"Makoto is answering with {answered_by[settings.provider]}; data is in {settings.data_dir}{os.sep}"
    )
    print(f"Open {url}", flush=True)
