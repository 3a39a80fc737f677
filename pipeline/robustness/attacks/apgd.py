"""Auto-PGD (Croce and Hein, ICML 2020, arXiv 2003.01690) with its losses and its step schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from ....models.surrogates import USUAL, Gradient
from ..victims import Victim
from .attack import Attack, Build, Expected, Kept, Loss, cross_entropy, expected, starts

LossName: TypeAlias = Literal["ce", "dlr"]
MOMENTUM = 0.75
PROGRESS = 0.75
"""The step is halved where less than this share of the steps since the last checkpoint went up."""
FIRST, SHRINK, SHORTEST = 22, 3, 6
"""Percent of the steps: the first period between checkpoints, how much shorter the next is, the least."""
SPREAD = 0.05
"""Least denominator of a DLR loss, in units of z_1 - z_min."""


def checkpoints(steps: int) -> tuple[int, ...]:
    """Steps after which the step size is judged: ceil(p_j * steps), those below `steps`.

    p_0 = 0, p_1 = .22, p_(j+1) = p_j + max(p_j - p_(j-1) - .03, .06).
    """
    marks, at, period = [], 0, FIRST
    while (step := -(-(at + period) * steps // 100)) < steps:
        at, period = at + period, max(period - SHRINK, SHORTEST)
        marks.append(step)
    return tuple(dict.fromkeys(marks))


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, -(z_y - max_(i != y) z_i) / (z_1 - z_3), z_1 >= z_2 >= ...

    Invariant to shift and scale of the logits, so that small ones mask no gradient. Spike counts tie
    often: the denominator is at least .05 (z_1 - z_min), which only ties, or nearly, fall below (ours).
    """
    top = logits.topk(3, dim=1).values
    other = logits.scatter(1, labels[:, None], -math.inf).amax(1)
    mine = logits.gather(1, labels[:, None])[:, 0]
    return (other - mine) / _at_least(logits, top[:, 0] - top[:, 2])


def targeted_dlr(targets: Tensor) -> Loss:
    """-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2) for the classes t in `targets` (sample,)."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        top = logits.topk(4, dim=1).values
        aim, mine = (logits.gather(1, c[:, None])[:, 0] for c in (targets, labels))
        return (aim - mine) / _at_least(logits, top[:, 0] - (top[:, 2] + top[:, 3]) / 2)

    return loss


LOSSES: dict[LossName, Loss] = {"ce": cross_entropy, "dlr": dlr}


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: PGD with momentum whose step size, first 2 * epsilon, adapts to its progress.

    With g(x) the gradient of the loss, a = .75, per image::

        z = project(x_k + eta sign(g(x_k)))
        x_(k+1) = project(x_k + a (z - x_k) + (1 - a)(x_k - x_(k-1)))        (x_1 = z)

    After each of `checkpoints`, eta is halved and x set back to the point of the highest loss where
    less than 75 % of the steps since the last one raised the loss, or where neither eta nor the highest
    loss have changed since. The loss over `eot` draws of the coding decides all of this, never a
    single wrong answer. The random start is uniform in the ball, `restarts` times.
    """

    name: ClassVar[str] = "APGD"
    names: ClassVar[Mapping[str, Build]] = {
        "apgd-ce": lambda s: s.build(APGD, loss="ce"),
        "apgd-dlr": lambda s: s.build(APGD, loss="dlr"),
    }
    loss: LossName = "ce"
    steps: int = 20
    restarts: int = 1
    eot: int = 1
    gradient: Gradient = USUAL

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in LOSSES:
            raise ValueError(
                f"APGD: loss {self.loss!r} is unknown; choose from {', '.join(LOSSES)}."
            )

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        if self.loss == "dlr":
            _needs(victim, 3, "the DLR loss")
        kept, loss = Kept(victim, images), LOSSES[self.loss]
        for start in starts(self, images, draws, self.restarts):
            end = _ascend(self, victim, images, labels, draws, loss, start)
            kept.offer(end, _look(self, victim, end, labels, draws, loss))
        return kept.points


@dataclass(frozen=True)
class TargetedAPGD(Attack):
    """APGD with the targeted DLR loss, once for each of the likeliest wrong classes.

    `targets`: how many, by the mean logits at the image over `eot` draws; at most classes - 1. Needs 4
    classes. Of the ends, the point kept is the one with the highest untargeted DLR loss.
    """

    name: ClassVar[str] = "targeted APGD"
    names: ClassVar[Mapping[str, Build]] = {"apgd-t": lambda s: s.build(TargetedAPGD)}
    steps: int = 20
    targets: int = 9
    eot: int = 1
    gradient: Gradient = USUAL

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        _needs(victim, 4, "the targeted DLR loss")
        kept = Kept(victim, images)
        with torch.no_grad():
            logits = torch.stack([victim.logits(images, draws) for _ in range(self.eot)]).mean(0)
        order = logits.scatter(1, labels[:, None], -math.inf).argsort(1, descending=True)
        number = min(self.targets, victim.classes - 1)
        for rank, start in enumerate(starts(self, images, draws, number)):
            loss = targeted_dlr(order[:, rank])
            end = _ascend(self, victim, images, labels, draws, loss, start)
            kept.offer(end, _look(self, victim, end, labels, draws, dlr))
        return kept.points


def _look(
    attack: APGD | TargetedAPGD,
    victim: Victim,
    points: Tensor,
    labels: Tensor,
    draws: torch.Generator,
    loss: Loss,
) -> Expected:
    gradient, eot = attack.gradient, attack.eot
    return expected(victim, points, labels, draws, loss=loss, gradient=gradient, eot=eot)


def _ascend(
    attack: APGD | TargetedAPGD,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    draws: torch.Generator,
    loss: Loss,
    start: Tensor,
) -> Tensor:
    """Where one run from `start` ends: its worst point or, of a stochastic victim, its last one."""
    kept = Kept(victim, images)

    def look(points: Tensor) -> Expected:
        at = _look(attack, victim, points, labels, draws, loss)
        kept.offer(points, at)
        return at

    x, before = start, start
    at = look(x)
    best, at_best = x, at
    eta = torch.full_like(images.flatten(1)[:, 0], 2 * attack.epsilon)
    judged, halved = at.loss, torch.zeros_like(at.loss, dtype=torch.bool)
    ups, since = torch.zeros_like(at.loss), 0
    marks = checkpoints(attack.steps)
    for k in range(1, attack.steps + 1):
        z = attack.project(x + _each(eta, x) * at.gradient.sign(), images)
        moved = x + MOMENTUM * (z - x) + (1 - MOMENTUM) * (x - before)
        before, x = x, z if k == 1 else attack.project(moved, images)
        last, at = at.loss, look(x)
        ups, since = ups + (at.loss > last), since + 1
        better = at.loss > at_best.loss
        best, at_best = _choose(better, x, best), _pick(better, at, at_best)
        if k in marks:
            halve = (ups < PROGRESS * since) | (~halved & (at_best.loss <= judged))
            eta = torch.where(halve, eta / 2, eta)
            x, at = _choose(halve, best, x), _pick(halve, at_best, at)
            judged, halved, ups, since = at_best.loss, halve, torch.zeros_like(ups), 0
    return x if victim.stochastic else kept.points


def _each(values: Tensor, like: Tensor) -> Tensor:
    """One value per image (sample,), to broadcast against images."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _choose(where: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(_each(where, no), yes, no)


def _pick(where: Tensor, yes: Expected, no: Expected) -> Expected:
    return Expected(
        _choose(where, yes.gradient, no.gradient),
        torch.where(where, yes.loss, no.loss),
        torch.where(where, yes.wrong, no.wrong),
    )


def _at_least(logits: Tensor, denominator: Tensor) -> Tensor:
    floor = SPREAD * (logits.amax(1) - logits.amin(1))
    limited = torch.maximum(denominator, floor)
    return torch.where(limited > 0, limited, torch.ones_like(limited))


def _needs(victim: Victim, classes: int, what: str) -> None:
    if victim.classes < classes:
        raise ValueError(
            f"{victim.name} has {victim.classes} classes; {what} needs {classes} or more. Use the "
            f"cross-entropy loss."
        )
