"""The words by which a person steers the scripted model, found in their message.

English words count as whole words in any case; Japanese ones anywhere.

=================================  ================================================================
``long`` 長い                      about 2,000 characters
``slow`` ゆっくり                  an eighth of the pace
``japanese`` 日本語                in Japanese, as is any message with Japanese characters
``emoji`` 絵文字                   emoji of all kinds, written as JSON escapes and cut inside them
``markdown`` マークダウン          a list, a table, a code block
``large`` 巨大                     12,000 characters in a single chunk
``plain`` プレーン                 plain content instead of a function call
``tool``                           another function call beside the reply
``echo ...``                       exactly the rest of the message
``remember ...`` ...を覚えて       a memory with these words
``recall`` 思い出して              what the prompt contained: memories and earlier turns
``unknown``                        an emotion and a category that the schema does not list
``refuse`` 断って                  the model refuses in its own words
``filter``                         a content filter cuts the reply in the middle
``truncate``                       the reply ends at its length limit, inside a sentence
``flaky``                          the first request fails; the retry answers
``fail`` 失敗, ``fail KIND``       no reply; KIND is one of `FailureKind`, unavailable if not said
``stall`` 停止                     silence until the deadline
``fail KIND later``,               the same in the middle of the reply
``stall later``
=================================  ================================================================

The name of an emotion or category of the schema selects it. Words combine: ``slow emoji recall``.

Anybody may send anything, and it is searched where every other user's event waits: words count in
the beginning of a message, and no pattern goes over a character more than a few times.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["SEARCHED_CHARACTERS", "Failure", "FailureKind", "Wishes", "Word", "read_wishes"]

Word: TypeAlias = Literal[
    "long",
    "slow",
    "emoji",
    "markdown",
    "large",
    "plain",
    "tool",
    "recall",
    "unknown",
    "refuse",
    "filter",
    "truncate",
    "flaky",
]

FailureKind: TypeAlias = Literal[
    "auth",  # HTTP 401
    "quota",  # HTTP 429, no credit left
    "rate",  # HTTP 429 with Retry-After
    "request",  # HTTP 400, the prompt is too long
    "refused",  # HTTP 400, against the usage policy
    "filtered",  # HTTP 400, the prompt was filtered
    "unavailable",  # HTTP 503
    "protocol",  # an event that is not JSON
    "cut",  # the stream ends without an end mark
    "break",  # the connection breaks
    "stall",  # silence
]

SEARCHED_CHARACTERS = 4_096
"""Words count in so many characters of a message; an ``echo`` there takes all the rest."""

MEMORY_LIMIT = 500
"""Characters of a message that `remember` keeps."""

_JAPANESE_WORDS: dict[Word, str] = {
    "long": "長い|長く",
    "slow": "ゆっくり",
    "emoji": "絵文字",
    "markdown": "マークダウン",
    "large": "巨大",
    "plain": "プレーン",
    "recall": "思い出して|覚えて(?=い|る|ま)",
    "refuse": "断って",
}
_ENGLISH_VARIANTS: dict[Word, str] = {"slow": "slowly", "recall": "do you remember"}


def _pattern(word: Word) -> re.Pattern[str]:
    english = "|".join(filter(None, [word, _ENGLISH_VARIANTS.get(word)]))
    japanese = _JAPANESE_WORDS.get(word)
    # ASCII word boundaries, so that a word may stand right beside Japanese text.
    return re.compile(
        rf"\b(?:{english})\b" + (f"|{japanese}" if japanese else ""), re.ASCII | re.IGNORECASE
    )


_WORDS: dict[Word, re.Pattern[str]] = {word: _pattern(word) for word in get_args(Word)}
_ECHO = re.compile(r"\becho\b[:\s]*+", re.ASCII | re.IGNORECASE)
# Possessive, and bounded where a search would begin again at each character of a run.
_REMEMBER = re.compile(
    r"(?:^|[.!?,;\n]\s{0,9}|\b(?:please|and)\s{1,9})"
    r"remember\b(?:\s{1,9}that\b)?[:\s]++([^.!?\n]++)",
    re.ASCII | re.IGNORECASE,
)
_REMEMBER_JAPANESE = re.compile(r"覚えて(?!い|る|ま)")
_SENTENCE_JAPANESE = re.compile(r"[:：、\s]*+([^。！？\n]++)")
_SENTENCE_ENDS = "。！？\n"
_PAUSES = "。、！？ \t\n\r\f\v\u3000"
_PARTICLES = ("を", "って", "と")
_FAIL = re.compile(
    rf"(?:\bfail\b|失敗)(?:\s++({'|'.join(get_args(FailureKind))}))?+(\s++later)?"
    r"|(\bstall\b|停止)(\s++later)?",
    re.ASCII | re.IGNORECASE,
)
_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\bjapanese\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a reply is to fail, and when."""

    kind: FailureKind
    later: bool = False
    """In the middle of the reply instead of before its first part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a message asks of the scripted model."""

    words: frozenset[Word] = frozenset()
    japanese: bool = False
    echo: str | None = None
    remember: str | None = None
    failure: Failure | None = None


def read_wishes(message: str) -> Wishes:
    """Return what `message` asks for. What is to be echoed or remembered is not searched."""
    searched = message[:SEARCHED_CHARACTERS]
    echo = _ECHO.search(searched)
    rest = searched[: echo.start()] if echo else searched
    fact, rest = _take_memory(rest)
    return Wishes(
        words=frozenset(word for word, pattern in _WORDS.items() if pattern.search(rest)),
        japanese=_JAPANESE.search(searched) is not None,
        echo=message[echo.end() :] if echo else None,
        remember=fact,
        failure=_read_failure(rest),
    )


def _take_memory(text: str) -> tuple[str | None, str]:
    """Return what is to be remembered, None if nothing is, and the text without it."""
    english = _REMEMBER.search(text)
    if english:
        return _cut_out(text, english.span(), english[1])
    japanese = _REMEMBER_JAPANESE.search(text)
    if japanese is None:
        return None, text
    # In Japanese what is to be remembered comes before the verb; only if nothing does, behind it.
    before = text[: japanese.start()].rstrip(_PAUSES)
    particle = next(filter(before.endswith, _PARTICLES), "")
    before = before.removesuffix(particle)
    start = max(before.rfind(mark) for mark in _SENTENCE_ENDS) + 1
    if before[start:].strip():
        return _cut_out(text, (start, japanese.end()), before[start:])
    behind = _SENTENCE_JAPANESE.match(text, japanese.end())
    return _cut_out(text, (start, behind.end()), behind[1]) if behind else (None, text)


def _cut_out(text: str, span: tuple[int, int], fact: str) -> tuple[str, str]:
    start, end = span
    return fact.strip()[:MEMORY_LIMIT], f"{text[:start]} {text[end:]}"


def _read_failure(text: str) -> Failure | None:
    match = _FAIL.search(text)
    if match is None:
        return None
    kind, later, stall, stall_later = match.groups()
    if stall:
        return Failure(kind="stall", later=bool(stall_later))
    named = next((known for known in get_args(FailureKind) if known == (kind or "").lower()), None)
    return Failure(kind=named or "unavailable", later=bool(later))
