"""Torch's operations in JAX: each of the table against torch, NaN, infinities and zeros included."""

from types import SimpleNamespace

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

pytest.importorskip("jax", reason="the extra jax is not installed: .ci/nightly has it")

from bilevelbench.core.aten import TABLE
from bilevelbench.core.lowered import array_of, here, known, lowered, name_of, tensor_of

aten, prims, nan, inf = torch.ops.aten, torch.ops.prims, float("nan"), float("inf")
UNARY = (
    "abs acos acosh asin asinh atan atanh ceil cos cosh erf exp exp2 expm1 floor isinf isnan log log10 log1p log2 "
    "logical_not neg reciprocal relu round rsqrt sgn sigmoid sign sin sinh sqrt tan tanh trunc clone"
)
BINARY = (
    "add sub rsub mul div pow atan2 floor_divide remainder maximum minimum eq ne lt le gt ge logical_and logical_or "
    "logical_xor"
)
REDUCED = "sum mean prod amax amin any all argmax argmin var"


def unary(name):
    return [lambda t: getattr(aten, name)(t.a)]


def binary(name):
    numbers = [] if name in ("atan2", "maximum", "minimum", "logical_and", "logical_or", "logical_xor") else [2, 0.5]
    op = getattr(aten, name)
    return [lambda t: op(t.a, t.b), lambda t: op(t.A, t.s), *[lambda t, n=n: op(t.a, n) for n in numbers]]


def reduced(name):
    op = getattr(aten, name)
    along = 1 if name in ("prod", "argmax", "argmin") else [1]
    return [
        *[lambda t, on=on: op(getattr(t, on)) for on in ("b", "A", "N")],
        lambda t: op(t.A, along),
        lambda t: op(t.N, along, keepdim=True) if name == "var" else op(t.N, along, True),
    ]


CASES = {
    **{name: unary(name) for name in UNARY.split()},
    **{name: binary(name) for name in BINARY.split()},
    **{name: reduced(name) for name in REDUCED.split()},
}
CASES["add"] += [lambda t: aten.add(t.a, t.b, alpha=3), lambda t: aten.add(t.a, t.s)]
CASES["sub"] += [lambda t: aten.sub(t.a, t.b, alpha=0.5)]
CASES["rsub"] += [lambda t: aten.rsub(t.a, 1, 2)]
CASES["pow"] += [
    lambda t: aten.pow(2.0, t.a), lambda t: aten.pow(t.a, 3), lambda t: aten.pow(t.a, -1), lambda t: aten.pow(t.p, 1.7),
    lambda t: aten.pow(t.p, t.a), lambda t: aten.pow(t.a, -0.5), lambda t: aten.pow(1, t.a),
    lambda t: aten.pow(0.5, t.a),
]  # fmt: skip
CASES["div"] += [lambda t, how=how: aten.div(t.A, t.s, rounding_mode=how) for how in ("floor", "trunc")]
CASES["sum"] += [lambda t: aten.sum(t.c), lambda t: aten.sum(t.D, [0, 2], True), lambda t: aten.sum(t.i)]
CASES["mean"] += [lambda t: aten.mean(t.D, [-1]), lambda t: aten.mean(t.A, [0], dtype=torch.float64)]
CASES["any"] += [lambda t: aten.any(t.c)]
CASES["all"] += [lambda t: aten.all(t.c)]
CASES["amax"] += [lambda t: aten.amax(t.D, [0, 1])]
CASES["var"] += [lambda t: aten.var(t.A, [0], correction=0), lambda t: aten.var(t.A, correction=2)]
CASES |= {
    "getitem": [lambda t: aten.max(t.A, 0)[1]],
    "mv": [lambda t: aten.mv(t.A, t.q), lambda t: aten.mv(t.B.t(), t.q), lambda t: aten.mv(t.N, t.q)],
    "mm": [
        lambda t: aten.mm(t.A, t.B), lambda t: aten.mm(t.A.t(), t.B.t()), lambda t: aten.mm(t.A, t.A.transpose(0, 1)),
        lambda t: aten.mm(t.B.permute(1, 0), t.B), lambda t: aten.mm(t.N, t.B), lambda t: aten.mm(t.B.T, t.A.mT),
        lambda t: aten.mm(t.A.t().t(), t.B.t().t()),
    ],
    "dot": [lambda t: aten.dot(t.p, t.p), lambda t: aten.dot(t.a, t.b)],
    "addmm": [
        lambda t: aten.addmm(t.S, t.A, t.B), lambda t: aten.addmm(t.s, t.A, t.A.t(), beta=2, alpha=0.5),
    ],
    "addmv": [lambda t: aten.addmv(t.S[0], t.A, t.q), lambda t: aten.addmv(t.q, t.A.t(), t.S[0], beta=0.5, alpha=3)],
    "bmm": [lambda t: aten.bmm(t.D, t.D.transpose(1, 2))],
    "bitwise_and": [lambda t: aten.bitwise_and(t.c, t.a > 0)], "bitwise_or": [lambda t: aten.bitwise_or(t.c, t.a > 0)],
    "bitwise_xor": [lambda t: aten.bitwise_xor(t.c, t.a > 0)], "bitwise_not": [lambda t: aten.bitwise_not(t.c)],
    "clamp": [lambda t: aten.clamp(t.a, -1, 1), lambda t: aten.clamp(t.a, None, 0.5), lambda t: aten.clamp(t.a, t.b)],
    "clamp_min": [lambda t: aten.clamp_min(t.a, 0.25)], "clamp_max": [lambda t: aten.clamp_max(t.a, 0.25)],
    "masked_fill": [lambda t: aten.masked_fill(t.a, t.c, 7.0), lambda t: aten.masked_fill(t.a, t.c, t.s)],
    "where": [lambda t: aten.where(t.c, t.a, t.b), lambda t: aten.where(t.a > 0, t.s, t.b)],
    "max": [lambda t: aten.max(t.b), lambda t: [*aten.max(t.N, 1)], lambda t: [*aten.max(t.A, 0, True)]],
    "min": [lambda t: aten.min(t.b), lambda t: [*aten.min(t.N, 1)], lambda t: [*aten.min(t.A, 0, True)]],
    "linalg_vector_norm": [
        *[lambda t, p=p: aten.linalg_vector_norm(t.A, p) for p in (2, 1, 0, 3, inf, -inf)],
        lambda t: aten.linalg_vector_norm(t.N, 2, [1], True), lambda t: aten.linalg_vector_norm(t.A, 1, [0, 1]),
    ],
    "norm": [lambda t: aten.norm(t.A, 2), lambda t: aten.norm(t.N, 2, [1], True)],
    "cumsum": [lambda t: aten.cumsum(t.A, 1), lambda t: aten.cumsum(t.N, 0)],
    "sort": [
        lambda t: [*aten.sort(t.b)], lambda t: [*aten.sort(t.A, 0, True)], lambda t: [*aten.sort(t.N, 1, True)],
        lambda t: [*aten.sort(t.A, stable=True, dim=1, descending=True)],
    ],
    "t": [lambda t: aten.t(t.A)], "transpose": [lambda t: aten.transpose(t.D, 0, -1)],
    "permute": [lambda t: aten.permute(t.D, [2, 0, 1])],
    "view": [lambda t: aten.view(t.A, [2, -1])], "_unsafe_view": [lambda t: aten._unsafe_view(t.A, [12])],
    "expand": [lambda t: aten.expand(t.q, [3, -1]), lambda t: aten.expand(t.s, [2, 2])],
    "unsqueeze": [lambda t: aten.unsqueeze(t.A, -1), lambda t: aten.unsqueeze(t.A, 0)],
    "squeeze": [
        lambda t: aten.squeeze(t.A[:1]), lambda t: aten.squeeze(t.A[:1], 0), lambda t: aten.squeeze(t.A, 1),
        lambda t: aten.squeeze(t.A[:1], [0, 1]),
    ],
    "flip": [lambda t: aten.flip(t.D, [0, 2])],
    "diagonal": [lambda t: aten.diagonal(t.S), lambda t: aten.diagonal(t.D, 1, 1, 2)],
    "cat": [lambda t: aten.cat([t.A, t.N]), lambda t: aten.cat([t.A, t.N], -1)],
    "stack": [lambda t: aten.stack([t.A, t.N]), lambda t: aten.stack([t.A, t.N], 1)],
    "split": [lambda t: [*aten.split(t.b, 3)], lambda t: [*aten.split(t.D, 2, 1)]],
    "split_with_sizes": [lambda t: [*aten.split_with_sizes(t.A, [1, 3], 1)]],
    "unbind": [lambda t: [*aten.unbind(t.D, 1)], lambda t: [*aten.unbind(t.A)]],
    "slice": [lambda t: aten.slice(t.a, 0, 1, 6, 2), lambda t: aten.slice(t.D, -1, -2), lambda t: aten.slice(t.a)],
    "slice_backward": [lambda t: aten.slice_backward(t.b[:4], [9], 0, 1, 9, 2)],
    "slice_scatter": [lambda t: aten.slice_scatter(t.A, t.A[:1] * 2, 0, 1, 2)],
    "select": [lambda t: aten.select(t.D, 1, -1), lambda t: aten.select(t.a, 0, 2)],
    "select_backward": [lambda t: aten.select_backward(t.q, [3, 4], 0, -1)],
    "select_scatter": [lambda t: aten.select_scatter(t.A, t.q, 0, 1)],
    "index": [
        lambda t: aten.index(t.A, [t.i]), lambda t: aten.index(t.A, [None, t.i]), lambda t: aten.index(t.D, [t.h, t.i]),
        lambda t: aten.index(t.D, [t.h, None, t.i]),
    ],
    "_unsafe_index": [lambda t: aten._unsafe_index(t.A, [t.i])],
    "index_put": [
        lambda t: aten.index_put(t.A, [t.i], t.N, True), lambda t: aten.index_put(t.A, [None, t.h], t.s),
        lambda t: aten.index_put(t.a, [t.c], t.s), lambda t: aten.index_put(t.D, [t.h, t.i], t.s, True),
    ],
    "_unsafe_index_put": [lambda t: aten._unsafe_index_put(t.A, [t.i], t.N, True)],
    "index_select": [lambda t: aten.index_select(t.A, 1, t.i)],
    "gather": [lambda t: aten.gather(t.A, 0, t.k), lambda t: aten.gather(t.A, 1, t.k[:2, :3])],
    "scatter": [
        lambda t: aten.scatter(t.A, 1, t.k[:, :1], t.N[:, :1]), lambda t: aten.scatter(t.A, 1, t.k[:, :1], 5.0),
    ],
    "scatter_add": [lambda t: aten.scatter_add(t.A, 0, t.k, t.N)],
    "_softmax": [lambda t: aten._softmax(t.A, 1, False), lambda t: aten._softmax(t.N, 0, False)],
    "_log_softmax": [lambda t: aten._log_softmax(t.A, -1, False), lambda t: aten._log_softmax(t.N, 0, False)],
    "_softmax_backward_data": [
        lambda t, a=a: aten._softmax_backward_data(getattr(t, a), t.A.softmax(1), 1, t.a.dtype) for a in "AN"
    ],
    "_log_softmax_backward_data": [
        lambda t, a=a: aten._log_softmax_backward_data(getattr(t, a), t.A.log_softmax(1), 1, t.a.dtype) for a in "AN"
    ],
    "sigmoid_backward": [lambda t: aten.sigmoid_backward(t.b, t.a)],
    "tanh_backward": [lambda t: aten.tanh_backward(t.b, t.a)],
    "threshold_backward": [lambda t: aten.threshold_backward(t.b, t.a, 0)],
    "nll_loss_forward": [
        lambda t, a=a, r=r, skip=skip, w=w: [*aten.nll_loss_forward(getattr(t, a), t.h, t.q if w else None, r, skip)]
        for a, r, skip, w in (("A", 0, -100, 0), ("A", 1, -100, 0), ("N", 2, 0, 0), ("A", 1, 0, 1), ("N", 1, 9, 0))
    ],
    "nll_loss_backward": [
        lambda t, r=r, skip=skip, w=w: aten.nll_loss_backward(
            t.a[5:] if r == 0 else t.s, t.A, t.h, t.q if w else None, r, skip, t.p[0]
        )
        for r, skip, w in ((0, -100, 0), (1, -100, 0), (2, 0, 0), (1, 0, 1))
    ],
    "convolution": [
        lambda t, how=how: aten.convolution(t.I, t.K, *how)
        for how in (
            (None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1), (None, [2, 1], [1, 0], [1, 2], False, [0, 0], 1),
        )
    ] + [lambda t: aten.convolution(t.I, t.K, t.q[:3], [1, 1], [0, 0], [1, 1], False, [0, 0], 1)]
    + [lambda t: aten.convolution(t.I, t.K.transpose(0, 1), None, [2, 2], [1, 0], [1, 1], True, [1, 0], 1)],
    "convolution_backward": [
        lambda t: [*aten.convolution_backward(
            t.I.new_ones(2, 3, 4, 5), t.I, t.K, [3], [2, 1], [1, 0], [1, 1], False, [0, 0], 1, [True] * 3
        )],
    ],
    "max_pool2d_with_indices": [
        lambda t: [*aten.max_pool2d_with_indices(t.I, [2, 2])],
        lambda t: [*aten.max_pool2d_with_indices(t.I, [3, 2], [1, 2])],
    ],
    "max_pool2d_with_indices_backward": [
        lambda t: aten.max_pool2d_with_indices_backward(
            t.I[:, :, :3, :3] ** 2, t.I, [2, 2], [2, 2], [0, 0], [1, 1], False,
            aten.max_pool2d_with_indices(t.I, [2, 2])[1],
        ),
    ],
    "zeros": [lambda t: t.a + aten.zeros([8], dtype=t.a.dtype)], "ones": [lambda t: aten.ones([2, 3])],
    "full": [lambda t: aten.full([2], 0.5), lambda t: aten.full([2], 3), lambda t: aten.full([2], True)],
    "zeros_like": [lambda t: aten.zeros_like(t.A)], "ones_like": [lambda t: aten.ones_like(t.c, dtype=t.a.dtype)],
    "full_like": [lambda t: aten.full_like(t.A, 2)], "new_zeros": [lambda t: aten.new_zeros(t.A, [2])],
    "new_ones": [lambda t: aten.new_ones(t.i, [2])], "new_full": [lambda t: aten.new_full(t.A, [2], 1.5)],
    "scalar_tensor": [lambda t: aten.scalar_tensor(0.25, dtype=t.a.dtype)],
    "arange": [lambda t: aten.arange(4), lambda t: aten.arange(1, 7, 2), lambda t: aten.arange(3, dtype=t.a.dtype)],
    "alias": [lambda t: aten.alias(t.A)],
    "as_strided": [lambda t: aten.as_strided(t.A, [2, 3], [4, 1], 1), lambda t: aten.as_strided(t.p, [2], [3])],
    "as_strided_scatter": [lambda t: aten.as_strided_scatter(t.A, t.B[:2], [2, 3], [4, 1], 1)],
    "new_empty_strided": [lambda t: aten.copy(aten.new_empty_strided(t.A, [2, 3], [3, 1]), t.s)],
    "copy": [lambda t: aten.copy(t.A, t.q), lambda t: aten.copy(t.i, t.p[:3])],
    "_to_copy": [
        lambda t: aten._to_copy(t.c, dtype=t.a.dtype), lambda t: aten._to_copy(t.p, dtype=torch.int64),
        lambda t: aten._to_copy(t.A, dtype=torch.float32),
    ],
    "prims.convert_element_type": [lambda t: prims.convert_element_type(t.i, t.a.dtype)],
}  # fmt: skip


def inputs(dtype):
    """Vectors a, b with all that is special, p positive, q of 4; matrices A, B, S, and N with a NaN and an infinity."""
    rng = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)  # noqa: E731
    N = normal(3, 4)
    N[0, 1], N[1, 2], N[2, 0] = nan, inf, -inf
    made = {
        "a": torch.tensor([nan, inf, -inf, 0.0, -0.0, 1.5, -2.5, 0.3]),
        "b": torch.tensor([1.0, 2.0, -3.0, nan, 0.0, -1.5, 0.7, -0.2]),
        "p": normal(8).exp(), "q": normal(4), "s": torch.tensor(-0.75),
        "A": normal(3, 4), "B": normal(4, 3), "S": normal(3, 3), "D": normal(2, 3, 4), "N": N,
        "I": normal(2, 2, 6, 6), "K": normal(3, 2, 2, 2),
    }  # fmt: skip
    return {name: tensor.to(dtype) for name, tensor in made.items()} | {
        "i": torch.tensor([2, 0, 2]), "h": torch.tensor([1, 0, 1]), "k": torch.tensor([[0, 1, 2, 2]] * 3),
        "c": torch.tensor([True, False] * 4),
    }  # fmt: skip


def recorded(case, given):
    def answers(*tensors):
        found = case(SimpleNamespace(**dict(zip(given, tensors, strict=True))))
        return found if isinstance(found, list) else [found]

    return make_fx(answers)(*given.values())


def held(dtype, most=None):
    """Hold each operation to torch, in its first cases or in all."""
    given = inputs(dtype)
    graphs = {(name, k): recorded(case, given) for name in CASES for k, case in enumerate(CASES[name][:most])}
    for (name, k), graph in graphs.items():
        assert name in {name_of(node.target) for node in graph.graph.nodes}, f"case {k} of {name} is about another"
    with here() as jax:
        steps = {case: lowered(graph) for case, graph in graphs.items()}
        together = jax.jit(lambda *arrays: {f"{name} {k}": step(*arrays) for (name, k), step in steps.items()})
        found = together(*[array_of(tensor) for tensor in given.values()])
    wrong = []
    for (name, k), graph in graphs.items():
        for mine, other in zip(found[f"{name} {k}"], graph(*given.values()), strict=True):
            near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
            try:
                torch.testing.assert_close(tensor_of(mine), other, **near, equal_nan=True)
            except AssertionError as said:
                wrong.append(f"{name}, case {k}: {said}\n{mine}\n{other}")
    assert not wrong, "\n\n".join(wrong)


def test_every_operation_is_torchs():
    """In one case each; in all of them in the slower tier, by ``test_every_case_is_torchs``."""
    held(torch.float64, most=1)


@pytest.mark.full(sibling="test_every_operation_is_torchs")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_case_is_torchs(dtype):
    held(dtype)


def test_every_operation_has_a_case():
    assert set(CASES) == set(TABLE)


def test_a_matrix_is_never_transposed_in_memory():
    """However often it is transposed: XLA would do that anew at every step."""
    given = inputs(torch.float64)
    graph = recorded(lambda t: [aten.mv(t.S.t().t(), t.q[:3]), aten.mv(t.S.t(), t.q[:3])], given)
    with here() as jax:
        made = jax.jit(lowered(graph)).lower(*map(array_of, given.values())).compile()
    assert " dot(" in made.as_text()
    assert " transpose(" not in made.as_text()


def test_what_the_table_lacks_is_taken_apart():
    """Losses, in-place changes and what few use, by torch's own decompositions."""
    given = inputs(torch.float64)

    def case(t):
        kept = torch.zeros(4, dtype=t.q.dtype)
        kept[t.h] = t.q[:3]
        kept.mul_(2).add_(1)
        loss = torch.nn.functional.cross_entropy(t.A, t.h)
        return [kept, loss, torch.nn.functional.huber_loss(t.q, kept), torch.softmax(t.A, 1), torch.outer(t.q, t.q)]

    graph = recorded(case, given)
    tensors = [*given.values()]
    plain, more = known(graph, tensors)
    assert {name_of(n.target) for n in plain.graph.nodes if n.op == "call_function"} <= set(TABLE)
    with here() as jax:
        found = jax.jit(lowered(plain))(*map(array_of, (*tensors, *more)))
    for mine, other in zip(found, graph(*tensors), strict=True):
        torch.testing.assert_close(tensor_of(mine), other, rtol=1e-12, atol=1e-12)
