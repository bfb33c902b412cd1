"""The quotas of API Gateway and Lambda, as far as a client or a handler can run into them.

Sources: "Quotas for configuring and running a WebSocket API in API Gateway", "Lambda quotas" and "How Lambda
handles errors and retries with asynchronous invocation" in the developer guides.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes. The defaults are those of AWS but where it is said.

    Attributes:
        frame_bytes: a larger frame of a client closes its connection with 1009.
        message_bytes: so does a larger message; a larger post is answered 413.
        idle_s: a connection without a message in either direction for so long is closed with 1001.
        lifetime_s: every connection is closed with 1001 after so long.
        integration_s: a client is told after so long that its message timed out; the function runs on.
        unsent_bytes: posts to a client that has not read so much are answered 429. Not documented.
        init_s: a worker process must have imported its handler within this. Lambda has 10 s.
        warm_s: a worker process that was not used for so long is ended. Not documented.
        concurrency: how many invocations of a function may run at a time, unless the function says. An
            account of AWS has 1,000 for all of its functions together, a new one 10.
        payload_bytes: of a synchronous invocation, and of what a function returns.
        event_bytes: of an asynchronous invocation.
        retry_s: pauses before an asynchronous invocation whose function failed is repeated.
        throttled_retry_s: pause before one that was throttled is repeated; doubles up to five minutes.
        close_s: how long a client has for the closing handshake. Not documented.
    """

    frame_bytes: int = 32_768
    message_bytes: int = 131_072
    idle_s: float = 600.0
    lifetime_s: float = 7200.0
    integration_s: float = 29.0
    unsent_bytes: int = 1_048_576
    init_s: float = 60.0
    warm_s: float = 300.0
    concurrency: int = 32
    payload_bytes: int = 6_291_556
    event_bytes: int = 1_048_576
    retry_s: tuple[float, ...] = (60.0, 120.0)
    throttled_retry_s: float = 1.0
    close_s: float = 2.0
