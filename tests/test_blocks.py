"""Looks straight out of the lines of a file: what the reader of rows finds, or nothing at all."""

import contextlib
import json
import math
import random

import msgspec
import numpy as np
import pytest

from bilevelbench.store import looks as module
from bilevelbench.store.blocks import kept, of_rows, read_block, usual
from bilevelbench.store.frame import load
from bilevelbench.store.journal import read
from bilevelbench.store.schema import Row, dumps
from tests.results_factory import write_run


def made(n=6, **changes):
    """Rows as a run writes them."""
    rows = []
    for k in range(n):
        row = Row(k, 0.1 * k, 0.1 * k, {"dg_y": 2 * k, "df": k} if k else {}, 3 * k, {"dg_y": 5 * k} if k else {})
        row.metrics = {"phi": 1.0 / (k + 1), "step": float(k), "acc": None if k % 2 else 0.5}
        row.passes = {"forward": k, "backward": k} if k else {}
        row.kept = {"dg_y": 1} if k > 2 else {}
        row.status = "done" if k == n - 1 else "running"
        row.judge_seconds = 0.5
        rows.append(json.loads(dumps(row)))
    for place, change in changes.items():
        rows[int(place[1:])] |= change
    return rows


def lines(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def same(one, two):
    return (
        one.names == two.names and one.ended == two.ended and one.unjudged == two.unjudged
        and np.array_equal(one.values, two.values, equal_nan=True)
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"r5": {"status": "diverged", "fault": "solver"}}, {"r3": {"unjudged": "phi: too far"}},
        {"r2": {"seconds": None, "cpu_seconds": None}}, {"r4": {"metrics": {"phi": 1.0}}},
        {"r5": {"calls": {"dg_y": 10, "df": 5, "d2g_yy": 1}}}, {"r1": {"more": {"of": ["a", "newer", "version"]}}},
        {"r4": {"metrics": {"acc": 1.0, "phi": 2}}},
    ],
)  # fmt: skip
def test_lines_like_most_are_read_without_their_rows(changes):
    rows = made(**changes)
    block, ends = usual(lines(rows))
    assert same(block, of_rows(rows))
    assert [row["step"] for row in ends] == [0, 5]
    assert ends == kept(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"r2": {"x": [1.0]}}, {"r0": {"x": [1.0], "y": []}}, {"r2": {"status": "done"}}, {"r3": {"step": 2}},
        {"r3": {"seconds": 0.0}}, {"r3": {"calls": {"dg_y": 1, "df": 1}}}, {"r3": {"rows": {}}},
        {"r3": {"calls": {"dg_y": 6, "df": 3, "other": 1}}}, {"r3": {"metrics": {"other": 1.0}}},
        {"r3": {"passes": {}}}, {"r5": {"metrics": {}, "status": "error"}}, {"r3": {"metrics": {}}},
        {"r3": {"total_calls": 1}},
    ],
)  # fmt: skip
def test_what_is_not_like_most_is_left_to_the_reader_of_rows(changes):
    with contextlib.suppress(msgspec.ValidationError):  # of a kind that others have not
        assert usual(lines(made(**changes))) is None


def test_a_file_is_read_as_its_rows_are_whatever_is_wrong_with_it(tmp_path):
    """Damage of any kind: record, looks and troubles are those of the reader of all rows."""
    rng, path = random.Random(5), write_run(tmp_path, gaps=(1.0, 0.5, 0.25, 0.1, 0.05, 0.01), extra={"acc": 0.5})
    text = path.read_text()
    damages = [lambda t: t, lambda t: t.replace('"calls":{"dg_y":20}', '"calls":{"dg_y":-1}')]
    damages += [lambda t, k=k: t[: len(t) - k] for k in (1, 5, 60, 200, 700)]
    signs = [(k, rng.choice('{}",:0[ x\n')) for k in rng.sample(range(len(text)), 60)]
    damages += [lambda t, k=k, sign=sign: t[:k] + sign + t[k + 1 :] for k, sign in signs]
    shortcuts = 0
    for damage in damages:
        path.write_text(damage(text))
        record, block = read_block(path)
        whole = read(path)
        assert (record.header, record.end, record.troubles) == (whole.header, whole.end, whole.troubles)
        assert record.rows == kept(whole.rows)
        assert same(block, of_rows(whole.rows))
        shortcuts += len(record.rows) < len(whole.rows)
    assert shortcuts > 30


def test_passes_are_unknown_in_older_files(tmp_path):
    rows = made()
    for row in rows:
        row.pop("passes", None)
    block, _ = usual(lines(rows))
    passes = block.values[block.names.index("passes")]
    assert passes[0] == 0.0
    assert all(map(math.isnan, passes[1:]))
    assert same(block, of_rows(rows))


def test_names_that_nothing_can_be_called_after(tmp_path):
    rows = made()
    for row in rows:
        row["metrics"]['a "b"\\'] = 1.0
    found = usual(lines(rows))
    assert found is None or same(found[0], of_rows(rows))


def test_many_looks_lie_in_a_file(tmp_path, monkeypatch):
    for seed in range(4):
        write_run(tmp_path, seed=seed, gaps=(1.0, 0.5, 0.1 * seed), extra={"acc": 0.5} if seed % 2 else None)
    few = load(tmp_path)
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    many = load(tmp_path)
    assert (few.stored._spool._file._rolled, many.stored._spool._file._rolled) == (False, True)
    assert many.looks.equals(few.looks)
