"""What seed 0 is of every problem: what is drawn, to the bit, and what is computed of it, to a tolerance.

python -m tests.seeds NAME ...

writes the named problems (without names: all whose data are here) anew into tests/seeds.json. That is a change of the
problem's numbers: raise its version.

Random numbers, permutations and splits are the same on every machine. Matrix products, sums and solves are not: their
last digits depend on the processor, the library's kernel, the number of threads and where in memory the data lie.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

from bilevelbench import Draw, Unsupported, build_problem
from bilevelbench.core.registry import PROBLEMS

FILE = Path(__file__).with_suffix(".json")
OURS = [name for name in PROBLEMS.names() if PROBLEMS.entries[name].make.__module__.startswith("bilevelbench.")]
CLOSE = 1e-12  # of a tensor's norm: products and direct solves with condition numbers up to 1e3


class Witness(Draw):
    """A draw that keeps what it and its children answer."""

    def __post_init__(self):
        super().__post_init__()
        self.answers, self.generators = [], []
        self._hear()

    def _hear(self):
        self.generators.append(self.numpy)
        self.numpy = Heard(self.numpy, self.answers)

    def child(self, name):
        child = Witness(self.seed, self.device, self.dtype, self.data)
        child.answers, child.generators, child.numpy = self.answers, self.generators, super().child(name).numpy
        child._hear()
        return child

    def digest(self):
        """Of every answer, and of where the generators stand afterwards: they are whole numbers.

        Fractions are compared in float32: in float64 the last bit of some is the C library's (a normal number from the
        tail is a logarithm) or the compiler's (a fused product and sum).
        """
        digest = hashlib.sha256()
        for name, answer in self.answers:
            digest.update(f"{name}{answer.shape}".encode())
            digest.update(answer.astype("<f4" if answer.dtype.kind == "f" else "<i8").tobytes())
        for generator in self.generators:
            digest.update(json.dumps(generator.bit_generator.state, sort_keys=True).encode())
        return digest.hexdigest()[:16]


class Heard:
    """NumPy's generator, with a copy of each of its answers kept."""

    def __init__(self, generator, answers):
        self._generator, self._answers = generator, answers

    def __getattr__(self, name):
        def ask(*arguments, **options):
            answer = getattr(self._generator, name)(*arguments, **options)
            assert answer is not None, f"{name} answers in place, where it is not heard"
            self._answers.append((name, np.array(answer)))
            return answer

        return ask


def numbers(problem, data):
    """Of x0, y0 and each tensor that was put: its shape, its sum with fixed odd weights, and its norm.

    The weights are of either sign and differ, so that a changed entry, sign or order changes the sum.
    """
    found = []
    for tensor in (problem.x0, problem.y0, *data):
        values = tensor.double().numpy().ravel()
        weights = (2 * np.random.default_rng(len(values)).integers(-256, 256, len(values)) + 1) / 512
        found.append(([*tensor.shape], math.fsum(values * weights), math.hypot(*values)))
    return found


def agree(found, kept):
    """Whether ``numbers`` are those kept: shapes exactly, weighted sums to ``CLOSE`` of the norm."""
    return len(found) == len(kept) and all(
        shape == old_shape and abs(total - old) <= CLOSE * norm
        for (shape, total, norm), (old_shape, old) in zip(found, kept, strict=True)
    )


def kept():
    """By problem: the digest of what was drawn, and shape and weighted sum of each tensor."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def write(names):
    """Numbers of problems anew; those of problems whose data are missing stay."""
    entries = kept() if FILE.exists() else {}
    for name in names:
        draw = Witness(0)
        try:
            found = numbers(build_problem(name, draw), draw.data)
        except Unsupported as reason:
            print(f"{name} stays: {reason}")
            continue
        entries[name] = {"drawn": draw.digest(), "made": [[shape, total] for shape, total, _ in found]}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries))
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or OURS)
