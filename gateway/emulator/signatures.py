"""Whether a request of an SDK is signed. The signature itself is not verified: nobody has a secret here."""

import re
from typing import Final

from gateway.emulator.http import Request, Response, refusal

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/\d{8}/[\w-]+/(?P<service>[\w-]+)/aws4_request,\s*"
    r"SignedHeaders=[\w;-]+,\s*Signature=[0-9a-f]{64}"
)


def unsigned(request: Request, *, service: str) -> Response | None:
    """Return the refusal of a request that is not signed for a service; `None` if it is.

    A handler that forgets to sign works nowhere, so it does not work here.
    """
    given = request.headers.get("authorization")
    if given is None:
        return refusal(
            403, "MissingAuthenticationTokenException", message="Missing Authentication Token"
        )
    found = _AUTHORIZATION.fullmatch(given)
    if found is None:
        return refusal(403, "IncompleteSignatureException", message="The signature is incomplete.")
    if found["service"] != service:
        text = f"Credential should be scoped to correct service: '{service}'."
        return refusal(403, "InvalidSignatureException", message=text)
    return None
