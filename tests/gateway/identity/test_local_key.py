"""The key file: made once, whole, private, and never written over."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.identity import local_key
from gateway.identity.errors import LocalKeyError
from gateway.identity.local_key import load_or_create_key
from tests.gateway.identity.forge import private_key

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: PrivateKey, password: bytes | None = None) -> bytes:
    protection = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signing-key.pem"


def test_a_missing_key_is_made_private_and_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        key = load_or_create_key(path)
    finally:
        os.umask(before)
    assert key.key_size == 2048
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_same_key_is_found_again(path: Path) -> None:
    made = load_or_create_key(path)
    content = path.read_bytes()
    assert load_or_create_key(path).private_numbers() == made.private_numbers()
    assert path.read_bytes() == content


def test_an_own_key_of_the_operator_is_used(path: Path) -> None:
    write(path, pem(private_key()))
    assert load_or_create_key(path).private_numbers() == private_key().private_numbers()


UNUSABLE = {
    "empty": b"",
    "garbage": b"\x00\xff" * 100,
    "cut off": pem(private_key())[:500],
    "a public key": private_key()
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    "with a password": pem(private_key(), b"secret"),
    "an elliptic curve key": pem(ec.generate_private_key(ec.SECP256R1())),
    "an Ed25519 key": pem(ed25519.Ed25519PrivateKey.generate()),
    "an RSA key of 1024 bits": pem(private_key("small", 1024)),
    "followed by 1 MiB": b"x" * 2**20 + pem(private_key()),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_file_that_is_no_key_is_named_in_one_line_and_left_alone(
    path: Path, content: bytes
) -> None:
    write(path, content)
    with pytest.raises(LocalKeyError) as refusal:
        load_or_create_key(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666, 0o660, 0o620])
def test_a_key_that_others_may_touch_is_refused_with_the_cure(path: Path, mode: int) -> None:
    write(path, pem(private_key()), mode)
    with pytest.raises(LocalKeyError, match=r"chmod 600"):
        load_or_create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(LocalKeyError, match="regular"):
        load_or_create_key(path)


def test_a_pipe_in_its_place_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path, 0o600)
    with pytest.raises(LocalKeyError, match="regular"):
        load_or_create_key(path)


def test_a_dangling_link_in_its_place_is_refused_and_left_alone(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")
    with pytest.raises(LocalKeyError):
        load_or_create_key(path)
    assert path.is_symlink()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalKeyError, match="No such file"):
        load_or_create_key(tmp_path / "missing" / "key.pem")


@pytest.mark.parametrize(
    ("verb", "call"), [("make", "tempfile.mkstemp"), ("read", "Path.open"), ("read", "Path.stat")]
)
def test_what_the_system_forbids_is_named_in_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, call: str
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    if verb == "read":
        write(path, pem(private_key()))
    monkeypatch.setattr(f"gateway.identity.local_key.{call}", forbidden)
    with pytest.raises(LocalKeyError, match=f"cannot {verb} the signing key .Permission denied"):
        load_or_create_key(path)


def test_a_write_that_fails_leaves_nothing_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_key.os, "fsync", full)
    with pytest.raises(LocalKeyError, match="No space left"):
        load_or_create_key(path)
    assert list(path.parent.iterdir()) == []


def test_two_that_make_one_at_once_end_up_with_the_same(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(load_or_create_key, [path] * 4))
    assert len({key.private_numbers().d for key in made}) == 1
    assert [p.name for p in path.parent.iterdir()] == [path.name]
