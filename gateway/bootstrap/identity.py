"""Who proves tokens, from the list of issuers; the same for every host. Fetches nothing yet."""

from collections.abc import Callable, Iterable

from gateway.identity.issuers import Issuer
from gateway.identity.jwks import JwksCache
from gateway.identity.jwks_http import fetch_jwks
from gateway.identity.verifier import TokenVerifier, TrustedIssuer
from storage.repositories import KeyDocuments


def make_verifier(
    issuers: Iterable[Issuer],
    *,
    clock: Callable[[], float],
    documents: KeyDocuments | None = None,
) -> TokenVerifier:
    """Return a verifier for the current event loop.

    Args:
        issuers: all that are trusted.
        clock: Unix time in seconds.
        documents: where processes share what they have fetched, if there are several.
    """
    return TokenVerifier(
        TrustedIssuer(
            rules=issuer.rules,
            keys=JwksCache(issuer.jwks_url, fetch=fetch_jwks, clock=clock, documents=documents),
        )
        for issuer in issuers
    )
