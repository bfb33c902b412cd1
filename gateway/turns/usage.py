"""What a reply cost where the provider has not said: one guess for all that end without its count."""

from collections.abc import Sequence

from storage.records import Usage
from streaming.models.chat_model import ChatMessage


def estimated_usage(*, model: str, prompt: Sequence[ChatMessage], content: str) -> Usage:
    """Guess what a reply cost.

    Args:
        model: who was asked.
        prompt: what it was asked.
        content: what there is of the reply.
    """
    return Usage(
        model=model,
        prompt_tokens=sum(estimated_tokens(message.content) for message in prompt),
        completion_tokens=estimated_tokens(content),
        estimated=True,
    )


def estimated_tokens(text: str) -> int:
    """Guess how many tokens a text takes: about one for four bytes of UTF-8.

    Source: "What are tokens and how to count them", OpenAI help center, for English; for Japanese,
    three bytes a character, the guess stays within a factor of two.
    """
    return (len(text.encode()) + 3) // 4
