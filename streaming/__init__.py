"""From a provider's byte stream to the typed parts of a reply.

Knows nothing of sockets, users or databases. The path of one read::

    bytes -> sse -> tool_calls -> arguments -> parts
"""
