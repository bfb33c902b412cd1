"""Publishing, finding again and deleting, against moto's Lambda."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layers import aws, publishing, versions
from layers.archive import Archive
from layers.errors import LayerError
from layers.publishing import overrides, publish
from layers.samconfig import Target
from layers.stack import Stack
from layers.versions import Made, Version, number_of, published, read_description, superfluous
from tests.engines.processes import Engine
from tests.infra.deployment import sdk_for
from tests.layers.zips import small


@pytest.fixture
def target() -> Target:
    """A layer that no other test has published."""
    return Target(
        stack=f"a-{uuid.uuid4().hex[:12]}",
        runtime="python3.13",
        architecture="arm64",
        overrides=["Env=dev", 'Issuers="[{}]"'],
    )


@pytest.fixture
def functions(moto_server: Engine, target: Target) -> Iterator[Any]:
    with sdk_for(moto_server), aws.clients(target) as (functions, _):
        yield functions


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return small(tmp_path, answers="x = 1")


# Descriptions


MADE = Made(sha256="0123456789abcdef" * 4, contract="c0ffeec0ffee", commit="f" * 40 + "+changes")


def test_a_description_is_read_as_it_was_written() -> None:
    assert read_description(MADE.description) == MADE
    assert len(MADE.description) <= 256  # Lambda takes no more


@pytest.mark.parametrize(
    "text",
    ["", "gateway, streaming, storage and what they need", "makoto sha256=0 contract=0 commit=0"],
)
def test_another_description_says_nothing(text: str) -> None:
    assert read_description(text) is None


# Publishing


def test_a_version_says_what_it_is(functions: Any, target: Target, archive: Archive) -> None:
    version, new = publish(functions, target, archive)
    assert (version.number, new) == (1, True)
    assert version.arn.endswith(f":layer:{target.stack}-common:1")
    assert number_of(version.arn) == 1
    assert version.is_for("python3.13", "arm64")
    assert not version.is_for("python3.12", "arm64")
    assert version.made is not None
    assert version.made.sha256 == archive.sha256
    assert published(functions, target.layer) == [version]


def test_the_same_content_is_published_once(
    functions: Any, target: Target, archive: Archive, tmp_path: Path
) -> None:
    first, _ = publish(functions, target, archive)
    second, new = publish(functions, target, small(tmp_path / "2", answers="x = 2"))
    assert (second.number, new) == (2, True)
    again, new = publish(functions, target, small(tmp_path / "3", answers="x = 1"))
    assert (again, new) == (first, False)
    assert [version.number for version in published(functions, target.layer)] == [2, 1]


def test_the_same_content_for_another_template_is_another_version(
    functions: Any, target: Target, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody could tell which template a version goes with."""
    publish(functions, target, archive)
    other = publishing.read_contract("X:\n  InlineCode: from x import handler\n")
    monkeypatch.setattr(publishing, "read_contract", lambda: other)
    assert publish(functions, target, archive)[0].number == 2
    assert publish(functions, target, archive)[0].number == 2


def test_what_another_build_put_in_the_place_is_not_published(
    functions: Any, target: Target, tmp_path: Path
) -> None:
    """It would be taken for what was tried, for ever."""
    archive = small(tmp_path / "mine", answers="x = 1")
    small(tmp_path / "theirs", answers="x = 2").path.replace(archive.path)
    with pytest.raises(LayerError, match=r"layer\.zip was changed by another build"):
        publish(functions, target, archive)
    assert published(functions, target.layer) == []


def test_what_somebody_else_published_is_listed_and_never_taken(
    functions: Any, target: Target, archive: Archive
) -> None:
    functions.publish_layer_version(
        LayerName=target.layer, Content={"ZipFile": archive.path.read_bytes()}
    )
    (theirs,) = published(functions, target.layer)
    assert (theirs.made, theirs.runtimes, theirs.architectures) == (None, (), ())
    assert publish(functions, target, archive)[0].number == 2


def test_of_a_layer_that_nobody_published_there_is_no_version(functions: Any) -> None:
    assert published(functions, "no-such-layer") == []


def test_what_lambda_refuses_is_one_line(functions: Any, target: Target) -> None:
    with pytest.raises(LayerError, match="AWS: An error") as failed:
        versions.delete(functions, "not a name", 1)
    assert "\n" not in str(failed.value)


def test_a_service_that_is_not_there_is_one_line(
    target: Target, moto_server: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "_RETRIES", {"max_attempts": 1})
    with sdk_for(moto_server), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with aws.clients(target) as (functions, _), pytest.raises(LayerError) as failed:
            published(functions, target.layer)
    assert "Could not connect" in str(failed.value)
    assert "\n" not in str(failed.value)


# Commits


def test_the_commit_is_that_of_the_folder_and_tells_of_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        me = ("-c", "user.name=me", "-c", "user.email=me@example.com")
        done = subprocess.run(
            ["git", *me, "-C", tmp_path, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert publishing.commit(tmp_path) == "unknown"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "Begin")
    head = git("rev-parse", "HEAD")
    assert publishing.commit(tmp_path) == head
    (tmp_path / "new.py").touch()
    assert publishing.commit(tmp_path) == f"{head}+changes"


# What SAM is told


def stack(*, in_use: str | None, before: str | None = None) -> Stack:
    return Stack(name="a", status="UPDATE_COMPLETE", parameters={}, in_use=in_use, before=before)


def test_sam_is_told_all_that_samconfig_says_and_the_layer(
    functions: Any, target: Target, archive: Archive
) -> None:
    version, _ = publish(functions, target, archive)
    said = f"Env=dev 'Issuers=\"[{{}}]\"' CommonLayerArn={version.arn}"
    assert overrides(target, version, None, [version]) == said
    assert overrides(target, version, stack(in_use=version.arn, before="old"), [version]) == said
    assert (
        overrides(target, version, stack(in_use="old:1", before="older:1"), [version])
        == f"{said} PreviousLayerArn=old:1"
    )


@pytest.mark.parametrize(
    ("old", "new", "stays"),
    [
        ("abc", "abc", True),
        ("abc", "def", False),
        ("abc", "abc+changes", False),
        ("abc+changes", "abc+changes", False),
        ("unknown", "unknown", False),
        (None, "abc", False),
    ],
)
def test_the_one_before_stays_while_the_commit_does(
    target: Target, old: str | None, new: str, *, stays: bool
) -> None:
    """Such as where CI compiles the layer and a laptop does not: a rollback shall go to older code."""
    now, was = (
        Version(
            number=number,
            arn=f"arn:{number}",
            created="",
            runtimes=(target.runtime,),
            architectures=(target.architecture,),
            made=Made(sha256=str(number), contract="c0ffee", commit=of) if of else None,
        )
        for number, of in ((3, new), (2, old))
    )
    said = overrides(target, now, stack(in_use=was.arn, before="arn:1"), [now, was])
    assert said.endswith(f" CommonLayerArn={now.arn}") == stays
    assert said.endswith(f" PreviousLayerArn={was.arn}") != stays


# Deleting


def test_the_newest_stay_and_those_that_are_used(
    functions: Any, target: Target, tmp_path: Path
) -> None:
    for number in range(1, 7):
        publish(functions, target, small(tmp_path / str(number), answers=f"x = {number}"))
    found = published(functions, target.layer)
    by_number = {version.number: version for version in found}
    used = {by_number[1].arn, by_number[3].arn, None}
    old = superfluous(found, keep=2, used=used)
    assert [version.number for version in old] == [2, 4]
    for version in old:
        versions.delete(functions, target.layer, version.number)
    assert [version.number for version in published(functions, target.layer)] == [6, 5, 3, 1]
    assert superfluous(found, keep=9, used=()) == []
    assert superfluous(found, keep=0, used=()) == found[::-1]
