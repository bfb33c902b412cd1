"""Accepting a turn: what is stored, what counts as the same request, what is refused."""

import hashlib
from collections.abc import Callable

import pytest

from gateway.tenants.tier import Tier
from gateway.turns.accept import TITLE_CHARACTERS, title_of
from gateway.wire.commands import Regenerate, Send
from gateway.wire.errors import (
    BadRequestError,
    BusyError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    WireError,
)
from storage.errors import StorageUnavailableError
from storage.keys import blob_key, run_id
from storage.records import Accepted, BlobRef, Duplicate, Payload
from tests.gateway.runs.fakes import ANNA, BEN, NOW, at
from tests.gateway.turns.exchange import TIER, Exchange

# Titles

TITLES = [
    ("Hello", "Hello"),
    ("  Hello  ", "Hello"),
    ("\n\n  Hello\nWorld", "Hello"),
    ("Hello\r\nWorld", "Hello"),
    ("a \t  b\u3000c", "a b c"),
    ("\u3000こんにちは\u3000世界", "こんにちは 世界"),
    ("one\u2028two", "one"),
    ("x" * 60, "x" * 60),
    ("x" * 61, "x" * 59 + "…"),
    ("春" * 100, "春" * 59 + "…"),
    ("😀" * 61, "😀" * 59 + "…"),
    ("word " * 20, "word " * 11 + "word…"),
]


@pytest.mark.parametrize(("content", "title"), TITLES)
def test_the_title_of_a_session(content: str, title: str) -> None:
    assert title_of(content) == title
    assert 1 <= len(title_of(content)) <= TITLE_CHARACTERS


def test_no_space_stands_before_the_ellipsis() -> None:
    assert title_of("x" * 58 + " yyy") == "x" * 58 + "…"


# What is stored


def send(content: str | None = "Hi", send_id: str = "s1", **fields: object) -> Send:
    return Send.model_validate({"type": "send", "id": send_id, "content": content, **fields})


async def test_a_first_message_opens_a_session(chat: Exchange) -> None:
    outcome = await chat.acceptor.send(
        ANNA, TIER, at("c1"), send("こんにちは\n世界", character="makoto")
    )
    assert isinstance(outcome, Accepted)
    run = outcome.run
    assert (run.run_id, run.send_id, run.kind, run.created_at) == (
        run_id(ANNA, "s1"),
        "s1",
        "send",
        NOW,
    )
    assert run.log_until == NOW + 86_400
    its = chat.store.inner.of(ANNA)
    session = await its.sessions.get(run.session_id)
    assert session is not None
    assert (session.title, session.character) == ("こんにちは", "makoto")
    message = await its.messages.get(run.message_id)
    assert message is not None
    assert (message.role, message.content, message.run_id) == (
        "user",
        "こんにちは\n世界",
        run.run_id,
    )


async def test_a_later_message_changes_no_title(chat: Exchange) -> None:
    session_id = (await chat.talk("first", id="s1"))["session_id"]
    await chat.talk("second", id="s2", session_id=session_id)
    session = await chat.store.inner.of(ANNA).sessions.get(session_id)
    assert session is not None
    assert session.title == "first"


async def test_two_people_may_use_the_same_id(chat: Exchange) -> None:
    hers = await chat.acceptor.send(ANNA, TIER, at("c1"), send())
    his = await chat.acceptor.send(BEN, TIER, at("c1"), send())
    assert isinstance(hers, Accepted)
    assert isinstance(his, Accepted)
    assert hers.run.run_id != his.run.run_id


# The same request


async def test_the_same_request_again_is_a_duplicate(chat: Exchange) -> None:
    first = await chat.acceptor.send(ANNA, TIER, at("c1"), send("Hi"))
    again = await chat.acceptor.send(ANNA, TIER, at("c1"), send("Hi", if_busy="queue"))
    assert isinstance(again, Duplicate)
    assert again.run.run_id == first.run.run_id


@pytest.mark.parametrize(
    "other",
    [
        send("Hi!"),
        send("hi"),
        send("Hi", character="makoto"),
        send("Hi", session_id="another"),
    ],
    ids=["content", "case", "character", "session"],
)
async def test_the_same_id_for_something_else_is_a_conflict(chat: Exchange, other: Send) -> None:
    await chat.acceptor.send(ANNA, TIER, at("c1"), send("Hi"))
    with pytest.raises(ConflictError):
        await chat.acceptor.send(ANNA, TIER, at("c1"), other)


async def test_send_and_regenerate_share_their_ids(chat: Exchange) -> None:
    accepted = await chat.talk("Hi", id="s1")
    with pytest.raises(ConflictError):
        await chat.acceptor.regenerate(
            ANNA,
            at("c1"),
            Regenerate(type="regenerate", id="s1", message_id=accepted["message_id"]),
        )


# Refusals


async def test_an_unknown_session(chat: Exchange) -> None:
    with pytest.raises(NotFoundError):
        await chat.acceptor.send(ANNA, TIER, at("c1"), send(session_id="none"))


async def test_somebody_elses_session(chat: Exchange) -> None:
    session_id = (await chat.talk())["session_id"]
    with pytest.raises(NotFoundError):
        await chat.acceptor.send(BEN, TIER, at("c1"), send(session_id=session_id))


async def test_a_busy_session(chat: Exchange) -> None:
    outcome = await chat.acceptor.send(ANNA, TIER, at("c1"), send(send_id="s1"))
    with pytest.raises(BusyError):
        await chat.acceptor.send(
            ANNA, TIER, at("c1"), send(send_id="s2", session_id=outcome.run.session_id)
        )


@pytest.mark.parametrize(
    ("content", "fits"),
    [("x" * 30, True), ("x" * 31, False), ("春" * 10, True), ("春" * 11, False)],
)
async def test_the_longest_message_counts_in_bytes(
    chat: Exchange, content: str, fits: bool
) -> None:
    tier = Tier(content_bytes=30)
    if fits:
        assert isinstance(await chat.acceptor.send(ANNA, tier, at("c1"), send(content)), Accepted)
    else:
        with pytest.raises(PayloadTooLargeError):
            await chat.acceptor.send(ANNA, tier, at("c1"), send(content))


async def test_a_store_that_refuses(chat: Exchange) -> None:
    chat.store.refuse("runs.accept")
    with pytest.raises(StorageUnavailableError):
        await chat.acceptor.send(ANNA, TIER, at("c1"), send())


# Uploads


async def upload(
    chat: Exchange,
    body: bytes | None,
    *,
    announced: bytes | None = None,
    kind: str = "upload",
    expires_at: float = NOW + 60,
) -> Send:
    """Reserve an upload of what was announced, store a body, and name it in a send."""
    told = announced if announced is not None else body or b""
    ref = BlobRef(
        key=blob_key(ANNA, "u1"), bytes=len(told), sha256=hashlib.sha256(told).hexdigest()
    )
    await chat.store.inner.of(ANNA).payloads.reserve(
        Payload(
            payload_id="u1",
            kind=kind,  # type: ignore[arg-type] # a table's column
            ref=ref,
            created_at=NOW,
            expires_at=expires_at,
        )
    )
    if body is not None:
        chat.blobs.bodies[ref.key] = body
    return send(None, upload_id="u1")


async def test_an_uploaded_text_is_a_message(chat: Exchange) -> None:
    text = "春は曙。\n" * 5_000
    command = await upload(chat, text.encode())
    outcome = await chat.acceptor.send(ANNA, TIER, at("c1"), command)
    message = await chat.store.inner.of(ANNA).messages.get(outcome.run.message_id)
    assert message is not None
    assert message.content == text


@pytest.mark.parametrize(
    ("prepare", "error", "says"),
    [
        (lambda chat: upload(chat, None), NotFoundError, "The upload has not arrived."),
        (
            lambda chat: upload(chat, b"text", kind="spill"),
            NotFoundError,
            "There is no such upload.",
        ),
        (
            lambda chat: upload(chat, b"text", expires_at=NOW - 1),
            NotFoundError,
            "There is no such upload.",
        ),
        (
            lambda chat: upload(chat, b"other", announced=b"texts"),
            BadRequestError,
            "The upload is not what was announced.",
        ),
        (
            lambda chat: upload(chat, b"\xff\xfe"),
            BadRequestError,
            "The upload is not UTF-8 text.",
        ),
        (
            lambda chat: upload(chat, b"\xed\xa0\xbd"),
            BadRequestError,
            "The upload is not UTF-8 text.",
        ),
        (
            lambda chat: upload(chat, " \n\u3000".encode()),
            BadRequestError,
            "Not valid: content.",
        ),
        (lambda chat: upload(chat, b""), BadRequestError, "Not valid: content."),
        (
            lambda chat: upload(chat, b"x" * 300_000),
            PayloadTooLargeError,
            "This is larger than allowed.",
        ),
    ],
    ids=[
        "not arrived",
        "not an upload",
        "expired",
        "other bytes",
        "not text",
        "half an emoji",
        "blank",
        "empty",
        "too large",
    ],
)
async def test_an_upload_that_is_no_message(
    chat: Exchange,
    prepare: Callable[[Exchange], object],
    error: type[WireError],
    says: str,
) -> None:
    command = await prepare(chat)  # type: ignore[misc] # a coroutine
    with pytest.raises(error) as caught:
        await chat.acceptor.send(ANNA, TIER, at("c1"), command)
    assert caught.value.public_message == says


async def test_somebody_elses_upload(chat: Exchange) -> None:
    command = await upload(chat, b"text")
    with pytest.raises(NotFoundError):
        await chat.acceptor.send(BEN, TIER, at("c1"), command)


async def test_a_blob_store_that_refuses_is_not_a_missing_upload(
    chat: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = await upload(chat, b"text")

    async def refuse(_: str) -> bytes:
        raise StorageUnavailableError("no disk")

    monkeypatch.setattr(chat.blobs, "get", refuse)
    with pytest.raises(StorageUnavailableError):
        await chat.acceptor.send(ANNA, TIER, at("c1"), command)


async def test_a_message_is_recognised_after_its_upload_is_gone(chat: Exchange) -> None:
    command = await upload(chat, b"text")
    first = await chat.acceptor.send(ANNA, TIER, at("c1"), command)
    chat.blobs.bodies.clear()
    again = await chat.acceptor.send(ANNA, TIER, at("c1"), command)
    assert isinstance(again, Duplicate)
    assert again.run.run_id == first.run.run_id


@pytest.mark.parametrize("changed", ["session_id", "character", "kind"])
async def test_another_request_of_the_same_id_is_recognised_after_the_upload_is_gone(
    chat: Exchange, changed: str
) -> None:
    command = await upload(chat, b"text")
    if changed == "kind":
        asked = (await chat.talk("Hi", id="first"))["message_id"]
        await regenerate(chat, asked, command.id)
    else:
        await chat.acceptor.send(ANNA, TIER, at("c1"), command)
        command = command.model_copy(update={changed: "makoto"})
    chat.blobs.bodies.clear()
    with pytest.raises(ConflictError):
        await chat.acceptor.send(ANNA, TIER, at("c1"), command)


async def test_the_same_text_typed_or_uploaded_is_the_same_request(chat: Exchange) -> None:
    command = await upload(chat, b"text")
    await chat.acceptor.send(ANNA, TIER, at("c1"), command)
    assert isinstance(await chat.acceptor.send(ANNA, TIER, at("c1"), send("text")), Duplicate)


# Regenerate


async def regenerate(chat: Exchange, message_id: str, send_id: str = "g1") -> Accepted | Duplicate:
    return await chat.acceptor.regenerate(
        ANNA, at("c1"), Regenerate(type="regenerate", id=send_id, message_id=message_id)
    )


@pytest.mark.parametrize("named", ["question", "reply"])
async def test_a_message_is_answered_again(chat: Exchange, named: str) -> None:
    accepted = await chat.talk("Hi")
    old = await chat.row(accepted["run_id"])
    outcome = await regenerate(chat, old.message_id if named == "question" else old.reply_id)
    assert isinstance(outcome, Accepted)
    run = outcome.run
    assert (run.kind, run.session_id, run.message_id) == (
        "regenerate",
        old.session_id,
        old.message_id,
    )
    assert run.reply_id != old.reply_id


async def test_naming_the_reply_or_its_question_is_the_same_request(chat: Exchange) -> None:
    old = await chat.row((await chat.talk("Hi"))["run_id"])
    first = await regenerate(chat, old.message_id)
    again = await regenerate(chat, old.reply_id)
    assert isinstance(again, Duplicate)
    assert again.run.run_id == first.run.run_id


async def test_an_unknown_or_foreign_message_is_not_answered(chat: Exchange) -> None:
    accepted = await chat.talk("Hi")
    with pytest.raises(NotFoundError):
        await regenerate(chat, "none")
    with pytest.raises(NotFoundError):
        await chat.acceptor.regenerate(
            BEN, at("c1"), Regenerate(type="regenerate", id="g1", message_id=accepted["message_id"])
        )


async def test_a_busy_session_answers_nothing_again(chat: Exchange) -> None:
    outcome = await chat.acceptor.send(ANNA, TIER, at("c1"), send())
    with pytest.raises(BusyError):
        await regenerate(chat, outcome.run.message_id)
