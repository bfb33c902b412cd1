import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.engines import processes
from tests.engines.processes import Engine

ROOT = Path(__file__).parents[2]

ENGINES = {
    "dynoxide": processes.dynoxide,
    "moto": processes.moto_server,
    "s3rver": processes.s3rver,
    "ministack": processes.ministack,
}


@pytest.mark.parametrize("start", ENGINES.values(), ids=ENGINES)
def test_an_engine_answers_on_loopback_until_the_end(
    start: Callable[[], AbstractContextManager[Engine]],
) -> None:
    with start() as engine:
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
        connection.request("GET", "/")
        connection.getresponse().read()
        connection.close()
        # A server that listens on every interface answers on this address of loopback too.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", engine.port), timeout=10)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", engine.port), timeout=10)
    with pytest.raises(ProcessLookupError):
        os.kill(engine.process_id, 0)


def test_a_missing_engine_is_a_failure_in_ci_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "ENGINES", tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install-engines"):
        processes.dynoxide().__enter__()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install-engines"):
        processes.dynoxide().__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_an_engine_ends_with_a_test_run_that_was_killed(dynoxide: Engine) -> None:
    start_and_die = (
        "import os\n"
        "from tests.engines.processes import dynoxide\n"
        "running = dynoxide()\n"
        "print(running.__enter__().port, flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start_and_die], cwd=ROOT, stdout=subprocess.PIPE, timeout=60
    )
    deadline = time.monotonic() + 10
    while _listens(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True
