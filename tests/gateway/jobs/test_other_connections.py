"""An owner's other connections, where each process serves one event (`gateway.runs.neighbours`)."""

from dataclasses import replace

import pytest

from gateway.identity.principal import AUTH_GRACE_S
from storage.records import MAX_READERS, Connection
from tests.gateway.jobs.deployment import Deployment
from tests.gateway.runs.fakes import ANNA, BEN, at


async def connect(aws: Deployment, name: str, **fields: object) -> Connection:
    """Let a connection in and have it say `hello`."""
    now = aws.clock()
    known = replace(at(name), owner=ANNA, auth_expires_at=now + 600, expires_at=now + 7_200)
    connection = replace(known, **fields)  # type: ignore[arg-type] # of a connection
    process = aws.process()
    await process.store.connections.save(connection)
    assert connection.owner is not None
    await process.neighbours.register(connection.owner, connection)
    return connection


async def others(aws: Deployment, connection: Connection) -> set[str]:
    return set(await aws.process().neighbours.others(ANNA, connection))


async def test_the_others_of_an_owner_are_known_in_every_process(aws: Deployment) -> None:
    laptop, phone = await connect(aws, "laptop"), await connect(aws, "phone")
    await connect(aws, "ben", owner=BEN)
    await connect(aws, "phone")
    assert await others(aws, laptop) == {"phone"}
    assert await others(aws, phone) == {"laptop"}


async def test_one_that_is_closed_is_forgotten(aws: Deployment) -> None:
    laptop = await connect(aws, "laptop")
    phone = await connect(aws, "phone")
    await aws.process().store.connections.remove("phone")
    assert await others(aws, laptop) == set()
    await aws.process().store.connections.save(phone)  # nothing that looks it up finds it again
    assert await others(aws, laptop) == set()


async def test_one_whose_identity_is_over_is_left_out_until_it_is_renewed(aws: Deployment) -> None:
    laptop = await connect(aws, "laptop")
    over = aws.clock() - AUTH_GRACE_S
    phone = await connect(aws, "phone", auth_expires_at=over)
    assert await others(aws, laptop) == set()
    await aws.process().store.connections.save(replace(phone, auth_expires_at=over + 1))
    assert await others(aws, laptop) == {"phone"}


async def test_of_very_many_the_newest_are_known(aws: Deployment) -> None:
    names = [f"c{number}" for number in range(MAX_READERS + 2)]
    laptop = await connect(aws, "laptop")
    for name in names:
        aws.clock.now += 1
        await connect(aws, name)
    assert await others(aws, laptop) == set(names[-MAX_READERS:])


async def close(aws: Deployment, *connections: Connection) -> None:
    for connection in connections:
        await aws.process().store.connections.remove(connection.connection_id)


@pytest.mark.parametrize(
    ("again", "calls"), [(MAX_READERS, 1), (3 * MAX_READERS, 1), (5 * MAX_READERS, 2)]
)
async def test_one_that_connects_again_and_again_hides_no_other_for_long(
    aws: Deployment, again: int, calls: int
) -> None:
    laptop = await connect(aws, "laptop")
    for number in range(again):
        aws.clock.now += 1
        await close(aws, await connect(aws, f"phone-{number}"))
    phone = await connect(aws, "phone")
    told = [await others(aws, phone) for _ in range(calls)]
    assert told == [set()] * (calls - 1) + [{"laptop"}]
    assert await others(aws, laptop) == {"phone"}
