"""Worker processes: what a handler finds, how it is frozen, and every way in which it ends."""

import asyncio
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.emulator import Emulator, Fault, Function, Limits
from gateway.emulator.bootstrap import HandlerError, find_handler
from tests.gateway.emulator.conftest import HANDLERS, Printed, until

Emulating = Callable[..., Any]


class Functions:
    """Invokes through the SDK, synchronously."""

    def __init__(self, emulated: Emulator, api: Any) -> None:
        self.emulated = emulated
        self.api = api

    async def invoke(self, name: str, event: Any = None) -> tuple[Any, str | None]:
        """Return what the function returned, and the error that the SDK reports."""
        answer = await self.api.invoke(
            FunctionName=name, Payload=io.BytesIO(json.dumps(event).encode())
        )
        async with answer["Payload"] as stream:
            return json.loads(await stream.read()), answer.get("FunctionError")


@pytest.fixture
async def functions(emulating: Emulating, sdk: Callable[..., Any]) -> Callable[..., Any]:
    async def start(**options: Any) -> Functions:
        emulated = await emulating(**options)
        return Functions(emulated, await sdk("lambda", emulated.lambda_url))

    return start


def state_of(process_id: int) -> str:
    """Return the state of a process as `ps` has it; Z also where there is none."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_running(process_id: int) -> bool:
    return state_of(process_id) != "Z"


# What a handler finds


async def test_a_handler_finds_what_lambda_has(
    functions: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ANYTHING", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "in earnest")
    monkeypatch.setenv("INHERITED", "yes")
    run = await functions(
        functions={
            "tell": Function(
                handler="room.describe", environment={"MINE": "2"}, timeout_s=42, memory_mb=512
            )
        },
        environment={"MINE": "1", "OURS": "{connections_url}|{lambda_url}|{url}|{else}"},
    )
    told, error = await run.invoke("tell")
    assert error is None
    assert told["folder"] == str(HANDLERS)
    assert told["name"] == "tell"
    assert told["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:tell"
    assert 30_000 < told["remaining"] <= 42_000
    variables, at = told["variables"], run.emulated
    assert {name: variables[name] for name in ("MINE", "OURS", "INHERITED")} == {
        "MINE": "2",
        "OURS": f"{at.connections_url}|{at.lambda_url}|{at.url}|{{else}}",
        "INHERITED": "yes",
    }
    assert "AWS_ANYTHING" not in variables
    assert variables["AWS_SECRET_ACCESS_KEY"] == "emulator"
    assert variables["AWS_REGION"] == "us-east-1"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert variables["AWS_ENDPOINT_URL_LAMBDA"] == run.emulated.lambda_url
    assert variables["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] == run.emulated.connections_url


async def test_nothing_of_the_emulator_is_in_the_process(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"tell": "room:describe"})
    told, _ = await run.invoke("tell")
    assert {"gateway", "websockets", "pydantic", "httptools"}.isdisjoint(told["modules"])
    assert "room" in told["modules"]


async def test_a_warm_process_is_used_again(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"tell": "room:describe"})
    first, _ = await run.invoke("tell")
    second, _ = await run.invoke("tell")
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["process"] == second["process"]
    assert first["request_id"] != second["request_id"]


async def test_a_process_that_is_not_used_is_ended(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"tell": "room:describe"}, limits=Limits(warm_s=0.05))
    told, _ = await run.invoke("tell")
    await until(lambda: not is_running(told["process"]))
    assert run.emulated.process_ids("tell") == []
    assert (await run.invoke("tell"))[0]["calls"] == 1


async def test_a_process_that_died_while_idle_is_replaced(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"tell": "room:describe"})
    told, _ = await run.invoke("tell")
    os.kill(told["process"], 9)
    await until(lambda: not is_running(told["process"]))
    again, error = await run.invoke("tell")
    assert error is None
    assert again["process"] != told["process"]


async def test_a_process_is_frozen_between_invocations(
    functions: Callable[..., Any], tmp_path: Path
) -> None:
    run = await functions(
        functions={"work": "room:background"}, environment={"FOLDER": str(tmp_path)}
    )
    ticks = tmp_path / "ticks"
    await run.invoke("work", {"begin": True})
    (process_id,) = run.emulated.process_ids("work")
    await until(lambda: state_of(process_id) == "T")
    before = ticks.stat().st_size
    assert before > 0
    await asyncio.sleep(0.2)
    assert ticks.stat().st_size == before
    await run.invoke("work", {})
    assert ticks.stat().st_size > before


async def test_what_is_printed_is_passed_on(
    functions: Callable[..., Any], printed: Printed
) -> None:
    run = await functions(functions={"fail": "room:fail"})
    told, error = await run.invoke("fail")
    assert error == "Unhandled"
    assert (told["errorType"], told["errorMessage"]) == ("ValueError", "a detail")
    assert "in fail" in told["stackTrace"][0]
    assert "bootstrap.py" not in "".join(told["stackTrace"])
    lines = await printed.wait("fail", 3)
    assert lines[0] == "[ERROR] ValueError: a detail"


# How invocations end


async def test_a_result_that_is_no_json_is_an_error(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"f": "room:not_json"})
    told, error = await run.invoke("f")
    assert (error, told["errorType"]) == ("Unhandled", "Runtime.MarshalError")


async def test_a_result_that_is_too_large_is_an_error(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"f": "room:large"}, limits=Limits(payload_bytes=1000))
    assert (await run.invoke("f", {"bytes": 998}))[0] == "x" * 998
    told, _ = await run.invoke("f", {"bytes": 999})
    assert told["errorType"] == "Function.ResponseSizeTooLarge"


async def test_a_megabyte_goes_both_ways(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"f": "room:give_back"})
    event = {"text": "誠" * 500_000}
    assert await run.invoke("f", event) == (event, None)


async def test_too_long_an_invocation_is_killed(
    functions: Callable[..., Any], printed: Printed
) -> None:
    run = await functions(functions={"f": Function(handler="room:hang_with_child", timeout_s=1.5)})
    told, error = await run.invoke("f")
    assert (error, told["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert told["errorMessage"].endswith("Task timed out after 1.50 seconds")
    child = int((await printed.wait("f"))[0])
    await until(lambda: not is_running(child))


@pytest.mark.parametrize(
    ("handler", "how"), [("leave", "exit status 3"), ("crash", "signal: segmentation fault")]
)
async def test_a_process_that_ends_itself_is_an_error(
    functions: Callable[..., Any], handler: str, how: str
) -> None:
    run = await functions(functions={"f": f"room:{handler}"})
    told, error = await run.invoke("f")
    assert (error, told["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert told["errorMessage"].endswith(f"Runtime exited with error: {how}")


async def test_a_process_can_be_killed_in_the_middle(
    functions: Callable[..., Any], printed: Printed
) -> None:
    run = await functions(functions={"f": "room:hang"})
    asked = asyncio.create_task(run.invoke("f"))
    await printed.wait("f")
    assert run.emulated.busy("f") == 1
    assert run.emulated.kill("f") == 1
    told, _ = await asked
    assert told["errorMessage"].endswith("signal: killed")


async def test_what_a_process_leaves_behind_when_it_ends_is_killed(
    functions: Callable[..., Any], printed: Printed
) -> None:
    run = await functions(functions={"f": "room:leave_child"})
    told, _ = await run.invoke("f")
    assert told["errorMessage"].endswith("exit status 3")
    child = int((await printed.wait("f"))[0])
    await until(lambda: not is_running(child))


async def test_chaos_kills_a_process(functions: Callable[..., Any]) -> None:
    run = await functions(functions={"f": "room:hang"})
    run.emulated.chaos.order(Fault.KILL_WORKER, target="f")
    told, _ = await run.invoke("f")
    assert told["errorType"] == "Runtime.ExitError"


@pytest.mark.parametrize("handler", ["hang", "seen"])
async def test_nothing_is_left_of_an_emulator(
    emulating: Emulating, printed: Printed, handler: str
) -> None:
    from gateway.emulator import emulator

    async with emulator(
        functions={"f": f"room:{handler}"}, root=HANDLERS, output=printed
    ) as emulated:
        emulated._invocations.start("f", b"{}")
        await printed.wait("f")
        (process_id,) = emulated.process_ids("f")
        assert is_running(process_id)
    assert not is_running(process_id)


async def test_importing_that_takes_too_long_is_an_error(
    functions: Callable[..., Any],
) -> None:
    run = await functions(functions={"f": "slow:handler"}, limits=Limits(init_s=0.3))
    begun = time.monotonic()
    told, _ = await run.invoke("f")
    assert told["errorType"] == "Sandbox.Timedout"
    assert time.monotonic() - begun < 10


# Names of handlers


@pytest.mark.parametrize("name", ["json.dumps", "json:dumps", "os.path.join", "os.path:join"])
def test_a_handler_is_named_with_a_colon_or_a_dot(name: str) -> None:
    assert callable(find_handler(name))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("absent.handler", "Runtime.ImportModuleError"),
        ("json.absent", "Runtime.HandlerNotFound"),
        ("handler", "Runtime.MalformedHandlerName"),
    ],
)
def test_a_handler_that_is_not_there(name: str, kind: str) -> None:
    with pytest.raises(HandlerError) as error:
        find_handler(name)
    assert error.value.kind == kind
