"""The scenario files: what clients do, and what the model says to whom. CONTRIBUTING.md says how to add one.

A file is TOML: `about` is a sentence, `steps` a list of `[who, verb, details...]`, and the table `model` has
for a user's message what the provider then does (see `provider`). Who acts is a device, a word of your
choice; its user is `aiko` unless it says another as it connects.

    [device, "connects"]                        or with {user = "eve"}
    [device, "is refused", {token = "..."}]     at the handshake
    [device, "says", {type = "send", ...}]      a command, and waits for its answer
    [device, "says at once", [{...}, {...}]]    several, and waits for an answer to each
    [device, "says in parts", {...}]            in frames of 20,000 characters
    [device, "tells", {...}]                    a command without answer; likewise "tells in parts"
    [device, "writes", "{not JSON"]             a frame, and waits for an answer
    [device, "uploads", {id = "u1", text = ""}] asks where to, and puts the text there
    [device, "follows", "c1"]                   the run of a command to its end; to a text with {to = "..."}
    [device, "hears", "notice"]                 a frame of that type that nobody asked for
    [device, "is cut"]                          without a closing handshake
    [device, "closes"]
    [device, "is closed"]                       by the server
    ["model", "goes on", "half"]                what it holds under that name
    ["all", "settle"]                           what was told has been carried out

In commands `"{c1.run_id}"` stands for a field of the last answer to `c1`, `"{q1.items.0.message_id}"` for one
further inside; `"{c1.last}"` for the number of the last event that the device has of its run,
`"{c1.reply_id}"` for what its `started` says; `"{token}"` for a fresh token of the device's user,
`"{token.eve}"` for one of another user. `{repeat = "誠", times = 5000}` is a long text.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A file that was read.

    Attributes:
        expected: where the transcript is kept that every host must give.
    """

    name: str
    about: str
    steps: Sequence[Sequence[Any]]
    model: Mapping[str, Sequence[Any]]

    @property
    def expected(self) -> Path:
        return FOLDER / f"{self.name}.txt"


def read(name: str) -> Scenario:
    """Read a scenario by the name of its file."""
    found = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    scenario = Scenario(name=name, model=found.pop("model", {}), **found)
    for step in scenario.steps:
        assert len(step) >= 2, f"{name}: who does what? {step}"
    return scenario


def names() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def spelled_out(value: Any) -> Any:
    """Return a value with its long texts written out."""
    match value:
        case {"repeat": str(text), "times": int(times)}:
            return text * times
        case dict():
            return {name: spelled_out(each) for name, each in value.items()}
        case list():
            return [spelled_out(each) for each in value]
    return value
