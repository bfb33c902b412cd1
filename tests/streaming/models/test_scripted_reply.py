import pytest

from streaming.models.chat_model import ChatMessage, Function, ModelRequest
from streaming.models.scripted_reply import (
    ScriptedReply,
    enum_of,
    last_user_message,
    scripted_reply,
)
from streaming.models.scripted_words import read_wishes

PARAMETERS = {
    "type": "object",
    "properties": {
        "content": {"type": "string"},
        "emotion": {"enum": ["sad", "neutral", "happy"], "type": "string"},
        "category": {"$ref": "#/$defs/Category"},
        "memory": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "$defs": {"Category": {"enum": ["billing", "chat"], "type": "string"}},
}


def request(*said: str, system: str = "Be kind.") -> ModelRequest:
    """A prompt in which user and assistant take turns."""
    roles = ("user", "assistant")
    turns = [ChatMessage(role=roles[at % 2], content=text) for at, text in enumerate(said)]
    return ModelRequest(
        messages=(ChatMessage(role="system", content=system), *turns),
        function=Function(name="reply", description="Reply.", parameters=PARAMETERS),
    )


def reply_to(*said: str, system: str = "Be kind.") -> ScriptedReply:
    asked = request(*said, system=system)
    return scripted_reply(asked, read_wishes(last_user_message(asked)))


@pytest.mark.parametrize(
    ("message", "honest"),
    [
        ("hello", "I don't think"),
        ("long", "I don't think"),
        ("こんにちは", "考えているわけではありません"),
        ("markdown 日本語", "考えているわけではありません"),
    ],
)
def test_it_says_what_it_is_in_the_language_of_the_message(message: str, honest: str) -> None:
    assert honest in reply_to(message).content


def test_the_same_prompt_gives_the_same_reply() -> None:
    assert reply_to("long emoji") == reply_to("long emoji")


def test_without_a_word_it_explains_its_words_and_counts_turns() -> None:
    content = reply_to("hi", "hello", "hi again").content

    assert "8 characters" in content
    assert "number 2" in content
    assert "remember" in content


def test_echo_is_exact() -> None:
    assert reply_to("echo  a\n😀 ").content == "a\n😀 "


def test_words_combine() -> None:
    content = reply_to("emoji markdown").content

    assert "👩‍👩‍👧‍👦" in content
    assert "```python" in content


def test_long_is_long_and_large_exceeds_a_spill() -> None:
    assert 1_800 < len(reply_to("long").content) < 3_000
    assert 1_800 < len(reply_to("長い").content) < 3_000
    assert len(reply_to("large").content.encode()) > 10_240


def test_remember_yields_a_memory() -> None:
    assert reply_to("remember that I like tea").memory == "I like tea"
    assert reply_to("hello").memory is None


def test_recall_shows_what_the_prompt_held() -> None:
    content = reply_to(
        "my first words", "an answer", "recall", system='Be kind.\n\nData:\n["likes tea","本好き"]'
    ).content

    assert "> likes tea\n> 本好き" in content
    assert "> my first words" in content
    assert "an answer" not in content


def test_recall_does_not_invent() -> None:
    assert reply_to("recall", system="[broken\n[1, 2]").content.count("> none") == 2


@pytest.mark.parametrize(
    ("message", "emotion", "category"),
    [
        ("hello", "neutral", "chat"),
        ("a sad story about billing", "sad", "billing"),
        ("emoji", "happy", "chat"),
        ("unknown", "unlisted-emotion", "unlisted-category"),
    ],
)
def test_values_come_from_the_schema_and_the_words(
    message: str, emotion: str, category: str
) -> None:
    reply = reply_to(message)

    assert (reply.emotion, reply.category) == (emotion, category)


def test_arguments_keep_their_order_and_follow_the_schema() -> None:
    reply = reply_to("hello")

    assert list(reply.arguments(PARAMETERS["properties"])) == [
        "content",
        "emotion",
        "category",
        "memory",
    ]
    assert list(reply.arguments({"content": {}})) == ["content"]


@pytest.mark.parametrize(
    "parameters",
    [{}, {"properties": None}, {"properties": {"emotion": {"$ref": "#/$defs/Gone"}}}],
)
def test_a_schema_without_an_enum_has_no_values(parameters: dict[str, object]) -> None:
    assert enum_of(parameters, "emotion") == []
