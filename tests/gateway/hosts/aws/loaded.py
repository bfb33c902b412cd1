"""The functions' handlers, answering what their process has loaded by then instead of what they say.

With `_before` behind its name, a function answers what it had loaded before it got its event, which it
leaves alone.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

_DONE = (None, {"batchItemFailures": []})


def __getattr__(name: str) -> Callable[[Any, Any], list[str]]:
    if name.startswith("_"):
        raise AttributeError(name)
    real = importlib.import_module(f"gateway.hosts.aws.{name.removesuffix('_before')}").handler
    at_start = sorted({module.partition(".")[0] for module in sys.modules})

    def before(event: Any, context: Any) -> list[str]:
        return at_start

    def handler(event: Any, context: Any) -> list[str]:
        answer = real(event, context)
        assert answer in _DONE or answer["statusCode"] == 200, answer
        return sorted({module.partition(".")[0] for module in sys.modules})

    return before if name.endswith("_before") else handler
