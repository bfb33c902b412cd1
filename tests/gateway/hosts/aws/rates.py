"""How often something happened."""

from collections.abc import Sequence


def most_in_a_second(times: Sequence[float]) -> int:
    """Return the most that came within any second.

    Args:
        times: in seconds, in their order.
    """
    first, most = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
