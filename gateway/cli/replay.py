"""`makoto replay`: play a recorded run log to any client, offline."""

import argparse
import asyncio
import tempfile
from pathlib import Path

import uvloop

from gateway.bootstrap.local import KEY_FILE
from gateway.cli.ports import port
from gateway.cli.recording import RecordedModel, read_recording
from gateway.cli.token import make_folder
from gateway.hosts.local.server import serve
from gateway.identity.local_key import load_or_create_key
from gateway.settings import Settings, read_settings
from gateway.telemetry import set_up_logs


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "replay",
        help="play a recorded run log to any client, offline",
        description="Run a gateway on loopback, with data that is thrown away, that answers every "
        "message with the run recorded in FILE (see `makoto chat --record`). It accepts what `makoto "
        "token` and `makoto chat` sign with the key in the data folder, and writes nothing else there.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the recording, one event a line")
    parser.add_argument("--port", type=port, help="port, 0 for a free one (MAKOTO_PORT, 8765)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="times the recorded pace; 0 for no pauses (1)"
    )
    parser.add_argument("--data-dir", help="folder of the key (MAKOTO_DATA_DIR, var)")
    parser.set_defaults(carry_out=_replay)


def _replay(asked: argparse.Namespace) -> int:
    model = RecordedModel(read_recording(asked.file), speed=max(0.0, asked.speed))
    with tempfile.TemporaryDirectory(prefix="makoto-replay-") as folder:
        settings = _with_key_of(read_settings(_overrides(asked)), Path(folder))
        set_up_logs("warning")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, on_ready=_greet, model=model))
    return 0


def _overrides(asked: argparse.Namespace) -> dict[str, object]:
    return {"host": "127.0.0.1", "port": asked.port, "data_dir": asked.data_dir}


def _with_key_of(settings: Settings, folder: Path) -> Settings:
    """Return settings that keep all data in a new folder, but for the key that tokens are signed with.

    Raises:
        CommandFailedError, LocalKeyError: the key cannot be used.
    """
    if not settings.trusted_issuers():
        make_folder(settings.data_dir)
        key = settings.data_dir.resolve() / KEY_FILE
        load_or_create_key(key)
        (folder / KEY_FILE).symlink_to(key)
    return settings.model_copy(update={"data_dir": folder})


def _greet(url: str) -> None:
    print(f"Every message is answered with the recording.\nOpen {url}", flush=True)
