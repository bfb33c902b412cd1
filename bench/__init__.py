"""Measurements of the parser and the gateway beside others: `python -m bench`."""
