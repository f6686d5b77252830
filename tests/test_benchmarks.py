"""The page of benchmarks, and what people ask of it and of the gate that cannot be done: one sentence, exit 2."""

import json
import sys
from pathlib import Path

import pytest

from bilevelbench.asv import replay
from bilevelbench.cli import main
from bilevelbench.core.errors import RequestError
from bilevelbench.report.benchmarks import write

ROOT = Path(__file__).parents[1]


def made(path, median=0.001, node="here", version="5.1.0", passed=True):
    extra = {"solver": "bome", "layer": "floor", "passed": passed, "found": "1.10 (1.08 to 1.12)", "expected": "<= 1.4",
             "remark": "<b>", "dg_y": 10}  # fmt: skip
    bench = {"name": "test_gate[floor-bome]", "fullname": "x::test_gate[floor-bome]", "stats": {"median": median},
             "extra_info": extra}  # fmt: skip
    info = {"node": node, "machine": "x86", "python_version": "3.11.7", "cpu": {"brand_raw": "a processor"}}
    path.write_text(json.dumps({"benchmarks": [bench], "machine_info": info, "version": version, "datetime": "now"}))
    return path


def test_everything_in_extra_info_is_on_the_page(tmp_path):
    page = write(made(tmp_path / "new.json", passed=False), tmp_path / "out").read_text()
    for words in (
        "1.10 (1.08 to 1.12)",
        "&lt;= 1.4",
        "dg_y 10",
        "1 outside what is expected",
        "&lt;b&gt;",
        "a processor",
    ):
        assert words in page


def test_seconds_of_one_machine_are_compared(tmp_path):
    old, new = made(tmp_path / "old.json"), made(tmp_path / "new.json", median=0.003)
    assert "<td>3.00</td>" in write(new, tmp_path / "out", old).read_text()


@pytest.mark.parametrize(("change", "words"), [({"node": "there"}, "another machine"), ({"version": "6.0"}, "schema")])
def test_what_must_not_be_compared_is_refused(tmp_path, change, words):
    with pytest.raises(RequestError, match=words):
        write(made(tmp_path / "new.json"), tmp_path / "out", made(tmp_path / "old.json", **change))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["report", "--benchmarks", "none.json"], "there is no benchmark file none.json"),
        (["gate", "bome", "--baseline", "none.json"], "there is no baseline file none.json"),
        (["gate", "bom", "--baseline", "ours.json"], "did you mean bome"),
        (["run", "-p", "quadratic", "-s", "bome", "--engine", "egaer"], "there is no engine 'egaer'"),
        (["run", "-p", "quadratic", "-s", "bome", "--device", "gpu"], "there is no device 'gpu'"),
    ],
)
def test_one_sentence(tmp_path, monkeypatch, capsys, command, words):
    (tmp_path / "ours.json").write_text((ROOT / "tests" / "perf" / "baseline.json").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bilevelbench", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in said
    assert said.count("\n") == 1


def test_asv_s_replay_without_a_checkout_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        replay.main()
    assert ended.value.code == 2
    assert "run this in the folder of a git checkout" in capsys.readouterr().err
