"""The template on this machine, to talk to: `python -m tests.infra.aws_local`, which is `make aws-local`.

Not a test. Everything is on loopback and forgotten at the end, which is Ctrl-C or SIGTERM.
"""

# ruff: noqa: T201 - it talks to a person

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layers.archive import Archive
from tests.engines.processes import Engine, ministack
from tests.gateway.identity.user_pools import make_user_pool
from tests.infra.deployment import Deployment, build, deploy

MAKOTO = Path(sys.executable).with_name("makoto")
PAGE_PORT = int(os.environ.get("PAGE_PORT", "8766"))
PAGE = f"http://127.0.0.1:{PAGE_PORT}"


def main() -> int:
    """Deploy, say how to talk to it, and wait for the end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # MiniStack hands its own environment to the functions, which take no setting they do not know.
    for name in [name for name in os.environ if name.startswith("MAKOTO_")]:
        del os.environ[name]
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aws-local-")))
            print("Building the layer (half a minute) ...", flush=True)
            built = build()
            engine = stack.enter_context(ministack())
            print("Deploying infra/template.yaml into MiniStack (half a minute) ...", flush=True)
            deployed = asyncio.run(deployment(engine, built))
            stack.enter_context(page_for(deployed, PAGE_PORT))
            token = folder / "token"
            token.touch(mode=0o600)
            token.write_text(deployed.pool.tokens["access"])
            print(greeting(deployed, token), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print("\nStopped; nothing is kept.")
    return 0


async def deployment(engine: Engine, built: Archive) -> Deployment:
    """Deploy for a user pool of the same engine."""
    pool = await make_user_pool(engine, "default")
    return await deploy(engine, built, pool, parameters={"AllowedOrigins": PAGE})


@contextmanager
def page_for(deployed: Deployment, port: int) -> Iterator[None]:
    """Serve the demo page for it."""
    page = subprocess.Popen(
        [
            *(MAKOTO, "page", "--port", str(port), "--gateway", deployed.socket_url),
            *("--tickets", deployed.tickets_url, "--payloads", deployed.engine.url),
        ],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert page.stdout is not None
        page.stdout.readline()  # it says so when it listens
        yield
    finally:
        page.terminate()
        page.communicate(timeout=10)


def greeting(deployed: Deployment, token: Path) -> str:
    """Return what a person needs to know."""
    return f"""
The gateway is up, on functions, tables and a bucket of MiniStack at {deployed.engine.url}

  socket   {deployed.socket_url}
  tickets  {deployed.tickets_url}
  page     {PAGE}/   (asks for a token)
  token    cat {token}   (good for an hour)
  chat     .venv/bin/makoto chat --url {deployed.socket_url} --token-file {token} Hello

The first answer takes some seconds: each function unpacks its layer. Ctrl-C ends it all."""


if __name__ == "__main__":
    sys.exit(main())
