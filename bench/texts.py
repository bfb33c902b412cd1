"""The replies that are streamed: argument documents of a chosen size, cut into fragments."""

from functools import lru_cache
from itertools import cycle
from typing import Literal

Kind = Literal["ascii", "japanese", "escaped"]
KINDS: tuple[Kind, ...] = ("ascii", "japanese", "escaped")

# An escape or two per paragraph, as a model writes prose: a text without any would flatter a
# parser that has a fast path for plain text.
ENGLISH = (
    "The rain stopped a little before noon, so we walked down to the harbour and counted the "
    "boats that had come in overnight. There were eleven of them, most from the islands, and one "
    "that nobody could place. An old man mending a net looked up and said it had been there since "
    "spring; nobody had asked before. We bought bread, sat on the wall and listened to the water.\n"
    'Later the sky cleared. "You can see the lighthouse now," she said, and it was true.\n\n'
)
JAPANESE = (
    "雨は昼前に上がったので、私たちは港まで歩いて、夜のうちに入ってきた船を数えてみました。"
    "全部で十一隻あり、ほとんどは島から来たものでしたが、一隻だけ誰も知らない船がありました。"
    "網を直していたおじいさんは顔を上げて「あれは春からずっとあるよ」と教えてくれました。"
    "パンを買って、堤防に座り、しばらく波の音を聞いていました。🌊\n"
)

HEAD = '{"content":"'
TAIL = '","emotion":"happy","category":"story","memory":null}'

_PLAIN_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}


def _plain(character: str) -> str:
    return _PLAIN_ESCAPES.get(character, character)


def _fully_escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


_WRITTEN = {
    "ascii": (ENGLISH, _plain),
    "japanese": (JAPANESE, _plain),
    "escaped": (JAPANESE, _fully_escaped),
}


@lru_cache(maxsize=4)
def reply(kind: Kind, size: int) -> tuple[str, str]:
    """Write a reply's arguments and the content they carry.

    Args:
        kind: `ascii` English prose, `japanese` written as itself, or `escaped`: the same Japanese
            with every character as `\\uXXXX`, surrogate pairs included.
        size: characters of the document, reached within one escaped character.

    Returns:
        The JSON document and the value of its `content`.
    """
    prose, write = _WRITTEN[kind]
    room = size - len(HEAD) - len(TAIL)
    written: list[str] = []
    content: list[str] = []
    for character in cycle(prose):
        as_json = write(character)
        room -= len(as_json)
        if room < 0:
            break
        written.append(as_json)
        content.append(character)
    return HEAD + "".join(written) + TAIL, "".join(content)


def fragments(document: str, length: int) -> list[str]:
    """Cut a document into pieces of `length` characters, the last one shorter."""
    return [document[at : at + length] for at in range(0, len(document), length)]
