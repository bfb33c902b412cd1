"""An issuer whose keys are asked for, a store that keeps them, and the time that passes meanwhile."""

import asyncio
from collections.abc import Callable

from gateway.identity.jwks import JwksCache
from storage.records import KeyDocument
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


class Documents:
    """A store that can be down, or keep its askers waiting."""

    def __init__(self) -> None:
        self.kept: dict[str, KeyDocument] = {}
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.reads = 0
        self.writes = 0

    def hold(self, body: bytes, fetched_at: float) -> None:
        self.kept[URL] = KeyDocument(url=URL, body=body, fetched_at=fetched_at)

    async def get(self, url: str) -> KeyDocument | None:
        self.reads += 1
        await self._pass()
        return self.kept.get(url)

    async def put(self, document: KeyDocument) -> None:
        self.writes += 1
        await self._pass()
        self.kept[document.url] = document

    async def _pass(self) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error


async def kid_of(cache: JwksCache, kid: str) -> str | None:
    key = await cache.find(kid)
    return key.kid if key is not None else None


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run that can, until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
