"""The head of a chat completion request, as the `openai` SDK builds it.

The SDK knows the URLs, Azure's deployments and API versions, the authentication, organization and
project headers. One `create` costs it about a millisecond, so it is asked once per credential: a
transport that answers by itself sees the finished request, of which everything but the body is kept.
Of its environment variables one still counts, OPENAI_CUSTOM_HEADERS: header fields to add.

This module alone imports `openai`, which takes most of a second: import it lazily, in a thread, and
call `build_head` there too.
"""

import httpx2
import openai

from streaming.models.errors import ModelBadRequestError
from streaming.models.http_head import RequestHead, post_head
from streaming.models.openai_account import AzureAccount, OpenAIAccount

__all__ = ["build_head"]

_OF_ONE_REQUEST = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"host",
        b"x-stainless-retry-count",
    }
)
"""Header fields that the HTTP client or this module sets, or that differ from request to request."""


def build_head(
    account: OpenAIAccount | AzureAccount, *, model: str, credential: str
) -> RequestHead:
    """Return the head of every chat completion request to `model` with this `credential`.

    Args:
        account: Where the model is served.
        model: The model's name; on Azure it is ignored, the deployment says it.
        credential: The key or token to send.

    Raises:
        ModelBadRequestError: No request can be made of these settings.
    """
    try:
        request = _rehearse(account, model, credential)
        fields = [
            (name, value)
            for name, value in request.headers.raw
            if name.lower() not in _OF_ONE_REQUEST
        ]
        fields += [(b"Accept", b"text/event-stream"), (b"Accept-Encoding", b"identity")]
        return post_head(str(request.url), fields)
    except (openai.OpenAIError, httpx2.InvalidURL, ValueError):
        failure = ModelBadRequestError("the account's settings make no request")
    raise failure


class _Rehearsal(httpx2.BaseTransport):
    """Keeps the request it is given and answers with an empty stream. Nothing leaves the process."""

    request: httpx2.Request

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        return httpx2.Response(200, headers={"content-type": "text/event-stream"})


def _rehearse(account: OpenAIAccount | AzureAccount, model: str, credential: str) -> httpx2.Request:
    stage = _Rehearsal()
    with _client(account, credential, httpx2.Client(transport=stage)) as client:
        client.chat.completions.create(model=model, messages=[], stream=True).close()
    return stage.request


def _client(
    account: OpenAIAccount | AzureAccount, credential: str, http_client: httpx2.Client
) -> openai.OpenAI:
    if isinstance(account, AzureAccount):
        return openai.AzureOpenAI(
            azure_endpoint=account.endpoint,
            azure_deployment=account.deployment,
            api_version=account.api_version,
            api_key=None if account.credential_is_token else credential,
            azure_ad_token=credential if account.credential_is_token else None,
            http_client=http_client,
            max_retries=0,
            timeout=None,
        )
    client = openai.OpenAI(
        api_key=credential,
        base_url=account.base_url,
        organization=account.organization,
        project=account.project,
        http_client=http_client,
        max_retries=0,
        timeout=None,
    )
    # The SDK fills what is None from OPENAI_ORG_ID and OPENAI_PROJECT_ID; the account alone decides.
    client.organization = account.organization
    client.project = account.project
    return client
