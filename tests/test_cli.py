"""The command line: exit codes, one sentence for what is wrong, nothing measured lost."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bilevelbench.cli import main
from bilevelbench.run import child
from tests.campaigns import requests
from tests.forked import Forks

pytestmark = pytest.mark.xdist_group("cli")  # one process makes what the module's tests share
SLOW_IMPORTS = ("torch", "pandas", "matplotlib", "sklearn", "scipy")


def bilevelbench(*arguments, cwd=None, **options):
    return subprocess.run(
        [sys.executable, "-m", "bilevelbench", *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False, cwd=cwd, **options,
    )  # fmt: skip


def here(arguments, folder, monkeypatch, capfd):
    """The same command in this process: (exit code, stdout, stderr). Saves the import of torch, twice."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(child, "processes", Forks)
    monkeypatch.setattr(sys, "argv", ["bilevelbench", *map(str, arguments)])
    try:
        code = main() or 0
    except SystemExit as left:
        code = left.code
    return (code, *capfd.readouterr())


BAD = [
    (["run", "smok"], "smoke"),
    (["run", "-p", "quadratik", "-s", "bome"], "quadratic"),
    (["run", "-p", "quadratic", "-s", "bom"], "bome"),
    (["run", "-p", "quadratic", "-s", "bome(lrr=1)"], "lr"),
    (["run", "-p", "quadratic", "-s", "bome(lr='fast')"], "a finite number"),
    (["run", "-p", "quadratic", "-s", "bome(T=0)"], "at least 1"),
    (["run", "-p", "quadratic", "-s", "bome(T=1.5)"], "a whole number"),
    (["run", "-p", "quadratic", "-s", "bome(lr=-1)"], "at least 0"),
    (["run", "-p", "quadratic", "-s", "bome(lr=__import__('os'))"], "Python literals"),
    (["run", "-p", "quadratic", "-s", "bome(phi='x')"], "'norm', 'gap'"),
    (["run", "-p", "quadratic(kappa=0)", "-s", "bome"], "kappa"),
    (["run", "-p", "coreset(y0=[1])", "-s", "bome"], "y0"),
    (["run", "-p", "quadratic", "-s", "bome", "--steps", "-3"], "--steps"),
    (["run", "-p", "quadratic", "-s", "bome", "--steps", "0"], "from 1"),
    (["run", "-p", "quadratic", "-s", "bome", "--steps", "many"], "many"),
    (["run", "-p", "quadratic", "-s", "bome", "--seconds", "0"], "above 0"),
    (["run", "-p", "quadratic", "-s", "bome", "--seeds", "4-1"], "0-4"),
    (["run", "-p", "quadratic", "-s", "bome", "--dtype", "float16"], "float32, float64"),
    (["run", "-p", "quadratic", "-s", "bome", "--device", "tpu"], "cpu, cuda"),
    (["run", "-p", "quadratic", "-s", "bome", "--out", "/dev/null/x"], "out /dev/null/x"),
    (["run", "-p", "quadratic", "-s", "nowhere.py"], "no file"),
    (["run", "-p", "quadratic", "-s", "bome", "--keep", "z"], "keep='z'"),
    (["run", "-p", "quadratic", "-s", "bome", "--in-process", "--seconds", "1"], "in_process"),
    (["run", "smoke", "-p", "quadratic"], "suite"),
    (["run", "nowhere.toml"], "nowhere.toml"),
    (["run", "--stepz", "3"], "--steps"),
    (["rum"], "run"),
    (["list", "bomme"], "bome"),
    (["check", "bomme"], "bome"),
    (["report", "nowhere"], "nowhere"),
    (["report", "--weight", "toys"], "FAMILY=NUMBER"),
    (["list", "--for", "quadratik"], "quadratic"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capfd):
    code, out, err = here(arguments, tmp_path, monkeypatch, capfd)
    assert code == 2, err
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert "Traceback" not in out + err
    assert not list(tmp_path.rglob("*.jsonl")), "nothing is measured on a wrong request"


def test_mistyped_requests(tmp_path):
    """A few of those of ``tests.campaigns.requests``."""
    rng = random.Random(0)
    outcomes = []
    for k in range(25):
        folder = tmp_path / str(k)
        folder.mkdir()
        outcome, said = requests.ask(requests.request(rng, folder), folder, whole=False)
        assert outcome in ("refused", "accepted", "ended"), said
        outcomes.append(outcome)
    assert outcomes.count("refused") > 15


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a CUDA device here")
def test_cuda_without_a_device_is_one_sentence(tmp_path, monkeypatch, capfd):
    code, _, err = here(["run", "smoke", "--device", "cuda"], tmp_path, monkeypatch, capfd)
    assert code == 2
    assert "no CUDA device" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("block = 3", "[[block]]"),
        ("[[block]]\nproblems = ['quadratic']\nsolver = ['bome']\nsteps = 5", "solvers"),
        ("[[block]]\nproblems = ['quadratic']\nsolvers = 'bome'\nsteps = 5", "a list"),
        ("[[block]]\nproblems = ['quadratic']\nsolvers = ['bome']\nsteps = true", "a whole number"),
        ("[[block]]\nproblems = ['quadratic']\nsolvers = ['bome']", "a limit"),
        ("[[block]\n", "TOML"),
    ],
)
def test_a_wrong_suite_file_is_one_sentence(tmp_path, text, words, monkeypatch, capfd):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    code, _, err = here(["run", path], tmp_path, monkeypatch, capfd)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_bad_input_from_a_shell(tmp_path):
    done = bilevelbench("run", "smok", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: there is no suite 'smok'; did you mean smoke?\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study by the command of the documentation, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("study")
    done = bilevelbench(
        "run", "-p", "coreset(y0=[0,3])", "-s", "bome(lr=0.05,lr_inner=0.05,T=10,eta=0.5,eps=1e-4)", "-s", "aid_cg",
        "--seeds", "0-1", "--steps", "20", "--iterates", "--out", "results", cwd=folder,
    )  # fmt: skip
    return done, folder


def test_a_study_has_a_file_per_run_and_a_report(study):
    done, folder = study
    assert done.returncode == 0, done.stderr
    files = sorted((folder / "results").glob("*.jsonl"))
    assert len(files) == 4
    assert "report: results/report/index.html" in done.stdout
    assert (folder / "results/report/index.html").exists()
    assert "bome" in done.stdout
    assert "[4/4]" in done.stderr, "plain lines when nobody watches"


def test_rows_are_as_documented(study):
    _, folder = study
    path = next((folder / "results").glob("coreset-bome-*.jsonl"))
    header, *rows, end = map(json.loads, path.read_text().splitlines())
    assert [line["kind"] for line in (header, rows[0], end)] == ["header", "row", "end"]
    assert header["problem"]["phi_star"] == 0.72
    assert header["problem"]["n_x"], header["problem"]["n_y"] == (4, 2)
    assert "unattained" in header["problem"]["flags"]
    assert header["key"]["steps"] == 20
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 20]
    for row in rows:
        assert {"step", "seconds", "calls", "rows", "metrics", "status"} <= set(row)
        assert {"phi", "phi_gap", "gap", "grad_phi", "stationarity", "f"} <= set(row["metrics"])
        assert len(row["x"]), len(row["y"]) == (4, 2)
    assert rows[0]["y"] == [0.0, 3.0]
    assert rows[-1]["status"] == "done"
    assert rows[-1]["calls"] == {"dg_y": 200, "df": 20, "dg": 20, "dg_x": 20}


def test_report_again_elsewhere(study):
    _, folder = study
    done = bilevelbench("report", "results", "-o", "reports/mine", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "reports/mine/index.html").exists()


def test_foreign_and_half_written_files_in_a_results_folder(study, tmp_path):
    _, folder = study
    (tmp_path / "results").mkdir()
    for path in (folder / "results").glob("*.jsonl"):
        (tmp_path / "results" / path.name).write_bytes(path.read_bytes())
    half = next((tmp_path / "results").glob("coreset-bome*"))
    half.write_bytes(half.read_bytes()[:-100])
    done = bilevelbench("report", "results", cwd=tmp_path)
    assert done.returncode == 2
    assert half.name in done.stderr
    assert "half-written" in done.stderr
    assert (tmp_path / "results/report/index.html").exists(), "what is whole is shown"
    (tmp_path / "results" / "foreign.jsonl").write_text("mine\n")
    done = bilevelbench("run", "-p", "coreset(y0=[0,3])", "-s", "aid_cg", "--steps", "20", cwd=tmp_path)
    assert done.returncode == 2
    assert "foreign.jsonl" in done.stderr
    assert len(list((tmp_path / "results").glob("*.jsonl"))) == 5, "nothing is lost"


def test_missing_data_makes_runs_unsupported(tmp_path):
    environment = {"BILEVELBENCH_DATA": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for scheme in ("http", "https"):
        environment |= {f"{scheme}_proxy": "http://127.0.0.1:9", f"{scheme.upper()}_PROXY": "http://127.0.0.1:9"}
    done = bilevelbench(
        "run",
        "-p",
        "hyper_cleaning(data='mnist')",
        "-s",
        "bome",
        "--steps",
        "2",
        cwd=tmp_path,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").glob("*.jsonl")
    *_, last, _ = map(json.loads, path.read_text().splitlines())
    assert last["status"] == "unsupported"
    assert "BILEVELBENCH_DATA" in last["reason"]


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_not_wait_for_torch(option):
    code = f"""
import sys
sys.argv = ["bilevelbench", "{option}"]
from bilevelbench.cli import main
from bilevelbench.run import child
from tests.campaigns import requests
from tests.forked import Forks
try:
    main()
finally:
    print(sorted({set(SLOW_IMPORTS)!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout


def test_list_shows_everything_and_the_knobs_of_one(tmp_path, monkeypatch, capfd):
    _, out, _ = here(["list"], tmp_path, monkeypatch, capfd)
    for name in ("bome", "soba", "quadratic", "few_shot", "smoke", "default"):
        assert name in out
    _, out, _ = here(["list", "bome"], tmp_path, monkeypatch, capfd)
    for name in ("lr_inner", "eta", "'norm', 'gap'", "0.5"):
        assert name in out


def test_check_passes_and_fails(tmp_path, monkeypatch, capfd):
    assert here(["check", "lower_only"], tmp_path, monkeypatch, capfd)[0] == 0
    broken = f"{Path(__file__).with_name('broken_contracts.py')}:hides_nan"
    code, out, _ = here(["check", broken], tmp_path, monkeypatch, capfd)
    assert code == 1
    assert "FAILED" in out
