"""The inside of a worker process: what a Lambda runtime does, in the standard library alone.

Started as a file, `python -P bootstrap.py FD HANDLER ROOT`, so that neither this package nor its
dependencies are in the process of a handler, and it may be another Python (3.11 or newer).

On the socket FD, both ways, a frame is two lengths (big-endian, 32 bits), a JSON head and a body:

    <- {"ready": true}                                    the handler is imported
    <- {"ready": false}                 error             it cannot be; the process ends
    -> {"request_id", "arn", "deadline"}  event           invoke; the deadline is Unix time in seconds
    <- {"ok": true}                     result
    <- {"ok": false}                    error             the process stays

An error is what Lambda's is: `{"errorMessage", "errorType", "requestId", "stackTrace"}`.
"""

import ctypes
import importlib
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from typing import Any, Final

_LENGTHS: Final = Struct("!II")
_PR_SET_PDEATHSIG: Final = 1

Handler = Callable[[Any, "Context"], Any]


class Context:
    """The second argument of every handler; see "Using the Lambda context object" of the developer guide."""

    def __init__(self, *, request_id: str, arn: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]  # noqa: TID251 - as Lambda's does
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]  # noqa: TID251
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]  # noqa: TID251
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]  # noqa: TID251
        self.identity = None
        self.client_context = None
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        """Return in how many milliseconds the process is killed; 0 at least."""
        return max(int((self._deadline - time.time()) * 1000), 0)


class HandlerError(Exception):
    """The handler named on the command line cannot be had.

    Args:
        kind: Lambda's name of the error.
        message: what it says.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Channel:
    """Frames on a blocking socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = connected.makefile("rb")

    def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """Wait for a frame; `None` when the emulator is gone."""
        lengths = self._file.read(_LENGTHS.size)
        if len(lengths) < _LENGTHS.size:
            return None
        of_head, of_body = _LENGTHS.unpack(lengths)
        head, body = self._file.read(of_head), self._file.read(of_body)
        return json.loads(head), body  # noqa: TID251 - the standard library alone

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame, after what was printed."""
        sys.stdout.flush()
        sys.stderr.flush()
        packed = json.dumps(head).encode()
        self._socket.sendall(_LENGTHS.pack(len(packed), len(body)) + packed + body)


class LogLines(logging.Handler):
    """Lambda's handler of the root logger: tab-separated lines on standard output."""

    request_id = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            text = self.format(record)
            line = f"[{record.levelname}]\t{at}.{int(record.msecs):03}Z\t{self.request_id}\t{text}"
            sys.stdout.write(line + "\n")
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)


def find_handler(name: str) -> Handler:
    """Import a handler.

    Args:
        name: `package.module:function` or `package.module.function`.

    Raises:
        HandlerError: there is no such thing. Anything else that importing raises is let through.
    """
    separator = ":" if ":" in name else "."
    module_name, _, function_name = name.rpartition(separator)
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        text = f"Unable to import module '{module_name}': {exc}"
        raise HandlerError("Runtime.ImportModuleError", text) from exc
    except ValueError as exc:
        raise HandlerError("Runtime.MalformedHandlerName", f"Bad handler '{name}': {exc}") from exc
    handler = getattr(module, function_name, None)
    if not callable(handler):
        text = f"Handler '{function_name}' missing on module '{module_name}'"
        raise HandlerError("Runtime.HandlerNotFound", text)
    found: Handler = handler
    return found


def error_body(error: BaseException, *, request_id: str, skip: int = 0) -> bytes:
    """Return what Lambda answers for an exception, and print its trace as Lambda logs it.

    Args:
        error: that was raised.
        request_id: of the invocation; empty for none.
        skip: innermost-last frames of the trace that are this module's.
    """
    kind = error.kind if isinstance(error, HandlerError) else type(error).__name__
    stack = traceback.format_list(traceback.extract_tb(error.__traceback__)[skip:])
    sys.stdout.write(
        f"[ERROR] {kind}: {error}\nTraceback (most recent call last):\n{''.join(stack)}"
    )
    told = {
        "errorMessage": str(error),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": stack,
    }
    return json.dumps(told).encode()


def _plain(value: object) -> object:
    """Return what JSON knows, for numbers as DynamoDB's resource API gives them."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def invoke(handler: Handler, head: dict[str, Any], body: bytes) -> tuple[bool, bytes]:
    """Call the handler; return whether it went well, and its result or the error."""
    request_id = head["request_id"]
    context = Context(request_id=request_id, arn=head["arn"], deadline=head["deadline"])
    try:
        result = handler(json.loads(body), context)  # noqa: TID251
    except Exception as exc:  # noqa: BLE001 - whatever a handler raises is its answer
        return False, error_body(exc, request_id=request_id, skip=1)
    try:
        return True, json.dumps(result, default=_plain).encode()
    except (TypeError, ValueError) as exc:
        problem = HandlerError("Runtime.MarshalError", f"Unable to marshal response: {exc}")
        return False, error_body(problem, request_id=request_id)


def serve(channel: Channel, handler_name: str) -> None:
    """Import the handler, then answer invocations until the emulator is gone."""
    lines = LogLines()
    logging.getLogger().addHandler(lines)
    try:
        handler = find_handler(handler_name)
    except Exception as exc:  # noqa: BLE001 - a module may raise anything
        channel.send({"ready": False}, error_body(exc, request_id="", skip=1))
        return
    channel.send({"ready": True})
    while (frame := channel.receive()) is not None:
        head, body = frame
        lines.request_id = head["request_id"]
        ok, answer = invoke(handler, head, body)
        channel.send({"ok": ok}, answer)


def main(arguments: list[str]) -> None:
    """Run as a worker process."""
    descriptor, handler_name, root = arguments
    parent = os.getppid()
    if (
        sys.platform == "linux"
    ):  # elsewhere a busy worker outlives a killed emulator by its invocation
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
    connected = socket.socket(fileno=int(descriptor))
    connected.set_inheritable(False)
    sys.path.insert(0, root)
    try:
        serve(Channel(connected), handler_name)
    except OSError:  # the emulator is gone
        return


if __name__ == "__main__":
    main(sys.argv[1:])
