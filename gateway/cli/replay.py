"""`makoto replay`: play a recorded run log to any client, offline."""

import argparse
import asyncio
import tempfile
from pathlib import Path

import uvloop

from gateway.cli.recording import RecordedModel, read_recording
from gateway.hosts.local.server import serve
from gateway.settings import read_settings
from gateway.telemetry import set_up_logs


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "replay",
        help="play a recorded run log to any client, offline",
        description="Run a gateway on loopback, with data that is thrown away, that answers every "
        "message with the run recorded in FILE (see `makoto chat --record`).",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the recording, one event a line")
    parser.add_argument("--port", type=int, help="port, 0 for a free one (MAKOTO_PORT, 8765)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="times the recorded pace; 0 for no pauses (1)"
    )
    parser.set_defaults(carry_out=_replay)


def _replay(asked: argparse.Namespace) -> int:
    model = RecordedModel(read_recording(asked.file), speed=max(0.0, asked.speed))
    with tempfile.TemporaryDirectory(prefix="makoto-replay-") as folder:
        settings = read_settings({"host": "127.0.0.1", "port": asked.port, "data_dir": folder})
        set_up_logs("warning")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, on_ready=_greet, model=model))
    return 0


def _greet(url: str) -> None:
    print(f"Every message is answered with the recording.\nOpen {url}", flush=True)
