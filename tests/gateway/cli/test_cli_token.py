"""`makoto token`: a token that this server accepts, and nobody else's."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.bootstrap.local import local_issuer
from gateway.cli.failure import CommandFailedError
from gateway.cli.main import main
from gateway.cli.token import mint
from gateway.identity.verifier import TokenVerifier
from gateway.settings import Settings


async def owner_of(made: str, settings: Settings) -> tuple[str, str, float]:
    verifier = TokenVerifier([(await local_issuer(settings)).trusted()])
    principal = await verifier.identify(made, now=time.time())
    return principal.tenant_id, principal.user_id, principal.token_expires_at


def test_the_command_prints_a_token_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["token", "--data-dir", str(tmp_path / "new"), "--user", "aiko", "--minutes", "5"]
    assert main(arguments) == 0
    written = capsys.readouterr()
    assert written.err == ""
    assert written.out.count("\n") == 1
    assert written.out.count(".") == 2
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_the_server_of_the_same_folder_accepts_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, tenant="acme")
    made = await asyncio.to_thread(mint, settings, user="aiko", minutes=5)
    tenant, user, expires_at = await owner_of(made, settings)
    assert (tenant, user) == ("acme", "aiko")
    assert time.time() + 290 < expires_at <= time.time() + 300


def test_a_foreign_issuer_mints_its_own_tokens(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        issuer="https://id.example",
        jwks_url="https://id.example/keys",
        audience=("chat",),
    )
    with pytest.raises(CommandFailedError, match=r"tokens come from https://id\.example"):
        mint(settings, user="aiko", minutes=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("user", "minutes"), [("", 5), ("a#b", 5), ("春", 5), ("x", 0), ("x", -1), ("x", 10_000)]
)
def test_what_cannot_be_minted(tmp_path: Path, user: str, minutes: int) -> None:
    with pytest.raises(CommandFailedError):
        mint(Settings(data_dir=tmp_path), user=user, minutes=minutes)
