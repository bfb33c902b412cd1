"""What infra/samconfig.toml says of an environment, read as `sam deploy --config-env` reads it.

The layer is built for the Runtime and Architecture that are deployed, and published where the stack is.
"""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from layers.contract import BEFORE, IN_USE
from layers.errors import LayerError

SAMCONFIG: Final = Path(__file__).parent.parent / "infra" / "samconfig.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is deployed to, and with what.

    Attributes:
        stack: its name.
        runtime: as `python3.13`.
        architecture: `arm64` or `x86_64`.
        overrides: of the template's parameters, each as it is written there: `NAME=VALUE`, or several.
        region, profile: if they are said there; else the SDK finds them.
    """

    stack: str
    runtime: str
    architecture: str
    overrides: Sequence[str]
    region: str | None = None
    profile: str | None = None

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return f"{self.stack}-common"


def read_target(environment: str, config: str | None = None) -> Target:
    """Return what is said of an environment.

    Args:
        environment: as it is named there, such as `dev`.
        config: the text of samconfig.toml, instead of the project's own.

    Raises:
        LayerError: something is not said there.
    """
    parameters = _parameters(environment, _read() if config is None else config)
    overrides = _overrides(environment, parameters.get("parameter_overrides", []))
    values = _values(environment, overrides)
    if missing := [name for name in ("Runtime", "Architecture") if not values.get(name)]:
        raise LayerError(f"infra/samconfig.toml has no {missing[0]}=... for {environment}")
    if not (stack := parameters.get("stack_name")):
        raise LayerError(f"infra/samconfig.toml has no stack_name for {environment}")
    return Target(
        stack=stack,
        runtime=values["Runtime"],
        architecture=values["Architecture"],
        overrides=overrides,
        region=parameters.get("region"),
        profile=parameters.get("profile"),
    )


def _read() -> str:
    try:
        return SAMCONFIG.read_text("utf-8")
    except OSError:
        raise LayerError(
            "there is no infra/samconfig.toml: use a checkout of the project"
        ) from None


def _parameters(environment: str, config: str) -> dict[str, Any]:
    """Return those of `deploy`, over those of all commands."""
    try:
        environments = tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise LayerError(f"infra/samconfig.toml: {error}") from None
    if not (said := _table(environments, environment)):
        raise LayerError(f"infra/samconfig.toml has no {environment}")
    return {
        name: value
        for command in ("global", "deploy")
        for name, value in _table(_table(said, command), "parameters").items()
    }


def _table(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = said.get(name)
    return found if isinstance(found, dict) else {}


def _overrides(environment: str, given: Any) -> Sequence[str]:
    """Return the texts that go to SAM's command line, which takes no table."""
    overrides = [given] if isinstance(given, str) else given
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise _unread(environment, "a table or numbers")
    return overrides


def _values(environment: str, overrides: Sequence[str]) -> dict[str, str]:
    try:
        pairs = [
            word.partition("=")
            for text in overrides
            # A list has one parameter in each text, whose quotes need not be a shell's.
            for word in (shlex.split(text) if len(overrides) == 1 else [text])
        ]
    except ValueError as error:
        raise _unread(environment, f"{error}".lower()) from None
    values = {name.strip(): value.strip('"') for name, _, value in pairs}
    for name in values:
        if name.strip("\"'") == "ParameterKey" or name.startswith("file://"):
            raise _unread(environment, name)
        if name in (IN_USE, BEFORE):
            raise LayerError(
                f"infra/samconfig.toml sets {name} for {environment}: leave that to make deploy"
            )
    return values


def _unread(environment: str, what: str) -> LayerError:
    return LayerError(
        f"parameter_overrides of {environment} in infra/samconfig.toml are not read in this form "
        f'({what}): write them as ["NAME=VALUE", ...]'
    )
