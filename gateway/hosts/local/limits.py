"""The clocks and counts of the local host, those of API Gateway where it has one.

Source: "Amazon API Gateway endpoints and quotas", quotas for WebSocket APIs: idle 10 minutes, lifetime
2 hours.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Times in seconds.

    Attributes:
        idle_s: a socket without a frame from its client for so long is closed.
        lifetime_s: every socket is closed after so long.
        goaway_s: how long before that its client is told; an eighth of `lifetime_s` if that is less,
            so that no connection is told at its start.
        close_s: a client has so long for the closing handshake before it is cut off.
        head_s: a request's head must arrive within this.
        handshake_s: an upgrade must be answered within this.
        identify_s: a socket without identity must bring one within this.
        sweep_s: how often the clocks are looked at.
        unidentified: how many sockets without identity may be open, and those that are told that their
            user has too much.
        unidentified_per_address: the same for one address.
        sockets: how many sockets may be open, those in the handshake among them.
        sockets_per_user: the same for one user.
        commands_per_s: how many commands a user may give each second, over all of his sockets. A
            handshake and a ticket count as one.
        commands_at_once: how many of them before that counts.
        refusals: a socket is closed when so many more of its commands were refused for that than not.
        set_aside_bytes: how much a user may announce as uploads at once, and again in the time that they
            are kept; and have stored of long answers at once, and again in the time that their URLs are
            good.
        backlog_bytes: unsent bytes above which a reader waits.
    """

    idle_s: float = 600.0
    lifetime_s: float = 7200.0
    goaway_s: float = 60.0
    close_s: float = 5.0
    head_s: float = 10.0
    handshake_s: float = 10.0
    identify_s: float = 10.0
    sweep_s: float = 1.0
    unidentified: int = 256
    unidentified_per_address: int = 8
    sockets: int = 10_000
    sockets_per_user: int = 100
    commands_per_s: float = 50.0
    commands_at_once: int = 200
    refusals: int = 200
    set_aside_bytes: int = 67_108_864
    backlog_bytes: int = 65_536
