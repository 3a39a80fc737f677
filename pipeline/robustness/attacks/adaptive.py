"""ASSG and SA-PGD: a surrogate as sharp as each neuron allows, and steps scaled per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ....models.surrogates import Surrogate
from ..victims import Victim
from .apgd import checkpoints
from .attack import Attack, Build, Kept, Loss, attack, cross_entropy, expected, starts

HALF_VANISHING = 0.425
_RELAXATION, _FLOOR = 1.5, 1e-4


class Adaptive:
    r"""The adaptive sharpness surrogate gradient, ASSG: a `models.surrogates.Pointwise` rule.

    Of each neuron, step and image, with x = v / threshold - 1 before the reset::

        M <- memory M + (1 - memory) |x|           1 at first
        D <- memory D + (1 - memory) ||x| - M|     0 at first
        alpha = w / (M + 1.5 D + 1e-4),            w = 2 tan(pi a) / pi
        surrogate = alpha / 2 / (1 + (pi / 2 alpha x)^2)

    a = `half_vanishing`: the integral of the surrogate over [-|x|, |x|], the degree to which its gradient
    vanishes, then has an expectation of at most about 2 a. One update for each backward pass, or, for
    means over draws of the coding, for the first of every `draws` passes.

    An object remembers one batch: more than one batch, or images in another order, need a new one.

    Source: Wang et al., "Towards Reliable Evaluation of Adversarial Robustness for Spiking Neural
    Networks", arXiv 2512.22522, from its public code, where x = v - threshold; in units of the
    threshold, as here, one start of the statistics suits every layer, and integers.
    """

    def __init__(
        self, *, half_vanishing: float = HALF_VANISHING, memory: float = 0.9, draws: int = 1
    ) -> None:
        if not 0 < half_vanishing < 0.5:
            raise ValueError(
                f"half_vanishing = {half_vanishing}; more than 0, less than .5 is needed."
            )
        self.sharpness = 2 * math.tan(math.pi * half_vanishing) / math.pi
        self.memory, self.draws = memory, draws
        self._statistics: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._passes: dict[tuple[int, int], int] = {}

    def at(self, layer: int, step: int) -> Surrogate:
        return lambda x: self._slope((layer, step), x)

    def _slope(self, place: tuple[int, int], x: Tensor) -> Tensor:
        size = x.abs()
        mean, spread = self._statistics.get(place, (torch.ones_like(x), torch.zeros_like(x)))
        if mean.shape != x.shape:
            raise ValueError(
                f"an adaptive surrogate that has seen {tuple(mean.shape)} got {tuple(x.shape)}: make a "
                f"new one for each batch."
            )
        passes = self._passes.get(place, 0)
        if passes % self.draws == 0:
            mean = torch.lerp(size, mean, self.memory)
            spread = torch.lerp((size - mean).abs(), spread, self.memory)
            self._statistics[place] = mean, spread
        self._passes[place] = passes + 1
        alpha: Tensor = self.sharpness / (mean + _RELAXATION * spread + _FLOOR)
        return alpha / 2 / (math.pi / 2 * alpha * x).square().add(1)


@dataclass(frozen=True)
class SAPGD(Attack):
    r"""Stable adaptive projected gradient descent with the adaptive surrogate, ASSG + SA-PGD.

    From a random start, with g the gradient of the loss, means over the pixels of an image::

        m <- .5 m + g / mean|g|,  v <- .8 v + g^2 / mean(g^2)       (0 at first)
        x <- project(x + clip(eta m / (sqrt(v) + 1e-12), -eta, eta))

    eta is epsilon at first and halved, for all images, at the `checkpoints` of APGD; there is no return
    to the best point. An image with no gradient moves by its momentum. `eot`: draws of the coding that
    g is the mean of; the surrogate's statistics follow the first of them, with a memory of .99 in place
    of .9 for any victim that draws. Each of the `restarts` begins anew, statistics too. The point kept
    is the worst of all iterates, of a stochastic victim of the last ones of the restarts, see `Kept`;
    the authors keep any that is wrong once, which on a stochastic victim is luck.

    `half_vanishing`: see `Adaptive`, and `tuned`. With fewer than about 40 steps the statistics are still
    near where they started, and PGD can be stronger. Source: that of `Adaptive`.
    """

    name: ClassVar[str] = "SA-PGD"
    names: ClassVar[Mapping[str, Build]] = {"sa-pgd": lambda s: s.build(SAPGD)}
    steps: int = 100
    restarts: int = 1
    eot: int = 1
    half_vanishing: float = HALF_VANISHING
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        super().__post_init__()
        Adaptive(half_vanishing=self.half_vanishing)

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        kept = Kept(victim, images)
        halved_after = checkpoints(self.steps)
        for x in starts(self, images, draws, self.restarts):
            rule = Adaptive(
                half_vanishing=self.half_vanishing,
                memory=0.99 if victim.stochastic else 0.9,
                draws=self.eot,
            )
            m, v, eta = torch.zeros_like(x), torch.zeros_like(x), self.epsilon
            for step in range(self.steps + 1):
                at = expected(victim, x, labels, draws, loss=self.loss, gradient=rule, eot=self.eot)
                if not victim.stochastic or step == self.steps:
                    kept.offer(x, at)
                if step in halved_after:
                    eta /= 2
                m = 0.5 * m + _over_mean(at.gradient, 1)
                v = 0.8 * v + _over_mean(at.gradient, 2)
                move = (eta * m / (v.sqrt() + 1e-12)).clamp(-eta, eta)
                x = self.project(x + move, images)
        return kept.points


def tuned(
    method: SAPGD,
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    low: float = 0.35,
    high: float = 0.49,
    rounds: int = 8,
    seed: int = 0,
) -> SAPGD:
    """The attack with the `half_vanishing` that harms most, by ternary search of `rounds` rounds.

    Two attacks a round, compared by single-draw accuracy on fresh draws; of equal ones the upper part is
    searched further. The range and the rounds are the authors'.
    """

    def accuracy(a: float) -> float:
        return attack(victim, replace(method, half_vanishing=a), images, labels, seed=seed).accuracy

    for _ in range(rounds):
        third = (high - low) / 3
        if accuracy(low + third) < accuracy(high - third):
            high -= third
        else:
            low += third
    return replace(method, half_vanishing=(low + high) / 2)


def _over_mean(gradient: Tensor, power: int) -> Tensor:
    """g^p / mean|g^p|, the mean over each image; 0 where g is 0 everywhere."""
    axes = tuple(range(1, gradient.ndim))
    scaled = gradient / gradient.abs().amax(axes, keepdim=True).clamp(
        min=torch.finfo(gradient.dtype).tiny
    )
    powered = scaled.pow(power)
    return powered / powered.abs().mean(axes, keepdim=True).clamp(min=1e-30)
