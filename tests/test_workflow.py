"""The workflow that people copy: it parses, its commands exist, and code of a pull request gets no right to write."""

import re
from pathlib import Path

import pytest
import yaml

from bilevelbench.cli import cli

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "workflows" / "gate.yml").read_text(encoding="utf-8")
JOBS = yaml.safe_load(TEXT)["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]


def test_it_runs_on_pull_requests_with_a_token_of_their_own():
    """`on` is a boolean to YAML 1.1. pull_request_target would run foreign code with the rights of the repository."""
    assert yaml.safe_load(TEXT)[True] == "pull_request"
    assert yaml.safe_load(TEXT)["permissions"] == {}


@pytest.mark.parametrize("name", JOBS)
def test_what_runs_foreign_code_may_read_only(name):
    job = JOBS[name]
    runs_code = any("actions/checkout" in step.get("uses", "") for step in job["steps"])
    assert job["permissions"] == ({"contents": "read"} if runs_code else {"pull-requests": "write"})
    if not runs_code:
        assert "head.repo.full_name == github.repository" in job["if"], "a fork's token cannot comment"


def test_actions_are_pinned_to_commits():
    used = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert len(used) == sum("uses" in step for step in STEPS)
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"say which version {action} is"


def test_the_gate_is_called_as_it_is():
    (line,) = [step["run"] for step in STEPS if "bilevelbench" in step.get("run", "")]
    _, _, words = line.partition("bilevelbench ")
    command, *arguments = words.split()
    options = {option for parameter in cli.commands[command].params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= options
    assert (ROOT / arguments[arguments.index("--baseline") + 1]).is_file()


def test_one_event_is_put_into_no_script():
    """What a pull request says of itself reaches a shell by the environment only."""
    assert not [step["run"] for step in STEPS if "${{" in step.get("run", "")]
