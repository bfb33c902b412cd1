"""The server's own signing key: one file in its data folder. Blocking; keep it off the event loop."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.identity.errors import LocalKeyError
from gateway.identity.keys import MAX_RSA_BITS, MIN_RSA_BITS

_NEW_KEY_BITS: Final = 2048
_PUBLIC_EXPONENT: Final = 65537
_MAX_FILE_BYTES: Final = 64 * 1024


def load_or_create_key(path: Path) -> rsa.RSAPrivateKey:
    """Read the key, or make it where there is none.

    A file that is there is never written to: whoever put it there can say what is wrong with it. A new
    one appears whole and with mode 0600 or not at all, and of two processes that make one at the same
    moment both end up with the same.

    Blocking: making a 2048-bit key takes 50 to 500 ms of CPU. Call it in a thread (`asyncio.to_thread`)
    or before the event loop starts.

    Args:
        path: of the key file, in a folder that exists.

    Raises:
        LocalKeyError: the file cannot be read, is no such key, or others may read it; or the folder
            cannot be written. The operator's to mend; its text is one line.
    """
    with contextlib.suppress(FileNotFoundError):
        return _load(path)
    _create(path)
    try:
        return _load(path)
    except FileNotFoundError as exc:
        raise LocalKeyError(f"{path}: the signing key went away while it was being made") from exc


def _load(path: Path) -> rsa.RSAPrivateKey:
    """Read the key; `FileNotFoundError` passes through."""
    try:
        key = serialization.load_pem_private_key(_read_private(path), password=None)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise LocalKeyError(f"{path}: cannot read the signing key ({exc.strerror})") from exc
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise LocalKeyError(f"{path}: not an unencrypted PEM private key; left as it is") from exc
    if not isinstance(key, rsa.RSAPrivateKey) or not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise LocalKeyError(f"{path}: not an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    return key


def _read_private(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise LocalKeyError(f"{path}: the signing key is not a regular file")
    if os.name == "posix" and status.st_mode & 0o077:
        raise LocalKeyError(f"{path}: others may read the signing key; run: chmod 600 {path}")
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES)


def _create(path: Path) -> None:
    pem = rsa.generate_private_key(_PUBLIC_EXPONENT, _NEW_KEY_BITS).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        _publish(pem, path)
    except OSError as exc:
        raise LocalKeyError(f"{path}: cannot make the signing key ({exc.strerror})") from exc


def _publish(content: bytes, path: Path) -> None:
    """Write a file that is there whole or not at all, and never in the place of another."""
    # mkstemp opens with O_EXCL and mode 0600; a hard link, unlike a rename, fails where a file exists.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            Path(path).hardlink_to(name)
    finally:
        Path(name).unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
