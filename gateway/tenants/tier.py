"""A tier: the limits of a plan. A deployment has one, from its settings, for all of its tenants."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What one user may ask for.

    Attributes:
        name: shown to the client.
        content_bytes: the longest message, in UTF-8 bytes; what exceeds one frame is uploaded.
        live_runs: how many answers of one user may be queued or under way at a time.
    """

    name: str = "standard"
    content_bytes: int = 262_144
    live_runs: int = 8
