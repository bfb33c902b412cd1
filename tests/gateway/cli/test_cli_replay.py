"""`makoto replay`: which clients it lets in, and what it leaves behind."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli.client import TerminalClient
from gateway.cli.failure import CommandFailedError
from gateway.cli.recording import Recorder
from gateway.cli.token import mint
from gateway.settings import Settings
from tests.gateway.cli.fake_gateway import DONE, STARTED, delta

RUN = "from gateway.cli.main import run; run()"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    recorder = Recorder(path, clock=lambda: 0.0)
    for event in (STARTED, delta("As recorded."), DONE):
        recorder.add(event)
    return path


@contextmanager
def replaying(recording: Path, **settings: str) -> Iterator[str]:
    """Run `makoto replay`; yield the URL of its socket."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MAKOTO_")}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "replay", str(recording), "--port", "0", "--speed", "0"],
        env={**others, "PYTHONPATH": str(Path(__file__).parents[3]), **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"Open http(://[^/]+/)", process.stdout.readline())
        while not found:
            line = process.stdout.readline()
            assert line, "it ended"
            found = re.search(r"Open http(://[^/]+/)", line)
        yield f"ws{found[1]}v1/ws"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def ask(url: str, token: str) -> str:
    async with asyncio.timeout(20), TerminalClient(url, token) as client:
        events = [event async for event in client.answer("c1", "Hi", None)]
    return "".join(event.get("text", "") for event in events)


async def test_it_accepts_the_tokens_of_the_data_folder_and_keeps_nothing_else_there(
    recording: Path, tmp_path: Path
) -> None:
    ours, others = (Settings(data_dir=tmp_path / name) for name in ("data", "other"))
    with replaying(recording, MAKOTO_DATA_DIR=str(ours.data_dir)) as url:
        token = await asyncio.to_thread(mint, ours, user="aiko", minutes=5)
        assert await ask(url, token) == "As recorded."
        foreign = await asyncio.to_thread(mint, others, user="aiko", minutes=5)
        with pytest.raises(CommandFailedError, match="the gateway refuses this token: "):
            await ask(url, foreign)
    assert [path.name for path in ours.data_dir.iterdir()] == ["signing-key.pem"]
