"""One owner's conversations, in DynamoDB."""

from storage import cursors
from storage.dynamodb.client import ConditionFailedError
from storage.dynamodb.expressions import number, text
from storage.dynamodb.forget import Forgetting
from storage.dynamodb.items import session_of
from storage.dynamodb.keys import OwnerKeys
from storage.dynamodb.paging import page_of
from storage.dynamodb.session_runs import STANDS, stands
from storage.dynamodb.table import DataTable
from storage.dynamodb.tables import SESSIONS_INDEX, SESSIONS_OF, UPDATED_AT
from storage.paging import OpenPage
from storage.records import Owner, Page, Room, Session


class DynamoSessions:
    """`Sessions` of one owner; cheap to make.

    Args:
        owner: of every item that is read or written.
        table: holds them.
        forgetting: of the same owner.
    """

    __slots__ = ("_forgetting", "_keys", "_scope", "_table")

    def __init__(self, owner: Owner, table: DataTable, forgetting: Forgetting) -> None:
        self._scope = ("sessions", owner.tenant_id, owner.user_id)
        self._keys = OwnerKeys(owner)
        self._table = table
        self._forgetting = forgetting

    async def get(self, session_id: str) -> Session | None:
        """Return the session, or `None`."""
        item = await self._table.get(self._keys.session(session_id))
        return session_of(item) if item is not None and stands(item) else None

    async def page(
        self, *, before: str | None, limit: int, room: Room[Session] | None = None
    ) -> Page[Session]:
        """Return one page; see `Sessions.page`.

        It is read from an index, which may miss what happened in this second.
        """
        start = None
        if before is not None:
            updated_at, session_id = cursors.decode(before, (float, str), *self._scope)
            start = {
                **self._keys.session(session_id),
                SESSIONS_OF: text(self._keys.owner),
                UPDATED_AT: number(updated_at),
            }
        indexed = self._table.query(
            f"#{SESSIONS_OF} = :owner",
            {":owner": text(self._keys.owner)},
            index=SESSIONS_INDEX,
            descending=True,
            start=start,
            limit=limit + 1,
        )
        page = OpenPage(limit, room, *self._scope)
        return await page_of(
            indexed, page, session_of, lambda each: (each.updated_at, each.session_id)
        )

    async def rename(self, session_id: str, title: str) -> Session | None:
        """Set the title; see `Sessions.rename`."""
        try:
            item = await self._table.update(
                self._keys.session(session_id),
                "SET #title = :title",
                STANDS,
                {":title": text(title)},
            )
        except ConditionFailedError:
            return None
        return session_of(item)

    async def forget(self, session_id: str, *, now: float) -> bool:
        """Delete the session and all that is in it; see `Sessions.forget` and `storage.dynamodb.forget`."""
        return await self._forgetting.forget(session_id, now=now)
