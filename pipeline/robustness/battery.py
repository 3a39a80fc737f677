"""The attacks of one evaluation: everything that the sanity suite and the report are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.encoding import generator
from ...models.surrogates import SURROGATES, USUAL, Fixed, Gradient
from ..deploy.run import track
from .attacks.adaptive import SAPGD
from .attacks.attack import Attack, Attacked, Scored, attack, expected, score
from .attacks.gradient import FGSM, PGD, RandomNoise
from .attacks.square import Square
from .victims import Victim

TINY = 1e-6
"""Epsilon of the control that must change nothing."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """How thoroughly a victim is attacked.

    `steps`, `eot`: of the main attack, PGD; of a victim whose answers do not vary eot is 1. `draws`:
    fresh draws of the coding that judge every attack, at the same time the votes. `curve`: epsilons, as
    multiples of the main one. `averages`: the K of the EOT curve. `sharpness`: of surrogates, as
    multiples of that of `gradient` (or of the usual one, where it has none). `restarts`, `queries`: of
    PGD from several starts and of Square. `adaptive_steps`: of SA-PGD, whose surrogate adapts to each
    neuron. `gradient`: what all other attacks with gradients use.
    """

    steps: int = 10
    eot: int = 8
    draws: int = 20
    curve: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    averages: tuple[int, ...] = (1, 2, 4, 8, 16)
    sharpness: tuple[float, ...] = (0.3, 3.0)
    restarts: int = 2
    queries: int = 200
    adaptive_steps: int = 50
    seed: int = 0
    gradient: Gradient = field(default=USUAL, metadata={"json": False})

    def __post_init__(self) -> None:
        problems = []
        if (
            1.0 not in self.curve
            or sorted(set(self.curve)) != list(self.curve)
            or self.curve[0] <= 0
        ):
            problems.append(f"curve = {self.curve}; growing multiples above 0, with 1, are needed")
        if self.draws < 2:
            problems.append(f"draws = {self.draws}; 2 or more are needed to see answers vary")
        for name in ("steps", "eot", "restarts", "queries", "adaptive_steps"):
            if getattr(self, name) < 1:
                problems.append(f"{name} = {getattr(self, name)}; 1 or more is needed")
        if problems:
            raise ValueError(f"plan of an evaluation: {'; '.join(problems)}.")


QUICK = Plan()
"""A minute or two for a hundred small images on two cores."""


@dataclass(frozen=True)
class Battery:
    """What the attacks on one victim did, at `epsilon` where nothing else is said.

    `control`: PGD at epsilon TINY. `curve`: PGD at growing epsilons, the main one among them;
    `unbounded`: at epsilon 1. `longer`: PGD with twice the steps, `restarted`: from several starts.
    `averages`: PGD by K of EOT; empty where answers do not vary. `gradients`: PGD by gradient rule;
    empty for ANNs. `adaptive`: SA-PGD; None for ANNs.
    `transfers`: what was crafted on other networks, by their names. `others`: what the caller added.
    `zero_entries`: share of exact zeros in the input gradients of the clean images; `vanished` (sample,):
    whether an image's whole gradient is zero. `worst`: of each image the attack that leaves the fewest
    right draws, judged on draws that did not choose it.
    """

    victim: Victim
    plan: Plan
    epsilon: float
    clean: Scored
    control: Attacked
    unbounded: Attacked
    curve: tuple[Attacked, ...]
    fgsm: Attacked
    pgd: Attacked
    longer: Attacked
    restarted: Attacked
    averages: Mapping[int, Attacked]
    gradients: Mapping[str, Attacked]
    adaptive: Attacked | None
    gradient_free: Attacked
    noise: Attacked
    transfers: Mapping[str, Scored]
    others: Mapping[str, Attacked]
    zero_entries: float
    vanished: NDArray[np.bool_]
    worst: Scored

    @property
    def eot(self) -> int:
        """Draws that the main attack averages over."""
        return averaged(self.victim, self.plan)

    @property
    def white_box(self) -> Attacked:
        """The stronger of PGD and SA-PGD."""
        attacks = [self.pgd] if self.adaptive is None else [self.pgd, self.adaptive]
        return min(attacks, key=lambda attacked: attacked.accuracy)


def averaged(victim: Victim, plan: Plan) -> int:
    """EOT draws for a victim: 1 where its answers do not vary."""
    return plan.eot if victim.stochastic else 1


def battery(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    sources: Mapping[str, Victim] | None = None,
    others: Mapping[str, Attack] | None = None,
    plan: Plan = QUICK,
    progress: bool = False,
) -> Battery:
    """Attack `victim` with everything in `plan`; images (sample, C, H, W) in [0, 1].

    `sources`: networks on which adversarial images are crafted to be transferred; `others`: more
    attacks, at the same epsilon, for the table and the worst case. `progress`: bars on standard error.
    Raises ValueError.
    """
    if not 0 < epsilon < 1 or len(images) < 2:
        raise ValueError(
            f"epsilon = {epsilon}, {len(images)} images: above 0 and below 1, in units of the image, and "
            f"2 images or more are needed."
        )
    sources, others = sources or {}, others or {}
    eot, gradient = averaged(victim, plan), plan.gradient
    judged: dict[str, Any] = {"seed": plan.seed, "draws": plan.draws}
    clean = score(victim, images, labels, **judged)

    main = PGD(epsilon, steps=plan.steps, eot=eot, gradient=gradient)
    points = [replace(main, epsilon=m * epsilon) for m in plan.curve if m * epsilon < 1]
    fgsm, noise = FGSM(epsilon, eot=eot, gradient=gradient), RandomNoise(epsilon)
    longer, restarted = replace(main, steps=2 * plan.steps), replace(main, restarts=plan.restarts)
    square = Square(epsilon, queries=plan.queries)
    control, unbounded = replace(main, epsilon=TINY), replace(main, epsilon=1.0)
    averages = {k: replace(main, eot=k) for k in plan.averages if victim.stochastic}
    spiking = victim.spiking and victim.coding is not None
    rules = sweep(plan) if spiking else {}
    gradients = {name: replace(main, gradient=rule) for name, rule in rules.items()}
    at_epsilon: list[Attack] = [main, noise, fgsm, longer, restarted, square]
    adaptive = SAPGD(epsilon, steps=plan.adaptive_steps, eot=eot) if spiking else None
    at_epsilon += [] if adaptive is None else [adaptive]
    at_epsilon += [*averages.values(), *gradients.values(), *others.values()]
    each = list(dict.fromkeys([*at_epsilon, *points, control, unbounded]))

    done = {
        method: attack(victim, method, images, labels, clean=clean, **judged)
        for method in _bar(each, f"attacking {victim.name}", progress)
    }
    crafted = {
        name: attack(
            sources[name],
            replace(main, eot=averaged(sources[name], plan)),
            images,
            labels,
            **judged,
        ).adversarial
        for name in _bar(list(sources), f"transferring to {victim.name}", progress)
    }
    transfers = {n: score(victim, moved, labels, **judged) for n, moved in crafted.items()}
    tried = [(done[method].after, done[method].adversarial) for method in at_epsilon]
    tried += [(transfers[name], moved) for name, moved in crafted.items()]
    probe = generator(plan.seed, victim.device)
    x, y = images.to(victim.device), labels.to(victim.device)
    slope = expected(victim, x, y, probe, gradient=gradient, eot=eot).gradient
    zero = (slope == 0).flatten(1)
    return Battery(
        victim=victim,
        plan=plan,
        epsilon=epsilon,
        clean=clean,
        control=done[control],
        unbounded=done[unbounded],
        curve=tuple(done[point] for point in points),
        fgsm=done[fgsm],
        pgd=done[main],
        longer=done[longer],
        restarted=done[restarted],
        averages={k: done[method] for k, method in averages.items()},
        gradients={name: done[method] for name, method in gradients.items()},
        adaptive=None if adaptive is None else done[adaptive],
        gradient_free=done[square],
        noise=done[noise],
        transfers=transfers,
        others={name: done[method] for name, method in others.items()},
        zero_entries=float(zero.double().mean()),
        vanished=zero.all(1).cpu().numpy(),
        worst=worst_case(victim, tried, labels, plan),
    )


def _bar(items: list[_T], what: str, progress: bool) -> Iterator[_T]:
    """The items, with a progress bar on standard error."""
    return (item for item, _ in track(((i, (0,)) for i in items), len(items), what, progress))


def sweep(plan: Plan) -> dict[str, Gradient]:
    """Other gradient rules: the plan's own surrogate, blunter and sharper, and those without one."""
    base = plan.gradient if isinstance(plan.gradient, Fixed) else USUAL
    rules: dict[str, Gradient] = {
        f"sharpness x{s:g}": replace(base, sharpness=s * base.sharpness) for s in plan.sharpness
    }
    usual = Fixed(SURROGATES["superspike"])
    rules |= {"superspike": usual, "rate": "rate", "activation": "activation"}
    return {name: rule for name, rule in rules.items() if rule != plan.gradient}


def worst_case(
    victim: Victim, tried: list[tuple[Scored, Tensor]], labels: Tensor, plan: Plan
) -> Scored:
    """The adversarial image with the fewest right draws for each image, scored on other draws.

    The same draws may not choose and judge: the least of several noisy fractions is too low.
    """
    chosen = np.argmin([scored.right for scored, _ in tried], axis=0)
    images = torch.stack([images for _, images in tried])
    picked = images[torch.as_tensor(chosen), torch.arange(len(labels))]
    return score(victim, picked, labels, seed=plan.seed + 1, draws=plan.draws)
