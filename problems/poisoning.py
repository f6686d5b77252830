"""Data poisoning: the upper level draws a few training images so that the classifier trained with them fails."""

import functools
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Flat, Problem, box, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import GTOL, converge
from ._poisoning_released import SOURCE, TARGET, Attack, released

SIZES = {"digits": (300, 300, 1000), "mnist": (1000, 1000, 8000)}  # training, validation, test
Way = Literal["higher", "lower"]
BETTER: dict[str, dict[str, Way]] = {
    "targeted": {"success": "higher"}, "untargeted": {"accuracy": "lower", "drop": "higher"},
}  # fmt: skip
RETRAINED: dict[str, dict[str, Way]] = {
    "targeted": {"retrained_success": "higher"},
    "untargeted": {"retrained_accuracy": "lower"},
}
Protocol = Literal["recommended", "penalty_released"]


@problem(
    "poisoning",
    family="poisoning",
    shows="an upper level that maximises a loss: a sign to get wrong, pixels that end at their bounds",
)
def poisoning(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    goal: Literal["untargeted", "targeted"] = "untargeted",
    share: float = 0.06,
    decay: float = 0.0025,
    protocol: Protocol = "recommended",
) -> Problem:
    """A share of poison images with fixed wrong labels joins the training set; their pixels are the upper variable.

    x in [0, 1]^(k pixels), kept by projection; y: softmax regression with bias, from 0.
    g = mean CE over clean and poison images + decay |y|^2.  ``untargeted``: f = -mean CE on validation images: the
    upper level *maximises* the loss. f has no lower bound in y, Phi has. ``targeted``: f = mean CE of the validation
    eights against the label 3. k = ``share`` of the clean training images. They start as copies of training images
    with random wrong labels (targeted: of eights, labelled 3), which is the line "label flips".
    Mehra and Hamm (2019), section 3.4: MNIST, 1000 images train and 1000 validate, 1 to 6 % poison, decay 0.0025 as
    in their code (their text says 0.05); their targeted attack has 1000, 4000 and 5000 images, even in the classes.
    Test images here are from the official test file, theirs are not, so their published accuracies are no reference;
    ``protocol='penalty_released'`` has their rows (untargeted: all from the training file; targeted: 1000, 4000 and
    5000 even in the classes), poison that starts as the first training images (targeted: half threes called 8, half
    eights called 3), a model without bias, and y0 trained on the clean images. They report what a model trained anew
    with the poison does: ``retrained_accuracy`` and ``retrained_success``, at y*(x), at the last look.
    Digits: 300, 300, 1000. Shows: a sign to get wrong, solutions on bounds, many upper variables (47040 on MNIST).
    ``accuracy`` and ``drop`` (against no poison) on test images; ``success``: share of test eights called 3. The upper
    level is the attacker: untargeted, a lower accuracy is the better one.
    """
    if not 0 < share <= 1 or decay <= 0:
        raise ValueError("share is above 0 and at most 1, decay is positive")
    attack = _plan(rng, data, goal, share, protocol)
    own = protocol == "penalty_released"
    A, t, B, s, C = rng.put(*attack.train, *_aim(attack.validation, goal), attack.test.pixels)
    labels = torch.cat([t, rng.put(attack.labels)])
    flat, (k, pixels) = _flat(A.shape[1], protocol), attack.start.shape

    def f(x: Tensor, y: Tensor, rows=...) -> Tensor:
        loss = cross_entropy(_logits(flat, y, B[rows]), s[rows])
        return loss if goal == "targeted" else -loss

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        images = torch.cat([A, x.view(k, pixels)])[rows]
        return cross_entropy(_logits(flat, y, images), labels[rows]) + decay * y @ y

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        clean = _references(rng.seed, data, goal, share, decay, protocol)["no poison"]["accuracy"]
        found = _judged(attack.test.labels, _logits(flat, y, C.to(y)))
        return found | {"drop": clean - found["accuracy"]}

    def final(x: Tensor, y: Tensor) -> dict[str, float]:
        images = torch.cat([torch.from_numpy(attack.train.pixels), x.detach().cpu().double().view(k, pixels)])
        loss = functools.partial(_loss, flat, images, labels.cpu(), decay)
        found = _judged(attack.test.labels, _logits(flat, converge(loss, y), C.cpu().double()))
        return {f"retrained_{name}": value for name, value in found.items()}

    y0 = torch.zeros(flat.size, dtype=torch.float64)
    return Problem(
        f=f,
        g=g,
        x0=torch.from_numpy(attack.start.reshape(-1).copy()),
        y0=_clean(rng.seed, data, goal, decay, attack, y0) if own else y0,
        n_f=len(s),
        n_g=len(labels),
        metrics=metrics,
        better=BETTER[goal] | (RETRAINED[goal] if own else {}),
        bar=Bar("success" if goal == "targeted" else "accuracy", ("label flips (start)", "noise images")),
        references=functools.partial(_references, rng.seed, data, goal, share, decay, protocol),
        final=final if own else None,
        project_x=box(0.0, 1.0),
        flags=frozenset({"strongly_convex", "boundary"}),
    )


def _flat(pixels: int, protocol: str) -> Flat:
    return Flat((10, pixels)) if protocol == "penalty_released" else Flat((10, pixels), (10,))


def _clean(seed: int, data: str, goal: str, decay: float, attack: Attack, y0: Tensor) -> Tensor:
    """The model of the clean training images, solved for once and kept."""
    images, labels = map(torch.from_numpy, attack.train)
    loss = functools.partial(_loss, _flat(images.shape[1], "penalty_released"), images, labels, decay)
    key = ["poisoning", 1, "clean", seed, data, goal, decay, GTOL]
    return torch.from_numpy(cache.arrays("poisoning", key, lambda: {"y": converge(loss, y0).numpy()})["y"])


def _plan(rng: Draw, data: str, goal: str, share: float, protocol: str) -> Attack:
    if protocol == "penalty_released":
        return released(rng, data, goal, share)
    train, validation, test = parts(rng, data, SIZES[data])
    draw, k = rng.child("poison").numpy, max(1, round(share * SIZES[data][0]))
    if goal == "targeted":
        copied = draw.choice(np.flatnonzero(train.labels == SOURCE), k)
        wrong = np.full(k, TARGET)
    else:
        copied = draw.choice(len(train.labels), k, replace=False)
        wrong = (train.labels[copied] + draw.integers(1, 10, k)) % 10
    return Attack(train, validation, test, train.pixels[copied], wrong)


def _aim(validation: Part, goal: str) -> Part:
    """The images and labels behind f."""
    if goal == "untargeted":
        return validation
    eights = validation.pixels[validation.labels == SOURCE]
    return Part(eights, np.full(len(eights), TARGET))


def _logits(flat: Flat, y: Tensor, inputs: Tensor) -> Tensor:
    weight, *bias = flat.split(y)
    return torch.addmm(bias[0], inputs, weight.T) if bias else inputs @ weight.T


def _judged(labels: np.ndarray, logits: Tensor) -> dict[str, float]:
    found = logits.argmax(1).cpu().numpy()
    return {
        "accuracy": float((found == labels).mean()),
        "success": float((found[labels == SOURCE] == TARGET).mean()),
    }


@functools.lru_cache(maxsize=16)  # the metrics read it at every look
def _references(seed: int, data: str, goal: str, share: float, decay: float, protocol: str) -> cache.Lines:
    key = {
        "problem": "poisoning", "version": 1, "seed": seed, "data": data, "goal": goal, "share": share, "decay": decay,
    } | ({"protocol": protocol} if protocol != "recommended" else {})  # fmt: skip
    how = {"method": f"L-BFGS from 0, float64, largest gradient {GTOL:g} or 2000 iterations"}
    return cache.lines("poisoning", key, lambda: (_solve(seed, data, goal, share, decay, protocol), how))


def _solve(seed: int, data: str, goal: str, share: float, decay: float, protocol: str) -> cache.Lines:
    """Phi and test figures of training sets nobody has optimised, each solved to convergence."""
    attack = _plan(Draw(seed), data, goal, share, protocol)
    flat = _flat(attack.train.pixels.shape[1], protocol)
    images, labels, aim, aim_labels, test = map(
        torch.from_numpy, (*attack.train, *_aim(attack.validation, goal), attack.test.pixels)
    )
    noise = Draw(seed).child("noise").uniform(0, 1, *attack.start.shape)
    wrong = torch.from_numpy(attack.labels)
    sets = {
        "no poison": (images, labels),
        "label flips (start)": (torch.cat([images, torch.from_numpy(attack.start)]), torch.cat([labels, wrong])),
        "noise images": (torch.cat([images, noise]), torch.cat([labels, wrong])),
    }
    lines = {}
    for name, (a, t) in sets.items():
        loss = functools.partial(_loss, flat, a, t, decay)
        y = converge(loss, torch.zeros(flat.size, dtype=torch.float64))
        phi = float(cross_entropy(_logits(flat, y, aim), aim_labels)) * (1 if goal == "targeted" else -1)
        lines[name] = {"phi": phi, **_judged(attack.test.labels, _logits(flat, y, test))}
    return lines


def _loss(flat: Flat, inputs: Tensor, labels: Tensor, decay: float, y: Tensor) -> Tensor:
    return cross_entropy(_logits(flat, y, inputs), labels) + decay * y @ y
