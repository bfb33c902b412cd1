"""What the scripted model says: a pure function of the request.

It says in every reply what it is, in the language it was addressed in, and never pretends to have
understood anything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

from streaming.models.chat_model import ModelRequest
from streaming.models.scripted_words import SEARCHED_CHARACTERS, Wishes

__all__ = ["ScriptedReply", "scripted_reply"]

LARGE_CHARACTERS = 12_288
RECALLED_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedReply:
    """The arguments of the reply function; a field the schema does not have is left out."""

    content: str
    emotion: str | None
    category: str | None
    memory: str | None

    def arguments(self, properties: Mapping[str, object]) -> dict[str, str | None]:
        """Return the arguments in their order, of those fields that `properties` has."""
        fields = {
            "content": self.content,
            "emotion": self.emotion,
            "category": self.category,
            "memory": self.memory,
        }
        return {name: value for name, value in fields.items() if name in properties}


def scripted_reply(request: ModelRequest, wishes: Wishes) -> ScriptedReply:
    """Return the reply to the last user message of `request`.

    Args:
        request: The whole prompt.
        wishes: What that message asks for.
    """
    message = last_user_message(request)
    return ScriptedReply(
        content=_content(request, wishes, message),
        emotion=_choice(request, "emotion", wishes, message),
        category=_choice(request, "category", wishes, message),
        memory=wishes.remember,
    )


def last_user_message(request: ModelRequest) -> str:
    """Return the newest user message, "" if there is none."""
    return next((m.content for m in reversed(request.messages) if m.role == "user"), "")


def _content(request: ModelRequest, wishes: Wishes, message: str) -> str:
    if wishes.echo is not None:
        return wishes.echo
    intro = _INTRO[wishes.japanese]
    sections = list(_sections(request, wishes)) or [_help(request, wishes, message)]
    return "\n\n".join([intro, *sections])


def _sections(request: ModelRequest, wishes: Wishes) -> Iterator[str]:
    japanese = wishes.japanese
    if wishes.remember is not None:
        yield (f"覚えます：「{wishes.remember}」" if japanese else f"I keep: “{wishes.remember}”")
    if "recall" in wishes.words:
        yield _recalled(request, japanese=japanese)
    if "refuse" in wishes.words:
        yield _REFUSAL[japanese]
    if "emoji" in wishes.words:
        yield _EMOJI
    if "markdown" in wishes.words:
        yield _MARKDOWN[japanese]
    if "long" in wishes.words:
        yield _long_text(wishes)
    if "large" in wishes.words:
        yield _large_text(wishes)


_INTRO = {
    False: "I am the scripted demo model. I don't think; I only follow a script.",
    True: "私は台本どおりに答えるデモ用のモデルです。考えているわけではありません。",
}
_HELP = {
    False: (
        "So you can see this chat work without a key. Your message has {characters} characters and "
        "is number {turn} of this session. Some words in it would steer me: long, slow, emoji, "
        "markdown, plain, large, echo …, remember …, recall, 日本語. To see what failing looks "
        "like, write fail, fail later, stall, refuse or filter."
    ),
    True: (
        "鍵がなくてもこのチャットの動きを見られるように、ここにいます。いただいた文章は{characters}文字で、"
        "この会話の{turn}番目です。次の言葉で動きが変わります：長い、ゆっくり、絵文字、マークダウン、プレーン、"
        "巨大、…を覚えて、思い出して、echo …。失敗の様子を見るには：失敗、後で失敗、停止、断って、filter。"
    ),
}
_REFUSAL = {
    False: "You asked me to refuse, so I will not answer that. A real model declines in its own words, too.",
    True: "断るようにとのことですので、お答えしません。本物のモデルも、自分の言葉で断ります。",
}
_EMOJI = "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇯🇵 ❤️ 𠮷野家 e\u0301 🎉"
_MARKDOWN = {
    False: (
        "## A list\n\n1. **bold** and *slanted*\n2. `code` and ~~struck~~\n   - nested\n\n"
        "## A table\n\n| word | does |\n|---|---|\n| `long` | more text |\n| `slow` | less haste |\n\n"
        '## A code block\n\n```python\nprint("Hello, <world>!\\n")\n```\n\n> And a quotation.'
    ),
    True: (
        "## 箇条書き\n\n1. **太字**と*斜体*\n2. `コード`\n   - 入れ子\n\n"
        "## 表\n\n| 言葉 | 動き |\n|---|---|\n| `長い` | 文章が増える |\n| `ゆっくり` | 急がない |\n\n"
        '## コード\n\n```python\nprint("こんにちは、<世界>！\\n")\n```\n\n> 引用もあります。'
    ),
}
_SENTENCE = {
    False: "This is sentence {n} of a long answer that says nothing, one piece after another. ",
    True: "これは長いだけで中身のない答えの{n}番目の文です。少しずつ届いているはずです。",
}


def _help(request: ModelRequest, wishes: Wishes, message: str) -> str:
    turn = sum(m.role == "user" for m in request.messages)
    return _HELP[wishes.japanese].format(characters=len(message), turn=turn)


def _long_text(wishes: Wishes) -> str:
    sentences = 55 if wishes.japanese else 25
    return "".join(_SENTENCE[wishes.japanese].format(n=n) for n in range(1, sentences + 1)).rstrip()


def _large_text(wishes: Wishes) -> str:
    unit = "大きな返事です。" if wishes.japanese else "A large reply. "
    return (unit * (LARGE_CHARACTERS // len(unit) + 1))[:LARGE_CHARACTERS]


def _recalled(request: ModelRequest, *, japanese: bool) -> str:
    """Say which memories and earlier turns the prompt held: what a real model would have known."""
    asked = [m.content for m in request.messages if m.role == "user"][:-1]
    if japanese:
        titles, nothing = ("記憶として渡されたもの：", "この会話でのこれまでのご発言："), "なし"
    else:
        titles, nothing = (
            ("Memories I was given:", "What you wrote before in this session:"),
            "none",
        )
    return "\n\n".join(
        f"{title}\n\n{_quoted(texts or [nothing])}"
        for title, texts in zip(titles, (memories_in(request), asked), strict=True)
    )


def memories_in(request: ModelRequest) -> list[str]:
    """Return the memories in the prompt: a line of system text that is a JSON list of strings."""
    system = [m.content for m in request.messages if m.role == "system"]
    lines = [line for text in system for line in text.splitlines() if line.startswith("[")]
    return [memory for line in lines for memory in _strings_in(line)]


def _strings_in(line: str) -> list[str]:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return [value for value in values if isinstance(value, str)]


def _quoted(texts: list[str]) -> str:
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return "\n".join(f"> {line}" for line in lines)[:RECALLED_CHARACTERS]


def _choice(request: ModelRequest, field: str, wishes: Wishes, message: str) -> str | None:
    """Choose a value: one that the message names, else one that suits, else the schema's own."""
    if "unknown" in wishes.words:
        return f"unlisted-{field}"
    values = enum_of(request.function.parameters, field)
    words = message[:SEARCHED_CHARACTERS].lower()
    named = [value for value in values if value.lower() in words]
    liked = [value for value in ("happy", "joy") if value in values and "emoji" in wishes.words]
    calm = [value for value in ("neutral", "calm", "chat", "general", "other") if value in values]
    return next(iter([*named, *liked, *calm, *values]), None)


def enum_of(parameters: Mapping[str, object], field: str) -> list[str]:
    """Return the strings that the JSON Schema `parameters` allows for `field`, [] if any.

    Follows a ``$ref`` into ``$defs``, as pydantic writes an enum.
    """
    schema = _member(_member(parameters, "properties"), field)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        schema = _member(_member(parameters, "$defs"), reference.removeprefix("#/$defs/"))
    values = schema.get("enum")
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _member(schema: Mapping[str, object], name: str) -> Mapping[str, object]:
    member = schema.get(name)
    return member if isinstance(member, Mapping) else {}
