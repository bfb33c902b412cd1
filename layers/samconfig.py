"""What infra/samconfig.toml says of an environment, read as `sam deploy --config-env` reads it.

The layer is built for the Runtime and Architecture that are deployed, and published where the stack is.
"""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
    given = parameters.get("parameter_overrides", [])
    overrides = [given] if isinstance(given, str) else list(given)
    values = _values(overrides)
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
    if environment not in environments:
        raise LayerError(f"infra/samconfig.toml has no {environment}")
    said = environments[environment]
    return {name: value for of in ("global", "deploy") for name, value in _section(said, of)}


def _section(said: Mapping[str, Any], command: str) -> Sequence[tuple[str, Any]]:
    return list(said.get(command, {}).get("parameters", {}).items())


def _values(overrides: Sequence[str]) -> dict[str, str]:
    pairs = [
        word.partition("=")
        for text in overrides
        # A list has one parameter in each text, whose quotes need not be a shell's.
        for word in (shlex.split(text) if len(overrides) == 1 else [text])
    ]
    return {name: value.strip('"') for name, _, value in pairs}
