"""The command line: help everywhere, one line for every failure, exit codes that mean something."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import main as main_module
from gateway.cli import replay, serve
from gateway.cli.failure import CommandFailedError
from gateway.cli.main import COMMANDS, main, make_parser
from gateway.identity.errors import LocalKeyError
from gateway.settings import SettingsError
from storage.errors import UnusableDataError

RUN = "from gateway.cli.main import run; run()"
NAMES = ["serve", "chat", "token", "replay", "page", "emulate", "layer"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("MAKOTO_", "OPENAI_", "AZURE_OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for module in (serve, replay):  # the logs of this process are the tests' own
        monkeypatch.setattr(module, "set_up_logs", lambda _: None)


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `makoto` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# Help


def test_every_command_is_there() -> None:
    assert [module.__name__.rpartition(".")[2] for module in COMMANDS] == NAMES


@pytest.mark.parametrize("arguments", [["--help"], *[[name, "--help"] for name in NAMES]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: makoto")
    for name in NAMES if len(arguments) == 1 else arguments[:1]:
        assert name in said


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_explained(name: str) -> None:
    (choices,) = (a.choices for a in make_parser()._actions if isinstance(a.choices, dict))
    parser = choices[name]
    assert isinstance(parser, argparse.ArgumentParser)
    assert parser.description
    assert all(action.help for action in parser._actions)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        *([name, "--port", "x"] for name in ("serve", "page", "emulate")),
        *([name, "--port", "70000"] for name in ("serve", "page", "emulate")),
        ["replay", "x.jsonl", "--port", "-1"],
        ["replay"],
        ["token", "--minutes", "soon"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: makoto" in capsys.readouterr().err


# Exit codes


class Command:
    """A subcommand that ends as the test says."""

    def __init__(self, carry_out: Callable[[], int]) -> None:
        self._carry_out = carry_out

    def add_to(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        parser = commands.add_parser("act")
        parser.set_defaults(carry_out=lambda _: self._carry_out())


def raising(error: BaseException) -> Callable[[], int]:
    def carry_out() -> int:
        raise error

    return carry_out


@pytest.mark.parametrize("code", [0, 1, 130])
def test_the_code_of_a_command(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(main_module, "COMMANDS", (Command(lambda: code),))
    assert main(["act"]) == code


@pytest.mark.parametrize(
    "error", [SettingsError, UnusableDataError, LocalKeyError, CommandFailedError]
)
def test_a_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    monkeypatch.setattr(main_module, "COMMANDS", (Command(raising(error("it is broken"))),))
    assert main(["act"]) == 1
    assert capsys.readouterr() == ("", "makoto: it is broken\n")


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main_module, "COMMANDS", (Command(raising(KeyboardInterrupt())),))
    assert main(["act"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "COMMANDS", (Command(raising(ZeroDivisionError())),))
    with pytest.raises(ZeroDivisionError):
        main(["act"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["chat", "--url", "ws://127.0.0.1:9/", "--token-file", "token", "Hi"],
            "cannot connect to",
        ),
        (["chat", "Hi"], "var holds no gateway's signing key"),
        (["chat", "--token-file", "none.txt", "Hi"], "none.txt: No such file or directory"),
        (["chat", "--token-file", "/", "Hi"], "/: Is a directory"),
        (["replay", "none.jsonl"], "none.jsonl: No such file or directory"),
        (["token", "--data-dir", "/dev/null/x"], "/dev/null/x: Not a directory"),
        (["serve", "--port", "0", "--data-dir", "/dev/null"], "/dev/null"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_goes_wrong_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("token").write_text("t0ken")
    assert main(arguments) == 1
    assert says in the_one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chat", "--url", "foo", "Hi"], "--url: foo isn't a valid URI"),
        (["chat", "--url", "ws://127.0.0.1:99999/", "Hi"], "--url: "),
        (["page", "--gateway", "http://foo"], "no wss or ws URL"),
        (["token", "--user", "a#b"], "user id"),
        (["token", "--minutes", "0"], "a token lives 1 to 1440 minutes, not 0"),
        (["token", "--minutes", "99999"], "a token lives 1 to 1440 minutes, not 99999"),
        (["emulate"], "name a handler"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_never_be_carried_out_is_wrong_usage(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert says in the_one_line(capsys)


def the_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("makoto: ")
    assert written.err.count("\n") == 1
    return written.err


def test_a_bad_setting_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAKOTO_PROT", "1")
    assert main(["serve"]) == 1
    assert capsys.readouterr().err == "makoto: MAKOTO_PROT: there is no such setting\n"


# As a process


def test_a_failure_as_a_process() -> None:
    done = run("replay", "none.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "makoto: none.jsonl: No such file or directory\n"


def test_a_reader_that_leaves_is_no_trace() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "token"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
