"""What a transcript leaves out is what may differ, and nothing else."""

import pytest

from tests.gateway.hosts.client import Frame
from tests.gateway.hosts.scenarios import scenario as scenarios
from tests.gateway.hosts.scenarios.player import View
from tests.gateway.hosts.scenarios.transcript import Labels, masked, merged


def events(first: int, *texts: str) -> Frame:
    said = [{"type": "content.delta", "text": text} for text in texts]
    last = first + len(texts) - 1
    return {"type": "events", "run_id": "r", "first_seq": first, "last_seq": last, "events": said}


def test_an_id_has_one_name_wherever_it_comes_up() -> None:
    labels = Labels()
    accepted = masked({"run_id": "x", "message_id": "y"}, labels)
    item = masked({"items": [{"message_id": "z", "reply_to": "y", "run_id": "x"}]}, labels)
    assert accepted == {"run_id": "run-1", "message_id": "message-1"}
    assert item == {
        "items": [{"message_id": "message-2", "reply_to": "message-1", "run_id": "run-1"}]
    }


def test_what_the_scenario_has_written_itself_stays() -> None:
    assert masked({"run_id": "nosuchrun", "id": "c1"}, Labels(["nosuchrun"])) == {
        "run_id": "nosuchrun",
        "id": "c1",
    }


def test_only_estimates_of_tokens_are_left_out() -> None:
    told = {"prompt_tokens": 11, "completion_tokens": 7}
    assert masked(told, Labels()) == told
    assert masked({**told, "estimated": True}, Labels())["prompt_tokens"] == "<estimate>"


def test_long_texts_that_differ_anywhere_differ() -> None:
    long = "x" * 5_000
    assert masked(long, Labels()) != masked(long[:-1] + "y", Labels())
    assert len(masked(long, Labels())) < 100


def test_deltas_are_merged_up_to_another_event() -> None:
    delta = {"type": "content.delta", "text": "a"}
    call = {"type": "tool_call.delta", "call": 1, "name": "find", "arguments": "{"}
    rest = {"type": "tool_call.delta", "call": 1, "arguments": "}"}
    other = {"type": "tool_call.delta", "call": 2, "arguments": "{}"}
    assert merged([delta, delta, call, rest, other, delta]) == [
        {"type": "content.delta", "text": "aa"},
        {**call, "arguments": "{}"},
        other,
        delta,
    ]


def test_a_view_drops_what_it_has() -> None:
    view = View()
    for frame in (events(1, "a", "b"), events(2, "b", "c"), events(1, "a")):
        view.apply(frame)
    assert [event["text"] for event in view.events] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (events(3, "c"), "a gap"),
        (events(1, "b"), "another event"),
        ({**events(2, "b"), "last_seq": 3}, "do not count"),
    ],
)
def test_a_view_bears_no_gap_and_no_change(frame: Frame, wrong: str) -> None:
    view = View()
    view.apply(events(1, "a"))
    with pytest.raises(AssertionError, match=wrong):
        view.apply(frame)


def test_a_view_bears_nothing_behind_the_end() -> None:
    view = View()
    view.apply({**events(1, "a"), "events": [{"type": "done"}]})
    with pytest.raises(AssertionError, match="follows the end"):
        view.apply(events(2, "b"))


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_has_a_transcript_to_keep(name: str) -> None:
    scenario = scenarios.read(name)
    assert scenario.expected.read_text().startswith(f"{scenario.about}\n\n")
