"""A client of `makoto.v1` that does what PROTOCOL.md asks of one, on a bad day.

It talks turn by turn: sends until it is accepted, resumes what is incomplete, reconnects with jitter. What it
says and hears goes into a history. What happens to its connections is the day's affair.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import aiohttp
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.promises.history import Happening, Heard, Obeyed, Said
from tests.promises.server import Server

SILENCE_S = 3.0
"""PROTOCOL.md says about 15; a short day wants a short patience."""

RESUME_EVERY_S = 0.5
"""PROTOCOL.md says 2."""

RECONNECT_S = (0.1, 0.2, 0.4, 0.8)
PONG_S = 4.0


@dataclass(slots=True)
class View:
    """What a device has of one run.

    Attributes:
        last: the last number it has applied.
        kept: the last one of these that may be resumed from: what is volatile may be in no log.
    """

    last: int = 0
    kept: int = 0
    done: bool = False
    heard_at: float = 0.0
    resumed_at: float = 0.0


@dataclass(slots=True)
class Day:
    """What all devices share.

    Attributes:
        calm: nothing goes wrong any more on the devices' side.
        over: no further turn begins.
    """

    server: Server
    chance: random.Random
    http: aiohttp.ClientSession
    happenings: list[Happening] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    send_ids: dict[str, set[str]] = field(default_factory=dict)
    sessions: dict[str, list[str]] = field(default_factory=dict)
    calm: bool = False
    over: bool = False


class Device:
    """One device of a user: a connection at a time, and what is known of the runs it has asked for.

    Args:
        day: everybody's.
        user: whose it is.
        name: unique, within the day.
        mark: a word for all its messages.
    """

    def __init__(self, day: Day, user: str, name: str, mark: str) -> None:
        self.user = user
        self.name = name
        self.turns = 0
        self._day = day
        self._mark = mark
        self._unaccepted: dict[str, dict[str, Any]] = {}
        self._said_at: dict[str, float] = {}
        self._views: dict[str, View] = {}
        self._run_of: dict[str, str] = {}
        self._cancelling: dict[str, Any] | None = None
        self._connections = 0
        self._sent = 0
        self._abandoned: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether everything it asked for is answered to the end."""
        return not self._unaccepted and all(view.done for view in self._views.values())

    @property
    def waits_for(self) -> str:
        open_runs = {run: view for run, view in self._views.items() if not view.done}
        return f"{self.name}: {list(self._unaccepted)} {open_runs}"

    async def live(self) -> None:
        """Connect, talk, break off, connect again; until it is cancelled."""
        attempt = 0
        try:
            while True:
                try:
                    await self._connection()
                    attempt = 0
                except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                    attempt = min(attempt + 1, len(RECONNECT_S) - 1)
                await asyncio.sleep(self._day.chance.random() * RECONNECT_S[attempt])
        finally:
            for task in tuple(self._abandoned):
                task.cancel()

    async def _connection(self) -> None:
        self._connections += 1
        here = f"{self.name}.{self._connections}"
        async with asyncio.timeout(10):
            ws = await open_socket(
                self._day.server.socket_url,
                additional_headers={"Authorization": f"Bearer {self._day.server.token(self.user)}"},
                compression=None,
                proxy=None,
                max_size=None,
                ping_interval=None,
                close_timeout=0.2,
            )
        link = _Link(self._day, self.user, here, ws)
        hearing = asyncio.create_task(self._hear(link))
        keeping = asyncio.create_task(self._keep_up(link))
        fate = asyncio.create_task(self._fate(link))
        try:
            await asyncio.wait({hearing, keeping, fate}, return_when=asyncio.FIRST_COMPLETED)
            if fate.done() and not fate.cancelled() and fate.result() == "half-open":
                self._abandon(link)
        finally:
            for task in (hearing, keeping, fate):
                task.cancel()
            await asyncio.gather(hearing, keeping, fate, return_exceptions=True)
            if link.ws.transport is not None and not link.abandoned:
                link.ws.transport.abort()
        for task in (hearing, keeping):
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise error

    # What becomes of the connection

    async def _fate(self, link: "_Link") -> str:
        chance, faults = self._day.chance, self._day.faults
        while True:
            await asyncio.sleep(chance.expovariate(1 / 3.0))
            if self._day.calm:
                continue
            kind = chance.choice(("cut", "cut", "half-open", "slow"))
            faults[f"connection: {kind}"] += 1
            if kind == "slow":
                link.slow_until = asyncio.get_running_loop().time() + chance.random()
                continue
            return kind

    def _abandon(self, link: "_Link") -> None:
        """Leave a connection open that nobody reads, as a device does that walks out of range."""
        link.abandoned = True
        link.ws.transport.pause_reading()

        async def forget() -> None:
            try:
                await asyncio.sleep(5.0)
            finally:
                link.ws.transport.abort()

        task = asyncio.create_task(forget())
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    # What it says

    async def _keep_up(self, link: "_Link") -> None:
        loop = asyncio.get_running_loop()
        await link.say({"type": "hello", "client": "promises"})
        for send in self._unaccepted.values():
            await self._send(link, send)
        for run_id, view in self._views.items():
            if not view.done:
                await self._resume(link, run_id, view)
        while True:
            await asyncio.sleep(0.05)
            await self._mend_silence(link, loop.time())
            if link.pinged_at is not None and loop.time() - link.pinged_at > PONG_S:
                raise TimeoutError
            if link.pinged_at is None and loop.time() - link.heard_at > 1.0:
                await link.ping()
            await self._do_something(link)

    async def _mend_silence(self, link: "_Link", now: float) -> None:
        """Ask again for what was not heard of for a while."""
        for run_id, view in tuple(self._views.items()):
            if not view.done and now - max(view.heard_at, view.resumed_at) > SILENCE_S:
                await self._resume(link, run_id, view)
        for send_id, send in tuple(self._unaccepted.items()):
            if now - self._said_at[send_id] > SILENCE_S:
                await self._send(link, send)

    async def _do_something(self, link: "_Link") -> None:
        chance, day = self._day.chance, self._day
        if self.is_idle:
            if not day.over:
                await self._begin_turn(link)
            return
        what = chance.random() if not day.calm else 1.0
        if what < 0.01:
            await self._cancel(link)
        elif what < 0.02 and self._unaccepted:
            await self._send(link, chance.choice(list(self._unaccepted.values())))
        elif what < 0.03 and self._views:
            run_id = chance.choice(list(self._views))
            await link.say({"type": "resume", "run_id": run_id, "after": 0})
        elif what < 0.04 and day.sessions.get(self.user):
            session = chance.choice(day.sessions[self.user])
            await link.say({"type": "subscribe", "session_id": session})
        elif what < 0.05:
            await self._pry(link)

    async def _begin_turn(self, link: "_Link") -> None:
        chance, day = self._day.chance, self._day
        self._sent += 1
        send_id = f"{self.name}-{self._sent}"
        send: dict[str, Any] = {
            "type": "send",
            "id": send_id,
            "content": f"{self._mark} {send_id}",
            "if_busy": chance.choice(("queue", "queue", "reject", "cancel")),
        }
        sessions = day.sessions.get(self.user)
        if sessions and chance.random() < 0.9:
            send["session_id"] = chance.choice(sessions)
        day.send_ids.setdefault(self.user, set()).add(send_id)
        self._unaccepted[send_id] = send
        if chance.random() < 0.03 and not day.calm:  # it overtakes its send
            await link.say({"type": "cancel", "id": send_id})
        await self._send(link, send)
        if chance.random() < 0.1 and not day.calm:
            await self._send(link, send)

    async def _send(self, link: "_Link", send: dict[str, Any]) -> None:
        self._said_at[send["id"]] = asyncio.get_running_loop().time()
        await link.say(send)

    async def _resume(self, link: "_Link", run_id: str, view: View) -> None:
        now = asyncio.get_running_loop().time()
        if now - view.resumed_at < RESUME_EVERY_S and view.resumed_at:
            return
        view.resumed_at, view.last = now, view.kept
        await link.say({"type": "resume", "run_id": run_id, "after": view.kept})

    async def _cancel(self, link: "_Link") -> None:
        live = [run_id for run_id, view in self._views.items() if not view.done]
        if live and link.cancelling is None and link.pinged_at is None:
            link.cancelling = {"type": "cancel", "run_id": live[-1]}
            await link.say(link.cancelling)
            await link.ping()

    async def _pry(self, link: "_Link") -> None:
        """Ask for what is somebody else's."""
        others = [user for user in self._day.sessions if user != self.user]
        if others:
            session = self._day.chance.choice(self._day.sessions[self._day.chance.choice(others)])
            await link.say({"type": "subscribe", "session_id": session})
            await link.say({"type": "history", "id": "pry", "session_id": session})

    # What it hears

    async def _hear(self, link: "_Link") -> None:
        while True:
            frame = await link.hear()
            match frame["type"]:
                case "accepted":
                    self._accepted(frame["id"], frame["run_id"], frame["session_id"])
                case "events":
                    await self._apply(link, frame)
                case "payload":
                    await self._fetch(link, frame)
                case "error":
                    await self._refused(link, frame)

    def _accepted(self, send_id: str, run_id: str, session_id: str) -> None:
        self._run_of[send_id] = run_id
        if self._unaccepted.pop(send_id, None) is not None:
            now = asyncio.get_running_loop().time()
            self._views.setdefault(run_id, View(heard_at=now))
            sessions = self._day.sessions.setdefault(self.user, [])
            if session_id not in sessions:
                sessions.append(session_id)
                del sessions[:-4]

    async def _apply(self, link: "_Link", frame: dict[str, Any]) -> None:
        first = frame["events"][0]
        if first["type"] == "started" and first["id"] in self._unaccepted:
            self._accepted(first["id"], frame["run_id"], first["session_id"])
        view = self._views.get(frame["run_id"])
        if view is None:  # a session that is followed
            return
        view.heard_at = asyncio.get_running_loop().time()
        if frame["first_seq"] > view.last + 1:
            await self._resume(link, frame["run_id"], view)
        elif frame["last_seq"] > view.last:
            view.last = frame["last_seq"]
            if not frame.get("volatile"):
                view.kept = view.last
            if frame["events"][-1]["type"] == "done" and not view.done:
                view.done = True
                self.turns += 1

    async def _fetch(self, link: "_Link", payload: dict[str, Any]) -> None:
        """Put the frame in the place of its payload."""
        url = urljoin(self._day.server.url, payload["url"])
        try:
            async with self._day.http.get(url) as answer:
                body = await answer.read()
                status = str(answer.status)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            status = type(error).__name__
        if status == "200":
            frame = orjson.loads(body)
            if payload.get("volatile"):
                frame["volatile"] = True
            link.note(frame)
            if frame["type"] == "events":
                await self._apply(link, frame)
            elif frame["type"] == "error":  # `not_resumable` with a long text
                await self._refused(link, frame)
            return
        self._day.faults[f"payload not fetched: {status}"] += 1
        link.note(payload)
        view = self._views.get(payload.get("run_id", ""))
        if view is not None and not view.done:
            await self._resume(link, payload["run_id"], view)

    async def _refused(self, link: "_Link", error: dict[str, Any]) -> None:
        send_id, run_id = error.get("id"), error.get("run_id")
        if link.cancelling is not None and run_id == link.cancelling["run_id"]:
            link.cancelling = None
        if error["code"] == "not_resumable" and run_id in self._views:
            self._views[run_id].done = True
            self.turns += 1
        elif send_id in self._unaccepted:
            gives_up = error["code"] == "busy" and not self._day.calm
            if gives_up or not error["retryable"]:
                del self._unaccepted[send_id]


class _Link:
    """One connection, with notes of all that goes over it.

    Attributes:
        cancelling: a cancel that is obeyed once the pong behind it comes.
        slow_until: until when nothing is read.
    """

    def __init__(self, day: Day, user: str, name: str, ws: ClientConnection) -> None:
        self.ws = ws
        self.abandoned = False
        self.slow_until = 0.0
        self.cancelling: dict[str, Any] | None = None
        self.pinged_at: float | None = None
        self.heard_at = asyncio.get_running_loop().time()
        self._day = day
        self._user = user
        self._name = name

    async def say(self, command: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        said = Said(at=now, user=self._user, connection=self._name, command=command)
        self._day.happenings.append(said)
        await self.ws.send(orjson.dumps(command).decode())

    async def ping(self) -> None:
        self.pinged_at = asyncio.get_running_loop().time()
        await self.say({"type": "ping"})

    async def hear(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if (wait := self.slow_until - loop.time()) > 0:
            await asyncio.sleep(wait)
        frame: dict[str, Any] = orjson.loads(await self.ws.recv())
        self.heard_at = loop.time()
        if frame["type"] == "pong":
            self._obeyed()
        elif frame["type"] != "payload":
            self.note(frame)
        return frame

    def note(self, frame: dict[str, Any]) -> None:
        now = asyncio.get_running_loop().time()
        heard = Heard(at=now, user=self._user, connection=self._name, frame=frame)
        self._day.happenings.append(heard)

    def _obeyed(self) -> None:
        self.pinged_at = None
        if self.cancelling is not None:
            now = asyncio.get_running_loop().time()
            obeyed = Obeyed(at=now, user=self._user, connection=self._name, command=self.cancelling)
            self._day.happenings.append(obeyed)
            self.cancelling = None


async def read_back(day: Day, user: str, run_ids: Sequence[str]) -> None:
    """Come last, and hear every run that there is from its first event to its end."""
    async with open_socket(
        day.server.socket_url,
        additional_headers={"Authorization": f"Bearer {day.server.token(user)}"},
        compression=None,
        proxy=None,
        max_size=None,
    ) as ws:
        link = _Link(day, user, f"{user}-last", ws)
        for run_id in run_ids:
            await link.say({"type": "resume", "run_id": run_id, "after": 0})
            async with asyncio.timeout(10):
                while not await _is_last(day, link, await link.hear(), run_id):
                    pass


async def _is_last(day: Day, link: _Link, frame: dict[str, Any], run_id: str) -> bool:
    """Whether this frame is the end of that run, or of all hope for it."""
    if frame["type"] == "payload":
        async with day.http.get(urljoin(day.server.url, frame["url"])) as answer:
            frame = orjson.loads(await answer.read())
        link.note(frame)
    if frame["type"] == "error":
        return bool(frame.get("run_id") == run_id)
    is_its = frame["type"] == "events" and frame["run_id"] == run_id
    return is_its and frame["events"][-1]["type"] == "done"
