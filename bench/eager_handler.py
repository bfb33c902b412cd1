"""The yardstick of cold starts: a handler as tutorials write one, with everything imported at its top.

Its first call does what a `connect` does: check a token, put an item.
"""

import asyncio
import os
from typing import Any

import openai
import pydantic
from aiobotocore.session import get_session
from jose import jwt

_runner = asyncio.Runner()
_model = openai.AsyncOpenAI(api_key="sk-bench")


class _Event(pydantic.BaseModel):
    token: str


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    asked = _Event(**event)
    claims = jwt.get_unverified_claims(asked.token)
    _runner.run(_put(claims["sub"]))
    return {"statusCode": 200}


async def _put(user_id: str) -> None:
    async with get_session().create_client("dynamodb") as client:
        await client.put_item(
            TableName=os.environ["MAKOTO_DOOR_TABLE"],
            Item={"pk": {"S": f"EAGER#{user_id}"}, "sk": {"S": "EAGER"}},
        )
