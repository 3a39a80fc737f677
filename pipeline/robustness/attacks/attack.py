"""What an attack is, and the harness that runs one and judges it on draws that it never saw."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ....hw_targets.printed import Printed, View
from ....models import crafting
from ....models.encoding import generator
from ....models.surrogates import SURROGATES, USUAL, Gradient
from ...deploy.run import track
from ..victims import Victim
from .strength import Strength

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (sample, classes), labels (sample,)) to one loss per image, (sample,), to be maximized."""

BALL_TOLERANCE = 1e-6
"""How far outside the ball float32 rounding may put a pixel of [0, 1]."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax_y(z)."""
    return functional.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Attack(ABC):
    """An attack within the L-infinity ball of radius `epsilon` around images in [0, 1].

    Subclasses are frozen dataclasses whose fields are everything that decides the attack; they are
    recorded in every report. Whole numbers among the fields are counts, 1 or more. `name`: what tables
    call it; `names`: what the command line does, and what builds it then from the strength given, where
    the default of a field `steps` is its usual number.
    """

    name: ClassVar[str]
    names: ClassVar[Mapping[str, Build]] = {}
    epsilon: float

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.epsilon < math.inf:
            problems.append(f"epsilon = {self.epsilon}; 0 or more is needed, in units of the image")
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "epsilon"}
        problems += [
            f"{name} = {value}; 1 or more is needed"
            for name, value in counts.items()
            if type(value) is int and value < 1
        ]
        if problems:
            raise ValueError(f"{self.name}: {'; '.join(problems)}.")

    @abstractmethod
    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Adversarial images for one batch. `draws` is the only source of randomness."""

    def project(self, moved: Tensor, images: Tensor) -> Tensor:
        """The nearest point to `moved` within the ball around `images` and within [0, 1]."""
        return crafting.project(moved, images, self.epsilon)


Build: TypeAlias = Callable[[Strength], Attack]
"""An attack of a given strength."""


@dataclass(frozen=True)
class Expected:
    """Means over draws of the coding at one point.

    `gradient`: d loss / d image; `loss`, `wrong` (sample,): loss and share of wrong answers.
    """

    gradient: Tensor
    loss: Tensor
    wrong: Tensor


def expected(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    draws: torch.Generator,
    *,
    loss: Loss = cross_entropy,
    gradient: Gradient = USUAL,
    eot: int = 1,
    smooth: bool = False,
) -> Expected:
    """Loss and gradient over `eot` draws of the coding (expectation over transformation).

    The loss is mean_k l_k over draws k (Athalye et al. 2018: gradients are averaged, not images), or,
    if `smooth`, -log mean_k exp(-l_k): with cross-entropy -log mean_k softmax_y, the loss against a
    vote or mean over draws (SmoothAdv, Salman et al. 2019), whose gradient weighs the draws by
    exp(-l_k). Loss and share are float64.
    """
    losses, wrongs, slopes = [], [], []
    for _ in range(eot):
        x = images.detach().clone().requires_grad_()
        logits = victim.logits(x, draws, gradient)
        each = loss(logits, labels)
        slopes.append(torch.autograd.grad(each.sum(), x)[0])
        losses.append(each.detach().double())
        wrongs.append((logits.detach().argmax(1) != labels).double())
    stacked = torch.stack(losses)
    if smooth:
        weights = torch.softmax(-stacked, 0)
        total = math.log(eot) - torch.logsumexp(-stacked, 0)
    else:
        weights = torch.full_like(stacked, 1 / eot)
        total = stacked.mean(0)
    mean = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        mean += weight.to(slope).reshape(-1, *[1] * (slope.ndim - 1)) * slope
    return Expected(mean, total, torch.stack(wrongs).mean(0))


class Kept:
    """The worst point offered so far for each image.

    A point is worse for a higher mean loss over the draws. Of a victim without randomness a wrong
    answer comes first; of a stochastic one it does not count, because an image that lost one toss of
    the coding's coin has not been broken. Of stochastic victims offer the ends of runs only: the
    highest of many noisy losses is a lucky draw, and its point worse than none chosen (measured).
    """

    def __init__(self, victim: Victim, images: Tensor) -> None:
        self._certain = not victim.stochastic
        self.points = images.detach().clone()
        self._loss = torch.full_like(images.flatten(1)[:, 0], -math.inf, dtype=torch.float64)
        self._wrong = torch.zeros_like(self._loss)

    def offer(self, points: Tensor, at: Expected) -> None:
        """Keep those of `points` that are worse than what was kept before."""
        wrong = at.wrong if self._certain else self._wrong
        worse = (wrong > self._wrong) | ((wrong == self._wrong) & (at.loss > self._loss))
        self.points[worse] = points.detach()[worse]
        self._loss = torch.where(worse, at.loss, self._loss)
        self._wrong = torch.where(worse, wrong, self._wrong)


@dataclass(frozen=True)
class Scored:
    """Answers on `draws` independent draws of the coding; one draw where there is no randomness.

    `accuracy`: that of a single draw, the mean over the draws. `voted`: that of the class with most
    votes over the draws, a tie going to the lower class. `right` (sample,): share of right draws;
    `votes` (sample, classes): draws that gave each class.
    """

    accuracy: float
    voted: float
    draws: int
    right: NDArray[np.float64] = field(repr=False, compare=False, metadata={"json": False})
    votes: NDArray[np.int64] = field(repr=False, compare=False, metadata={"json": False})


@dataclass(frozen=True, repr=False)
class Attacked(Printed):
    """What an attack did to a victim, scored on fresh draws.

    `settings`: the attack's fields by name. `largest`: the largest change of a pixel. `zero_gradients`:
    share of exact zeros in the loss's gradient at the clean images, over all pixels;
    `without_gradient`: share of images whose gradient is zero everywhere. `seconds`: of the attack
    alone. `adversarial` (sample, C, H, W) is left out of JSON.
    """

    victim: str
    digest: str
    attack: str
    settings: Mapping[str, Any]
    epsilon: float
    samples: int
    seed: int
    clean: Scored
    after: Scored
    largest: float
    zero_gradients: float
    without_gradient: float
    seconds: float
    adversarial: Tensor = field(repr=False, compare=False, metadata={"json": False})

    @property
    def accuracy(self) -> float:
        """Accuracy under attack, single draw."""
        return self.after.accuracy

    @property
    def voted(self) -> float:
        """Accuracy under attack of the vote over all draws."""
        return self.after.voted

    @property
    def right(self) -> NDArray[np.float64]:
        """Share of right draws of each image under attack, (sample,)."""
        return self.after.right

    def views(self) -> Sequence[View]:
        """Clean accuracy and that under attack, the settings, and how it was judged."""
        from ...cli.attack import attack_tables

        return attack_tables(f"{self.victim} {self.digest[:12]}; {self.samples} images", [self])


def attack(
    victim: Victim,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    draws: int = 20,
    batch: int = 250,
    clean: Scored | None = None,
    progress: bool = False,
) -> Attacked:
    """Run an attack on images (sample, *shape) in [0, 1], and judge what it returns.

    The attack gets copies. What it returns must lie in its ball, and is scored, as the clean images
    are, on `draws` draws that it never saw: `seed` gives independent streams to the attack and to the
    scoring, the same draws to clean and to adversarial images. The attack draws on the device where the
    victim computes, so that it finds other images there; what it found is on the CPU. `clean`: the clean
    images' score, where it is known from another attack with the same seed, draws and batch. Raises
    ValueError.
    """
    _check(victim, attack, images, labels, draws, batch)
    attacking, _, probing = (generator(s, victim.device) for s in _streams(seed))
    rule = getattr(attack, "gradient", USUAL)
    crafted, zeros, without, seconds = [], 0, 0, 0.0
    parts = [slice(start, start + batch) for start in range(0, len(images), batch)]
    images, labels, there = images.cpu(), labels.cpu(), victim.device
    blocks = ((images[part].to(there), labels[part].to(there)) for part in parts)
    for x, y in track(blocks, len(images), attack.name, progress):
        slope = expected(victim, x, y, probing, gradient=rule).gradient
        zero = (slope == 0).flatten(1)
        zeros, without = zeros + int(zero.sum()), without + int(zero.all(1).sum())
        start = time.perf_counter()
        moved = attack.run(victim, x.detach().clone(), y.clone(), attacking)
        seconds += time.perf_counter() - start
        crafted.append(_within(attack, moved, x).cpu())
    adversarial = torch.cat(crafted)
    return Attacked(
        victim=victim.name,
        digest=victim.digest,
        attack=attack.name,
        settings={f.name: described(getattr(attack, f.name)) for f in fields(attack)},
        epsilon=attack.epsilon,
        samples=len(images),
        seed=seed,
        clean=clean or score(victim, images, labels, seed=seed, draws=draws, batch=batch),
        after=score(victim, adversarial, labels, seed=seed, draws=draws, batch=batch),
        largest=float((adversarial - images).abs().max()),
        zero_gradients=zeros / images.numel(),
        without_gradient=without / len(images),
        seconds=seconds,
        adversarial=adversarial,
    )


def score(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    draws: int = 20,
    batch: int = 250,
) -> Scored:
    """Single-draw and voted accuracy over `draws` draws of the coding from `seed`.

    The draws are the same wherever the victim computes.
    """
    draws = draws if victim.stochastic else 1
    tosses = generator(_streams(seed)[1])
    votes = np.zeros((len(images), victim.classes), dtype=np.int64)
    for start in range(0, len(images), batch):
        part = images[start : start + batch].to(victim.device)
        for _ in range(draws):
            answers = victim.answers(part, tosses)
            votes[start + np.arange(len(part)), answers] += 1
    truth = labels.cpu().numpy()
    right = votes[np.arange(len(truth)), truth] / draws
    voted = float((votes.argmax(axis=1) == truth).mean())
    return Scored(float(right.mean()), voted, draws, right, votes)


def described(value: Any) -> Any:
    """A field of an attack as what JSON holds: functions and surrogates by name."""
    for name, surrogate in SURROGATES.items():
        if value is surrogate:
            return name
    if isinstance(value, tuple):
        return [described(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        kind = value.name if isinstance(value, Attack) else type(value).__name__
        return {"kind": kind, **{f.name: described(getattr(value, f.name)) for f in fields(value)}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def _streams(seed: int) -> tuple[int, int, int]:
    """Seeds of independent generators: of the attack, of the scoring, of the gradient statistics."""
    a, b, c = np.random.SeedSequence(seed).generate_state(3, np.uint64).tolist()
    return a, b, c


def _check(
    victim: Victim, attack: Attack, images: Tensor, labels: Tensor, draws: int, batch: int
) -> None:
    problems = []
    if images.ndim < 2 or tuple(images.shape[1:]) != tuple(victim.shape) or not len(images):
        problems.append(
            f"images have shape {tuple(images.shape)}; (sample, "
            f"{', '.join(map(str, victim.shape))}) with at least one sample is needed"
        )
    if not images.is_floating_point():
        problems.append(f"images are {images.dtype}; floats are needed")
    elif not bool(((images >= 0) & (images <= 1)).all()):
        problems.append(
            f"images reach {images.min():g} .. {images.max():g}; epsilon is in units of [0, 1], so "
            f"scale them to it"
        )
    if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        problems.append(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; one int64 per image is needed"
        )
    elif len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < victim.classes:
        problems.append(
            f"labels reach {labels.min()} .. {labels.max()}; {victim.name} has classes 0 .. "
            f"{victim.classes - 1}"
        )
    if draws < 1 or batch < 1:
        problems.append(f"draws = {draws}, batch = {batch}; both must be 1 or more")
    if problems:
        raise ValueError(f"{attack.name} on {victim.name}: {'; '.join(problems)}.")


def _within(attack: Attack, moved: Tensor, images: Tensor) -> Tensor:
    """The attack's points, rounding errors put back into the ball. Raises ValueError for larger ones."""
    if moved.shape != images.shape:
        raise ValueError(
            f"{attack.name} returned images of shape {tuple(moved.shape)} for {tuple(images.shape)}: "
            f"`run` must return one image for each."
        )
    moved = moved.detach().to(images)
    inside = attack.project(moved, images)
    off = float((moved - inside).abs().max())
    if not off <= BALL_TOLERANCE:
        raise ValueError(
            f"{attack.name} left its ball of epsilon = {attack.epsilon:g} or [0, 1] by {off:g}: `run` "
            f"must project what it returns."
        )
    return inside


def starts(
    attack: Attack, images: Tensor, draws: torch.Generator, number: int
) -> tuple[Tensor, ...]:
    """`number` random points of the ball for each image, which do not depend on the batch's size."""
    copies = images[:, None].expand(-1, number, *images.shape[1:])
    return crafting.uniform_start(copies, attack.epsilon, draws).unbind(1)
