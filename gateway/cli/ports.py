"""A port as it is typed."""

import argparse

MAX_PORT = 65_535


def port(text: str) -> int:
    """Return the number of a port to listen on; 0 is a free one.

    Raises:
        ArgumentTypeError, ValueError: it is none, as argparse wants it said.
    """
    number = int(text)
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"a port is 0 to {MAX_PORT}, not {number}")
    return number
