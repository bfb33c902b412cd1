"""Every scenario gives the same transcript on both hosts, and the one that is kept beside it.

After a change that is meant, `make scenarios` writes those anew where the hosts agree; read the difference
before you commit it.
"""

import asyncio
import difflib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from gateway.account import account
from gateway.turns import conversation, generate, reply
from gateway.wire.answers import MessageItem
from gateway.wire.events import Category
from storage.records import Message
from tests.engines.processes import Engine
from tests.gateway.hosts.aws.functions import Functions, running_functions
from tests.gateway.hosts.scenarios import scenario as scenarios
from tests.gateway.hosts.scenarios.player import play
from tests.gateway.hosts.scenarios.stages import Aws, Local, aws_stage, local_stage

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("scenarios"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Local]:
    async with local_stage(tmp_path_factory.mktemp("local")) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aws(functions: Functions) -> AsyncIterator[Aws]:
    async with aws_stage(functions) as stage:
        yield stage


@pytest.fixture(scope="module")
def functions(
    dynoxide: Engine, moto_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    with running_functions(dynoxide, moto_server, tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.mark.parametrize("name", scenarios.names())
async def test_both_hosts_answer_alike(name: str, local: Local, aws: Aws) -> None:
    scenario = scenarios.read(name)
    async with asyncio.TaskGroup() as both:
        played = [both.create_task(play(scenario, stage)) for stage in (local, aws)]
    here, there = (each.result() for each in played)
    if found := difference(here, there):
        pytest.fail(f"the AWS host (+) differs from the local one (-)\n{found}")
    if os.environ.get("SCENARIOS") == "write":
        scenario.expected.write_text(here)
    if found := difference(scenario.expected.read_text(), here):
        pytest.fail(f"both hosts (+) differ from what is kept (-)\n{found}")


def silent_duplicate(patch: pytest.MonkeyPatch) -> None:
    accepted = conversation._accepted
    patch.setattr(
        conversation, "_accepted", lambda run, *, duplicate: accepted(run, duplicate=False)
    )


def no_memory_in_the_prompt(patch: pytest.MonkeyPatch) -> None:
    build = generate.build_prompt
    patch.setattr(
        generate,
        "build_prompt",
        lambda system, context: build(system, replace(context, memories=())),
    )


def no_emotion(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reply, "Emotion", lambda value: Category(value=value))


def unequal_ids(patch: pytest.MonkeyPatch) -> None:
    message_item = account.message_item

    def item(message: Message) -> MessageItem:
        return message_item(replace(message, run_id=f"{message.run_id}{message.role}"))

    patch.setattr(account, "message_item", item)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("sent-again", silent_duplicate),
        ("characters", no_memory_in_the_prompt),
        ("a-first-chat", no_emotion),
        ("a-first-chat", unequal_ids),
    ],
)
async def test_a_host_that_differs_is_found(
    name: str,
    fault: Callable[[pytest.MonkeyPatch], None],
    local: Local,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = scenarios.read(name)
    fault(monkeypatch)
    assert difference(scenario.expected.read_text(), await play(scenario, local))


def difference(first: str, second: str) -> str:
    """Return the lines in which two transcripts differ, and none if they do not."""
    return "\n".join(
        difflib.unified_diff(first.splitlines(), second.splitlines(), lineterm="", n=1)
    )
