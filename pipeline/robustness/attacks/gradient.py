"""Attacks along the sign of the input gradient, and random noise as their control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ....models.crafting import PGD_REACH, random_signs, sign_steps, uniform_start
from ....models.surrogates import USUAL, Gradient
from ..victims import Victim
from .attack import Attack, Build, Expected, Kept, Loss, cross_entropy, expected, starts


@dataclass(frozen=True)
class FGSM(Attack):
    """x + epsilon * sign(g), g the gradient of the loss at x (Goodfellow et al. 2015)."""

    name: ClassVar[str] = "FGSM"
    names: ClassVar[Mapping[str, Build]] = {"fgsm": lambda s: s.build(FGSM)}
    eot: int = 1
    loss: Loss = cross_entropy
    gradient: Gradient = USUAL

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        def slope(x: Tensor) -> Tensor:
            return expected(
                victim, x, labels, draws, loss=self.loss, gradient=self.gradient, eot=self.eot
            ).gradient

        return sign_steps(slope, images, images, self.epsilon, self.epsilon, 1)


@dataclass(frozen=True)
class RFGSM(Attack):
    """x' = x + alpha * sign(N(0, I)), then x' + (epsilon - alpha) * sign(g(x')) (Tramer et al. 2018).

    `alpha`: the random step, half of epsilon where None.
    """

    name: ClassVar[str] = "RFGSM"
    names: ClassVar[Mapping[str, Build]] = {"rfgsm": lambda s: s.build(RFGSM)}
    alpha: float | None = None
    eot: int = 1
    loss: Loss = cross_entropy
    gradient: Gradient = USUAL

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and not 0 <= self.alpha <= self.epsilon:
            raise ValueError(
                f"RFGSM: alpha = {self.alpha}; 0 .. epsilon = {self.epsilon} is needed."
            )

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        def slope(x: Tensor) -> Tensor:
            return expected(
                victim, x, labels, draws, loss=self.loss, gradient=self.gradient, eot=self.eot
            ).gradient

        alpha = self.epsilon / 2 if self.alpha is None else self.alpha
        start = random_signs(images, alpha, draws)
        return sign_steps(slope, images, start, self.epsilon, self.epsilon - alpha, 1)


@dataclass(frozen=True)
class PGD(Attack):
    """`steps` times x <- project(x + step * sign(g(x))) (Madry et al. 2018); EOT-PGD where eot > 1.

    `step`: 2.5 * epsilon / steps where None. Each of the `restarts` begins at a random point of the
    ball, or, without `random_start`, at the image. `eot`, `smooth`: the loss over draws of the coding,
    see `expected`. The point kept is the worst iterate or, of a stochastic victim, the worst of the
    restarts' last ones, by the loss over `eot` fresh draws, see `Kept`.
    """

    name: ClassVar[str] = "PGD"
    names: ClassVar[Mapping[str, Build]] = {
        "pgd": lambda s: s.build(PGD),
        "smoothadv": lambda s: s.build(PGD, smooth=True),
    }
    steps: int = 20
    step: float | None = None
    restarts: int = 1
    eot: int = 1
    smooth: bool = False
    random_start: bool = True
    loss: Loss = cross_entropy
    gradient: Gradient = USUAL

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step is not None and not self.step > 0:
            raise ValueError(f"PGD: step = {self.step}; more than 0 is needed.")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("PGD: restarts from the image itself are all alike; start at random.")

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        step = PGD_REACH * self.epsilon / self.steps if self.step is None else self.step
        kept = Kept(victim, images)

        def at(x: Tensor) -> Expected:
            return expected(
                victim,
                x,
                labels,
                draws,
                loss=self.loss,
                gradient=self.gradient,
                eot=self.eot,
                smooth=self.smooth,
            )

        def slope(x: Tensor) -> Tensor:
            point = at(x)
            if not victim.stochastic:
                kept.offer(x, point)
            return point.gradient

        random = starts(self, images, draws, self.restarts) if self.random_start else (images,)
        for start in random:
            end = sign_steps(slope, images, start, self.epsilon, step, self.steps)
            kept.offer(end, at(end))
        return kept.points


@dataclass(frozen=True)
class RandomNoise(Attack):
    """The control: noise of the attack's size that knows nothing, one draw per image.

    ``uniform`` in [-epsilon, epsilon], or epsilon times a random ``sign``.
    """

    name: ClassVar[str] = "random noise"
    names: ClassVar[Mapping[str, Build]] = {"noise": lambda s: s.build(RandomNoise)}
    kind: Literal["uniform", "sign"] = "sign"

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        if self.kind == "sign":
            return random_signs(images, self.epsilon, draws)
        return uniform_start(images, self.epsilon, draws)
