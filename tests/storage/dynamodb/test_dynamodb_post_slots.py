"""Slots of the post budget: each place for one holder, seen by all."""

import asyncio

from gateway.hosts.aws.post_budget import PLACES
from storage.dynamodb.post_slots import DynamoPostSlots
from tests.engines.fault_proxy import Fault, FaultProxy
from tests.storage.dynamodb.clients import Table


async def test_a_place_is_taken_once_and_everybody_sees_by_whom(table: Table) -> None:
    slots = DynamoPostSlots(table.client, table.name)
    assert await slots.take("50#7", 3, holder="first", expires_at=1e9) == {3: "first"}
    assert await slots.take("50#7", 3, holder="second", expires_at=1e9) == {3: "first"}
    assert await slots.take("50#7", 4, holder="second", expires_at=1e9) == {3: "first", 4: "second"}
    assert await slots.take("50#8", 3, holder="third", expires_at=1e9) == {3: "third"}


async def test_of_many_at_the_same_instant_one_gets_the_place(table: Table) -> None:
    slots = DynamoPostSlots(table.client, table.name)
    names = [f"holder{number}" for number in range(8)]
    seen = await asyncio.gather(
        *(slots.take("w", 0, holder=name, expires_at=1e9) for name in names)
    )
    assert len({view[0] for view in seen}) == 1


async def test_a_window_expires(table: Table) -> None:
    slots = DynamoPostSlots(table.client, table.name)
    await slots.take("w", 0, holder="one", expires_at=1_234.9)
    stored = await table.get({"pk": {"S": "POSTS#w"}, "sk": {"S": "SLOTS"}})
    assert stored is not None
    assert stored["ttl"] == {"N": "1234"}


async def test_a_place_whose_answer_was_lost_is_found_taken_by_oneself(
    faulty_table: Table, proxy: FaultProxy
) -> None:
    slots = DynamoPostSlots(faulty_table.client, faulty_table.name)
    proxy.fail("UpdateItem", Fault.LOSE_REPLY)
    assert await slots.take("w", 5, holder="one", expires_at=1e9) == {5: "one"}
    assert proxy.asked == ["UpdateItem", "UpdateItem"]


async def test_a_full_window_is_one_write_unit(table: Table) -> None:
    """The item stays under 1 KB, with the names and holders that `post_budget` uses."""
    slots = DynamoPostSlots(table.client, table.name)
    for place in range(PLACES):
        await slots.take("9999.5#999999999", place, holder="abcd1234", expires_at=9_999_999_999)
    key = {"pk": {"S": "POSTS#9999.5#999999999"}, "sk": {"S": "SLOTS"}}
    stored = await table.get(key)
    assert stored is not None
    assert len(stored) == PLACES + 3
    assert sum(len(name) + len(*value.values()) for name, value in stored.items()) < 1_000
