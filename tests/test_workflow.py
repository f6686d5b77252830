"""Workflows that people use: they parse, their commands exist, and code of a pull request gets no right to write."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bilevelbench.asv import suite
from bilevelbench.cli import cli
from bilevelbench.contract import gate
from bilevelbench.contract import steps as steps_module

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.yml"))}
FLOWS = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(name, job) for name, flow in FLOWS.items() for job in flow["jobs"]]
GITLAB = yaml.safe_load((ROOT / ".ci" / "gitlab.yml").read_text(encoding="utf-8"))


def steps(name):
    return [step for job in FLOWS[name]["jobs"].values() for step in job["steps"]]


def test_there_is_one_to_gate_one_to_compare_and_one_for_the_documentation():
    assert set(FLOWS) == {"gate.yml", "compare.yml", "docs.yml"}


@pytest.mark.parametrize("name", FLOWS)
def test_it_runs_on_pull_requests_with_a_token_of_their_own(name):
    """`on` is a boolean to YAML 1.1. pull_request_target would run foreign code with the rights of the repository."""
    on = FLOWS[name][True]
    assert on == "pull_request" or set(on) == {"workflow_call"}
    assert FLOWS[name]["permissions"] == {}


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_what_runs_foreign_code_may_read_only(name, job):
    job = FLOWS[name]["jobs"][job]
    runs_code = any("actions/checkout" in step.get("uses", "") for step in job["steps"])
    assert job["permissions"] == ({"contents": "read"} if runs_code else {"pull-requests": "write"})
    if not runs_code:
        assert "head.repo.full_name == github.repository" in job["if"], "a fork's token cannot comment"


@pytest.mark.parametrize("name", FLOWS)
def test_actions_are_pinned_to_commits(name):
    used = re.findall(r"^ +- uses: (\S+)(.*)", TEXTS[name], re.MULTILINE)
    assert len(used) == sum("uses" in step for step in steps(name))
    for action, comment in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"say which version {action} is"


def commands():
    """Every line that calls us, of GitHub's and of GitLab's."""
    lines = [line for name in FLOWS for step in steps(name) for line in step.get("run", "").splitlines()]
    lines += [line for job in GITLAB.values() for line in job.get("script", []) if isinstance(job, dict)]
    return [line for line in lines if re.search(r"\bbilevelbench (gate|compare)\b", line)]


def test_we_are_called_as_we_are():
    assert len(commands()) == 3
    for line in commands():
        command, *arguments = line.partition("bilevelbench ")[2].split()
        options = {option for parameter in cli.commands[command].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options
        assert set(re.findall(r"/#/(-\w)}", line)) <= options
        if "--baseline" in arguments:
            assert (ROOT / arguments[arguments.index("--baseline") + 1]).is_file()


@pytest.mark.parametrize(("given", "made"), [("", []), ("a b(k=1)", ["-sa", "-sb(k=1)"])])
def test_names_become_options_in_the_shell(given, made):
    """An empty input is no option at all."""
    script = 'read -ra solvers <<< "$1"; for word in "${solvers[@]/#/-s}"; do echo "$word"; done'
    done = subprocess.run(["bash", "-euc", script, "bash", given], capture_output=True, text=True, check=True)
    assert done.stdout.split() == made


@pytest.mark.parametrize("name", FLOWS)
def test_one_event_is_put_into_no_script(name):
    """What a pull request says of itself reaches a shell by the environment only."""
    assert not [step["run"] for step in steps(name) if "${{" in step.get("run", "")]


@pytest.mark.parametrize(("name", "what"), [("compare", "comparison"), ("gate", "gate")])
@pytest.mark.parametrize("size", [0, 5])
def test_a_missing_table_is_a_sentence(name, what, size, tmp_path):
    (tmp_path / f"{name}.md").write_text("x" * size)
    (download, comment) = FLOWS[f"{name}.yml"]["jobs"]["comment"]["steps"]
    assert download["continue-on-error"], "else nobody is told"
    (line,) = [line for line in comment["run"].splitlines() if "made no table" in line]
    subprocess.run(["bash", "-euc", line], cwd=tmp_path, env={"RUN": "https://log"}, check=True)
    text = (tmp_path / f"{name}.md").read_text()
    assert text == ("x" * size or f"The {what} made no table; its log says why: https://log\n")


def test_what_gitlab_comments_with_has_no_code():
    comment = GITLAB["bilevelbench:comment"]
    assert comment["variables"]["GIT_STRATEGY"] == "none"
    assert "TOKEN" not in str(GITLAB["bilevelbench:compare"])
    assert "made no table" in comment["script"][0]


def test_zizmor_has_nothing_to_say():
    tool = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    assert tool, "zizmor is not installed; `uv sync` installs it"
    done = subprocess.run([tool, "--offline", "--quiet", str(FOLDER)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_what_is_wrong(tmp_path):
    """It is switched on: the same file, with a script that takes what a pull request says of itself."""
    text = TEXTS["compare.yml"].replace('"$NUMBER"', '"${{ github.event.pull_request.title }}"')
    (tmp_path / "wrong.yml").write_text(text)
    tool = str(Path(sys.executable).parent / "zizmor")
    command = [tool, "--offline", "--quiet", str(tmp_path / "wrong.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "template-injection" in done.stdout


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is a program of its own: brew, go or a release")
def test_actionlint_has_nothing_to_say():
    done = subprocess.run(["actionlint", *map(str, FOLDER.glob("*.yml"))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- in another library, in ten lines each


def quoted(text, after, before):
    """The lines that a text shows between two others, without what they begin with."""
    lines = text.partition(after)[2].partition(before)[0].strip("\n").splitlines()
    kept = [re.sub(r"^#? {0,4}", "", line, count=1) for line in lines]
    return [line for line in kept if line.strip()]


def test_calling_the_workflow_is_ten_lines_that_name_what_there_is():
    lines = quoted(TEXTS["compare.yml"], "In another library:\n", "#\n# The job that runs")
    called = yaml.safe_load("\n".join(lines))
    (job,) = called["jobs"].values()
    assert len(lines) <= 10
    assert (ROOT / job["uses"].partition("@")[0].removeprefix("bilevelbench/bilevelbench/")).is_file()
    assert set(job["with"]) <= set(FLOWS["compare.yml"][True]["workflow_call"]["inputs"])
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}, "what its jobs have, together"


def test_asv_gate_and_rounds_are_ten_lines_each():
    for module, after, before in (
        (suite, "for asv:\n", "``mine``"),
        (gate, "pytest-benchmark:\n", "`bilevelbench gate"),
        (steps_module, "beside them.\n", "A round"),
    ):
        lines = quoted(module.__doc__, after, before)
        assert 2 <= len(lines) <= 10
        compile("\n".join(lines), module.__name__, "exec")


def test_gitlab_s_include_is_ten_lines_of_variables_that_there_are():
    text = (ROOT / ".ci" / "gitlab.yml").read_text(encoding="utf-8")
    lines = quoted(text, ".gitlab-ci.yml:\n", "#\n# The job that comments")
    assert len(lines) <= 10
    assert set(yaml.safe_load("\n".join(lines))["variables"]) <= set(GITLAB["variables"])
