"""`make deploy` publishes first, and deploys with what was published."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.infra.deployment import ROOT

PUBLISHED = """Env=dev 'Issuers="[{\\"a\\": \\"it'"'"'s $HOME\\"}]"' CommonLayerArn=arn"""
MAKOTO = f"""#!/bin/sh
echo makoto "$@" >> {{log}}
[ "$4" != qa ] || exit 1
cat <<'WORDS'
{PUBLISHED}
WORDS
"""
SAM = """#!/bin/sh
for word in sam "$@"; do echo "$word" >> {log}; done
"""


def make_deploy(
    folder: Path, *variables: str
) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    """Run it with commands that only note what they are asked for; return that, too."""
    make = shutil.which("make")
    assert make is not None
    log = folder / "log"
    for name, script in (("makoto", MAKOTO), ("sam", SAM)):
        (folder / name).write_text(script.replace("{log}", str(log)))
        (folder / name).chmod(0o700)
    done = subprocess.run(
        [
            *(make, "deploy", f"SAM={folder}/sam", f"MAKOTO={folder}/makoto", f"VENV={folder}"),
            *("--assume-old", f"{folder}/.sdk-ready", *variables),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, log.read_text().splitlines() if log.exists() else []


def test_it_deploys_what_was_published(tmp_path: Path) -> None:
    done, asked = make_deploy(tmp_path, "ENV=staging", "CONFIRM=--no-confirm-changeset")
    assert done.returncode == 0, done.stderr
    assert asked[:3] == ["makoto layer publish --env staging --overrides", "sam", "deploy"]
    assert asked[asked.index("--config-env") + 1] == "staging"
    assert asked[-5:] == [
        *("--no-confirm-changeset", "--parameter-overrides", "Env=dev"),
        'Issuers="[{\\"a\\": \\"it\'s $HOME\\"}]"',
        "CommonLayerArn=arn",
    ]


def test_nothing_is_deployed_that_was_not_published(tmp_path: Path) -> None:
    done, asked = make_deploy(tmp_path, "ENV=qa")
    assert done.returncode != 0
    assert asked == ["makoto layer publish --env qa --overrides"]


def test_a_checkout_may_be_in_a_folder_with_a_space(tmp_path: Path) -> None:
    done, asked = make_deploy(tmp_path, f"CURDIR={tmp_path}/my code")
    assert done.returncode == 0, done.stderr
    assert asked[asked.index("--config-file") + 1] == f"{tmp_path}/my code/infra/samconfig.toml"
