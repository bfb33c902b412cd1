"""`makoto chat`: talk to a gateway from the terminal, on the same protocol as the page."""

import argparse
import asyncio
import os
import signal
import sys
import time
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import TextIO

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from gateway.bootstrap.local import KEY_FILE
from gateway.cli.client import TerminalClient
from gateway.cli.failure import INTERRUPTED, CommandFailedError, WrongUsageError
from gateway.cli.recording import Recorder
from gateway.cli.token import mint
from gateway.cli.transfers import Fields
from gateway.cli.typed_lines import typed_lines
from gateway.settings import Settings, read_settings
from streaming.surrogates import mend

STANDARD_INPUT = 0
MARKED = ("emotion", "category")
FAILED_REASONS = frozenset({"error", "timeout", "interrupted"})


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "chat",
        help="talk to a gateway from the terminal",
        description="Send MESSAGE, or every line of standard input, and print the answers as they "
        "stream. Ctrl-C stops an answer; between answers it ends the chat.",
    )
    parser.add_argument("message", nargs="*", metavar="MESSAGE", help="one message; then exit")
    parser.add_argument("--url", help="of the socket (ws://MAKOTO_HOST:MAKOTO_PORT/v1/ws)")
    parser.add_argument("--token-file", type=Path, help="file with a token; else one is made")
    parser.add_argument(
        "--tickets", metavar="URL", help="buy a ticket there for each connection, as pages do"
    )
    parser.add_argument("--user", default="demo", help="whom a token is made for (demo)")
    parser.add_argument("--session", help="go on with that session")
    parser.add_argument("--record", type=Path, metavar="FILE", help="save each run's log to FILE")
    parser.set_defaults(carry_out=_chat)


def _chat(asked: argparse.Namespace) -> int:
    if asked.url is not None:
        _check(asked.url)
    settings = read_settings()
    recorder = Recorder(asked.record, clock=time.monotonic) if asked.record else None
    talk = Talk(
        TerminalClient(
            asked.url or _url(settings), _token(asked, settings), tickets_url=asked.tickets
        ),
        session_id=asked.session,
        recorder=recorder,
        out=sys.stdout,
    )
    try:
        return asyncio.run(talk.run(" ".join(asked.message), typed=STANDARD_INPUT))
    except asyncio.CancelledError:
        return INTERRUPTED


def _check(url: str) -> None:
    try:
        parse_uri(url)
    except (InvalidURI, ValueError) as exc:
        raise WrongUsageError(f"--url: {exc}") from None


def _url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"ws://{host}:{settings.port}/v1/ws"


def _token(asked: argparse.Namespace, settings: Settings) -> str:
    if asked.token_file is None:
        if not settings.trusted_issuers():
            _require_key(settings.data_dir)
        return mint(settings, user=asked.user, minutes=60)
    try:
        text: str = asked.token_file.read_text()
    except OSError as exc:
        raise CommandFailedError(f"{asked.token_file}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise CommandFailedError(f"{asked.token_file}: is no text") from None
    return text.strip()


def _require_key(folder: Path) -> None:
    """See to it that a gateway has made its key there: no other gateway accepts the tokens of a new one."""
    try:
        (folder / KEY_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise CommandFailedError(
            f"{folder.resolve()} holds no gateway's signing key to make a token with: "
            "set MAKOTO_DATA_DIR to its data folder, or name a --token-file"
        ) from None
    except OSError:
        return  # whoever loads the key says what is wrong with it


class Talk:
    """One conversation. Its exit code tells how the last answer ended.

    Args:
        client: not connected yet.
        session_id: the session to go on with; a new one begins without it.
        recorder: saves each run.
        out: where the answers are printed.
    """

    def __init__(
        self,
        client: TerminalClient,
        *,
        session_id: str | None,
        recorder: Recorder | None,
        out: TextIO,
    ) -> None:
        self._client = client
        self._session_id = session_id
        self._recorder = recorder
        self._out = out
        self._answering: str | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, message: str, *, typed: int) -> int:
        """Send one message, or those that are typed; return the exit code.

        Takes over SIGINT meanwhile: it stops the answer, or cancels this coroutine between answers.

        Args:
            message: to be sent; empty for those of `typed`.
            typed: file descriptor of the lines to send.
        """
        loop = asyncio.get_running_loop()
        here = asyncio.current_task()
        assert here is not None
        loop.add_signal_handler(signal.SIGINT, self._interrupt, here)
        try:
            async with self._client:
                return await (self._exchange(message) if message else self._exchanges(typed))
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _exchanges(self, typed: int) -> int:
        code, prompt = 0, "> " if os.isatty(typed) else ""
        self._print(prompt)
        async for line in typed_lines(typed):
            if line:
                code = await self._exchange(line)
            self._print(prompt)
        return code

    def _interrupt(self, here: "asyncio.Task[int]") -> None:
        if self._answering is None or self._stopping is not None:
            here.cancel()
        else:
            self._stopping = asyncio.create_task(self._client.cancel(self._answering))

    async def _exchange(self, message: str) -> int:
        self._answering = uuid.uuid4().hex
        try:
            code = await self._show(self._answering, mend(message))
        finally:
            self._answering = None
        stopping, self._stopping = self._stopping, None
        return INTERRUPTED if stopping else code

    async def _show(self, command_id: str, message: str) -> int:
        marks: list[str] = []
        recorder = self._recorder
        stream = self._client.answer(command_id, message, self._session_id)
        async with aclosing(stream) as events:
            async for event in events:
                if recorder is not None and event["type"] == "replaced":
                    recorder.drop()  # some of its events are gone
                    recorder = None
                if recorder is not None:
                    _record(recorder, event)
                self._note(event, marks)
                if event["type"] == "done":
                    why = f": {event['error']['message']}" if "error" in event else ""
                    self._print(f"\n[{', '.join((*marks, event['reason']))}{why}]\n")
                    return 1 if event["reason"] in FAILED_REASONS else 0
        return 1

    def _note(self, event: Fields, marks: list[str]) -> None:
        match event:
            case {"type": "started", "session_id": str(session_id)}:
                self._session_id = session_id
            case {"type": "content.delta", "text": str(text)}:
                self._print(text)
            case {"type": "emotion" | "category" as name, "value": str(value)}:
                marks.append(f"{name}: {value}")
            case {"type": "memory", "value": str(value)}:
                marks.append(f"remembers: {value}")
            case {"type": "refused", "message": str(why)}:
                self._print(f"[sending again: {why}]\n")
            case {"type": "restarted"}:
                marks.clear()
                self._print("\n[as it was kept:]\n")
            case {"type": "replaced", "message": {"content": str(text)} as message}:
                marks[:] = [f"{key}: {message[key]}" for key in MARKED if key in message]
                self._print(f"\n[as it was stored:]\n{text}")

    def _print(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _record(recorder: Recorder, event: Fields) -> None:
    if event["type"] == "restarted":
        recorder.drop()  # all events come again
    elif event["type"] != "refused":
        recorder.add(event)
