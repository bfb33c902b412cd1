"""Plays a scenario on a host and writes down what was said and heard.

A device puts the frames of an answer together by the rule of PROTOCOL.md: what it has it drops, and a gap it
does not bear, for on one connection there must be none.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urljoin

import aiohttp
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.hosts.client import Client, Frame, text_of
from tests.gateway.hosts.scenarios.provider import Provider
from tests.gateway.hosts.scenarios.scenario import Scenario, spelled_out
from tests.gateway.hosts.scenarios.stages import Stage
from tests.gateway.hosts.scenarios.transcript import Labels, line, masked, merged

BOUND_S = 40.0
"""For how long anything is waited for: functions start cold, on a busy machine."""

ANSWERS = {
    "hello": {"ready"},
    "ping": {"pong"},
    "auth": {"notice"},
    "send": {"accepted"},
    "regenerate": {"accepted"},
    "resume": {"resumed"},
    "subscribe": {"subscribed"},
    "unsubscribe": {"unsubscribed"},
    "upload": {"upload_ready"},
    **{kind: {"page"} for kind in ("history", "sessions", "session", "memories", "forget")},
}
"""What answers a command, besides `error`."""

PART = 20_000
"""Characters of a frame that is a part of a message."""

REFERENCES = ("id", "run_id", "session_id", "t")
"""Fields by which an answer names its command."""

_REFERENCE = re.compile(r"\{([a-z][\w.:-]*)\}")


async def play(scenario: Scenario, stage: Stage) -> str:
    """Play it and return the transcript."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stage.provider.let_go)
        playing = _Play(scenario, stage, stack)
        try:
            for step in scenario.steps:
                playing.at = step
                async with asyncio.timeout(BOUND_S):
                    await playing.take(*step)
            await playing.end()
        except (AssertionError, TimeoutError, KeyError) as exc:
            exc.add_note(f"{scenario.name}, {type(stage).__name__}: {playing.at}")
            exc.add_note("\n".join(playing.transcript()))
            raise
        return "\n".join([scenario.about, "", *playing.transcript(), ""])


class View:
    """What a device has of a run.

    Attributes:
        events: from the first one on.
        by_payload: whether one of them had to be fetched.
        volatile: whether one of them was not logged.
    """

    def __init__(self) -> None:
        self.events: list[Frame] = []
        self.by_payload = False
        self.volatile = False

    @property
    def is_whole(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] == "done"

    def apply(self, frame: Frame) -> None:
        first, events = frame["first_seq"], frame["events"]
        assert frame["last_seq"] == first + len(events) - 1, "numbers that do not count its events"
        assert first <= len(self.events) + 1, "a gap"
        had = self.events[first - 1 :]
        assert had[: len(events)] == events[: len(had)], "another event under the same number"
        assert not (self.is_whole and len(events) > len(had)), "something follows the end"
        self.events += events[len(had) :]
        self.volatile |= frame.get("volatile", False)


class Device:
    """A device of a user, a connection at a time.

    Attributes:
        name: in the scenario.
        user: whose it is, as the token names it.
        views: what it has of runs, by their ids.
        answers: what it has heard and nobody has asked for yet.
        close_code: of the latest connection, if it is closed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.user = ""
        self.client: Client | None = None
        self.views: dict[str, View] = {}
        self.answers: list[Frame] = []
        self.close_code: int | None = None
        self._followed: set[str] = set()
        self._changed = asyncio.Condition()
        self._hearing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self.client is not None and self.close_code is None

    def use(self, client: Client) -> None:
        """Hear what comes on a new connection."""
        self.client, self.close_code = client, None
        self._followed.clear()
        self._hearing = asyncio.create_task(self._hear(client))

    async def until(self, is_so: Any) -> None:
        """Wait until something of what was heard is so; fail with what went wrong while hearing."""
        async with self._changed:
            while not is_so():
                assert self._hearing is not None
                if self._hearing.done():
                    self._hearing.result()
                    raise AssertionError(f"{self.name}: closed with {self.close_code}")
                await self._changed.wait()

    async def answer_to(self, command: Frame | None) -> Frame:
        """Wait for an answer and take it; `None` stands for a frame that was no command."""
        found: list[Frame] = []

        def is_there() -> bool:
            found[:] = [frame for frame in self.answers if _answers(frame, command)]
            return bool(found)

        await self.until(is_there)
        self.answers.remove(found[0])
        return found[0]

    async def heard_all(self) -> None:
        """Wait for the end of the connection."""
        assert self._hearing is not None
        await self._hearing

    def has_all(self) -> bool:
        """Whether every run that this connection has brought is whole."""
        return all(self.views[run_id].is_whole for run_id in self._followed)

    def view(self, run_id: str) -> View:
        return self.views.setdefault(run_id, View())

    async def _hear(self, client: Client) -> None:
        try:
            while True:
                await self._file(client, await client.next())
        except ConnectionClosed:
            self.close_code = client.ws.close_code
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _file(self, client: Client, frame: Frame) -> None:
        by_payload = frame["type"] == "payload"
        if by_payload:
            volatile = frame.get("volatile", False)
            frame = await client.fetch(frame)
            frame |= {"volatile": True} if volatile else {}
        if frame["type"] == "events":
            self.view(frame["run_id"]).apply(frame)
            self.view(frame["run_id"]).by_payload |= by_payload
            self._followed.add(frame["run_id"])
        else:
            self.answers.append({"by payload": True, **frame} if by_payload else frame)
        async with self._changed:
            self._changed.notify_all()


class _Play:
    """A scenario on its way.

    Attributes:
        at: the step that is being taken.
    """

    def __init__(self, scenario: Scenario, stage: Stage, stack: AsyncExitStack) -> None:
        self.at: object = None
        self._stage = stage
        self._stack = stack
        self._mark = secrets.token_hex(4)  # users are new in each play
        self._provider: Provider = stage.provider
        self._provider.begin(scenario.model)
        self._devices: dict[str, Device] = {}
        self._known: dict[str, Frame] = {}
        self._lines: list[tuple[str, Any]] = []
        self._kept = set(_texts(list(scenario.steps)))

    async def take(self, who: str, verb: str, *details: Any) -> None:
        """Take one step."""
        if (who, verb) == ("model", "goes on"):
            self._provider.go_on(*details)
            self._note(f"model goes on: {details[0]}")
            return
        if (who, verb) == ("all", "settle"):
            await self._stage.settle()
            return
        device = self._devices.setdefault(who, Device(who))
        await getattr(self, "_" + verb.replace(" ", "_"))(device, *details)

    async def end(self) -> None:
        """Hear the rest: what each open connection follows to its end, then what comes unasked."""
        self.at = "the end"
        async with asyncio.timeout(BOUND_S):
            here = [each for each in self._devices.values() if each.is_open]
            for device in here:
                await device.until(device.has_all)
            while any(asked.end == "open" for asked in self._provider.asked):
                await asyncio.sleep(0.01)
            await self._stage.settle()
            for device in here:
                await self._tell(device, _LAST)
                await device.answer_to(_LAST)
        for device in self._devices.values():
            for frame in device.answers:
                self._note(f"{device.name} < unasked", frame)

    def transcript(self) -> list[str]:
        """Return what was noted, the runs and what the model was asked, masked."""
        labels = Labels(self._kept)
        lines = [
            f"{prefix} {line(masked(value, labels))}" if value is not None else prefix
            for prefix, value in self._lines
        ]
        for run_id in labels.known("run"):
            lines += self._run(run_id, labels)
        asked = [
            " ".join(
                [
                    f"  {each.end}:",
                    *(line({role: masked(said, labels)}) for role, said in each.messages),
                ]
            )
            for each in self._provider.asked
        ]
        return [*lines, "", "the model was asked", *sorted(asked)]

    # What devices do

    async def _connects(self, device: Device, how: Mapping[str, str] | None = None) -> None:
        how = how or {}
        device.user = device.user or f"{how.get('user', 'aiko')}-{self._mark}"
        token = how.get("token") or self._stage.token(device.user)
        device.use(await self._stack.enter_async_context(self._stage.connect(token)))
        self._note(f"{device.name} connects")

    async def _is_refused(self, device: Device, how: Mapping[str, str]) -> None:
        try:
            async with self._stage.connect(how["token"]):
                raise AssertionError(f"{device.name} is let in")
        except InvalidStatus as refused:
            self._note(f"{device.name} is refused with {refused.response.status_code}")

    async def _says(self, device: Device, command: Frame) -> None:
        await self._says_at_once(device, [command])

    async def _says_at_once(self, device: Device, commands: Sequence[Frame]) -> None:
        said = [self._resolved(device, command) for command in commands]
        for command, spoken in zip(commands, said, strict=True):
            self._note(f"{device.name} >", command)
            await self._tell(device, spoken)
        answers = [await device.answer_to(command) for command in said]
        for answer in sorted(answers, key=lambda each: line(masked(each, _NAMELESS))):
            self._note(f"{device.name} <", answer)
            self._know(answer)

    async def _says_in_parts(self, device: Device, command: Frame) -> None:
        """Say it in one message of several frames."""
        self._note(f"{device.name} > in parts", command)
        said = self._resolved(device, command)
        await self._write_in_parts(device, said)
        self._note(f"{device.name} <", answer := await device.answer_to(said))
        self._know(answer)

    async def _tells_in_parts(self, device: Device, command: Frame) -> None:
        self._note(f"{device.name} > in parts", command)
        await self._write_in_parts(device, self._resolved(device, command))

    async def _tells(self, device: Device, command: Frame) -> None:
        self._note(f"{device.name} >", command)
        await self._tell(device, self._resolved(device, command))

    async def _writes(self, device: Device, text: Any) -> None:
        assert device.client is not None
        self._note(f"{device.name} > text", text)
        await device.client.ws.send(spelled_out(text))
        self._note(f"{device.name} <", await device.answer_to(None))

    async def _uploads(self, device: Device, what: Mapping[str, Any]) -> None:
        """Ask where to, bring the text there, and note how that went."""
        body = spelled_out(what["text"]).encode()
        digest = hashlib.sha256(body).hexdigest()
        command = {"type": "upload", "id": what["id"], "bytes": len(body), "sha256": digest}
        await self._says(device, command)
        ready = self._known[what["id"]]
        async with aiohttp.ClientSession() as session:
            assert device.client is not None
            url = urljoin(device.client._origin_url, ready["url"])
            if ready["method"] == "POST":
                form = aiohttp.FormData(ready["fields"])
                form.add_field("file", body, filename="upload")
                request = session.post(url, data=form)
            else:
                request = session.put(url, data=body)
            async with request as answer:
                self._note(f"{device.name} uploads: {'done' if answer.ok else 'refused'}")

    async def _follows(
        self, device: Device, command_id: str, how: Mapping[str, str] | None = None
    ) -> None:
        view = device.view(self._known[command_id]["run_id"])
        text = (how or {}).get("to")
        await device.until(lambda: view.is_whole if text is None else text in text_of(view.events))
        self._note(f"{device.name} follows {command_id} to {text or 'its end'}")

    async def _hears(self, device: Device, kind: str) -> None:
        def place() -> int | None:
            found = [at for at, frame in enumerate(device.answers) if frame["type"] == kind]
            return found[0] if found else None

        await device.until(lambda: place() is not None)
        self._note(f"{device.name} <", device.answers.pop(place() or 0))

    async def _is_cut(self, device: Device) -> None:
        assert device.client is not None
        device.client.ws.transport.abort()
        await device.heard_all()
        self._note(f"{device.name} is cut")

    async def _closes(self, device: Device) -> None:
        assert device.client is not None
        await device.client.ws.close()
        await device.heard_all()
        self._note(f"{device.name} closes")

    async def _is_closed(self, device: Device) -> None:
        await device.heard_all()
        self._note(f"{device.name} is closed with {device.close_code}")

    # How

    async def _tell(self, device: Device, command: Frame) -> None:
        assert device.client is not None
        await device.client.say(
            command["type"], **{k: v for k, v in command.items() if k != "type"}
        )

    async def _write_in_parts(self, device: Device, command: Frame) -> None:
        assert device.client is not None
        text = line(command)
        await device.client.ws.send(text[at : at + PART] for at in range(0, len(text), PART))

    def _know(self, answer: Frame) -> None:
        """Keep an answer to be referred to."""
        if "id" in answer and answer["type"] != "error":
            self._known[answer["id"]] = answer

    def _note(self, prefix: str, value: Any = None) -> None:
        self._lines.append((prefix, value))

    def _run(self, run_id: str, labels: Labels) -> list[str]:
        views = {
            name: each.views[run_id] for name, each in self._devices.items() if run_id in each.views
        }
        views = {name: view for name, view in views.items() if view.events}
        if not views:
            return ["", f"{labels.of('run', run_id)} is followed by nobody"]
        longest = max((view.events for view in views.values()), key=len)
        for name, view in views.items():
            assert view.events == longest[: len(view.events)], (
                f"{name} has other events of {run_id}"
            )
        readers = ", ".join(f"{name}{_how_far(view)}" for name, view in sorted(views.items()))
        events = [f"  {line(masked(event, labels))}" for event in merged(longest)]
        return ["", f"{labels.of('run', run_id)}, followed by {readers}", *events]

    def _resolved(self, device: Device, value: Any) -> Any:
        """Return what a scenario says, with what it refers to."""
        value = spelled_out(value)
        match value:
            case dict():
                return {name: self._resolved(device, each) for name, each in value.items()}
            case list():
                return [self._resolved(device, each) for each in value]
            case str() if found := _REFERENCE.fullmatch(value):
                return self._referred(device, *found[1].split("."))
        return value

    def _referred(self, device: Device, name: str, *path: str) -> Any:
        if name == "token":
            return self._stage.token(f"{path[0]}-{self._mark}" if path else device.user)
        found: Any = self._known[name]
        if path[0] in {"last", "reply_id"}:
            events = device.view(found["run_id"]).events
            return len(events) if path[0] == "last" else events[0]["reply_id"]
        for step in path:
            found = found[int(step)] if isinstance(found, list) else found[step]
        return found


class _Nameless(Labels):
    def of(self, kind: str, value: str) -> str:
        return kind


_NAMELESS = _Nameless()

_LAST = {"type": "ping", "t": 0.5}
"""Whatever was posted before has come once this is answered."""


def _answers(frame: Frame, command: Frame | None) -> bool:
    """Return whether a frame answers a command; `None` is something that was none."""
    if command is None:
        return True
    if frame["type"] not in {"error", *ANSWERS.get(command["type"], ())}:
        return False
    if frame["type"] == "error" and any(
        name in frame and name not in command for name in REFERENCES
    ):
        return False
    names = [name for name in REFERENCES if name in frame and name in command]
    return all(bool(frame[name] == command[name]) for name in names)


def _how_far(view: View) -> str:
    said = [] if view.is_whole else ["in part"]
    said += ["by payload"] if view.by_payload else []
    said += ["volatile"] if view.volatile else []
    return f" ({', '.join(said)})" if said else ""


def _texts(value: Any) -> list[str]:
    """Return every text in a scenario."""
    match value:
        case str():
            return [value]
        case dict():
            return [text for each in value.values() for text in _texts(each)]
        case list():
            return [text for each in value for text in _texts(each)]
    return []
