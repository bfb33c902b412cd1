"""What `make deploy` builds the layer for is what it deploys with, or nothing is done."""

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.infra.deployment import ROOT

built_for: Callable[[str, str], str] = runpy.run_path(str(ROOT / "layers" / "built_for.py"))[
    "built_for"
]

SAM = """#!/bin/sh
echo "$RUNTIME" "$ARCHITECTURE" "$@" >> {log}
"""


def config(overrides: str) -> str:
    return f"[dev.deploy.parameters]\nparameter_overrides = {overrides}\n"


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_every_environment_says_what_to_build_for(environment: str) -> None:
    text = (ROOT / "infra" / "samconfig.toml").read_text()
    assert built_for(text, environment) == "RUNTIME=python3.13 ARCHITECTURE=arm64"


@pytest.mark.parametrize(
    "overrides",
    [
        '["Architecture=x86_64", "Env=dev", "Runtime=python3.12"]',
        '["Runtime=python3.12", \'\'\'Issuers="[{\\"a\\": \\"b=c\\"}]"\'\'\', "Architecture=x86_64"]',
        '["Runtime=\\"python3.12\\"", "Architecture=\\"x86_64\\""]',
        '"Env=dev Runtime=python3.12 Architecture=\\"x86_64\\""',
    ],
)
def test_it_is_read_in_every_form_that_sam_takes(overrides: str) -> None:
    assert built_for(config(overrides), "dev") == "RUNTIME=python3.12 ARCHITECTURE=x86_64"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "infra/samconfig.toml has no dev"),
        (config("[]"), "has no Runtime=... for dev"),
        (config('["Runtime=python3.13"]'), "has no Architecture=... for dev"),
        ("[dev.deploy.parameters]\n", "has no Runtime=... for dev"),
    ],
)
def test_what_is_not_said_is_asked_for(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        built_for(text, "dev")


def make_deploy(folder: Path, *variables: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run it with a SAM CLI that only notes what it is asked for; returns that, too."""
    make = shutil.which("make")
    assert make is not None
    log, fake = folder / "log", folder / "sam"
    fake.write_text(SAM.format(log=log))
    fake.chmod(0o700)
    done = subprocess.run(
        [make, "deploy", f"SAM={fake}", f"VENV={sys.prefix}", *variables],
        cwd=ROOT,
        env={
            k: v for k, v in os.environ.items() if k not in {"RUNTIME", "ARCHITECTURE", "MAKEFLAGS"}
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, log.read_text() if log.exists() else ""


def test_it_builds_for_what_it_deploys_with(tmp_path: Path) -> None:
    done, asked = make_deploy(tmp_path, "ENV=staging")
    assert done.returncode == 0, done.stderr
    build, deploy = asked.splitlines()
    assert build.startswith("python3.13 arm64 build ")
    assert deploy.startswith("  deploy ")
    assert deploy.endswith("--config-env staging")


@pytest.mark.parametrize(
    ("given", "told"),
    [("RUNTIME=python3.12", "Runtime and Architecture"), ("ENV=qa", "has no qa")],
)
def test_nothing_is_built_that_could_not_run(tmp_path: Path, given: str, told: str) -> None:
    done, asked = make_deploy(tmp_path, given)
    assert done.returncode != 0
    assert told in done.stderr
    assert asked == ""
