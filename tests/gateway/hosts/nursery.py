"""A process that begets servers: forks that need not import everything again, and may be killed at will.

Run as `python nursery.py FOLDER`. For each line on its standard input it forks a server on a free port, says
`born PID`, then what the server says, and `ended STATUS` once that is dead.
"""

import os
import sys

from gateway.cli.main import main
from gateway.hosts.local import server

assert server  # what `main` imports when it is asked to serve


def beget(folder: str) -> None:
    child = os.fork()
    if child == 0:
        print(f"born {os.getpid()}", flush=True)  # noqa: T201 - what it is for
        os._exit(main(["serve", "--port", "0", "--data-dir", folder]))
    _, status = os.waitpid(child, 0)
    print(f"ended {status}", flush=True)  # noqa: T201


if __name__ == "__main__":
    for _ in sys.stdin:
        beget(sys.argv[1])
