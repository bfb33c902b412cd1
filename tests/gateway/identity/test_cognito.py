"""Tokens that the user pools of two engines have really signed, against their published keys.

What they cannot show: the place of the keys that follows from the issuer (an engine's is named), a pool
that rotates its keys (they never do; an old document in the store stands for it), and the two
deviations below that are marked as such.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway.bootstrap.identity import make_verifier
from gateway.identity.claims import TokenUse
from gateway.identity.errors import (
    Flaw,
    JwksFetchError,
    KeysUnavailableError,
    TokenExpiredError,
    TokenInvalidError,
)
from gateway.identity.issuers import Issuer
from gateway.identity.jwks import JwksCache
from gateway.identity.jwks_http import fetch_jwks
from gateway.identity.principal import Principal
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from storage.records import KeyDocument
from tests.engines.processes import Engine
from tests.gateway.hosts.local_host import local_host
from tests.gateway.identity.forge import b64, document, jwk
from tests.gateway.identity.jwks_world import Documents
from tests.gateway.identity.user_pools import UserPool, make_user_pool

USES: tuple[TokenUse, ...] = ("access", "id")
OTHER: dict[TokenUse, TokenUse] = {"access": "id", "id": "access"}
HOUR = 3600


@pytest.fixture(scope="session", params=["moto_server", "ministack"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def pools(engine: Engine) -> tuple[UserPool, UserPool]:
    return asyncio.run(two_pools(engine))


@pytest.fixture
def pool(pools: tuple[UserPool, UserPool]) -> UserPool:
    return pools[0]


@pytest.fixture
def stranger(pools: tuple[UserPool, UserPool]) -> UserPool:
    """Another pool of the same engine."""
    return pools[1]


async def two_pools(engine: Engine) -> tuple[UserPool, UserPool]:
    return await make_user_pool(engine, "acme"), await make_user_pool(engine, "evil")


@asynccontextmanager
async def verifier(*issuers: Issuer) -> AsyncIterator[TokenVerifier]:
    made = make_verifier(issuers, clock=time.time)
    yield made
    await made.aclose()


async def identify(token: str, *issuers: Issuer, later: float = 0.0) -> Principal:
    async with verifier(*issuers) as trusting:
        return await trusting.identify(token, now=time.time() + later)


async def flaw_of(token: str, *issuers: Issuer) -> Flaw:
    with pytest.raises(TokenInvalidError) as refused:
        await identify(token, *issuers)
    return refused.value.flaw


def deviates(request: pytest.FixtureRequest, engine: Engine, name: str, reason: str) -> None:
    """Expect the test to fail with that engine, for that reason."""
    if engine.name == name:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


# Accepted


@pytest.mark.parametrize("token_use", USES)
async def test_a_token_of_the_configured_kind_is_its_user(
    pool: UserPool, token_use: TokenUse
) -> None:
    for token in (pool.tokens[token_use], pool.refreshed[token_use]):
        principal = await identify(token, pool.trusted(token_use))
        assert principal.tenant_id == "acme"
        assert principal.user_id == pool.sub
        assert principal.issuer == pool.issuer
        assert HOUR - 120 < principal.token_expires_at - time.time() <= HOUR


async def test_each_pool_speaks_for_its_own_tenant(pool: UserPool, stranger: UserPool) -> None:
    async with verifier(pool.trusted("access"), stranger.trusted("id")) as both:
        mine = await both.identify(pool.tokens["access"], now=time.time())
        theirs = await both.identify(stranger.tokens["id"], now=time.time())
    assert (mine.tenant_id, mine.user_id) == ("acme", pool.sub)
    assert (theirs.tenant_id, theirs.user_id) == ("evil", stranger.sub)


async def test_a_gateway_with_a_list_of_issuers_lets_the_user_in(
    pool: UserPool, stranger: UserPool, tmp_path: Path
) -> None:
    issuers = tuple(one.trusted("access") for one in (stranger, pool))
    async with local_host(tmp_path, issuers=issuers) as host:
        headers = {"Authorization": f"Bearer {pool.tokens['access']}"}
        async with host.client(headers=headers) as client:
            assert (client.ready["tenant_id"], client.ready["user_id"]) == ("acme", pool.sub)
        bought = await host.http("POST", "v1/tickets", headers=headers)
        ticket = orjson.loads(bought.body)["ticket"]
        async with host.client(query=f"?ticket={ticket}") as client:
            assert (client.ready["tenant_id"], client.ready["user_id"]) == ("acme", pool.sub)
        headers = {"Authorization": f"Bearer {pool.tokens['id']}"}
        assert (await host.http("POST", "v1/tickets", headers=headers)).status == 401


# Refused


@pytest.mark.parametrize("token_use", USES)
async def test_the_other_kind_of_token_is_refused(pool: UserPool, token_use: TokenUse) -> None:
    token = pool.tokens[OTHER[token_use]]
    assert await flaw_of(token, pool.trusted(token_use)) == Flaw.TOKEN_USE


@pytest.mark.parametrize("token_use", USES)
async def test_a_token_for_another_client_of_the_pool_is_refused(
    pool: UserPool, token_use: TokenUse
) -> None:
    issuer = pool.trusted(token_use, audience=[pool.other_client_id])
    assert await flaw_of(pool.tokens[token_use], issuer) == Flaw.AUDIENCE


@pytest.mark.parametrize("token_use", USES)
async def test_a_token_of_another_pool_is_refused(
    pool: UserPool, stranger: UserPool, token_use: TokenUse
) -> None:
    assert await flaw_of(stranger.tokens[token_use], pool.trusted(token_use)) == Flaw.ISSUER


async def test_a_token_of_another_pool_cannot_claim_to_be_of_this_one(
    pool: UserPool, stranger: UserPool
) -> None:
    token = changed(stranger.tokens["access"], iss=pool.issuer, client_id=pool.client_id)
    with pytest.raises(TokenInvalidError):
        await identify(token, pool.trusted("access"), stranger.trusted("access"))


async def test_the_keys_of_another_pool_prove_nothing(
    request: pytest.FixtureRequest, engine: Engine, pool: UserPool, stranger: UserPool
) -> None:
    deviates(request, engine, "moto", "all of its pools sign with one key")
    issuer = pool.trusted("access", jwks_url=stranger.jwks_url)
    assert await flaw_of(pool.tokens["access"], issuer) == Flaw.UNKNOWN_KEY


async def test_a_pool_has_a_key_for_each_kind_of_token(
    request: pytest.FixtureRequest, engine: Engine, pool: UserPool
) -> None:
    """As Amazon's do: the keys must not be bound to the first token that is seen."""
    deviates(request, engine, "moto", "both kinds are signed with one key")
    kids = {orjson.loads(decoded(pool.tokens[use], 0))["kid"] for use in USES}
    assert len(kids) == 2


@pytest.mark.parametrize(
    "claims",
    [{"sub": "somebody"}, {"exp": 4_000_000_000}, {"token_use": "id"}, {"client_id": "x"}, {}],
    ids=str,
)
async def test_a_token_that_was_tampered_with_is_refused(
    pool: UserPool, claims: dict[str, object]
) -> None:
    header, payload, signature = changed(pool.tokens["access"], **claims).split(".")
    if not claims:
        signature = ("A" if signature[0] != "A" else "B") + signature[1:]
    issuer = pool.trusted("access")
    assert await flaw_of(f"{header}.{payload}.{signature}", issuer) == Flaw.SIGNATURE


async def test_a_token_expires(pool: UserPool) -> None:
    with pytest.raises(TokenExpiredError):
        await identify(pool.tokens["access"], pool.trusted("access"), later=HOUR + 31)


async def test_a_pool_without_keys_is_no_fault_of_the_caller(
    request: pytest.FixtureRequest, engine: Engine, pool: UserPool
) -> None:
    deviates(request, engine, "moto", "it publishes keys of pools that do not exist")
    nowhere = pool.trusted("access", jwks_url=pool.jwks_url.replace(pool.pool_id, "us-east-1_none"))
    with pytest.raises(KeysUnavailableError):
        await identify(pool.tokens["access"], nowhere)


# Keys that processes share


def with_documents(issuer: Issuer, documents: Documents, fetch: object) -> TokenVerifier:
    cache = JwksCache(
        issuer.jwks_url,
        fetch=fetch,  # type: ignore[arg-type] # a fetch, or none
        clock=time.time,
        documents=documents,
    )
    return TokenVerifier([TrustedIssuer(rules=issuer.rules, keys=cache)])


async def no_fetch(_: str) -> bytes:
    raise JwksFetchError("asked, though the store has the key")


async def test_a_second_process_asks_the_pool_nothing(pool: UserPool) -> None:
    issuer, documents = pool.trusted("access"), Documents()
    for fetch in (fetch_jwks, no_fetch):
        process = with_documents(issuer, documents, fetch)
        principal = await process.identify(pool.tokens["access"], now=time.time())
        assert principal.user_id == pool.sub
        await process.settle()
    assert list(documents.kept) == [pool.jwks_url]


async def test_a_key_that_is_newer_than_the_stored_document_is_found_at_once(
    pool: UserPool,
) -> None:
    issuer, documents = pool.trusted("access"), Documents()
    before = KeyDocument(
        url=issuer.jwks_url, body=document(jwk("rotated away")), fetched_at=time.time() - HOUR
    )
    await documents.put(before)
    process = with_documents(issuer, documents, fetch_jwks)
    principal = await process.identify(pool.tokens["access"], now=time.time())
    assert principal.user_id == pool.sub
    assert documents.kept[issuer.jwks_url].body != before.body


def decoded(token: str, part: int) -> bytes:
    segment = token.split(".")[part]
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def changed(token: str, **claims: object) -> str:
    """Return the token with other claims under the same signature."""
    header, _, signature = token.split(".")
    payload = orjson.dumps({**orjson.loads(decoded(token, 1)), **claims})
    return f"{header}.{b64(payload)}.{signature}" if claims else token
