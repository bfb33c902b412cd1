"""What a process keeps between invocations. In a process of its own, since it keeps it to its end."""

import subprocess
import sys

import orjson

SCRIPT = """
import asyncio
from gateway.hosts.aws.warm import Kept, run
from storage import signed_http

assert signed_http._tls.cache_info().currsize == 1  # read while the process starts
attempts = []

async def make():
    attempts.append(asyncio.get_running_loop())
    if len(attempts) == 1:
        raise OSError("not yet")
    return object()

kept = Kept(make)

async def invocation():
    return asyncio.get_running_loop(), await kept.get()

try:
    run(invocation())
except OSError:
    pass
first, second = run(invocation()), run(invocation())
assert first == second
assert len(attempts) == 2
assert attempts[0] is attempts[1] is first[0]
print("well")
"""


def test_a_process_keeps_its_loop_and_what_was_made_on_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "well\n")
    (line,) = done.stderr.splitlines()  # of what it raised before there were settings
    assert orjson.loads(line)["level"] == "error"
    assert orjson.loads(line)["trace"].endswith("OSError: not yet")
