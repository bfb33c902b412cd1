"""What importing costs and does: no provider's SDK before it is asked, no environment read."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

HEAVY = ("openai", "aiobotocore", "botocore", "boto3", "azure")
"""Slow to load (600 ms and more), and of use to one provider or platform only."""


def run(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    [
        "gateway.app",
        "gateway.bootstrap.local",
        "gateway.identity.admission",
        "gateway.hosts.aws.secrets",
        "gateway.hosts.local.server",
        "gateway.cli.main",
        "storage",
        "storage.sqlite.store",
        "storage.blobs.files",
        "storage.blobs.s3",
        "streaming.models.scripted",
    ],
)
def test_no_sdk_is_imported_before_it_is_asked(module: str) -> None:
    found = run(
        f"""
        import sys
        import {module}
        print(*[name for name in {HEAVY!r} if name in sys.modules])
        """
    )
    assert found == ""


def test_importing_reads_no_environment_and_starts_nothing() -> None:
    """Every module of the three packages, with an environment that tells who reads it."""
    said = run(
        """
        import importlib
        import os
        import pkgutil
        import sys
        import threading

        OURS = ("gateway", "streaming", "storage")
        read = []

        class Watched(dict):
            def _note(self, name):
                caller = sys._getframe(2)
                while caller is not None and caller.f_code.co_filename.endswith("os.py"):
                    caller = caller.f_back
                if caller.f_globals.get("__name__", "").split(".")[0] in OURS:
                    read.append((caller.f_globals["__name__"], name))

            def __getitem__(self, name):
                self._note(name)
                return super().__getitem__(name)

            def get(self, name, default=None):
                self._note(name)
                return super().get(name, default)

            def __contains__(self, name):
                self._note(name)
                return super().__contains__(name)

            def __iter__(self):
                self._note("*")
                return super().__iter__()

        os.environ = Watched(os.environ)
        os.getenv = os.environ.get
        for name in OURS:
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(package.__path__, f"{name}."):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
        print(read, threading.active_count())
        """
    )
    assert said == "[] 1"


def test_a_reading_of_the_environment_would_be_seen() -> None:
    """The watch above can fail: the one module that may read does, when it is called."""
    said = run(
        """
        import os
        from gateway.settings import read_settings

        read = []

        class Watched(dict):
            def get(self, name, default=None):
                read.append(name)
                return super().get(name, default)

        os.environ = Watched(os.environ)
        read_settings()
        print("MAKOTO_PORT" in read)
        """
    )
    assert said == "True"
