"""What docs/self-hosting.md tells operators to do, done."""

import asyncio
import getpass
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from gateway.hosts.local.server import CLOSE_S, INTERRUPT_S
from gateway.settings import Settings
from storage.sqlite.threads import _CLOSE_WITHIN as DATABASE_CLOSE_S
from tests.ops.chat import Frame, answer_to, hear, hello, say
from tests.ops.examples import ROOT, example, with_changes
from tests.ops.gateway_process import MAKOTO, GatewayProcess, running_gateway

PAGE = "docs/self-hosting.md"

OF_AWS = (
    "gateway/emulator",
    "gateway/hosts/aws",
    "gateway/jobs",
    "gateway/runs/beat.py",
    "gateway/runs/identities.py",
    "storage/blobs/s3",
    "storage/dynamodb",
)
"""Where the local host never gets to."""


def test_the_systemd_unit_is_valid(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    unit = tmp_path / "makoto.service"
    installed = {"/opt/makoto/.venv/bin/makoto": str(MAKOTO), "User=makoto": "User=daemon"}
    unit.write_text(with_changes(example(PAGE, "systemd"), installed))
    checked = subprocess.run(
        [verify, "verify", str(unit)], capture_output=True, text=True, check=False, timeout=30
    )
    about_ours = [line for line in checked.stderr.splitlines() if "makoto" in line]
    assert (checked.returncode, about_ours) == (0, []), checked.stderr


def set_by_the_unit(name: str) -> int:
    found = re.search(rf"^{name}=(\d+)$", example(PAGE, "systemd"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_systemd_waits_for_every_step_of_the_end() -> None:
    http_requests_s = 5
    steps_s = 2 * INTERRUPT_S + 2 * CLOSE_S + http_requests_s + 2 * DATABASE_CLOSE_S
    assert set_by_the_unit("TimeoutStopSec") >= Settings().shutdown_s + steps_s


def test_the_unit_allows_a_descriptor_for_each_socket_and_each_answer() -> None:
    assert set_by_the_unit("LimitNOFILE") > 2 * Settings().sockets


def test_every_log_line_of_this_host_is_explained_and_no_other() -> None:
    table = (ROOT / PAGE).read_text("utf-8").partition("\n## Logs and health\n")[2]
    rows = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    told = {message for row in rows for message in re.findall(r"`([^`]+)`", row)} - {"message"}
    logged = set(log_messages())
    assert told == logged | {"key refresh failed"}  # which is logged by a name


def log_messages() -> Iterator[str]:
    """Yield what the modules of the local host say at `info` and above."""
    for path in sorted((*ROOT.glob("gateway/**/*.py"), *ROOT.glob("storage/**/*.py"))):
        if not path.relative_to(ROOT).as_posix().startswith(OF_AWS):
            yield from re.findall(
                r"\b_?log(?:\.info|\.warning|\.error|\.exception|_once)\("
                r"\s*(?:logging\.[A-Z]+, )?\"(.+?)\"",
                path.read_text("utf-8"),
            )


def run_example(name: str, changes: dict[str, str]) -> None:
    script = with_changes(example(PAGE, name), changes)
    subprocess.run(["sh", "-eu", "-c", script], check=True, timeout=30)


async def test_a_backup_made_while_it_runs_can_be_restored(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    places = {"/var/lib/makoto": str(data), "/var/backups/makoto": str(copy)}
    with running_gateway(data) as gateway:
        token = gateway.token()
        async with socket_to(gateway, token) as ws:
            await hello(ws)
            finished = await answer_to(ws, id="first", content="echo 一番目")
            await say(ws, type="send", id="second", content="slow long")
            begun = await hear(ws, "accepted")
            await hear(ws, "events")
            await asyncio.to_thread(
                run_example, "backup", {**places, "/opt/makoto/.venv/bin/python": sys.executable}
            )
            await say(ws, type="send", id="third", content="echo not in the copy")
    assert {path.name for path in copy.iterdir()} == {
        "makoto.db",
        "blob-urls.key",
        "signing-key.pem",
    }
    assert not any(path.stat().st_mode & 0o077 for path in copy.iterdir())

    run_example("restore", {**places, "chown -R makoto:": f"chown -R {getpass.getuser()}:"})
    with running_gateway(data) as restored:
        async with socket_to(restored, token) as ws:  # the restored key vouches for it
            await hello(ws)
            first, second = [await history(ws, of) for of in (finished[0], begun)]
            await answer_to(ws, id="more", session_id=begun["session_id"], content="echo on")
            sessions = await page(ws, type="sessions")

    assert [message["content"] for message in first] == ["echo 一番目", "一番目"]
    assert [message["content"] for message in second] == ["slow long"]
    assert len(sessions) == 2


def socket_to(gateway: GatewayProcess, token: str) -> connect:
    return connect(
        f"ws://127.0.0.1:{gateway.port}/v1/ws",
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
    )


async def history(ws: object, accepted: Frame) -> list[Frame]:
    """Return the messages of the session of an accepted message, oldest first."""
    found = await page(ws, type="history", session_id=accepted["session_id"])
    return sorted(found, key=lambda message: message["created_at"])


async def page(ws: object, **command: str) -> list[Frame]:
    await say(ws, id="page", **command)
    frame = await hear(ws, "page")
    assert "next" not in frame
    return frame["items"]
