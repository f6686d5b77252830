"""The script for a machine with a GPU: all its code runs here, on the CPU at toy sizes."""

import subprocess
import sys

import pytest
import torch

from bilevelbench.asv import gpu
from bilevelbench.core.draw import Draw
from bilevelbench.core.resolve import build_problem


def test_every_measurement_has_a_result_or_a_reason(monkeypatch):
    sizes = gpu.TINY | {"engines": (("quadratic(d=3)", "bome(T=1)"),)}
    monkeypatch.setattr(gpu.engines, "driven", lambda name, solver, problem: _driven(name, solver))
    found = gpu.measure("cpu", sizes)
    assert found["clock"]["ok"]
    for solver in gpu.SOLVERS:
        assert found[f"agreement quadratic(d=3) {solver}"] == {"relative_difference": pytest.approx(0.0, abs=1e-12)}
    assert found["engine functional quadratic(d=3) bome(T=1)"]["median"] > 0
    assert "needs a CUDA device" in found["engine cuda_graph quadratic(d=3) bome(T=1)"]["reason"]
    assert all(value > 0 for value in found["prices quadratic(d=3)"].values())
    assert {"f", "g", "dg_y", "d2g"} <= set(found["prices quadratic(d=3)"])
    said = gpu.table(found)
    for name in ("clock", "memory itd(T=4)", "agreement quadratic(d=3) f2sa", "prices quadratic(d=3)", "engine cuda"):
        assert name in said
    assert "reason the engine cuda_graph needs a CUDA device" in said
    own = [found[f"memory itd(T={T})"]["own_vectors"] for T in (2, 4)]
    assert own[1] - own[0] == pytest.approx(2, abs=0.2)


def _driven(name, solver):
    """The engines without the compiler, which takes half a minute."""
    if name == "cuda_graph":
        raise gpu.Unsupported("the engine cuda_graph needs a CUDA device")
    return solver


def test_agreement_is_of_every_step():
    """Two trajectories that part and meet again do not agree."""
    path = gpu.after("quadratic(d=3)", "bome(T=1)", 50, "cpu")
    assert path.shape == (50, 6)
    assert not torch.equal(path[0], path[-1])
    assert gpu.FULL["steps"] == 50


def test_what_there_is_no_time_for_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "LIMIT", -1.0)
    found = gpu.measure("cpu", gpu.TINY)
    assert found["memory itd(T=2)"] == {"reason": "-1 seconds were over"}


def test_the_full_sizes_name_things_that_exist():
    for problem, solver in gpu.FULL["engines"]:
        gpu.make_solver(solver)
        if "mnist" not in problem:
            build_problem(problem, Draw(0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_gpu_it_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "bilevelbench.asv.gpu"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 2
    assert done.stderr == "error: device cuda: this machine has no CUDA device; choose cpu\n"
