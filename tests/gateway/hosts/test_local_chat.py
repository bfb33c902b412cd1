"""One exchange over a real socket."""

from tests.gateway.hosts.client import text_of
from tests.gateway.hosts.local_host import LocalHost
from tests.gateway.hosts.puppet import Puppet, reply


async def test_an_answer_streams_field_by_field(host: LocalHost, puppet: Puppet) -> None:
    puppet.says(*reply("Hel", "lo", memory="likes tea"))
    async with host.client() as client:
        accepted, events = await client.exchange("Hi")
    print(events)
    assert text_of(events) == "Hello"
