"""The derivative of y*(x): that of the optimality conditions with the rows that hold y, by the implicit function."""

from __future__ import annotations

import torch
from torch import Tensor

from .level import FEASIBLE, Answer, Level

SINGULAR = 1e-10  # of the largest singular value


def attached(level: Level, x: Tensor, answer: Answer) -> Tensor:
    """y*(x), differentiable in x once: y of the answer, with dy/dx of the system {grad_y L = 0, active rows = 0}.

    Rows with a positive multiplier are kept active; those that are active without one are let go, so that at a kink
    the derivative is that of one side. Where that system is singular, as at a corner that the optimistic choice is made
    among, all active rows are kept; what is then still free does not move.
    """
    if not x.requires_grad:
        return answer.y.to(x)
    y, z = answer.y, answer.multipliers
    firm = z > FEASIBLE * (1 + float(z.max() if z.numel() else 0.0))
    for held in (firm, answer.active):
        matrix = _system(level, x.detach().double().cpu(), y, z, held)
        sizes = torch.linalg.svdvals(matrix)
        if sizes.numel() and float(sizes[-1]) > SINGULAR * float(sizes[0]):
            break
    inverse = torch.linalg.pinv(matrix, rtol=SINGULAR)[: len(y)]
    with torch.enable_grad():
        off = _residual(level, x.double().cpu(), y, z, held)
        return (y - inverse @ (off - off.detach())).to(x) + 0 * x.sum()  # y* may not answer to x at all


def slopes(level: Level, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of g in y, (n_y,), and the Jacobian of the rows in y, (m, n_y)."""
    with torch.enable_grad():
        leaf = y.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(level.g(x, leaf) + 0 * leaf.sum(), leaf)
        rows = level.rows(x, leaf)
        parts = [torch.autograd.grad(row, leaf, retain_graph=True)[0] if row.requires_grad else 0 * y for row in rows]
    return slope, torch.stack(parts) if parts else y.new_zeros(0, len(y))


def _system(level: Level, x: Tensor, y: Tensor, z: Tensor, held: Tensor) -> Tensor:
    def lagrangian(point: Tensor) -> Tensor:
        return level.g(x, point) + (z * level.rows(x, point)).sum() + 0 * point.sum()

    H = torch.autograd.functional.hessian(lagrangian, y)
    A = slopes(level, x, y)[1][held]
    return torch.cat([torch.cat([H, A.T], 1), torch.cat([A, A.new_zeros(len(A), len(A))], 1)])


def _residual(level: Level, x: Tensor, y: Tensor, z: Tensor, held: Tensor) -> Tensor:
    """(grad_y L, rows held) at (x, y), a function of x."""
    leaf = y.detach().clone().requires_grad_()
    rows = level.rows(x, leaf)
    (slope,) = torch.autograd.grad(level.g(x, leaf) + (z * rows).sum() + 0 * leaf.sum(), leaf, create_graph=True)
    return torch.cat([slope, rows[held]])
