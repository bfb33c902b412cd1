"""What a reply is thought to have cost."""

import pytest

from gateway.turns.usage import estimated_tokens, estimated_usage
from storage.records import Usage
from streaming.models.chat_model import ChatMessage


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("春は曙", 3), ("😀", 1)]
)
def test_a_guess_of_tokens(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_all_messages_of_the_prompt_count() -> None:
    prompt = (
        ChatMessage(role="system", content="You are Makoto."),
        ChatMessage(role="user", content="春は?"),
    )
    assert estimated_usage(model="m", prompt=prompt, content="Hello.") == Usage(
        model="m", prompt_tokens=4 + 2, completion_tokens=2, estimated=True
    )
