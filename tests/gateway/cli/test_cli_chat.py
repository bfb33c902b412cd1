"""`makoto chat`: what is printed, recorded and returned."""

import asyncio
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import client as client_module
from gateway.cli import reading as reading_module
from gateway.cli.chat import Talk
from gateway.cli.client import TerminalClient
from gateway.cli.failure import INTERRUPTED, CommandFailedError
from gateway.cli.main import main
from gateway.cli.recording import Recorder, read_recording
from gateway.cli.typed_lines import typed_lines
from tests.gateway.cli.fake_gateway import (
    DONE,
    STARTED,
    Client,
    FakeGateway,
    Script,
    delta,
    fake_gateway,
    whole_answer,
)


def a_talk(gateway: FakeGateway, out: io.StringIO, **more: Any) -> Talk:
    return Talk(
        TerminalClient(gateway.url, "t"),
        **{"session_id": None, "recorder": None, "out": out, **more},
    )


def typing(*lines: str | bytes) -> int:
    """Return a descriptor that gives these lines and then ends."""
    reading, writing = os.pipe()
    os.write(writing, b"".join(x.encode() if isinstance(x, str) else x for x in lines))
    os.close(writing)
    return reading


async def chat(script: Script, message: str = "Hi", **more: Any) -> tuple[int, str]:
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(script) as gateway:
        code = await a_talk(gateway, out, **more).run(message, typed=-1)
    return code, out.getvalue()


def answering(*events: dict[str, Any]) -> Script:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, *events)

    return script


# What is printed


async def test_an_answer_and_its_marks() -> None:
    code, printed = await chat(
        answering(
            STARTED,
            delta("こん"),
            delta("にちは 🌸"),
            {"type": "content.done"},
            {"type": "emotion", "value": "happy"},
            {"type": "category", "value": "story"},
            {"type": "memory", "memory_id": "k", "value": "Likes tea."},
            {"type": "usage", "model": "m", "prompt_tokens": 1, "completion_tokens": 1},
            DONE,
        )
    )
    assert printed == (
        "こんにちは 🌸\n[emotion: happy, category: story, remembers: Likes tea., stop]\n"
    )
    assert code == 0


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("stop", 0),
        ("length", 0),
        ("filtered", 0),
        ("cancelled", 0),
        ("error", 1),
        ("timeout", 1),
        ("interrupted", 1),
    ],
)
async def test_the_exit_code_tells_how_the_answer_ended(reason: str, code: int) -> None:
    assert (await chat(answering(STARTED, delta("x"), {**DONE, "reason": reason})))[0] == code


async def test_an_error_says_why() -> None:
    error = {"code": "model.busy", "message": "The model is busy.", "retryable": True}
    _, printed = await chat(answering(STARTED, {**DONE, "reason": "error", "error": error}))
    assert printed == "\n[error: The model is busy.]\n"


async def test_what_could_not_be_stored_is_sent_again_and_recorded_without_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reading_module, "REFUSAL_FIRST_S", 0.02)
    sent: list[dict[str, Any]] = []

    async def script(client: Client) -> None:
        await client.hello()
        for _ in range(2):
            sent.append(await client.hear("send"))
            refusal = {"code": "storage.unavailable", "message": "Later.", "retryable": True}
            await client.say(type="error", id=sent[-1]["id"], **refusal)
        sent.append(await client.accept())
        await client.events(1, STARTED, delta("Here."), DONE)

    path = tmp_path / "run.jsonl"
    code, printed = await chat(script, recorder=Recorder(path, clock=lambda: 0.0))
    assert printed == "[sending again: Later.]\n" * 2 + "Here.\n[stop]\n"
    assert code == 0
    assert sent[0] == sent[1] == sent[2]
    kinds = [recorded.event.type for recorded in read_recording(path)]
    assert kinds == ["started", "content.delta", "done"]


async def test_text_is_printed_once_though_the_connection_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "RETRIES_S", (0.0,))

    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("Once "))

    async def second(client: Client) -> None:
        await client.hello()
        await client.hear("resume")
        await client.events(1, STARTED, delta("Once "), delta("upon."), DONE)

    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(first, second) as gateway:
        await a_talk(gateway, out).run("Hi", typed=-1)
    assert out.getvalue() == "Once upon.\n[stop]\n"


async def test_an_answer_that_is_gone_is_shown_as_it_was_stored(tmp_path: Path) -> None:
    async def script(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("One"), {"type": "emotion", "value": "sad"})
        stored = {"message_id": "m2", "content": "One, two", "emotion": "happy"}
        fault = {"code": "not_resumable", "message": "Gone.", "retryable": False, "run_id": "r1"}
        await client.say(type="error", stored=stored, **fault)

    path = tmp_path / "run.jsonl"
    code, printed = await chat(script, recorder=Recorder(path, clock=lambda: 0.0))
    assert printed == "One\n[as it was stored:]\nOne, two\n[emotion: happy, stop]\n"
    assert code == 0
    assert not path.exists(), "what is missing was not recorded"


async def test_an_answer_that_begins_anew_says_so_and_is_recorded_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client_module, "RETRIES_S", (0.0,))
    sad = {"type": "emotion", "value": "sad"}

    async def first(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("Once "))
        await client.events(3, delta("upon"), sad, volatile=True)

    async def second(client: Client) -> None:
        await client.hello()
        await client.hear("resume")
        await client.events(3, {**DONE, "reason": "interrupted"})

    out, path = io.StringIO(), tmp_path / "run.jsonl"
    recorder = Recorder(path, clock=lambda: 0.0)
    async with asyncio.timeout(5), fake_gateway(first, second) as gateway:
        await a_talk(gateway, out, recorder=recorder).run("Hi", typed=-1)
    assert out.getvalue() == "Once upon\n[as it was kept:]\nOnce \n[interrupted]\n"
    kinds = [recorded.event.type for recorded in read_recording(path)]
    assert kinds == ["started", "content.delta", "done"]


# What is typed


async def test_every_line_is_a_message_of_one_session() -> None:
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(whole_answer) as gateway:
        typed = typing("one\n", "\n", "  二つ  \r\n", "three")
        code = await a_talk(gateway, out).run("", typed=typed)
        os.close(typed)
    sent = [each for each in gateway.heard if each["type"] == "send"]
    assert [each["content"] for each in sent] == ["one", "二つ", "three"]
    assert [each.get("session_id") for each in sent] == [None, "s1", "s1"]
    assert len({each["id"] for each in sent}) == 3
    assert out.getvalue() == "one\n[stop]\n二つ\n[stop]\nthree\n[stop]\n"
    assert code == 0


async def test_nothing_typed_is_nothing_said() -> None:
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(whole_answer) as gateway:
        typed = typing()
        assert await a_talk(gateway, out).run("", typed=typed) == 0
        os.close(typed)
    assert gateway.kinds() == ["hello"]


async def test_a_session_is_gone_on_with() -> None:
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(whole_answer) as gateway:
        await a_talk(gateway, out, session_id="s9").run("Hi", typed=-1)
    assert gateway.heard[1]["session_id"] == "s9"


async def test_half_a_character_of_the_shell_is_mended() -> None:
    out = io.StringIO()
    async with asyncio.timeout(5), fake_gateway(whole_answer) as gateway:
        await a_talk(gateway, out).run("a\udce3b", typed=-1)
    assert gateway.heard[1]["content"] == "a\ufffdb"


async def lines_of(*pieces: str | bytes) -> list[str]:
    typed = typing(*pieces)
    try:
        async with asyncio.timeout(5):
            return [line async for line in typed_lines(typed)]
    finally:
        os.close(typed)


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (["a\nb\n"], ["a", "b"]),
        (["a\nb"], ["a", "b"]),
        (["\n\n"], ["", ""]),
        (["春\n".encode()[:2], "春\n".encode()[2:]], ["春"]),
        ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
        (["x" * 200_000 + "\n"], ["x" * 200_000]),
        ([], []),
    ],
    ids=["lines", "no last end", "empty", "cut character", "no UTF-8", "long", "nothing"],
)
async def test_lines(typed: list[str | bytes], lines: list[str]) -> None:
    if sum(map(len, typed)) > 60_000:  # more than a pipe holds
        reading, writing = os.pipe()
        feeding = asyncio.create_task(asyncio.to_thread(_feed, writing, typed))
        assert [line async for line in typed_lines(reading)] == lines
        await feeding
        os.close(reading)
    else:
        assert await lines_of(*typed) == lines


def _feed(writing: int, pieces: list[str | bytes]) -> None:
    with os.fdopen(writing, "wb") as file:
        for piece in pieces:
            file.write(piece.encode() if isinstance(piece, str) else piece)


async def test_a_closed_descriptor_is_the_end() -> None:
    async with asyncio.timeout(5):
        assert [line async for line in typed_lines(-1)] == []


# Ctrl-C


def on_text(out: io.StringIO, text: str, then: Callable[[], None]) -> None:
    """Act as soon as that text has been printed."""
    written = out.write

    def write(piece: str) -> int:
        count = written(piece)
        if text in piece:
            asyncio.get_running_loop().call_soon(then)
        return count

    out.write = write  # type: ignore[method-assign] # that is the point


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def cancellable(client: Client) -> None:
    """Answers that go on until they are cancelled."""
    await client.hello()
    while True:
        command = await client.accept()
        await client.events(1, {**STARTED, "id": command["id"]}, delta("Half"))
        cancelled = await client.hear("cancel")
        assert cancelled["id"] == command["id"]
        await client.events(3, {**DONE, "reason": "cancelled"})


async def test_ctrl_c_stops_the_answer_to_a_single_message() -> None:
    out = io.StringIO()
    on_text(out, "Half", ctrl_c)
    async with asyncio.timeout(5), fake_gateway(cancellable) as gateway:
        code = await a_talk(gateway, out).run("Hi", typed=-1)
    assert code == INTERRUPTED
    assert out.getvalue() == "Half\n[cancelled]\n"


async def test_ctrl_c_stops_an_answer_and_the_chat_goes_on() -> None:
    out = io.StringIO()
    on_text(out, "Half", ctrl_c)
    async with asyncio.timeout(5), fake_gateway(cancellable) as gateway:
        typed = typing("one\n", "two\n")
        await a_talk(gateway, out).run("", typed=typed)
        os.close(typed)
    assert gateway.kinds() == ["hello", "send", "cancel", "send", "cancel"]
    assert out.getvalue() == "Half\n[cancelled]\n" * 2


async def test_ctrl_c_between_answers_ends_the_chat_at_once() -> None:
    out = io.StringIO()
    on_text(out, "[stop]", ctrl_c)
    reading, writing = os.pipe()  # somebody who types nothing more
    os.write(writing, b"one\n")
    async with asyncio.timeout(5), fake_gateway(whole_answer) as gateway:
        talking = asyncio.create_task(a_talk(gateway, out).run("", typed=reading))
        await asyncio.wait({talking})
    os.close(writing)
    assert talking.cancelled()


async def test_a_second_ctrl_c_ends_the_chat_though_the_answer_goes_on() -> None:
    async def deaf(client: Client) -> None:
        await client.hello()
        await client.accept()
        await client.events(1, STARTED, delta("Half"))
        await client.hear("cancel")
        await client.ws.wait_closed()

    out = io.StringIO()

    def twice() -> None:
        ctrl_c()
        asyncio.get_running_loop().call_later(0.05, ctrl_c)

    on_text(out, "Half", twice)
    async with asyncio.timeout(5), fake_gateway(deaf) as gateway:
        talking = asyncio.create_task(a_talk(gateway, out).run("Hi", typed=-1))
        await asyncio.wait({talking})
    assert talking.cancelled()


async def test_ctrl_c_is_given_back_afterwards() -> None:
    await chat(whole_answer_once)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def whole_answer_once(client: Client) -> None:
    await client.hello()
    command = await client.accept()
    await client.events(1, {**STARTED, "id": command["id"]}, DONE)


# Recording


async def test_a_run_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder = Recorder(path, clock=iter(range(100)).__next__)
    await chat(answering(STARTED, delta("春"), DONE), recorder=recorder)
    recording = read_recording(path)
    assert [each.event.type for each in recording] == ["started", "content.delta", "done"]
    assert [each.after_s for each in recording] == [0.0, 1.0, 1.0]


def test_a_recording_that_cannot_be_written_is_said_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no" / "such.jsonl"
    nobody = "ws://127.0.0.1:9/v1/ws"
    assert main(["chat", "--url", nobody, "--record", str(path), "Hi"]) == 1
    assert capsys.readouterr().err == f"makoto: {path}: No such file or directory\n"


async def test_a_recording_that_becomes_unwritable(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "run.jsonl"
    path.parent.mkdir()
    recorder = Recorder(path, clock=lambda: 0.0)
    path.parent.rmdir()
    with pytest.raises(CommandFailedError, match=r"run\.jsonl: No such file or directory"):
        await chat(answering(STARTED, DONE), recorder=recorder)


# Who makes its token


def test_no_key_is_made_where_no_gateway_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAKOTO_DATA_DIR", raising=False)
    assert main(["chat", "Hi"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"makoto: {tmp_path.resolve() / 'var'} holds no gateway's signing key")
    assert "MAKOTO_DATA_DIR" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
