"""What infra/template.yaml expects of the code in the layer: its handlers, and the variables it sets.

A function without its handler cannot start, and one refuses a `MAKOTO_` variable that it does not know. So
a version of the layer fits a stack only if both were made for the same of these.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layers.errors import LayerError

TEMPLATE: Final = Path(__file__).parent.parent / "infra" / "template.yaml"

IN_USE: Final = "CommonLayerArn"
BEFORE: Final = "PreviousLayerArn"
"""Names of the template's parameters for the version in use, and for the one before it."""

_HANDLER: Final = re.compile(
    r"""^ +"?InlineCode"?: *["']?(from\s+[\w.]+\s+import\s+handler)["']?,?$""", re.MULTILINE
)
_VARIABLE: Final = re.compile(r"""^ +"?((?:MAKOTO|OPENAI|AZURE_OPENAI)_\w+)"?:""", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a template and a layer have to agree on.

    Attributes:
        handlers: lines of Python that fetch them.
        variables: names of what the environment of any function has.
    """

    handlers: tuple[str, ...]
    variables: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, the same for the same contract."""
        said = "\n".join((*self.handlers, *self.variables))
        return hashlib.sha256(said.encode()).hexdigest()[:12]


def read_contract(template: str | None = None) -> Contract:
    """Return that of a template.

    Args:
        template: its text, instead of the project's own. It may have been written anew, as YAML or
            indented JSON: the SAM CLI does that before it deploys.

    Raises:
        LayerError: there is none, or it has no handlers.
    """
    text = _read() if template is None else template
    handlers = {" ".join(line.split()) for line in _HANDLER.findall(text)}
    if not handlers:
        raise LayerError("the template has no function that takes its handler from the layer")
    return Contract(
        handlers=tuple(sorted(handlers)), variables=tuple(sorted({*_VARIABLE.findall(text)}))
    )


def _read() -> str:
    try:
        return TEMPLATE.read_text("utf-8")
    except OSError:
        raise LayerError("there is no infra/template.yaml: use a checkout of the project") from None
