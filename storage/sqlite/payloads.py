"""One owner's blobs, in SQLite: the rows that say which bodies lie where and until when."""

from collections.abc import Callable

from storage.records import Owner, Payload
from storage.sqlite.rows import key_of, payload_of
from storage.sqlite.threads import Reader, Writer

_GET = """
    SELECT * FROM payloads
    WHERE tenant_id = ? AND user_id = ? AND payload_id = ? AND expires_at > ?
"""


class SqlitePayloads:
    """`Payloads` of one owner; cheap to make.

    Args:
        owner: of every row that is read or written.
        reader, writer: the threads of the store.
        clock: Unix time in seconds; decides what has expired but is not purged yet.
    """

    __slots__ = ("_clock", "_key", "_reader", "_writer")

    def __init__(
        self, owner: Owner, reader: Reader, writer: Writer, clock: Callable[[], float]
    ) -> None:
        self._key = key_of(owner)
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def reserve(self, payload: Payload) -> None:
        """Store the row, before its blob is written or its upload is signed."""
        ref = payload.ref
        row = (
            *self._key,
            payload.payload_id,
            payload.kind,
            ref.key,
            ref.bytes,
            ref.sha256,
            payload.created_at,
            payload.expires_at,
        )
        await self._writer.call(
            lambda connection: (
                connection.execute(
                    "INSERT INTO payloads (tenant_id, user_id, payload_id, kind, blob_key, bytes,"
                    " sha256, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).rowcount
            )
        )

    async def get(self, payload_id: str) -> Payload | None:
        """Return the row, or `None` if there is none or it has expired."""
        now = self._clock()
        row = await self._reader.call(
            lambda connection: connection.execute(_GET, (*self._key, payload_id, now)).fetchone()
        )
        return payload_of(row) if row else None
