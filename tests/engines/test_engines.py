import http.client
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.engines import processes
from tests.engines.processes import Engine

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
