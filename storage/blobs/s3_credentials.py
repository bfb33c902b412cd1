"""The credentials that URLs are signed with: at hand without waiting, and never past their time."""

import asyncio
import logging
from typing import Any, Final

from storage.errors import StorageUnavailableError
from storage.sigv4 import Credentials

PATIENCE: Final = 4.5
"""Seconds until a provider that does not answer is given up."""

_RENEW_BEFORE_S: Final = 900.0
"""From how long before their expiry the SDK renews credentials; see its `RefreshableCredentials`."""

log = logging.getLogger(__name__)


class SigningCredentials:
    """What a provider of the SDK last gave, with its age; made by `open_credentials`.

    Lambda hands a function its temporary credentials in the environment, and ends the process before
    they expire. Elsewhere (a container, EC2, a role to assume) they say when they do: they are renewed in
    the background of a use shortly before. Belongs to one event loop.

    Args:
        provided: the SDK's own object; `None` for credentials that last. Nobody else may renew it: what
            was taken from it and what it says
            of its age belong together.
        taken: what it gave.
    """

    def __init__(self, provided: Any, taken: Credentials) -> None:
        self._provided = provided
        self._taken = taken
        self._renewal: asyncio.Task[None] | None = None

    def current(self, *, for_s: float) -> Credentials:
        """Return credentials that are good for that many seconds from now. Costs no network.

        Raises:
            StorageUnavailableError: they expire before, and could not be renewed yet.
        """
        if self._expires_within(_RENEW_BEFORE_S) and self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(), name="renew credentials")
        if self._expires_within(for_s):
            raise StorageUnavailableError("the credentials expire too soon to sign with")
        return self._taken

    async def aclose(self) -> None:
        """End a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait({self._renewal})

    def _expires_within(self, seconds: float) -> bool:
        """Whether they do; credentials that last have no such question."""
        expiring = getattr(self._provided, "refresh_needed", None)
        return expiring is not None and expiring(seconds)

    async def _renew(self) -> None:
        try:
            self._taken = await _take(self._provided)
        except StorageUnavailableError as error:
            log.warning("credentials could not be renewed", extra={"error": str(error)})
        finally:
            self._renewal = None


async def open_credentials(session: Any) -> SigningCredentials:
    """Return the credentials that a session of the SDK finds: environment, files, container, EC2.

    Raises:
        StorageUnavailableError: it finds none, or their provider does not answer.
    """
    resolver = session.get_component("credential_provider")
    provided = await _answered(resolver.load_credentials())
    if provided is None:
        raise StorageUnavailableError("the SDK finds no credentials")
    return SigningCredentials(provided, await _take(provided))


async def _take(provided: Any) -> Credentials:
    frozen = await _answered(provided.get_frozen_credentials())
    return Credentials(
        access_key_id=frozen.access_key,
        secret_access_key=frozen.secret_key,
        session_token=frozen.token,
    )


async def _answered(asking: Any) -> Any:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asking
    except Exception as error:  # noqa: BLE001 - any provider's; its text may quote what it read
        failure = StorageUnavailableError(f"no credentials: {type(error).__name__}")
    raise failure
