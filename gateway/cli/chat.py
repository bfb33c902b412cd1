"""`makoto chat`: talk to a gateway from the terminal, on the same protocol as the page."""

import argparse
import asyncio
import sys
import time
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import TextIO

from gateway.cli.client import Fields, TerminalClient
from gateway.cli.failure import CommandFailedError
from gateway.cli.recording import Recorder
from gateway.cli.token import mint
from gateway.settings import read_settings

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
    parser.add_argument("--user", default="demo", help="whom a token is made for (demo)")
    parser.add_argument("--session", help="go on with that session")
    parser.add_argument("--record", type=Path, metavar="FILE", help="save each run's log to FILE")
    parser.set_defaults(carry_out=_chat)


def _chat(asked: argparse.Namespace) -> int:
    settings = read_settings()
    url = asked.url or f"ws://{settings.host}:{settings.port}/v1/ws"
    token = _token(asked)
    recorder = Recorder(asked.record, clock=time.monotonic) if asked.record else None
    talk = _Talk(url, token, session_id=asked.session, recorder=recorder, out=sys.stdout)
    return asyncio.run(talk.run(" ".join(asked.message)))


def _token(asked: argparse.Namespace) -> str:
    if asked.token_file is None:
        return mint(read_settings(), user=asked.user, minutes=60)
    try:
        text: str = asked.token_file.read_text()
    except OSError as exc:
        raise CommandFailedError(f"{asked.token_file}: {exc.strerror}") from None
    return text.strip()


class _Talk:
    """One conversation. Its exit code tells how the last answer ended."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        session_id: str | None,
        recorder: Recorder | None,
        out: TextIO,
    ) -> None:
        self._client = TerminalClient(url, token)
        self._session_id = session_id
        self._recorder = recorder
        self._out = out

    async def run(self, message: str) -> int:
        """Send one message, or those of standard input; return the exit code."""
        async with self._client:
            if message:
                return await self._exchange(message)
            code = 0
            while True:
                if sys.stdin.isatty():
                    self._print("> ")
                line = await asyncio.to_thread(sys.stdin.readline)
                if not line:
                    return code
                if line.strip():
                    code = await self._exchange(line.strip())

    async def _exchange(self, message: str) -> int:
        command_id = uuid.uuid4().hex
        answering = asyncio.create_task(self._show(command_id, message))
        try:
            return await asyncio.shield(answering)
        except asyncio.CancelledError:  # Ctrl-C: stop the answer, keep what came
            await self._client.cancel(command_id)
            await asyncio.wait({answering}, timeout=5)
            answering.cancel()
            raise

    async def _show(self, command_id: str, message: str) -> int:
        marks: list[str] = []
        stream = self._client.answer(command_id, message, self._session_id)
        async with aclosing(stream) as events:
            async for event in events:
                if self._recorder is not None:
                    self._recorder.add(event)
                self._note(event, marks)
                if event["type"] == "done":
                    self._print(f"\n[{', '.join((*marks, event['reason']))}]\n")
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

    def _print(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
