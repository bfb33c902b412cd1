"""Which Python is found."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from layers.interpreters import interpreter

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


def on_path(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_one_on_path_is_found_by_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, HERE, f'exec {shlex.quote(sys.executable)} "$@"', monkeypatch)
    assert interpreter(HERE) == sys.executable


def test_a_shim_without_a_python_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, HERE, "exit 127", monkeypatch)
    assert interpreter(HERE) == sys.executable


def test_one_of_another_version_than_its_name_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, "python3.99", f'exec {shlex.quote(sys.executable)} "$@"', monkeypatch)
    assert interpreter("python3.99") is None
