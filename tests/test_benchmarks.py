"""The page of benchmarks, and what people ask of it and of the gate that cannot be done: one sentence, exit 2."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from bilevelbench.asv import command, hand, overhead, replay, with_compiler
from bilevelbench.cli import main
from bilevelbench.core.errors import RequestError
from bilevelbench.report.benchmarks import write

ROOT = Path(__file__).parents[1]


def made(path, median=0.001, cpu="a processor", version="5.1.0", passed=True, calibration=3.0):
    extra = {"solver": "bome", "layer": "floor", "passed": passed, "found": "1.10 (1.08 to 1.12)", "expected": "<= 1.4",
             "remark": "<b>", "dg_y": 10, "interval": [1.1, 1.08, 1.12], "limit": 1.4}  # fmt: skip
    bench = {"name": "test_gate[floor-bome]", "fullname": "x::test_gate[floor-bome]", "stats": {"median": median},
             "extra_info": extra}  # fmt: skip
    info = {"python_version": "3.11.7", "identity": {"cpu": cpu, "cores": 2, "calibration": calibration}}
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
    assert '<td class="n">3.00</td>' in write(new, tmp_path / "out", old).read_text()


def test_how_long_a_layer_took_to_be_judged_is_not_compared(tmp_path):
    old, new = made(tmp_path / "old.json"), made(tmp_path / "new.json", median=0.003)
    for path in (old, new):
        path.write_text(path.read_text().replace('"median"', '"rounds": 1, "median"'))
    text = write(new, tmp_path / "out", old).read_text()
    assert '<td class="n">3.00</td>' not in text
    assert ">new<" not in text
    assert text.count("<svg") == 1, "the ratios are shown"


def test_the_page_has_pictures_and_is_self_contained(tmp_path):
    old, new = made(tmp_path / "old.json"), made(tmp_path / "new.json", median=0.003)
    for earlier, drawn in ((None, ["floor"]), (old, ["floor", "seconds"])):
        page = write(new, tmp_path / str(len(drawn)), earlier).read_text()
        assert page.count("<svg") == len(drawn)
        for stem in drawn:
            assert f'id="{stem}"' in page
        for link in re.findall(r'href="((?:figures|data)/[^"]+)"', page):
            assert (tmp_path / str(len(drawn)) / link).stat().st_size > 0, link
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_the_numbers_drawn_are_those_of_the_file(tmp_path):
    write(made(tmp_path / "new.json", 0.003), tmp_path / "out", made(tmp_path / "old.json"))
    (row,) = pd.read_csv(tmp_path / "out" / "data" / "benchmarks.csv").to_dict("records")
    assert [row[name] for name in ("ratio", "low", "high", "limit", "ratio_before")] == [1.1, 1.08, 1.12, 1.4, 1.1]
    assert row["over_earlier"] == pytest.approx(3)


@pytest.mark.parametrize("benchmarks", [[], [{"name": "plain", "fullname": "plain", "stats": {"median": 1.0}}]])
def test_files_without_a_gate_in_them_are_shown_too(tmp_path, benchmarks):
    content = json.loads(made(tmp_path / "new.json").read_text()) | {"benchmarks": benchmarks}
    (tmp_path / "new.json").write_text(json.dumps(content))
    page = write(tmp_path / "new.json", tmp_path / "out", tmp_path / "new.json").read_text()
    assert f"{len(benchmarks)} benchmark" in page


OTHERS = [
    ({"cpu": "another"}, "another machine"), ({"calibration": 9.0}, "another machine"), ({"version": "6.0"}, "schema"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), OTHERS)
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


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (replay, [], "run this in the folder of a git checkout"),
        (hand, ["quadratik"], "did you mean quadratic"),
        (overhead, [], "name a problem, such as quadratic"),
        (overhead, ["quadratic", "bom"], "did you mean bome"),
        (with_compiler, [], "say `walk [PROBLEM ...]`"),
        (with_compiler, ["compiled"], "say `walk [PROBLEM ...]`"),
        (with_compiler, ["compiled", "quadratic", "bom"], "did you mean bome"),
    ],
)
def test_a_wrong_request_to_asv_s_commands_is_one_sentence(module, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    monkeypatch.setattr(overhead, "added", lambda: 0.0)
    before = torch.get_num_threads()
    with pytest.raises(SystemExit) as ended:
        command.obeyed(module.main)
    torch.set_num_threads(before)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in said
    assert said.count("\n") == 1
