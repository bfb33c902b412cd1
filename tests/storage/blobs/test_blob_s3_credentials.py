import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials

from storage.blobs import s3_credentials
from storage.blobs.s3_credentials import SigningCredentials, open_credentials
from storage.errors import StorageUnavailableError
from storage.sigv4 import Credentials

MINUTE = 60.0
URL = 5 * MINUTE


def issued(number: int, *, lasting: float) -> dict[str, str]:
    """What an endpoint of a container or machine answers."""
    expiry = datetime.now(UTC) + timedelta(seconds=lasting)
    return {
        "access_key": f"key-{number}",
        "secret_key": f"hidden-{number}",
        "token": f"token-{number}",
        "expiry_time": expiry.isoformat(),
    }


class Issuer:
    """Stands in for that endpoint and for the SDK's session.

    Attributes:
        answers: what each asking brings; the last one for ever.
        asked: how often it was.
        later: seconds that have passed for whoever holds the credentials.
    """

    def __init__(self, *answers: Callable[[], Awaitable[dict[str, str]]]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.later = 0.0

    def get_component(self, name: str) -> "Issuer":
        assert name == "credential_provider"
        return self

    async def load_credentials(self) -> Any:
        provided = AioRefreshableCredentials.create_from_metadata(
            await self.issue(), refresh_using=self.issue, method="test"
        )
        provided._time_fetcher = lambda: datetime.now(UTC) + timedelta(seconds=self.later)
        return provided

    async def issue(self) -> dict[str, str]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer()


def gives(number: int, *, lasting: float) -> Callable[[], Awaitable[dict[str, str]]]:
    async def answer() -> dict[str, str]:
        return issued(number, lasting=lasting)

    return answer


async def fails() -> dict[str, str]:
    raise OSError("hidden")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_what_is_found_is_given_without_asking_again() -> None:
    issuer = Issuer(gives(1, lasting=60 * MINUTE))
    credentials = await open_credentials(issuer)
    for _ in range(3):
        assert credentials.current(for_s=URL) == Credentials(
            access_key_id="key-1", secret_access_key="hidden-1", session_token="token-1"
        )
    await asyncio.sleep(0)
    assert issuer.asked == 1


async def test_lasting_credentials_last() -> None:
    class Session:
        def get_component(self, _: str) -> "Session":
            return self

        async def load_credentials(self) -> AioCredentials:
            return AioCredentials("key", "hidden")

    credentials = await open_credentials(Session())
    assert credentials.current(for_s=1e9).access_key_id == "key"
    await credentials.aclose()


async def test_they_are_renewed_in_the_background_before_they_expire() -> None:
    issuer = Issuer(gives(1, lasting=60 * MINUTE), gives(2, lasting=300 * MINUTE))
    credentials = await open_credentials(issuer)
    issuer.later = 48 * MINUTE

    assert credentials.current(for_s=URL).access_key_id == "key-1", "nobody waits"
    renewal = credentials._renewal
    assert credentials.current(for_s=URL).access_key_id == "key-1"
    assert credentials._renewal is renewal, "one for both"
    await until(lambda: credentials.current(for_s=URL).access_key_id == "key-2")
    assert issuer.asked == 2


async def test_expired_ones_sign_nothing_and_are_renewed() -> None:
    issuer = Issuer(gives(1, lasting=60 * MINUTE), gives(2, lasting=300 * MINUTE))
    credentials = await open_credentials(issuer)
    issuer.later = 56 * MINUTE
    with pytest.raises(StorageUnavailableError):
        credentials.current(for_s=URL)

    await until(lambda: issuer.asked == 2)
    await asyncio.sleep(0.01)
    assert credentials.current(for_s=URL).access_key_id == "key-2"


async def test_while_they_cannot_be_renewed_the_old_ones_serve_to_their_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiobotocore").setLevel(logging.ERROR)
    issuer = Issuer(gives(1, lasting=60 * MINUTE), fails, fails, gives(4, lasting=300 * MINUTE))
    credentials = await open_credentials(issuer)
    issuer.later = 52 * MINUTE
    for asked in (2, 3, 4):
        assert credentials.current(for_s=URL).access_key_id == "key-1"
        await until(lambda asked=asked: issuer.asked == asked and credentials._renewal is None)

    assert credentials.current(for_s=URL).access_key_id == "key-4"
    ours = [r for r in caplog.records if r.name == s3_credentials.__name__]
    assert [r.getMessage() for r in ours] == ["credentials could not be renewed"] * 2
    assert "hidden" not in caplog.text


async def test_a_provider_that_fails_opens_nothing() -> None:
    with pytest.raises(StorageUnavailableError, match="no credentials: OSError") as raised:
        await open_credentials(Issuer(fails))
    assert raised.value.__context__ is None
    assert "hidden" not in str(raised.value)


async def test_a_provider_that_hangs_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_credentials, "PATIENCE", 0.05)
    with pytest.raises(StorageUnavailableError, match="no credentials: TimeoutError"):
        await open_credentials(Issuer(asyncio.Event().wait))


async def test_closing_ends_a_renewal() -> None:
    issuer = Issuer(gives(1, lasting=60 * MINUTE), asyncio.Event().wait)
    credentials = await open_credentials(issuer)
    issuer.later = 48 * MINUTE
    credentials.current(for_s=URL)
    await until(lambda: issuer.asked == 2)
    async with asyncio.timeout(1):
        await credentials.aclose()
        await credentials.aclose()


def test_the_secret_is_not_shown() -> None:
    taken = Credentials(access_key_id="key", secret_access_key="hidden", session_token="hidden")
    assert "hidden" not in repr(SigningCredentials(object(), taken)) + repr(taken)
