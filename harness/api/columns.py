"""What the columns of ``Results`` are: name, and what stands in it with its unit."""

from __future__ import annotations

from collections.abc import Iterable

RUNS = {
    "run": "digits that name the run, unique within the results",
    "problem": "as asked for, with whatever must not be in one ratio where that is mixed (device, dtype, machine, ...)",
    "family": "of problems; families weigh alike",
    "solver": "name and non-default choices; what tells settings apart where several share a name",
    "kind": "of solver: unrolled, implicit, first order, derivative free or control",
    "tuned": "whether its knobs were tuned on this problem: True, False, or edge: at the end of what was tried",
    "seed": "whole number",
    "status": "done, diverged, error, timeout, oom, unsupported, lost or cut off",
    "fault": "whose it was that the run did not end well: solver, problem, machine or harness; else empty",
    "reason": "one sentence where the run did not end well",
    "traceback": "of what was raised, where something was",
    "ended_by": "the limit that ended the run: steps, seconds or calls",
    "steps": "outer steps made",
    "calls": "oracle calls; each value, gradient and second-order product is one",
    "rows": "rows of data behind them",
    "unit": "what is paired in comparisons: calls, or rows where these are the budget",
    "grads": "the same in gradient equivalents: calls times their measured prices, over that of a gradient",
    "seconds": "wall seconds of the solver's own steps and init; missing where runs are untimed",
    "cpu_seconds": "their CPU seconds",
    "floor_seconds": "seconds of the same steps by a loop written by hand, or of the oracle's answers by their prices",
    "setup_seconds": "building problem and solver",
    "first_seconds": "the first step, any compilation included",
    "warmup_seconds": "the first two steps, on throw-away objects",
    "audit_seconds": "guards and prices",
    "judge_seconds": "judging all looks",
    "overhead_seconds": "the rest of the loop",
    "whole_cpu_seconds": "CPU seconds of the process that made the run; its share where seeds were made together",
    "peak_bytes": "the most live tensor bytes of a step",
    "solver_bytes": "of these the solver's own",
    "problem_bytes": "what one answer of the problem holds",
    "state_bytes": "the solver's state",
    "growth_bytes": "bytes that are held more with every step",
    "process_bytes": "the process's resident memory",
    "cuda_bytes": "the allocator's peak on CUDA",
    "n_x": "variables above",
    "n_y": "variables below",
    "order": "the highest order of derivatives that was asked for",
    "spec": "the solver with every knob spelled out",
    "device": "cpu or cuda",
    "dtype": "float32 or float64",
    "engine": "see core.engines",
    "threads": "of the run",
    "machine": "processor, cores, GPU",
    "load": "the machine's load when the run began",
    "reference": "the best Phi known, an upper bound on the least; missing where Phi* is known, or none holds",
    "reference_how": "how the reference was had; or why the one that is known does not hold; else empty",
    "attempts": "how often the run was begun until it ended",
}

LOOKS = {
    "run": "as in runs",
    "problem": "as in runs",
    "solver": "as in runs",
    "seed": "as in runs",
    "step": "outer steps so far",
    "total_calls": "oracle calls so far",
    "total_rows": "rows of data behind the calls so far",
    "passes": "forward, backward and double backward passes that they took",
    "grads": "the same in gradient equivalents",
    "seconds": "wall seconds of the solver's so far",
    "cpu_seconds": "CPU seconds of the solver's so far",
    "status": "running, or the final status",
    "unjudged": "why figures are missing that could not be judged; else empty",
}

TARGETS = {
    "run": "as in runs",
    "problem": "as in runs",
    "family": "as in runs",
    "solver": "as in runs",
    "seed": "as in runs",
    "measure": "the metric that the target is set on: phi_gap, phi (over the best value kept), distance, or one's own",
    "target": "phi_gap 1e-3: 10^-3 of the metric's start; accuracy bar: better than the line to be beaten",
    "calls": "oracle calls at the first look from which on it is held; infinity where it is not",
    "rows": "rows of data behind the calls",
    "passes": "passes that they took",
    "grads": "the same in gradient equivalents",
    "seconds": "seconds at that look",
    "passed": "some look met it, and it was not held",
    "unjudged": "the answer hangs on a look that could not be judged",
}

METRICS = {
    "phi": "Phi(x) = f(x, y*(x)), y* solved anew in float64",
    "phi_gap": "phi less the least value of Phi, where that is known",
    "gap": "g(x, y) - min g(x, .)",
    "grad_phi": "norm of the true hypergradient, where it can be had",
    "stationarity": "BOME's measure |grad f + lambda grad q|^2 + q",
    "f": "f(x, y), which alone says nothing",
    "lower_residual": "|grad_y g| at the y* that was found, where it was sought",
    "violation": "the largest violation of the constraints",
}


def ordered(columns: Iterable[str]) -> list[str]:
    """The columns of looks, those of all problems first."""
    return [*LOOKS, *(name for name in columns if name not in LOOKS)]


def described(words: str, *tables: dict[str, str]) -> str:
    """A docstring that says what the columns of a table are."""
    lines = [f"{name}\n    {text}" for table in tables for name, text in table.items()]
    return "\n\n".join([words, "Its columns:", "\n".join(lines)])
