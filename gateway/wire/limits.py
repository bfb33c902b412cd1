"""Sizes of the wire, in UTF-8 bytes of the encoded frame.

Source: "Amazon API Gateway endpoints and quotas", quotas for WebSocket APIs: a frame holds 32 KB, a
message payload 128 KB. The local host enforces the same, so that what works here works there.
"""

SUBPROTOCOL = "makoto.v1"

COMMAND_BYTES = 32_768
"""A command is one frame of at most this size; longer text goes through `upload`."""

MESSAGE_BYTES = 131_072
"""No message of either direction is larger; beyond it the socket closes with 1009."""

FRAME_TARGET_BYTES = 8_192
"""Frames end between events (or page items) at about this size."""

SPILL_ABOVE_BYTES = 10_240
"""A single event or page item above this is stored as a blob and announced by a `payload` frame."""

BAD_FRAMES_IN_A_ROW = 20
"""After so many bad frames without a good one the socket is closed with 4400."""

PAGE_LIMIT_DEFAULT = 20
PAGE_LIMIT_MAX = 100
