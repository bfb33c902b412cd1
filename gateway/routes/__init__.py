"""The HTTP side, the same for both hosts: page, health, keys, tickets, payloads, demo token."""
