"""Who was verified."""

import re
from dataclasses import dataclass

from storage.records import Owner

USER_ID = re.compile(r"[A-Za-z0-9_.:@=|+-]{1,128}")
"""Form of a user id, the `sub` of a token: UUIDs, mail addresses, `auth0|5f7c...`. It holds no separator of
a storage key (`#`, `/`), which escapes the rest, and nothing that means something to a log or a page.
"""

TENANT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Form of a tenant id, which comes from the configuration only."""

AUTH_GRACE_S = 60.0
"""For how long after its token's expiry a connection is still served."""


def still_holds(auth_expires_at: float, *, now: float) -> bool:
    """Whether an identity that expires then is still good, or has not been over for longer than the grace."""
    return now < auth_expires_at + AUTH_GRACE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified user of a verified tenant.

    Attributes:
        tenant_id: from the configured rules of the issuer, never from a claim, field or host name.
        user_id: the `sub` of the token.
        issuer: the `iss` that vouched for the user.
        token_expires_at: Unix time in seconds from which on the identity is no longer good.
    """

    tenant_id: str
    user_id: str
    issuer: str
    token_expires_at: float

    @property
    def owner(self) -> Owner:
        """The person that this principal's rows belong to."""
        return Owner(tenant_id=self.tenant_id, user_id=self.user_id)
