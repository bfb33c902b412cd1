"""`reply` as it is deployed: what asks a provider is loaded before the first event, not in it.

Lambda gives a process a whole CPU while it starts, and later its share of one, with somebody waiting.
"""

from gateway.bootstrap.generation import load_provider
from gateway.hosts.aws.reply import handler

__all__ = ["handler"]

load_provider()
