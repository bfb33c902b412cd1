"""What the layer has to be built for: the Runtime and Architecture that samconfig.toml deploys with.

`python layers/built_for.py ENV` prints both as variables of make, `RUNTIME=... ARCHITECTURE=...`.
"""

import shlex
import sys
import tomllib
from pathlib import Path

SAMCONFIG = Path(__file__).parent.parent / "infra" / "samconfig.toml"

SAID = {"Runtime": "RUNTIME", "Architecture": "ARCHITECTURE"}
"""The parameters of the template, and what the layer's Makefile calls them."""


def built_for(config: str, environment: str) -> str:
    """Return what `make deploy` builds the layer for.

    Args:
        config: the text of samconfig.toml.
        environment: as it is named there.

    Raises:
        ValueError: it is not said there; the text is one line.
    """
    environments = tomllib.loads(config)
    if environment not in environments:
        raise ValueError(f"infra/samconfig.toml has no {environment}")
    given = environments[environment]["deploy"]["parameters"].get("parameter_overrides", [])
    pairs = [
        text.partition("=") for text in (shlex.split(given) if isinstance(given, str) else given)
    ]
    values = {name: value.strip('"') for name, _, value in pairs}
    if missing := [name for name in SAID if not values.get(name)]:
        raise ValueError(f"infra/samconfig.toml has no {missing[0]}=... for {environment}")
    return " ".join(f"{variable}={values[name]}" for name, variable in SAID.items())


if __name__ == "__main__":
    try:
        print(built_for(SAMCONFIG.read_text(), sys.argv[1]))  # noqa: T201
    except ValueError as error:
        sys.exit(str(error))
