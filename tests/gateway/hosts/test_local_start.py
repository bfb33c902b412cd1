"""Starts that cannot succeed: one line for the operator, exit code 1, nothing overwritten."""

import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.bootstrap.local import KEY_FILE
from gateway.cli import serve
from gateway.cli.main import main
from storage.sqlite.database import prepare
from storage.sqlite.folder import FolderLock
from tests.gateway.hosts.host_process import environment


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this process's logs, and other settings out of the server's."""
    monkeypatch.setattr(serve, "set_up_logs", lambda _: None)
    monkeypatch.setattr("os.environ", environment())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


def failed_start(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Start a server that cannot start; return the line that says why."""
    assert main(["serve", *arguments]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith("makoto: ")
    assert said.count("\n") == 1
    return said.removeprefix("makoto: ").rstrip("\n")


def test_a_port_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = failed_start(capsys, "--port", str(port), "--data-dir", str(folder))
    assert said == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_folder_in_use(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = FolderLock(folder)
    said = failed_start(capsys, "--port", "0", "--data-dir", str(folder))
    assert said.startswith(f"{folder} is in use by ")
    lock.release()


def foreign_file(folder: Path) -> None:
    (folder / "makoto.db").write_bytes(b"not ours" * 1000)


def foreign_database(folder: Path) -> None:
    database = sqlite3.connect(folder / "makoto.db")
    database.execute("CREATE TABLE theirs (x)")
    database.close()


def newer_database(folder: Path) -> None:
    prepare(folder / "makoto.db")
    database = sqlite3.connect(folder / "makoto.db")
    database.execute("PRAGMA user_version = 99")
    database.close()


def unreadable_key(folder: Path) -> None:
    key = folder / KEY_FILE
    key.write_text("not a key")
    key.chmod(0o600)


def public_key(folder: Path) -> None:
    key = folder / KEY_FILE
    key.write_text("a key")
    key.chmod(0o644)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


@pytest.mark.parametrize(
    "spoil",
    [foreign_file, foreign_database, newer_database, unreadable_key, public_key, a_file],
)
def test_data_that_cannot_be_used(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None]
) -> None:
    spoil(folder)
    before = contents(folder)
    said = failed_start(capsys, "--port", "0", "--data-dir", str(folder))
    assert str(folder) in said
    assert before.items() <= contents(folder).items(), "nothing was overwritten"


def contents(folder: Path) -> dict[str, bytes]:
    if folder.is_file():
        return {"": folder.read_bytes()}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"MAKOTO_PROT": "1"}, "MAKOTO_PROT"),
        ({"MAKOTO_PORT": "x"}, "MAKOTO_PORT"),
        ({"MAKOTO_PORT": "65536"}, "MAKOTO_PORT"),
        ({"MAKOTO_ALLOWED_ORIGINS": "https://a.example/"}, "https://a.example/"),
        ({"MAKOTO_ISSUER": "https://issuer.example"}, "MAKOTO_JWKS_URL"),
        ({"MAKOTO_HOST": "192.0.2.1"}, "192.0.2.1"),
        ({"MAKOTO_HOST": "nowhere.invalid"}, "nowhere.invalid"),
        ({"MAKOTO_CHARACTERS": "{"}, "MAKOTO_CHARACTERS"),
        ({"MAKOTO_CHARACTERS": "[]"}, "MAKOTO_CHARACTERS"),
        ({"MAKOTO_REPLY_S": "nan"}, "MAKOTO_REPLY_S"),
        ({"AZURE_OPENAI_ENDPOINT": "https://x.example"}, "AZURE_OPENAI_API_KEY"),
        ({"MAKOTO_TENANT": "a/b"}, "MAKOTO_TENANT"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_setting_that_is_wrong_is_named(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    named: str,
) -> None:
    monkeypatch.setenv("MAKOTO_PORT", "0")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert named in failed_start(capsys, "--data-dir", str(folder))
