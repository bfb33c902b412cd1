"""The fixture, in a test that is not asynchronous, and the thread behind it."""

import json
import threading

import pytest
from websockets.sync.client import connect

from gateway.emulator import Emulate, Fault
from tests.gateway.emulator.conftest import HANDLERS

pytest_plugins = ["gateway.emulator.pytest_plugin"]


def test_a_test_without_asyncio_has_an_emulator(emulate: Emulate) -> None:
    emulated = emulate(
        default="room:upper", root=HANDLERS, responses=frozenset({"$default"}), stage="v1"
    )
    with connect(emulated.url) as ws:
        assert len(emulated.connection_ids) == 1
        ws.send("loud")
        assert ws.recv(20) == "LOUD"
        emulated.chaos.order(Fault.THROTTLE)
        ws.send("x")
        assert json.loads(ws.recv(20))["message"] == "Internal server error"
    emulated.settle()
    assert emulated.connection_ids == []


def test_a_process_is_killed_from_another_thread(emulate: Emulate) -> None:
    hanging = threading.Event()
    emulated = emulate(default="room:hang", root=HANDLERS, output=lambda name, line: hanging.set())
    with connect(emulated.url) as ws:
        ws.send("x")
        assert hanging.wait(20)
        assert emulated.busy("default") == 1
        assert emulated.kill("default") == 1
        assert json.loads(ws.recv(20))["message"] == "Internal server error"


def test_a_port_that_is_taken_is_an_error_where_it_was_asked_for(emulate: Emulate) -> None:
    emulated = emulate()
    port = int(emulated.lambda_url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        emulate(port=port)
