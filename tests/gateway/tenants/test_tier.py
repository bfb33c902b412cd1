"""What a plan allows unless it is told otherwise."""

from gateway.settings import Settings
from gateway.tenants.tier import Tier
from gateway.wire.limits import COMMAND_BYTES


def test_the_standard_tier_is_what_the_settings_say() -> None:
    settings, tier = Settings(), Tier()
    assert (tier.content_bytes, tier.live_runs) == (settings.content_bytes, settings.live_runs)


def test_a_message_may_be_longer_than_a_frame() -> None:
    """Else nobody would need to upload one."""
    assert Tier().content_bytes > COMMAND_BYTES
