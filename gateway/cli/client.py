"""A small client of `makoto.v1` for the terminal: one conversation, one answer at a time."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from http import HTTPStatus

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from gateway.cli import transfers
from gateway.cli.failure import CommandFailedError
from gateway.cli.handshake import bearer, reason_of, ticketed
from gateway.cli.reading import Reading
from gateway.cli.transfers import Fields
from gateway.wire.limits import COMMAND_BYTES, MESSAGE_BYTES, SUBPROTOCOL

RETRIES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits before each attempt to open a cut connection again."""

CUTS_MAX = 5
"""How many cuts in a row, without an event between them, are taken for a connection that works."""


class TerminalClient:
    """One connection, opened again when it is cut. Use it as an async context manager.

    Args:
        url: of the socket.
        token: of the user.
        tickets_url: where the token buys a ticket for each connection; `None`: it goes into a header.
    """

    def __init__(self, url: str, token: str, *, tickets_url: str | None = None) -> None:
        self._url = url
        self._token = token
        self._tickets_url = tickets_url
        self._ws: ClientConnection | None = None

    async def __aenter__(self) -> "TerminalClient":
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ws is not None:
            await self._ws.close()

    async def answer(
        self, command_id: str, content: str, session_id: str | None
    ) -> AsyncGenerator[Fields, None]:
        """Send a message and yield the events of its run in order, each exactly once, to the last.

        A message too long for one frame is uploaded first. A cut connection is opened again, the message
        sent again (its id makes that harmless), and the run resumed after the last event that is in its
        log; so it is at a gap, and after a silence. If a server that crashed had shown more than its log
        holds, `{"type": "restarted"}` comes and all events after it anew. If the run cannot be replayed any
        more, `{"type": "replaced", "message": ...}` stands for all of it, before the last event. While the
        server cannot store the message, `{"type": "refused", "message": ...}` comes each time; it is sent
        again for about two minutes, by its id, for it may be stored all the same.

        Raises:
            CommandFailedError: the server refuses, or cannot be reached again.
        """
        loop = asyncio.get_running_loop()
        send: Fields = {"type": "send", "id": command_id, "content": content}
        if session_id is not None:
            send["session_id"] = session_id
        if len(orjson.dumps(send)) > COMMAND_BYTES:
            send["upload_id"] = await self._uploaded(f"{command_id}-text", send.pop("content"))
        reading, cuts = Reading(send), 0
        await self._say(reading.question(loop.time()))
        while True:
            try:
                async with asyncio.timeout_at(reading.ask_at):
                    frame = await self._hear()
            except TimeoutError:
                await self._say(reading.question(loop.time()))
                continue
            if frame is None:
                cuts += 1
                await self._reconnect(cuts)
                await self._say(reading.question(loop.time()))
                continue
            if reading.lacks(frame):
                volatile = frame.get("volatile", False)
                frame = {**await transfers.fetch(self._url, frame), "volatile": volatile}
            for event in reading.take(frame, loop.time()):
                cuts = 0
                yield event
                if event["type"] == "done":
                    return

    async def cancel(self, command_id: str) -> None:
        """Ask to stop the answer to that message."""
        await self._say({"type": "cancel", "id": command_id})

    async def _connect(self) -> None:
        url, headers = self._url, bearer(self._token)
        if self._tickets_url is not None:
            url, headers = await ticketed(url, self._tickets_url, self._token), {}
        try:
            self._ws = await connect(
                url,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item] # a NewType of str
                additional_headers=headers,
                max_size=MESSAGE_BYTES,
                compression=None,
            )
        except InvalidStatus as exc:
            raise CommandFailedError(self._refusal(exc)) from None
        except (OSError, InvalidHandshake, InvalidURI, ValueError) as exc:
            raise CommandFailedError(f"cannot connect to {self._url}: {exc}") from None
        await self._say({"type": "hello", "client": "makoto chat"})
        ready = await self._hear()
        if ready is None or ready["type"] != "ready":
            await self._ws.close()
            why = ready["message"] if ready and ready["type"] == "error" else "no `ready` came"
            raise CommandFailedError(f"{self._url} does not let us in: {why}")

    def _refusal(self, error: InvalidStatus) -> str:
        """Say why the handshake was refused, in the gateway's words if it has any."""
        reason = reason_of(error.response.body)
        if not reason:
            return f"cannot connect to {self._url}: {error}"
        if error.response.status_code != HTTPStatus.UNAUTHORIZED:
            return f"the gateway lets nobody in at {self._url}: {reason}"
        shown = "token" if self._tickets_url is None else "ticket"
        return f"the gateway refuses this {shown}: {reason}"

    async def _uploaded(self, command_id: str, content: str) -> str:
        """Upload a text; return the id that the server knows it by."""
        body = content.encode()
        digest = hashlib.sha256(body).hexdigest()
        upload = {"type": "upload", "id": command_id, "bytes": len(body), "sha256": digest}
        cuts = 0
        await self._say(upload)
        while True:
            frame = await self._hear()
            if frame is None:
                cuts += 1
                await self._reconnect(cuts)
                await self._say(upload)
            elif frame["type"] == "error":
                raise CommandFailedError(frame["message"])
            elif frame["type"] == "upload_ready" and frame["id"] == command_id:
                await transfers.store(self._url, frame, body)
                return str(frame["upload_id"])

    async def _reconnect(self, cuts: int) -> None:
        if cuts > CUTS_MAX:
            raise CommandFailedError(f"the connection to {self._url} is cut again and again")
        for wait in RETRIES_S:
            await asyncio.sleep(wait)
            with suppress(CommandFailedError):
                await self._connect()
                return
        raise CommandFailedError(f"the connection to {self._url} was lost")

    async def _say(self, command: Fields) -> None:
        assert self._ws is not None
        with suppress(ConnectionClosed):  # the next frame is not heard either, and it is sent again
            await self._ws.send(orjson.dumps(command).decode())

    async def _hear(self) -> Fields | None:
        """Return the next frame, or `None` if the connection was cut."""
        assert self._ws is not None
        try:
            frame = orjson.loads(await self._ws.recv())
        except ConnectionClosed:
            return None
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict) or "type" not in frame:
            raise CommandFailedError(f"{self._url} does not speak {SUBPROTOCOL}")
        return frame
