"""A user's solver file that is wrong: one sentence, from ``check`` and from ``run``."""

import sys
from pathlib import Path

import pytest

from bilevelbench.cli import main
from bilevelbench.run import child
from bilevelbench.store.journal import read_folder
from tests.forked import Forks

START = "from bilevelbench import Point, solver\nimport torch\n\n"
STEP = "    def step(self, o, s):\n"
IDLE = STEP + "        return s\n"
# Refused before anything runs, with exit code 2.
UNREADABLE = {
    "syntax": ("def step(:\n", "line 1: invalid syntax"),
    "empty": ("x = 1\n", "registers no solver"),
    "raises": (START + "1 / 0\n", "cannot be imported: ZeroDivisionError"),
    "no_step": (START + "@solver('no_step')\nclass S:\n    lr: float = 0.1\n", "has no step(self, o, s)"),
    "words": (
        START + "@solver('words')\nclass S:\n    lr: float = 'fast'\n" + IDLE,
        "lr='fast'",
    ),
    "nan": (START + "@solver('nan')\nclass S:\n    lr: float = float('nan')\n" + IDLE, "lr=nan"),
    "bare": (
        START + "@solver('bare')\nclass S:\n    lr: float\n" + IDLE,
        "needs a default value",
    ),
    "tallied": (START + "@solver('tallied')\nclass S:\n    calls = {'dg_y': 1}\n" + IDLE, "such as 'T dg_y, df_x'"),
    "needy": (START + "@solver('needy')\nclass S:\n    needs = ('minibatch',)\n" + IDLE, "did you mean minibatches?"),
    "taken": (START + "@solver('bome')\nclass S:\n" + IDLE, "registered twice"),
}
# Found when it steps.
FAULTY = {
    "impure": ("        s.x.sub_(o.df_x(s.x, s.y))\n        return Point(s.x, s.y)\n", "changes the state"),
    "graph": ("        x = s.x.requires_grad_()\n        return Point(x - o.df_x(x, s.y), s.y)\n", "carries a graph"),
    "grows": ("        return Point(torch.cat([s.x, o.df_x(s.x, s.y)]), s.y)\n", "[4] to [8]"),
    "forgets": ("        return o.df_x(s.x, s.y)\n", "type"),
}


def here(arguments, monkeypatch, capfd):
    monkeypatch.setattr(child, "processes", Forks)
    monkeypatch.setattr(sys, "argv", ["bilevelbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return (left.value.code, *capfd.readouterr())


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_holds_no_solver_is_one_sentence(name, verb, tmp_path, monkeypatch, capfd):
    source, words = UNREADABLE[name]
    file = tmp_path / f"{name}.py"
    file.write_text(source)
    arguments = [verb, file] if verb == "check" else ["run", "-p", "quadratic", "-s", file, "--out", tmp_path / "out"]
    code, out, err = here(arguments, monkeypatch, capfd)
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """A folder with one file for each; the same for all tests, since a name belongs to one file."""
    folder = tmp_path_factory.mktemp("faulty")
    for name, (step, _) in FAULTY.items():
        (folder / f"{name}.py").write_text(f"{START}@solver('{name}_solver')\nclass S:\n{STEP}{step}")
    return folder


@pytest.mark.parametrize("name", FAULTY)
def test_check_says_what_a_faulty_step_does(name, faulty, monkeypatch, capfd):
    code, out, err = here(["check", faulty / f"{name}.py"], monkeypatch, capfd)
    assert code == 1
    assert FAULTY[name][1] in out
    assert "Traceback" not in out + err


def test_run_ends_faulty_steps_with_a_sentence_and_reports_the_rest(faulty, tmp_path, monkeypatch, capfd):
    files = [word for name in FAULTY for word in ("-s", faulty / f"{name}.py")]
    out = tmp_path / "out"
    code, _, err = here(
        ["run", "-p", "quadratic", "-s", "soba", *files, "--steps", 5, "--out", out], monkeypatch, capfd
    )
    assert code == 1
    assert "Traceback" not in err
    ends = {record.header["solver"]["name"]: record for record in read_folder(out)}
    assert ends["soba"].status == "done"
    for name, words in {"impure": "changes the state", "graph": "carries a graph", "grows": "float64[40]"}.items():
        record = ends[f"{name}_solver"]
        assert record.status == "error"
        assert words in record.rows[-1]["reason"]
    assert ends["forgets_solver"].status == "error"
    assert (out / "report" / "index.html").is_file()
