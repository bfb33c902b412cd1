"""An issuer whose keys are asked for, and the time that passes meanwhile."""

import asyncio
from collections.abc import Callable

from gateway.identity.jwks import JwksCache
from tests.gateway.identity.forge import document, jwk

URL = "https://issuer.example/jwks.json"
DAY = 24 * 3600


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A key document that can change, fail, or keep its readers waiting."""

    def __init__(self) -> None:
        self.document = document(jwk("k1"))
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.asked: list[str] = []
        self.cancelled = 0

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.document


async def kid_of(cache: JwksCache, kid: str) -> str | None:
    key = await cache.find(kid)
    return key.kid if key is not None else None


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run that can, until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
