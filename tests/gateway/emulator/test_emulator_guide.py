"""docs/emulator.md: its examples run as they stand there, and its table lists every fault."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from gateway.emulator import Fault
from tests.ops.examples import ROOT, example

GUIDE = "docs/emulator.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of somebody's, with the example's handlers."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "chat.py").write_text(example(GUIDE, "chat"))
    return project


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_serves_the_chat(folder: Path) -> None:
    prepare, command = example(GUIDE, "command").replace("\\\n", "").strip().splitlines()
    assert prepare == "mkdir -p room"
    (folder / "room").mkdir()
    _, *arguments = shlex.split(command)
    code = "from gateway.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--port", "0"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        greeting = [process.stdout.readline() for _ in range(7)]
        found = re.search(r"ws://\S+", greeting[0])
        try:
            assert found
            with connect(found[0]) as ann, connect(found[0]) as bob:
                ann.send(json.dumps({"action": "say", "text": "誠"}))
                assert [json.loads(ws.recv(30)) for ws in (ann, bob)] == [{"text": "誠"}] * 2
        finally:
            process.terminate()
    shown = example_output()
    assert [re.sub(r":\d+", ":8766", line.rstrip("\n")) for line in greeting] == shown


def example_output() -> list[str]:
    text = (ROOT / GUIDE).read_text("utf-8")
    return text.partition("```text\n")[2].partition("```")[0].splitlines()


def test_the_test_passes(folder: Path) -> None:
    (folder / "test_chat.py").write_text(example(GUIDE, "test"))
    said = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_chat.py")
    assert "1 passed" in said


def test_the_program_prints_what_was_said_and_how_it_ended(folder: Path) -> None:
    (folder / "main.py").write_text(example(GUIDE, "asyncio"))
    (folder / "room").mkdir()
    assert run(folder, "main.py", str(folder / "room")) == '{"text": "hello"}\n1009\n'


def test_the_table_lists_every_fault() -> None:
    text = (ROOT / GUIDE).read_text("utf-8")
    rows = re.findall(r"^\| (`[a-z-`, ]+) \|", text, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(listed) == sorted(Fault)
