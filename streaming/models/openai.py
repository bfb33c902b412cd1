"""Models served by OpenAI, Azure OpenAI, or any server that speaks their protocol.

The `openai` SDK builds the head of the request (`streaming.models.openai_head`), once per
model; a warm turn only serialises its body and sends it over a kept-alive connection. Nothing
of the SDK runs while a reply streams.
"""

import asyncio
from collections.abc import AsyncGenerator

import orjson

from streaming.models.byte_source import ByteSource
from streaming.models.chat_model import DEFAULT_DEADLINES, Deadlines, ModelRequest
from streaming.models.errors import ModelUnavailableError
from streaming.models.http_head import RequestHead
from streaming.models.http_pool import ConnectionPool
from streaming.models.http_source import post
from streaming.models.openai_account import AzureAccount, OpenAIAccount
from streaming.models.reply_stream import stream_reply
from streaming.models.retry import DEFAULT_RETRY, RetryPolicy
from streaming.parts import Part

__all__ = ["AzureAccount", "OpenAIAccount", "OpenAIModel", "request_body"]


class OpenAIModel:
    """A chat model behind the OpenAI chat completions protocol. Implements `ChatModel`.

    Lives on one event loop. Connects at the first request; `aclose` ends it.

    Args:
        name: The model's name as the provider knows it; on Azure, the name of the deployed model.
        account: Where it is served.
        max_output_tokens: Upper bound of a reply in the provider's tokens, reasoning included, 1 or
            more; None leaves it to the provider.
        deadlines: How long one reply may take.
        retry: When a failed request is sent again.
    """

    def __init__(
        self,
        name: str,
        account: OpenAIAccount | AzureAccount,
        *,
        max_output_tokens: int | None = None,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        retry: RetryPolicy = DEFAULT_RETRY,
    ) -> None:
        self.name = name
        self._account = account
        self._max_output_tokens = max_output_tokens
        self._deadlines = deadlines
        self._retry = retry
        self._head: RequestHead | None = None
        self._pool: ConnectionPool | None = None
        self._preparing = asyncio.Lock()
        self._closed = False

    def stream(self, request: ModelRequest) -> AsyncGenerator[list[Part], None]:
        """See `ChatModel.stream`."""
        body = request_body(self.name, request, max_output_tokens=self._max_output_tokens)

        async def open_source() -> ByteSource:
            return await self._post(body)

        return stream_reply(
            open_source,
            function=request.function.name,
            deadlines=self._deadlines,
            retry=self._retry,
        )

    async def warm(self) -> None:
        """Load the SDK and build the request head now, so that the first turn does not wait for it.

        Optional; sends nothing.

        Raises:
            ModelError: No request can be made with the account.
        """
        await self._current_head()

    async def aclose(self) -> None:
        """See `ChatModel.aclose`."""
        self._closed = True
        if self._pool is not None:
            await self._pool.aclose()

    async def _post(self, body: bytes) -> ByteSource:
        head = await self._current_head()
        if self._closed or self._pool is None:
            raise ModelUnavailableError("closed", retryable=False)
        return await post(self._pool, head, body)

    async def _current_head(self) -> RequestHead:
        async with self._preparing:
            if self._head is None:
                # The SDK takes most of a second to load: in a thread, other turns do not notice.
                self._head = await asyncio.to_thread(self._prepare)
                self._pool = ConnectionPool(self._head.origin)
            return self._head

    def _prepare(self) -> RequestHead:
        from streaming.models.openai_head import build_head

        return build_head(self._account, model=self.name)


def request_body(
    model: str, request: ModelRequest, *, max_output_tokens: int | None = None
) -> bytes:
    """Return the JSON body that asks `model` for a streamed call of the reply function.

    Args:
        model: The model's name.
        request: What is asked.
        max_output_tokens: See `OpenAIModel`.
    """
    function = request.function
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": function.name,
                    "description": function.description,
                    "parameters": function.parameters,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": function.name}},
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if max_output_tokens is not None:
        body["max_completion_tokens"] = max_output_tokens
    return orjson.dumps(body, default=dict)  # a schema may be any Mapping
