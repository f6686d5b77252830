"""Hyper-cleaning as the code of two papers runs it: a start by gradient steps, a minibatch a step, retraining."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from bilevelbench import Draw, Outer, Stream
from bilevelbench.core.batches import generator

from ._cleaning import INVERSE, WEIGHTS, Split
from ._networks import CLASSES, Network

STEPS, LR, MOMENTUM = 5000, 0.01, 0.9  # of BOME's start
CLEAR = 1e-5  # the Penalty method's weights stay this far from 0 and 1
SURE = 0.9  # weights above it are the examples that it trains anew with
EPOCHS, RATE, BATCH = 500, 1e-4, 200  # of that training, by Adam


def descended(
    start: Tensor, inputs: np.ndarray, labels: np.ndarray, decay: float, held: np.ndarray, held_labels: np.ndarray,
    steps: int = STEPS,
) -> Tensor:  # fmt: skip
    """Softmax regression (10, pixels), the last pixel's weight the bias, by heavy ball on all rows in float32.

    Minimises mean CE + decay |W|^2. Of all iterates the one with the least mean CE on ``held``. The gradient is
    written out, a class a row: with ten classes a softmax over columns takes a tenth of the time.
    """
    a, b = (torch.from_numpy(part).float() for part in (inputs, held))
    hot = one_hot(torch.from_numpy(labels), CLASSES).T.float()
    targets, n = torch.from_numpy(held_labels), len(labels)
    weight = best = start.view(CLASSES, -1).float()
    buffer, least = torch.zeros_like(weight), math.inf
    for _ in range(steps):
        chance = torch.softmax(weight @ a.T + weight[:, -1:], 0) - hot
        slope = chance @ a / n + 2 * decay * weight
        slope[:, -1] += chance.mean(1)
        buffer = MOMENTUM * buffer + slope
        weight = weight - LR * buffer
        loss = float(cross_entropy((weight @ b.T + weight[:, -1:]).T, targets))
        if loss <= least:
            least, best = loss, weight
    return best.double().reshape(-1)


def uniform_start(rng: Draw, pixels: int) -> Tensor:
    """torch's default for a linear layer, U(-1, 1) over the root of the inputs, shape (10 pixels,)."""
    return rng.uniform(-1.0, 1.0, CLASSES * pixels) / math.sqrt(pixels)


def minibatches(rng: Draw, n: int, m: int, batch: int) -> Stream:
    """An outer step is about ``batch`` training rows, a new order every epoch, and as many validation rows, drawn.

    After an epoch the weights are scaled to a mean of one half and kept away from 0 and 1.
    """
    seed, device, each = rng.seed, rng.device, n // batch

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return generator(seed, "epoch", epoch, 0).permutation(n)

    def rows(step: int) -> tuple[Tensor, Tensor]:
        epoch, k = divmod(step, each)
        upper = generator(seed, "validation", step, 0).choice(m, min(batch, m), replace=False)
        lower = order(epoch)[k * batch : (k + 1) * batch]
        return torch.from_numpy(upper).to(device), torch.from_numpy(lower).to(device)

    def renew(step: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (renormalised(x) if step and step % each == 0 else x), y

    return Stream(rows, renew)


def renormalised(x: Tensor) -> Tensor:
    """x with weights (tanh x + 1)/2 of mean one half, before they are kept from 0 and 1."""
    weight = WEIGHTS["tanh"](x)
    return INVERSE["tanh"](torch.clamp(weight / (2 * weight.mean()), CLEAR, 1 - CLEAR))


def retrained(seed: int, parts: Split, network: Network, x: Tensor) -> Tensor:
    """The network trained from its start on the examples with a weight above 0.9 and the validation set, float32.

    Adam, 500 epochs in minibatches of 200, as the authors' code does when the bilevel method has ended.
    """
    sure = WEIGHTS["tanh"](renormalised(x.detach().cpu().double())).numpy() > SURE
    inputs = torch.from_numpy(np.concatenate([parts.train[sure], parts.validation])).float()
    labels = torch.from_numpy(np.concatenate([parts.noisy[sure], parts.validation_labels]))
    y, adam = network.start(Draw(seed).child("start")).float(), Outer(update="adam")
    m = adam.moments(y)
    for epoch in range(EPOCHS):
        order = torch.from_numpy(generator(seed, "retrained", epoch, 0).permutation(len(labels)))
        for rows in order.split(BATCH)[: max(1, len(labels) // BATCH)]:
            with torch.enable_grad():
                leaf = y.requires_grad_()
                (slope,) = torch.autograd.grad(cross_entropy(network(leaf, inputs[rows]), labels[rows]), leaf)
            m, moved = adam.move(m, slope)
            y = y.detach() - RATE * moved
    return y.double()
