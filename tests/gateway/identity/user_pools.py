"""User pools of an engine that stands in for Amazon Cognito, and the tokens that they really sign."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiobotocore.session import get_session

from gateway.identity.claims import TokenUse
from gateway.identity.issuers import Issuer, make_issuer
from tests.engines.processes import Engine

REGION = "us-east-1"
USER = "aiko"
PASSWORD = "Correct-horse-1"
_FLOWS = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPool:
    """One pool with one user, signed in.

    Attributes:
        client_id: of the app client that the tokens are for.
        other_client_id: of another one of the pool.
        sub: the user's.
        tokens: by their use, from one sign-in.
        refreshed: the same, from its refresh token.
    """

    name: str
    engine_url: str
    pool_id: str
    client_id: str
    other_client_id: str
    sub: str
    tokens: dict[TokenUse, str]
    refreshed: dict[TokenUse, str]

    @property
    def issuer(self) -> str:
        return f"https://cognito-idp.{REGION}.amazonaws.com/{self.pool_id}"

    @property
    def jwks_url(self) -> str:
        """Where the engine publishes the keys; the tokens name Amazon's own host all the same."""
        return f"{self.engine_url}/{self.pool_id}/.well-known/jwks.json"

    def trusted(self, token_use: TokenUse, **changed: Any) -> Issuer:
        """Return what an operator would say of it."""
        said = {"audience": [self.client_id], "tenant": self.name, "jwks_url": self.jwks_url}
        return make_issuer(self.issuer, token_use=token_use, **said | changed)


async def make_user_pool(engine: Engine, name: str) -> UserPool:
    """Create a pool and sign its user in, as an app would with Amazon's SDK."""
    async with _client(engine) as cognito:
        pool_id = (await cognito.create_user_pool(PoolName=name))["UserPool"]["Id"]
        client_id, other_client_id = [
            (
                await cognito.create_user_pool_client(
                    UserPoolId=pool_id, ClientName=app, ExplicitAuthFlows=_FLOWS
                )
            )["UserPoolClient"]["ClientId"]
            for app in ("web", "other")
        ]
        who = {"UserPoolId": pool_id, "Username": USER}
        await cognito.admin_create_user(**who, MessageAction="SUPPRESS")
        await cognito.admin_set_user_password(**who, Password=PASSWORD, Permanent=True)
        (sub,) = (
            attribute["Value"]
            for attribute in (await cognito.admin_get_user(**who))["UserAttributes"]
            if attribute["Name"] == "sub"
        )
        signed_in = await cognito.initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": USER, "PASSWORD": PASSWORD},
        )
        again = await cognito.initiate_auth(
            ClientId=client_id,
            AuthFlow="REFRESH_TOKEN_AUTH",
            AuthParameters={"REFRESH_TOKEN": signed_in["AuthenticationResult"]["RefreshToken"]},
        )
        return UserPool(
            name=name,
            engine_url=engine.url,
            pool_id=pool_id,
            client_id=client_id,
            other_client_id=other_client_id,
            sub=sub,
            tokens=_tokens(signed_in),
            refreshed=_tokens(again),
        )


def _tokens(answer: dict[str, Any]) -> dict[TokenUse, str]:
    result = answer["AuthenticationResult"]
    return {"access": result["AccessToken"], "id": result["IdToken"]}


@asynccontextmanager
async def _client(engine: Engine) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "cognito-idp",
        region_name=REGION,
        endpoint_url=engine.url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ) as client:
        yield client
