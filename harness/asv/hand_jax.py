"""Steps of the engine jax over the loop that a user of JAX writes by hand, the same iterates, as a ratio.

Both sides run k steps a call, are measured in one process, interleaved, in CPU seconds and by one thread. What the
engine has and the loop by hand has not is in the ratio: counting, and states that go from torch and back.

    python -m bilevelbench.asv.hand_jax [PROBLEM ...]     a table: solvers by problems, in float64 and in float32
    python -m bilevelbench.asv.hand_jax call              microseconds of a call beside its steps, and of compiling
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from bilevelbench.asv.names import chosen
from bilevelbench.core.draw import Draw
from bilevelbench.core.engines import driven
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import start, stretch
from bilevelbench.measure.clock import COMPILE, Stopwatch
from bilevelbench.measure.ratio import interval

PROBLEMS = ["quadratic(d=20)", "quadratic(d=100)", "quadratic(d=1000)", "hyper_cleaning"]
SOLVERS = ["bome", "itd", "aid_cg", "soba"]
ROUNDS = 9
LONG = 0.05  # seconds between two readings

Level = Callable[[Any, Any], Any]


def levels(text: str, jax: Any, data: list[torch.Tensor]) -> tuple[Level, Level]:
    """f and g of a problem in JAX, from what it ``put``."""
    np = jax.numpy
    if text.startswith("quadratic"):
        A, _, c = (np.asarray(tensor.numpy()) for tensor in data)
        return (
            lambda x, y: 0.5 * (y - c) @ (y - c) + 0.05 * x @ x,
            lambda x, y: 0.5 * y @ (A @ y) - y @ x,
        )
    A, labels, B, targets, *_ = (np.asarray(tensor.numpy()) for tensor in data)

    def entropies(y: Any, inputs: Any, classes: Any) -> Any:
        weight, bias = y[:-10].reshape(10, -1), y[-10:]
        logs = jax.nn.log_softmax(inputs @ weight.T + bias)
        return -np.take_along_axis(logs, classes[:, None], 1)[:, 0]

    return (
        lambda x, y: entropies(y, B, targets).mean(),
        lambda x, y: (jax.nn.sigmoid(x) * entropies(y, A, labels)).mean() + 1e-3 * y @ y,
    )


def by_hand(s: Any, jax: Any, f: Level, g: Level) -> Callable[[Any], Any]:
    """A step of a solver on its state (x, y), and v for soba."""
    np, grad = jax.numpy, jax.grad

    def lower(x: Any, y: Any) -> Any:
        for _ in range(s.T):
            y = y - s.lr_inner * grad(g, 1)(x, y)
        return y

    def bome(state: Any) -> Any:
        x, y = state
        z = lower(x, y)
        fx, fy = grad(f, (0, 1))(x, y)
        qx, qy = grad(lambda x, y: g(x, y) - g(x, z), (0, 1))(x, y)
        square = qx @ qx + qy @ qy
        lam = jax.nn.relu(s.eta - np.where(square == 0, 0, (fx @ qx + fy @ qy) / square))
        return x - s.lr * (fx + lam * qx), y - s.lr * (fy + lam * qy)

    def itd(state: Any) -> Any:
        x, y = state
        return x - s.lr * grad(lambda x: f(x, lower(x, y)))(x), lower(x, y)

    def aid_cg(state: Any) -> Any:
        x, y = state[0], lower(*state)
        fx, r = grad(f, (0, 1))(x, y)
        q, p, rr = np.zeros_like(r), r, r @ r
        tiny = np.finfo(r.dtype).tiny
        for _ in range(s.K):
            Hp = jax.jvp(lambda y: grad(g, 1)(x, y), (y,), (p,))[1]
            a = rr / (p @ Hp + tiny)
            q, r = q + a * p, r - a * Hp
            rr, old = r @ r, rr
            p = r + rr / (old + tiny) * p
        return x - s.lr * (fx - grad(lambda x: grad(g, 1)(x, y) @ q)(x)), y

    def soba(state: Any) -> Any:
        x, y, v = state
        fx, fy = grad(f, (0, 1))(x, y)
        gy, pull = jax.vjp(lambda x, y: grad(g, 1)(x, y), x, y)
        cross, hessian = pull(v)
        return x - s.lr * (fx + cross), y - s.lr_inner * gy, v - s.lr_inner * (hessian + fy)

    return {"bome": bome, "itd": itd, "aid_cg": aid_cg, "soba": soba}[s.name]


class Pair:
    """One solver on one problem, by the engine and by hand."""

    def __init__(self, problem: str, solver: str, dtype: torch.dtype = torch.float64) -> None:
        from bilevelbench.core.lowered import here, tensor_of

        rng = Draw(0, dtype=dtype)
        self.watch = Stopwatch(lambda: None)
        made, plain = build_problem(problem, rng), make_solver(solver)
        self.solver, self.o, self.k = driven("jax", plain, made, self.watch), Oracle(made), 0
        self.state = start(plain, made, self.o)
        self._here = here
        with here() as jax:
            step = by_hand(plain, jax, *levels(problem, jax, rng.data))
            loop = jax.jit(lambda k, state: jax.lax.fori_loop(0, k, lambda _, state: step(state), state))
            first = [jax.numpy.asarray(part.numpy()) for part in (self.state.x, self.state.y)]
            self.hand = (*first, jax.numpy.zeros_like(first[1]))[: 2 + (solver == "soba")]

            def other(k: int) -> None:
                self.hand = loop(k, self.hand)
                jax.block_until_ready(self.hand)

        self._other, self._tensor_of = other, tensor_of

    def engine(self, k: int) -> float:
        """CPU seconds of k steps by the engine."""
        begin = time.process_time()
        self.state = stretch(self.solver, self.o, self.state, self.k, self.k + k)
        self.k += k
        return time.process_time() - begin

    def by_hand(self, k: int) -> float:
        """CPU seconds of k steps by hand."""
        with self._here():
            begin = time.process_time()
            self._other(k)
            return time.process_time() - begin

    def apart(self) -> float:
        """How far the two states are from each other."""
        x, y, *_ = map(self._tensor_of, self.hand)
        return max(float((a - b).abs().max()) for a, b in ((x, self.state.x), (y, self.state.y)))


def long_enough(pair: Pair) -> int:
    """How many steps a reading takes. Both sides have been compiled then, which is in no reading."""
    k = 8
    pair.engine(k)
    pair.by_hand(k)
    while pair.by_hand(k) < LONG and k < 1 << 20:
        k *= 2
    pair.engine(k)
    return k


def over_hand(problem: str, solver: str, dtype: torch.dtype = torch.float64, rounds: int = ROUNDS) -> float:
    """Seconds of steps by the engine over those by hand, the median over interleaved rounds."""
    pair = Pair(problem, solver, dtype)
    k = long_enough(pair)
    seen = []
    for turn in range(rounds):
        if turn % 2:
            one, other = pair.engine(k), pair.by_hand(k)
        else:
            other, one = pair.by_hand(k), pair.engine(k)
        seen.append(one / other)
    return interval(torch.tensor(seen).numpy()).median


def call(problem: str = "quadratic(d=20)", solver: str = "bome") -> tuple[float, float]:
    """Microseconds that a call takes beside its steps, and CPU seconds of recording and compiling."""
    pair = Pair(problem, solver)
    pair.engine(1)
    many = min(pair.engine(1000) for _ in range(ROUNDS)) / 1000
    one = sorted(pair.engine(1) for _ in range(500))[250]
    return 1e6 * (one - many), pair.watch._cpu_accounts[COMPILE]


class HandJax:
    """Ratios; lists that only grow, so that asv's indices keep their meaning."""

    params = (chosen(PROBLEMS[1:2], PROBLEMS), SOLVERS)
    param_names = ("problem", "solver")
    timeout = 600
    version = "2"
    unit = "ratio"

    def setup(self, problem: str, solver: str) -> None:
        if not all(map(importlib.util.find_spec, ("jax", "bilevelbench.core.jaxed"))):
            raise NotImplementedError("not in this commit or environment")  # asv's word for n/a
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json

    def track_loop_over_hand(self, problem: str, solver: str) -> float:
        """Seconds of steps by the engine jax over those of a loop by hand."""
        return over_hand(problem, solver)


def main() -> None:
    """Print the table, a line per problem as it is measured."""
    torch.set_num_threads(1)
    if sys.argv[1:] == ["call"]:
        for text in PROBLEMS:
            extra, compiling = call(text)
            print(f"{text:20} {extra:7.1f} us a call, {compiling:.2f} s to record and compile bome", flush=True)
        return
    print(" ".join(f"{name:>8}" for name in ("", "", *SOLVERS)))
    for problem in sys.argv[1:] or PROBLEMS:
        for dtype in (torch.float64, torch.float32):
            found = [over_hand(problem, solver, dtype) for solver in SOLVERS]
            print(f"{problem:20} {str(dtype)[6:]}", " ".join(f"{ratio:8.3f}" for ratio in found), flush=True)


if __name__ == "__main__":
    main()
