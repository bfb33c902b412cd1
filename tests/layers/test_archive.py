"""The zip: the same each time, and within what Lambda takes."""

import os
import zipfile
from pathlib import Path

import pytest

from layers import archive
from layers.archive import measure, pack, read
from layers.errors import LayerError

FILES = {"python/b.py": b"b", "python/a/__init__.py": b"", "python/a/library.so": bytes(5000)}


def folder_of(place: Path, files: dict[str, bytes], *, mode: int = 0o644, time: int = 0) -> Path:
    for name, body in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        path.chmod(mode)
        os.utime(path, (time, time))
    return place


def test_the_same_files_make_the_same_zip_whenever_and_whosever_they_are(tmp_path: Path) -> None:
    one = pack(folder_of(tmp_path / "one", FILES), tmp_path / "1.zip")
    backwards = dict(reversed(FILES.items()))
    other = pack(
        folder_of(tmp_path / "other", backwards, mode=0o700, time=10**9), tmp_path / "2.zip"
    )
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert one.sha256 == other.sha256


def test_the_zip_has_the_files_sorted_for_everybody_to_read(tmp_path: Path) -> None:
    made = pack(folder_of(tmp_path / "folder", FILES, mode=0o600), tmp_path / "deep" / "a.zip")
    with zipfile.ZipFile(made.path) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == FILES
        assert packed.namelist() == sorted(FILES)
        assert {entry.external_attr >> 16 for entry in packed.infolist()} == {0o100644}
    assert made.unzipped == 5001
    assert made.zipped == made.path.stat().st_size < 1000
    assert measure(made.path) == made
    assert [path.name for path in made.path.parent.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "other",
    [
        FILES | {"python/b.py": b"c"},
        FILES | {"python/c.py": b""},
        {name: body for name, body in FILES.items() if name != "python/a/__init__.py"},
        {name.replace("b.py", "c.py"): body for name, body in FILES.items()},
    ],
)
def test_another_content_has_another_hash(tmp_path: Path, other: dict[str, bytes]) -> None:
    one = pack(folder_of(tmp_path / "one", FILES), tmp_path / "1.zip")
    two = pack(folder_of(tmp_path / "two", other), tmp_path / "2.zip")
    assert one.sha256 != two.sha256


def test_the_hash_is_of_the_content_however_it_is_packed(tmp_path: Path) -> None:
    made = pack(folder_of(tmp_path / "folder", FILES), tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as packed:
        for name, body in FILES.items():
            packed.writestr(name, body)
    assert measure(tmp_path / "stored.zip").sha256 == made.sha256


@pytest.mark.parametrize(
    ("limit", "kind"), [("UNZIPPED_MAX", "unzipped"), ("ZIPPED_MAX", "zipped")]
)
def test_what_lambda_would_refuse_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, kind: str
) -> None:
    content = {"python/noise.so": os.urandom(10_000)}
    folder, path = folder_of(tmp_path / "folder", content), tmp_path / "to" / "a.zip"
    monkeypatch.setattr(archive, limit, 9_999)
    with pytest.raises(LayerError, match=rf"has 0\.0 MB {kind}"):
        pack(folder, path)
    assert list(path.parent.iterdir()) == []


def test_two_that_pack_at_once_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as two builds in one checkout: the second one begins and ends while the first measures."""
    mine, theirs = (
        folder_of(tmp_path / name, {"python/a.py": name.encode()}) for name in ("mine", "theirs")
    )
    path = tmp_path / "to" / "a.zip"
    others = []

    def measure_late(unfinished: Path) -> archive.Archive:
        monkeypatch.undo()
        others.append(pack(theirs, path))
        return measure(unfinished)

    monkeypatch.setattr(archive, "measure", measure_late)
    made = pack(mine, path)
    assert measure(path) == made != others[0]
    assert [each.name for each in path.parent.iterdir()] == ["a.zip"]


def test_a_zip_that_is_another_one_by_now_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    made = pack(folder_of(tmp_path / "mine", FILES), path)
    assert read(made) == path.read_bytes()
    pack(folder_of(tmp_path / "theirs", FILES | {"python/b.py": b"c"}), path)
    with pytest.raises(LayerError, match=r"a\.zip was changed by another build"):
        read(made)
    path.unlink()
    with pytest.raises(LayerError, match="was changed"):
        read(made)
