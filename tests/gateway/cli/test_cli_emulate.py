"""`makoto emulate` as a process, and what its options deploy."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.cli.emulate import deployment_of
from gateway.cli.main import main, make_parser

HANDLERS = Path(__file__).parents[1] / "emulator/handlers"
RUN = "from gateway.cli.main import run; run()"


@contextmanager
def emulating(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `makoto emulate`; whatever it is told, it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "emulate", "--port", "0", "--root", str(HANDLERS), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: "subprocess.Popen[str]", pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"ended before {pattern}")


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end_of(process_id: int) -> None:
    until = time.monotonic() + 20
    while is_running(process_id):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_serves_handlers_passes_on_what_they_print_and_ends_at_a_signal() -> None:
    with emulating("--default", "room:seen", "--stage", "v1", "--env", "A=b") as process:
        url = read_until(process, r"ws://127\.0\.0\.1:\d+/v1")[0]
        read_until(process, "Ctrl-C")
        with connect(url) as ws:
            ws.send("hello")
            event = json.loads(read_until(process, r"default \| (.*)")[1])
            assert event["body"] == "hello"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_faults_and_clocks_are_what_the_options_say() -> None:
    with emulating("--default", "room:seen", "--chaos", "throttle=1", "--idle", "0.3") as process:
        url = read_until(process, r"ws://[^ ]+")[0].strip()
        with connect(url) as ws:
            ws.send("x")
            assert json.loads(ws.recv(20))["message"] == "Internal server error"
            with pytest.raises(ConnectionClosed):
                ws.recv(20)
            assert ws.close_code == 1001


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("handler", ["describe", "hang"])
def test_no_worker_outlives_a_killed_emulator(handler: str) -> None:
    with emulating("--default", f"room:{handler}") as process:
        url = read_until(process, r"ws://[^ ]+")[0].strip()
        read_until(process, "Ctrl-C")
        with connect(url) as ws:
            ws.send("x")
            if handler == "hang":
                read_until(process, "hanging")
            else:
                ws.recv(20)  # it is no proxy answer: an internal server error
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            (worker,) = map(int, children.split())
            process.kill()
        wait_for_the_end_of(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_ends_it_while_a_handler_is_still_being_imported(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    with emulating("--default", "endless:handler", "--root", str(tmp_path)) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 20
        while not children.read_text():
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(8) == 0  # importing may take a minute
        assert process.stdout is not None
        assert process.stdout.read() == ""


def parsed(*arguments: str) -> argparse.Namespace:
    return make_parser().parse_args(["emulate", *arguments])


def test_options_become_a_deployment() -> None:
    deployed = deployment_of(
        parsed(
            *("--connect", "a:b", "--default", "chat", "--route", "send=chat"),
            *("--function", "chat=c:d", "--function", "reply=e:f", "--function", "seal=g:h"),
            *("--env", "X=1=2", "--timeout", "reply=900", "--concurrency", "reply=3"),
            *("--retries", "reply=0", "--event-age", "reply=60", "--on-failure", "reply=seal"),
            *("--select", "$request.body.type", "--respond", "send", "--binary"),
        )
    )
    assert deployed.routes == {"$connect": "connect", "$default": "chat", "send": "chat"}
    assert deployed.functions["connect"].environment == {"X": "1=2"}
    reply = deployed.functions["reply"]
    assert (reply.handler, reply.timeout_s, reply.concurrency) == ("e:f", 900, 3)
    assert (reply.retries, reply.event_age_s) == (0, 60)
    assert deployed.queues[reply.on_failure].consumer == "seal"
    assert deployed.route_selection == "$request.body.type"
    assert deployed.responses == {"send"}
    assert deployed.binary_frames


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--default", "a:b", "--timeout", "absent=1"], "no function 'absent'"),
        (["--default", "a:b", "--timeout", "default=soon"], "'soon' is no number"),
        (["--default", "a:b", "--on-failure", "default=absent"], "no function 'absent'"),
        ([], "name a handler: --connect"),
        (["--default", "a:b", "--select", "x"], "no route selection expression"),
        (["--default", "a:b", "--respond", "absent"], "no route 'absent'"),
        (["--default", "a:b", "--chaos", "rain=0.5"], "--chaos: the faults are delay-invoke"),
        (["--default", "a:b", "--chaos", "throttle=often"], "'often' is no number"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["emulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("makoto: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--root", "absent"], r"\S+absent is no folder"),
        (
            ["--connect", "nosuch:x"],
            "function connect: Unable to import module 'nosuch': No module named 'nosuch'",
        ),
        (
            ["--connect", "room:nosuch"],
            "function connect: Handler 'nosuch' missing on module 'room'",
        ),
        (["--connect", "nosuch"], "function connect: Bad handler 'nosuch': Empty module name"),
    ],
)
def test_a_handler_that_is_not_there_is_one_line_at_the_start(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ["emulate", "--port", "0", "--root", str(HANDLERS), "--default", "room:seen"]
    assert main([*common, *arguments]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert re.fullmatch(f"makoto: {said}\n", printed.err)


def test_a_handler_that_breaks_at_its_import_says_so_at_the_start_with_its_trace(
    capfd: pytest.CaptureFixture[str],
) -> None:
    common = ["emulate", "--port", "0", "--root", str(HANDLERS)]
    assert main([*common, "--default", "broken:handler"]) == 1
    printed = capfd.readouterr()
    assert printed.err == "makoto: function default: RuntimeError: no import\n"
    assert re.search(r"default \|   File .*broken\.py", printed.out)
    assert "Ctrl-C" not in printed.out
