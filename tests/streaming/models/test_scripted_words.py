from typing import get_args

import pytest

from streaming.models.scripted_words import (
    MEMORY_LIMIT,
    SEARCHED_CHARACTERS,
    Failure,
    FailureKind,
    Wishes,
    Word,
    read_wishes,
)


@pytest.mark.parametrize("word", get_args(Word))
def test_every_word_is_found_in_any_case_beside_any_text(word: Word) -> None:
    for text in (word, f"Please, {word.upper()}!", f"もっと{word}でお願い"):
        assert word in read_wishes(text).words


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("長い話をして", "long"),
        ("ゆっくり話して", "slow"),
        ("絵文字を見せて", "emoji"),
        ("マークダウンで", "markdown"),
        ("巨大な返事", "large"),
        ("プレーンに", "plain"),
        ("思い出して", "recall"),
        ("私を覚えていますか", "recall"),
        ("Do you remember me?", "recall"),
        ("断ってください", "refuse"),
    ],
)
def test_words_have_variants(text: str, word: Word) -> None:
    wishes = read_wishes(text)

    assert wishes.words == {word}
    assert wishes.remember is None


def test_a_part_of_a_word_is_not_the_word() -> None:
    assert read_wishes("belonging slowness enlarged").words == frozenset()


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("Remember that I like tea. And long walks?", "I like tea"),
        ("Hello, remember: my name is Makoto", "my name is Makoto"),
        ("please remember I was born in Kobe!", "I was born in Kobe"),
        ("誕生日は三月一日だと覚えて", "誕生日は三月一日だ"),
        ("好きな飲み物は緑茶です。覚えておいてください", "好きな飲み物は緑茶です"),
        ("紅茶が好きなことを覚えてね", "紅茶が好きなこと"),
        ("覚えて：犬を飼っています", "犬を飼っています"),
        ("覚えて。猫", None),
        ("私の誕生日を、覚えて。長い話です", "私の誕生日"),
        ("今日は。\n犬が好きって覚えて", "犬が好き"),
        ("Note.\n  remember: tea", "tea"),
        ("and   remember  that  tea", "tea"),
        ("I remember you", None),
        ("", None),
    ],
)
def test_what_is_to_be_remembered_is_cut_out(text: str, memory: str | None) -> None:
    assert read_wishes(text).remember == memory


def test_words_inside_what_is_remembered_or_echoed_do_not_count() -> None:
    assert read_wishes("remember that I like long walks").words == frozenset()
    assert read_wishes("slow echo long fail").words == {"slow"}
    assert read_wishes("slow echo long fail").failure is None


def test_words_count_in_the_beginning_of_a_message() -> None:
    beginning = "x " * (SEARCHED_CHARACTERS // 2)

    assert read_wishes(f"{beginning} long fail 日本語 remember tea") == Wishes()


def test_a_long_memory_is_cut() -> None:
    assert read_wishes("remember " + "tea" * 1_000).remember == ("tea" * 1_000)[:MEMORY_LIMIT]


def test_a_long_message_is_echoed_whole() -> None:
    assert read_wishes(f"echo {'word ' * 10_000}").echo == "word " * 10_000


def test_echo_takes_the_rest_as_it_is() -> None:
    assert read_wishes('echo  "a\nb" 😀').echo == '"a\nb" 😀'
    assert read_wishes("say it").echo is None


@pytest.mark.parametrize("kind", get_args(FailureKind))
@pytest.mark.parametrize("later", [False, True])
def test_every_failure_can_be_asked_for(kind: FailureKind, later: bool) -> None:
    text = f"please fail {kind}" + (" later" if later else "")

    assert read_wishes(text).failure == Failure(kind=kind, later=later)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("fail", Failure(kind="unavailable")),
        ("fail later", Failure(kind="unavailable", later=True)),
        ("失敗して", Failure(kind="unavailable")),
        ("stall", Failure(kind="stall")),
        ("Stall later!", Failure(kind="stall", later=True)),
        ("停止", Failure(kind="stall")),
        ("failure is no option", None),
    ],
)
def test_failures_have_short_forms(text: str, failure: Failure | None) -> None:
    assert read_wishes(text).failure == failure


@pytest.mark.parametrize(
    ("text", "japanese"),
    [("hello", False), ("こんにちは", True), ("in Japanese, please", True), ("漢字", True)],
)
def test_the_language_is_the_message_s(text: str, japanese: bool) -> None:
    assert read_wishes(text).japanese is japanese
