"""The head of a chat completion request, as the `openai` SDK builds it.

Why the SDK, and not two lines that put a URL and a key together: with it a request is at a provider
what the SDK's own is, and stays that when the SDK is updated.

- It names itself (``User-Agent``, ``X-Stainless-*``), by which a provider knows its clients.
- It says how Azure is asked: ``/openai/deployments/{name}``, ``api-version``, ``api-key``.
- It adds the header fields of OPENAI_CUSTOM_HEADERS, which gateways before a provider ask for; of its
  environment variables this one still counts.

The price is most of a second to import it, once per process, and about a millisecond per `create`, once
per model: a transport that answers by itself sees the finished request, of which everything but the body
is kept. This module alone imports `openai`: import it lazily, in a thread, and call `build_head` there too.
"""

import httpx2
import openai

from streaming.models.errors import ModelAuthError, ModelBadRequestError
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


def build_head(account: OpenAIAccount | AzureAccount, *, model: str) -> RequestHead:
    """Return the head of every chat completion request to `model`.

    Args:
        account: Where the model is served.
        model: The model's name; on Azure it is ignored, the deployment says it.

    Raises:
        ModelAuthError: The credential is empty, or has characters no header can carry (a line end from
            a file).
        ModelBadRequestError: No request can be made of the other settings.
    """
    key = account.credential
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ModelAuthError("the credential is empty or malformed")
    try:
        request = _rehearse(account, model)
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


def _rehearse(account: OpenAIAccount | AzureAccount, model: str) -> httpx2.Request:
    stage = _Rehearsal()
    with _client(account, httpx2.Client(transport=stage)) as client:
        client.chat.completions.create(model=model, messages=[], stream=True).close()
    return stage.request


def _client(account: OpenAIAccount | AzureAccount, http_client: httpx2.Client) -> openai.OpenAI:
    if isinstance(account, AzureAccount):
        return openai.AzureOpenAI(
            azure_endpoint=account.endpoint,
            azure_deployment=account.deployment,
            api_version=account.api_version,
            api_key=account.credential,
            http_client=http_client,
            max_retries=0,
            timeout=None,
        )
    client = openai.OpenAI(
        api_key=account.credential,
        base_url=account.base_url,
        http_client=http_client,
        max_retries=0,
        timeout=None,
    )
    # The SDK takes them from OPENAI_ORG_ID and OPENAI_PROJECT_ID; the account alone says whose request it is.
    client.organization = client.project = None
    return client
