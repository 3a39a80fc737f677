"""Attacks on victims whose worst point, gradient and coin tosses are known; the harness that judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.models.surrogates import SURROGATES, USUAL, Fixed, Gradient
from spikeship.models.training import Classifier
from spikeship.pipeline import records
from spikeship.pipeline.robustness import attacks as family
from spikeship.pipeline.robustness.attacks import Strength, named
from spikeship.pipeline.robustness.attacks.apgd import (
    APGD,
    TargetedAPGD,
    checkpoints,
    dlr,
    targeted_dlr,
)
from spikeship.pipeline.robustness.attacks.attack import (
    Attack,
    Attacked,
    Build,
    Expected,
    Kept,
    attack,
    cross_entropy,
    expected,
    score,
)
from spikeship.pipeline.robustness.attacks.gradient import FGSM, PGD, RFGSM, RandomNoise
from spikeship.pipeline.robustness.victims import DeployedVictim, FloatVictim, Victim

SHAPE = (1, 4, 4)
EPSILON = 0.1
# 4 classes of 16 pixels: class 1 grows where class 0 shrinks, 2 and 3 are far below and constant.
WEIGHTS = torch.zeros(4, 16, dtype=torch.float64)
WEIGHTS[0] = torch.tensor([1.0, -2.0, 0.5, -0.25] * 4, dtype=torch.float64)
WEIGHTS[1] = -WEIGHTS[0]
BIAS = torch.tensor([0.0, 0.0, -30.0, -31.0], dtype=torch.float64)
Draw = Callable[[torch.Generator], Tensor]


class Toy(Victim):
    """logits = f(image, tosses), tosses one draw per image of what `toss` gives."""

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        toss: Draw | None = None,
        classes: int = 4,
        shape: tuple[int, ...] = SHAPE,
    ) -> None:
        self.name, self.digest, self.coding = "toy", "0" * 64, None
        self.shape, self.classes = shape, classes
        self.function, self.toss = function, toss

    @property
    def stochastic(self) -> bool:
        return self.toss is not None

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        tosses = [torch.zeros(()) if self.toss is None else self.toss(draws) for _ in images]
        return self.function(images, torch.stack(tosses).to(images))

    def scores(self, images: Tensor, draws: torch.Generator) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            return self.logits(images, draws).numpy()


def linear(images: Tensor, tosses: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS.to(images).T + BIAS.to(images)


def images(number: int = 6, *, low: float = 0.2, high: float = 0.8, seed: int = 0) -> Tensor:
    """Random images of SHAPE in float64."""
    noise = torch.rand((number, *SHAPE), generator=generator(seed), dtype=torch.float64)
    return low + (high - low) * noise


def labels(number: int = 6) -> Tensor:
    return torch.arange(number) % 2


ATTACKS: tuple[Attack, ...] = (
    FGSM(EPSILON),
    RFGSM(EPSILON),
    PGD(EPSILON, steps=20, step=0.02),
    PGD(EPSILON, restarts=3),
    PGD(EPSILON, eot=3, smooth=True, loss=dlr),
    PGD(EPSILON, random_start=False),
    APGD(EPSILON),
    APGD(EPSILON, "dlr", restarts=2),
    TargetedAPGD(EPSILON, targets=3),
    RandomNoise(EPSILON),
    RandomNoise(EPSILON, "uniform"),
)
STRONG = tuple(a for a in ATTACKS if isinstance(a, (FGSM, PGD, APGD, TargetedAPGD)))


def _label(attacking: Attack) -> str:
    given = (getattr(attacking, name, None) for name in ("loss", "restarts", "kind", "eot"))
    return " ".join(str(getattr(v, "__name__", v)) for v in (attacking.name, *given) if v)


each = pytest.mark.parametrize("attacking", ATTACKS, ids=_label)


# ---- the mathematics of the attacks


@pytest.mark.parametrize("attacking", STRONG, ids=_label)
def test_a_linear_victim_is_attacked_to_its_optimum(attacking: Attack) -> None:
    """The loss is monotone in (w_1 - w_0) x: the worst point of the ball is x +- epsilon sign(w_1 - w_0)."""
    clean, y = images(low=0.0, high=1.0), labels()
    sign = (WEIGHTS[1] - WEIGHTS[0]).sign().reshape(SHAPE) * (1 - 2 * y)[:, None, None, None]
    worst = (clean + EPSILON * sign).clamp(0, 1)
    found = attacking.run(Toy(linear), clean, y, generator(1))
    assert torch.allclose(found, worst, rtol=0, atol=1e-12)


def test_rfgsm_steps_at_random_then_along_the_gradient() -> None:
    clean, y = images(), torch.zeros(6, dtype=torch.int64)
    sign = (WEIGHTS[1] - WEIGHTS[0]).sign().reshape(SHAPE)
    moved = RFGSM(EPSILON, alpha=0.03).run(Toy(linear), clean, y, generator(1)) - clean
    first = (moved - 0.07 * sign) / 0.03
    assert torch.allclose(first.abs(), torch.ones_like(first), atol=1e-9)
    assert 0.3 < float((first > 0).double().mean()) < 0.7


@pytest.mark.parametrize(("kind", "variance"), [("sign", 1.0), ("uniform", 1 / 3)])
def test_the_control_is_noise_of_the_attacks_size(kind: Any, variance: float) -> None:
    clean = images(500)
    moved = (
        RandomNoise(0.1, kind).run(Toy(linear), clean, labels(500), generator(0)) - clean
    ) / 0.1
    assert float(moved.abs().max()) <= 1 + 1e-9
    assert float(moved.mean()) == pytest.approx(0, abs=0.03)
    assert float(moved.square().mean()) == pytest.approx(variance, abs=0.02)


@pytest.mark.parametrize(("steps", "after"), [
    (100, (22, 41, 57, 70, 80, 87, 93, 99)),
    (50, (11, 21, 29, 35, 40, 44, 47, 50)),
    (20, (5, 9, 12, 14, 16, 18, 19, 20)),
    (10, (3, 5, 6, 7, 8, 9, 10)),
    (2, (1, 2)),
    (1, (1,)),
])  # fmt: skip
def test_apgd_checkpoints(steps: int, after: tuple[int, ...]) -> None:
    """p = 0, .22, .41, .57, .70, .80, .87, .93, .99 by hand; what falls on the last step decides nothing."""
    assert checkpoints(steps) == tuple(k for k in after if k < steps)


def by_hand(
    loss: Callable[[float], tuple[float, float]], x0: float, start: float, eps: float, steps: int
) -> list[float]:
    """Algorithm 1 of Croce and Hein for one pixel, scalar by scalar: every point the loss is asked at."""

    def project(x: float) -> float:
        return min(max(x, x0 - eps, 0.0), x0 + eps, 1.0)

    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(round(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06), 9))
    w = [math.ceil(round(q * steps, 9)) for q in p]
    eta, seen = 2 * eps, [start]
    f, g = loss(start)
    best, f_best, g_best = start, f, g
    x_before, x, f_best_last, eta_last = start, start, f, eta
    ups: list[bool] = []
    for k in range(1, steps + 1):
        z = project(x + eta * np.sign(g))
        new = z if k == 1 else project(x + 0.75 * (z - x) + 0.25 * (x - x_before))
        seen.append(new)
        f_new, g_new = loss(new)
        ups.append(f_new > f)
        x_before, x, f, g = x, new, f_new, g_new
        if f > f_best:
            best, f_best, g_best = x, f, g
        if k in w and k < steps:
            few = sum(ups) < 0.75 * len(ups)
            stuck = eta == eta_last and f_best == f_best_last
            eta_last, f_best_last, ups = eta, f_best, []
            if few or stuck:
                eta, x, f, g = eta / 2, best, f_best, g_best
    return seen


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize(
    ("frequency", "phase"), [(0.0, 0.0), (1.0, 0.0), (9.0, 1.0), (40.0, 2.0), (200.0, 0.5)]
)
def test_apgd_takes_the_steps_of_the_algorithm(steps: int, frequency: float, phase: float) -> None:
    """Losses of one pixel from constant to wild, for two images at once."""
    asked: list[Tensor] = []

    def wave(x: Tensor, tosses: Tensor) -> Tensor:
        asked.append(x.detach().flatten())
        gap = torch.sin(frequency * x.flatten(1) + phase)
        return torch.cat((torch.zeros_like(gap), gap, gap - 50), 1)

    def scalar(x: float) -> tuple[float, float]:
        gap = math.sin(frequency * x + phase)
        slope = frequency * math.cos(frequency * x + phase) / (1 + math.exp(-gap))
        return math.log1p(math.exp(gap)), slope

    clean = torch.tensor([0.45, 0.98], dtype=torch.float64).reshape(2, 1, 1, 1)
    victim = Toy(wave, classes=3, shape=(1, 1, 1))
    APGD(0.1, steps=steps).run(victim, clean, torch.zeros(2, dtype=torch.int64), generator(3))
    for i in (0, 1):
        want = by_hand(scalar, float(clean[i]), float(asked[0][i]), 0.1, steps)
        found = [float(x[i]) for x in asked[: steps + 1]]
        assert found == pytest.approx(want, abs=1e-9)


def test_apgd_halves_its_step_as_the_algorithm_does() -> None:
    """Losses and slopes from a script, whatever the point: 100 walks that mostly rise, in one batch."""
    steps, number = 100, 100
    draws = generator(1)
    rises = torch.rand(steps + 2, number, generator=draws) < torch.linspace(0.6, 0.95, number)
    sizes = torch.rand(steps + 2, number, generator=draws, dtype=torch.float64)
    walk = (torch.where(rises, sizes, -4 * sizes).cumsum(0)).clamp(-30, 30)
    walk = walk + 1e-3 * sizes
    slope = torch.randint(0, 2, walk.shape, generator=draws).double() * 2 - 1
    asked: list[Tensor] = []

    def script(x: Tensor, tosses: Tensor) -> Tensor:
        k = len(asked)
        asked.append(x.detach().flatten())
        flat = x.flatten()
        gap = walk[k] + slope[k] * (flat - flat.detach())
        return torch.stack((torch.zeros_like(gap), gap, gap - 1e3), 1)

    clean = torch.full((number, 1, 1, 1), 0.5, dtype=torch.float64)
    victim = Toy(script, classes=3, shape=(1, 1, 1))
    APGD(0.1, steps=steps).run(victim, clean, torch.zeros(number, dtype=torch.int64), draws)
    losses = torch.nn.functional.softplus(walk)
    for i in range(number):
        calls = iter(zip(losses[:, i].tolist(), slope[:, i].tolist(), strict=True))
        want = by_hand(lambda _, calls=calls: next(calls), 0.5, float(asked[0][i]), 0.1, steps)
        assert [float(x[i]) for x in asked[: steps + 1]] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(("logits", "label", "loss"), [
    ([3.0, 1.0, 0.5, -2.0], 0, -2 / 2.5),
    ([3.0, 1.0, 0.5, -2.0], 1, 2 / 2.5),
    ([3.0, 1.0, 0.5, -2.0], 3, 5 / 2.5),
    ([2.0, 2.0, 2.0, 0.0], 0, 0.0),
    ([2.0, 2.0, 2.0, 0.0], 3, 2 / (0.05 * 2)),
    ([0.0, 0.0, 0.0, 0.0], 2, 0.0),
])  # fmt: skip
def test_dlr_by_hand(logits: list[float], label: int, loss: float) -> None:
    """Ties included: finite, with a finite gradient, whatever the scale."""
    for scale in (1.0, 1e-3, 1e3):
        z = scale * torch.tensor([logits], dtype=torch.float64) + 7
        z.requires_grad_()
        found = dlr(z, torch.tensor([label]))
        (slope,) = torch.autograd.grad(found.sum(), z)
        assert found.tolist() == pytest.approx([loss], abs=1e-9)
        assert bool(slope.isfinite().all())


def test_targeted_dlr_by_hand() -> None:
    z = torch.tensor([[3.0, 1.0, 0.5, -2.0, -9.0], [0.0, 4.0, 2.0, 1.0, 3.0]], dtype=torch.float64)
    found = targeted_dlr(torch.tensor([1, 2]))(z, torch.tensor([0, 4]))
    assert found.tolist() == pytest.approx([-2 / (3 - (0.5 - 2) / 2), -1 / (4 - (2 + 1) / 2)])


def test_targeted_apgd_aims_at_the_likeliest_wrong_classes() -> None:
    """Only the third likeliest class can be reached: two targets are too few."""
    weights = torch.zeros(4, 16, dtype=torch.float64)
    weights[3] = 10.0
    bias = torch.tensor([0.0, -1.0, -2.0, -90.0], dtype=torch.float64)

    def reach(x: Tensor, tosses: Tensor) -> Tensor:
        return x.flatten(1) @ weights.T + bias

    victim, clean, y = (
        Toy(reach),
        torch.full((2, *SHAPE), 0.5, dtype=torch.float64),
        torch.zeros(2, dtype=torch.int64),
    )
    accuracies = [
        attack(victim, TargetedAPGD(EPSILON, targets=n), clean, y).accuracy for n in (2, 3, 9)
    ]
    assert accuracies == [1.0, 0.0, 0.0]


# ---- expectation over the coding's draws


def coin(chance: float) -> Draw:
    """1 with this chance, else -1."""
    return lambda draws: (torch.rand((), generator=draws) < chance).double() * 2 - 1


def flipping(images: Tensor, tosses: Tensor) -> Tensor:
    """Draws on which the gradient points the other way."""
    return tosses[:, None] * linear(images, tosses)


def test_eot_gradient_is_the_mean() -> None:
    """E[s] d(z_1 - z_0) / dx with P(s = 1) = .6 is .2 (w_1 - w_0); 4000 draws find it within 4 sigma."""

    def gap(logits: Tensor, y: Tensor) -> Tensor:
        return logits[:, 1] - logits[:, 0]

    victim, clean = Toy(flipping, coin(0.6)), images(2)
    found = expected(victim, clean, labels(2), generator(0), loss=gap, eot=4000)
    slope, loss = found.gradient, found.loss
    share = slope.flatten(1) / (WEIGHTS[1] - WEIGHTS[0])
    assert torch.allclose(share, share[:, :1].expand_as(share))
    assert share[:, 0].tolist() == pytest.approx([0.2, 0.2], abs=4 * math.sqrt(0.96 / 4000))
    gaps = (linear(clean, clean) @ torch.tensor([-1.0, 1, 0, 0]).double()) * share[:, 0]
    assert loss.tolist() == pytest.approx(gaps.tolist())


@pytest.mark.parametrize("smooth", [False, True])
def test_expected_is_autograd_over_the_same_draws(smooth: bool) -> None:
    """mean_k CE_k, and SmoothAdv's -log mean_k softmax_y; a draw whose softmax underflows is no NaN."""
    victim = Toy(lambda x, s: 400 * linear(x, s) * s[:, None] + s[:, None], coin(0.5))
    clean, y = images(3).float(), labels(3)
    x = clean.double().requires_grad_()
    tosses = generator(5)
    logs = torch.stack(
        [functional.log_softmax(victim.logits(x, tosses), 1)[torch.arange(3), y] for _ in range(7)]
    )
    want = -(torch.logsumexp(logs, 0) - math.log(7)) if smooth else -logs.mean(0)
    (slope,) = torch.autograd.grad(want.sum(), x)
    found = expected(victim, clean, y, generator(5), eot=7, smooth=smooth)
    assert torch.allclose(found.gradient.double(), slope, rtol=1e-4)
    assert torch.allclose(found.loss, want.detach(), rtol=1e-4)
    assert found.gradient.abs().max() > 1


def test_eot_finds_what_one_draw_does_not() -> None:
    """A gradient that is wrong on 4 of 10 draws: its sign over 25 draws is right, of one draw a toss."""
    victim, clean, y = Toy(flipping, coin(0.6)), images(20), torch.zeros(20, dtype=torch.int64)
    sign = (WEIGHTS[1] - WEIGHTS[0]).sign().reshape(SHAPE)

    def gap(logits: Tensor, y: Tensor) -> Tensor:
        return logits[:, 1] - logits[:, 0]

    shares = []
    for eot in (1, 25):
        moved = FGSM(EPSILON, eot=eot, loss=gap).run(victim, clean, y, generator(0)) - clean
        shares.append(float(((moved * sign).flatten(1).sum(1) > 0).double().mean()))
    assert shares[0] <= 0.8
    assert shares[1] >= 0.8
    assert shares[1] > shares[0]


@pytest.mark.parametrize(("smooth", "way"), [(False, 1), (True, -1)])
def test_smooth_pgd_attacks_the_draws_that_are_still_right(smooth: bool, way: int) -> None:
    """6 of 10 draws are lost and would be more so upwards, the others would be lost downwards."""

    def split(x: Tensor, tosses: Tensor) -> Tensor:
        move = x.flatten(1).mean(1) - 0.5
        gap = torch.where(tosses > 0, 10 + move, -0.8 - move)
        return torch.stack((torch.zeros_like(gap), gap, gap - 90, gap - 91), 1)

    clean, y = torch.full((5, *SHAPE), 0.5, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    kind = PGD(EPSILON, steps=4, eot=40, smooth=smooth)
    moved = kind.run(Toy(split, coin(0.6)), clean, y, generator(0))
    assert torch.allclose(moved, clean + way * EPSILON)


def test_pgd_returns_the_last_iterate_of_a_stochastic_victim_not_the_luckiest() -> None:
    """Noise in the loss far above what the image can do to it: the highest loss means nothing."""

    def noisy(x: Tensor, tosses: Tensor) -> Tensor:
        z = linear(x, tosses)
        return torch.stack((z[:, 0], z[:, 1] + 20 * tosses, z[:, 2], z[:, 3]), 1)

    clean, y = images(20), torch.zeros(20, dtype=torch.int64)
    victim = Toy(noisy, lambda draws: torch.rand((), generator=draws))
    moved = PGD(EPSILON).run(victim, clean, y, generator(0))
    assert torch.allclose((moved - clean).abs(), torch.tensor(EPSILON, dtype=torch.float64))


@pytest.mark.parametrize(("attacking", "calls"), [
    (FGSM(EPSILON, eot=3), 3),
    (RFGSM(EPSILON, eot=3), 3),
    (PGD(EPSILON, steps=4, eot=3, restarts=2), 2 * 5 * 3),
    (APGD(EPSILON, steps=4, eot=3, restarts=2), 2 * 6 * 3),
    (TargetedAPGD(EPSILON, steps=4, eot=3, targets=2), 3 + 2 * 6 * 3),
    (RandomNoise(EPSILON), 0),
])  # fmt: skip
def test_what_an_attack_costs(attacking: Attack, calls: int) -> None:
    """Runs of the network: `eot` for each point that is looked at."""
    asked: list[int] = []

    def counted(x: Tensor, tosses: Tensor) -> Tensor:
        asked.append(len(x))
        return flipping(x, tosses)

    attacking.run(Toy(counted, coin(0.6)), images(), labels(), generator(0))
    assert asked == [6] * calls


# ---- the harness


def unfair(images: Tensor, tosses: Tensor) -> Tensor:
    """Class 0 or, on a lost toss, class 1, whatever the image shows; a gradient that means nothing."""
    gap = tosses + 1e-3 * images.flatten(1).sum(1)
    zero = torch.zeros_like(gap)
    return torch.stack((gap, -gap, zero - 9, zero - 9), 1)


@pytest.mark.slow
@each
def test_a_lost_toss_is_no_success(attacking: Attack) -> None:
    """7 of 10 tosses are right on any image: an attack that keeps what once was wrong would score 0."""
    clean, y = images(50), torch.zeros(50, dtype=torch.int64)
    found = attack(Toy(unfair, coin(0.7)), attacking, clean, y, draws=40)
    assert found.accuracy == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 2000))
    assert found.voted >= 0.95


def test_kept_of_a_stochastic_victim_goes_by_the_mean_loss() -> None:
    first, second, third = (torch.full((2, *SHAPE), v) for v in (0.1, 0.2, 0.3))

    def at(loss: list[float], wrong: list[float]) -> Expected:
        return Expected(first, torch.tensor(loss).double(), torch.tensor(wrong).double())

    for toss, worst in ((None, [0.2, 0.3]), (coin(0.5), [0.1, 0.3])):
        kept = Kept(Toy(linear, toss), torch.zeros(2, *SHAPE))
        kept.offer(first, at([5.0, 1.0], [0.0, 0.0]))
        kept.offer(second, at([4.0, 2.0], [1.0, 0.0]))
        kept.offer(third, at([4.5, 3.0], [0.0, 0.0]))
        assert kept.points[:, 0, 0, 0].tolist() == pytest.approx(worst)


@pytest.mark.parametrize(
    "kind", [PGD(EPSILON, steps=4, step=0.15, random_start=False), APGD(EPSILON, steps=4)]
)
def test_of_a_certain_victim_any_wrong_iterate_is_kept(kind: Attack) -> None:
    """Wrong only in a narrow band that the iterates pass and leave for a higher loss."""

    def band(x: Tensor, tosses: Tensor) -> Tensor:
        move = x.flatten(1).mean(1) - 0.5
        seen.append(move.detach().clone())
        rank = torch.where(move.abs() < 0.09, torch.full_like(move, -1), torch.full_like(move, 1))
        zero = torch.zeros_like(move)
        # loss rises with the move; class 1 beats class 0 inside the band only
        return torch.stack((zero, -rank * 1e-9, zero + 50 * move - 6, zero - 90), 1)

    seen: list[Tensor] = []
    clean, y = torch.full((3, *SHAPE), 0.5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    moved = kind.run(Toy(band), clean, y, generator(2))
    assert any(bool((move.abs() < 0.09).any()) for move in seen)
    assert bool(((moved - clean).flatten(1).mean(1).abs() < 0.09).all())


class Script(Toy):
    """Answers from a table, one row per call."""

    def __init__(self, table: list[list[int]]) -> None:
        super().__init__(linear, coin(0.5))
        self.table = iter(table)

    def scores(self, images: Tensor, draws: torch.Generator) -> np.ndarray[Any, Any]:
        return np.eye(4)[next(self.table)]


def test_single_draw_and_voted_accuracy_by_hand() -> None:
    table = [[0, 1, 2], [0, 0, 2], [1, 0, 2], [0, 1, 3], [1, 0, 2]]
    found = score(Script(table), images(3), torch.tensor([0, 1, 2]), draws=5)
    assert found.right.tolist() == [0.6, 0.4, 0.8]
    assert found.accuracy == pytest.approx(0.6)
    assert found.voted == pytest.approx(2 / 3)
    assert found.votes.tolist() == [[3, 2, 0, 0], [3, 2, 0, 0], [0, 0, 4, 1]]
    assert score(Toy(linear), images(3), labels(3), draws=5).draws == 1


def test_the_attack_never_sees_the_draws_that_score_it() -> None:
    """A victim that hands out its tosses: those of attacking and of scoring have none in common."""
    seen: list[list[float]] = [[], []]

    class Watched(Toy):
        def scores(self, images: Tensor, draws: torch.Generator) -> np.ndarray[Any, Any]:
            return np.eye(4)[[self._noted(1, draws)] * len(images)]

        def logits(
            self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL
        ) -> Tensor:
            self._noted(0, draws)
            return linear(images, images)

        def _noted(self, place: int, draws: torch.Generator) -> int:
            seen[place].append(float(torch.rand((), generator=draws, dtype=torch.float64)))
            return 0

    attack(Watched(linear, coin(0.5)), FGSM(EPSILON, eot=9), images(), labels(), draws=30)
    assert len(set(seen[0])) == len(seen[0])
    assert not set(seen[0]) & set(seen[1])
    assert seen[1][:30] == seen[1][30:]  # clean and adversarial images meet the same draws


@pytest.mark.slow
@each
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_the_ball_is_kept_and_the_callers_tensors_are_left_alone(
    attacking: Attack, epsilon: float
) -> None:
    clean, y = images(low=0.0, high=1.0).float(), labels()
    clean[0], clean[1] = 0.0, 1.0
    before, y_before = clean.clone(), y.clone()
    for victim in (Toy(linear), Toy(flipping, coin(0.6))):
        scaled = replace(attacking, epsilon=epsilon)
        moved = scaled.run(victim, clean, y, generator(0))
        assert torch.equal(clean, before)
        assert torch.equal(y, y_before)
        assert moved.dtype == torch.float32
        assert float((moved - clean).abs().max()) <= epsilon + 1e-6
        assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
        found = attack(victim, scaled, clean, y, draws=2)
        assert torch.equal(clean, before)
        assert found.largest <= epsilon + 1e-6
        if epsilon == 0:
            assert torch.equal(found.adversarial, clean)
            assert found.accuracy == found.clean.accuracy


@each
def test_the_seed_decides_everything(attacking: Attack) -> None:
    victim, clean, y = Toy(flipping, coin(0.6)), images(), labels()
    first, again = (attack(victim, attacking, clean, y, seed=4) for _ in range(2))
    assert torch.equal(first.adversarial, again.adversarial)
    assert replace(first, seconds=0, adversarial=clean) == replace(
        again, seconds=0, adversarial=clean
    )
    if attacking.name in ("RFGSM", "random noise"):
        assert not torch.equal(
            first.adversarial, attack(victim, attacking, clean, y, seed=5).adversarial
        )


@pytest.mark.slow
@each
def test_batches_change_nothing_for_a_certain_victim(attacking: Attack) -> None:
    def bent(x: Tensor, tosses: Tensor) -> Tensor:
        parts = [(WEIGHTS[c] * torch.sin(5 * x.flatten(1))).sum(1) for c in range(4)]
        return torch.stack(parts, 1)

    clean, y = images(7), labels(7)
    whole, parts = (attack(Toy(bent), attacking, clean, y, batch=batch) for batch in (7, 3))
    assert torch.allclose(whole.adversarial, parts.adversarial, rtol=0, atol=1e-12)


def test_restarts_and_steps_help() -> None:
    """A loss with many local maxima: the worst of more restarts is never less."""

    def waves(x: Tensor, tosses: Tensor) -> Tensor:
        gap = torch.sin(60 * x.flatten(1)).sum(1)
        zero = torch.zeros_like(gap)
        return torch.stack((zero, gap, zero - 90, zero - 91), 1)

    victim, clean, y = Toy(waves), images(20), torch.zeros(20, dtype=torch.int64)
    losses = []
    for kind in (PGD(EPSILON, steps=1), PGD(EPSILON), PGD(EPSILON, restarts=5)):
        moved = kind.run(victim, clean, y, generator(0))
        losses.append(float(cross_entropy(victim.logits(moved, generator(0)), y).mean()))
    assert losses[0] < losses[1] < losses[2]


@dataclass(frozen=True)
class Wild(Attack):
    """Attacks that break the rules."""

    name: ClassVar[str] = "wild"
    how: str = "far"

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        if self.how == "in place":
            return images.add_(5 * self.epsilon)
        if self.how == "NaN":
            return images * math.nan
        return images[:1] if self.how == "few" else images + 2 * self.epsilon


@pytest.mark.parametrize(("how", "says"), [
    ("far", "wild left its ball of epsilon = 0.1 or \\[0, 1\\] by 0.1"),
    ("in place", "wild left its ball of epsilon = 0.1 or \\[0, 1\\] by 0.4"),
    ("NaN", "wild left its ball of epsilon = 0.1 or \\[0, 1\\] by nan"),
    ("few", "wild returned images of shape"),
])  # fmt: skip
def test_the_harness_does_not_trust_the_attack(how: str, says: str) -> None:
    clean = images(low=0.4, high=0.4)
    with pytest.raises(ValueError, match=says):
        attack(Toy(linear), Wild(EPSILON, how), clean, labels())
    assert torch.equal(clean, images(low=0.4, high=0.4))


def test_zero_gradients_are_counted() -> None:
    """Half of the pixels play no part; the softmax of two of the four images is saturated."""
    mask = torch.tensor([1.0, 0.0] * 8, dtype=torch.float64)

    def masked(x: Tensor, tosses: Tensor) -> Tensor:
        z = linear((x.flatten(1) * mask).reshape(x.shape), tosses)
        certain = 1e6 * (x[:, :, 0, 0] == 1)
        return torch.cat((z[:, :1], z[:, 1:2] + certain, z[:, 2:]), 1)

    clean = images(4)
    clean[:2, 0, 0, 0] = 1.0
    found = attack(Toy(masked), FGSM(EPSILON), clean, torch.ones(4, dtype=torch.int64))
    assert found.zero_gradients == (2 * 16 + 2 * 8) / 64
    assert found.without_gradient == 0.5


def test_a_record_is_json() -> None:
    attacking = PGD(EPSILON, gradient=Fixed(SURROGATES["triangle"], sharpness=2.0), loss=dlr)
    found = attack(Toy(flipping, coin(0.6)), attacking, images(), labels(), draws=3, seed=9)
    plain = records.plain(found)
    assert records.dumps(found)
    assert (plain["attack"], plain["epsilon"], plain["seed"], plain["samples"]) == (
        "PGD",
        0.1,
        9,
        6,
    )
    assert plain["settings"] == {
        "epsilon": 0.1,
        "steps": 20,
        "step": None,
        "restarts": 1,
        "eot": 1,
        "smooth": False,
        "random_start": True,
        "loss": "dlr",
        "gradient": {"kind": "Fixed", "surrogate": "triangle", "sharpness": 2.0, "height": 1.0},
    }
    assert set(plain["after"]) == {"accuracy", "voted", "draws"}
    assert "adversarial" not in plain


@pytest.mark.parametrize(("make", "says"), [
    (lambda: FGSM(-0.1), "FGSM: epsilon = -0.1; 0 or more is needed"),
    (lambda: PGD(math.nan), "PGD: epsilon = nan"),
    (lambda: PGD(-1, steps=0, eot=0), "epsilon = -1; .*; steps = 0; 1 or more is needed; eot = 0; 1 or more"),
    (lambda: PGD(0.1, step=0.0), "step = 0.0; more than 0"),
    (lambda: PGD(0.1, restarts=2, random_start=False), "restarts from the image itself are all alike"),
    (lambda: RFGSM(0.1, alpha=0.2), "alpha = 0.2; 0 .. epsilon = 0.1"),
    (lambda: APGD(0.1, "kl"), "loss 'kl' is unknown; choose from ce, dlr"),  # type: ignore[arg-type]
    (lambda: TargetedAPGD(0.1, targets=0), "targets = 0; 1 or more"),
])  # fmt: skip
def test_wrong_settings(make: Callable[[], Attack], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(("change", "says"), [
    ({"images": images() * 255}, "images reach .*; epsilon is in units of \\[0, 1\\]"),
    ({"images": images() - 0.5}, "images reach -0"),
    ({"images": images() * math.nan}, "images reach nan"),
    ({"images": (images() * 255).to(torch.uint8)}, "images are torch.uint8; floats are needed"),
    ({"images": images()[:, 0]}, "images have shape \\(6, 4, 4\\); \\(sample, 1, 4, 4\\)"),
    ({"images": images(0), "labels": labels(0)}, "at least one sample"),
    ({"labels": labels(5)}, "labels are torch.int64 of shape \\(5,\\); one int64 per image"),
    ({"labels": labels().float()}, "labels are torch.float32"),
    ({"labels": labels() + 3}, "labels reach 3 .. 4; toy has classes 0 .. 3"),
    ({"draws": 0, "batch": 0}, "draws = 0, batch = 0; both must be 1 or more"),
    ({"attack": TargetedAPGD(0.1), "victim": Toy(lambda x, s: linear(x, s)[:, :3], classes=3)}, "toy has 3 classes; the targeted DLR loss needs 4"),
    ({"attack": APGD(0.1, "dlr"), "victim": Toy(lambda x, s: linear(x, s)[:, :2], classes=2)}, "toy has 2 classes; the DLR loss needs 3"),
])  # fmt: skip
def test_wrong_inputs(change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "victim": Toy(linear),
        "attack": FGSM(0.1),
        "images": images(),
        "labels": labels(),
    }
    with pytest.raises(ValueError, match=says):
        attack(**{**given, **change})


# ---- on spiking networks


@pytest.fixture(scope="module")
def victims() -> dict[str, Victim]:
    """An untrained network with each kind of randomness, as floats and as integers."""
    found: dict[str, Victim] = {}
    for coding, sigma in (("direct", 0.0), ("rsc2", 0.2)):
        torch.manual_seed(1)
        settings = Settings.of(
            coding=coding, sigma=sigma, steps=4, levels=64, widths=(16,), readout="voltage"
        )  # type: ignore[arg-type]
        classifier = Classifier(settings)
        with torch.no_grad():
            for parameter in classifier.net.parameters():
                parameter *= 6  # so that neurons fire
        calibration = torch.rand((20, 1, 8, 8), generator=generator(2))
        found[f"float {coding}"] = FloatVictim(classifier)
        found[f"deployed {coding}"] = DeployedVictim.quantized(classifier, calibration)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "gradient", [USUAL, "rate", "activation"], ids=["surrogate", "rate", "activation"]
)
@pytest.mark.parametrize("name", ["float direct", "deployed direct", "float rsc2", "deployed rsc2"])
def test_spiking_networks_can_be_attacked(
    victims: dict[str, Victim], name: str, gradient: Gradient
) -> None:
    """The network's own answers as labels: PGD, which follows the gradient, breaks more than noise does."""
    victim = victims[name]
    clean, y = answered(victim)

    def run(attacking: Attack) -> Attacked:
        return attack(victim, attacking, clean, y, draws=10)

    noise = run(RandomNoise(0.15))
    for attacking in (
        PGD(0.15, steps=8, eot=2, gradient=gradient),
        APGD(0.15, steps=8, eot=2, gradient=gradient),
    ):
        assert run(attacking).accuracy < noise.accuracy
    assert noise.clean.draws == (1 if "direct" in name else 10)


# ---- cross-checks against other libraries, where they are installed


class Logits(torch.nn.Module):
    """A victim as the module that other libraries attack."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, x: Tensor) -> Tensor:
        return self.victim.logits(x, generator(0))


def answered(victim: Victim, number: int = 30) -> tuple[Tensor, Tensor]:
    """Random images with the victim's own answers."""
    clean = torch.rand((number, *victim.shape), generator=generator(3))
    return clean, torch.from_numpy(score(victim, clean, labels(number)).votes.argmax(1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["float direct", "deployed direct"])
def test_foolbox_finds_the_same(victims: dict[str, Victim], name: str) -> None:
    """FGSM, and PGD from the image, move the same way; random restarts are at least as strong."""
    foolbox = pytest.importorskip("foolbox")
    victim = victims[name]
    clean, y = answered(victim)
    model = foolbox.PyTorchModel(Logits(victim).eval(), bounds=(0, 1))
    fast = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, theirs, _ = fast(model, clean, y, epsilons=0.1)
    assert torch.allclose(FGSM(0.1).run(victim, clean, y, generator(0)), theirs, atol=1e-6)
    slow = foolbox.attacks.LinfPGD(steps=10, abs_stepsize=0.025, random_start=False)
    _, _, broken = slow(model, clean, y, epsilons=0.1)
    accuracies = [
        attack(victim, PGD(0.1, 10, 0.025, random_start=start, restarts=n), clean, y).accuracy
        for start, n in ((False, 1), (True, 3))
    ]
    assert max(accuracies) <= 1 - float(broken.float().mean())


@pytest.mark.filterwarnings("ignore")
def test_apgd_is_at_least_as_strong_as_that_of_art(victims: dict[str, Victim]) -> None:
    estimators = pytest.importorskip("art.estimators.classification")
    evasion = pytest.importorskip("art.attacks.evasion")
    victim = victims["float direct"]
    clean, y = answered(victim)
    classifier = estimators.PyTorchClassifier(
        Logits(victim),
        torch.nn.CrossEntropyLoss(),
        victim.shape,
        victim.classes,
        clip_values=(0, 1),
    )
    theirs = evasion.AutoProjectedGradientDescent(
        classifier, eps=0.1, eps_step=0.2, max_iter=20, loss_type="cross_entropy", verbose=False
    ).generate(clean.numpy(), y.numpy())
    left = float(
        (torch.from_numpy(victim.answers(torch.tensor(theirs), generator(0))) == y).float().mean()
    )
    assert attack(victim, APGD(0.1), clean, y).accuracy <= left


# ---- an attack from outside the library


@dataclass(frozen=True)
class Brighten(Attack):
    """Makes all pixels brighter, step by step, whatever the network."""

    name: ClassVar[str] = "brighten"
    names: ClassVar[Mapping[str, Build]] = {
        "brighten": lambda s: s.build(Brighten),
        "brighten-fast": lambda s: s.build(Brighten, steps=1),
    }
    steps: int = 4
    eot: int = 1

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        x = images
        for _ in range(self.steps):
            x = self.project(x + self.epsilon / self.steps, images)
        return x


@pytest.mark.parametrize(
    ("name", "strength", "steps"),
    [
        ("brighten", Strength(EPSILON), 4),
        ("brighten", Strength(EPSILON, steps=2, eot=5), 2),
        ("brighten-fast", Strength(EPSILON, steps=2, eot=5), 1),
    ],
)
def test_an_attack_from_outside_is_built_by_name_and_judged(
    name: str, strength: Strength, steps: int
) -> None:
    with pytest.raises(ValueError, match="unknown attack 'brighten"):
        named(name, strength)
    made = named(name, strength, {**family.ATTACKS, **Brighten.names})
    assert made == Brighten(EPSILON, steps, strength.eot)
    found = attack(Toy(linear), made, images(), labels())
    assert found.attack == "brighten"
    assert found.settings == {"epsilon": EPSILON, "steps": steps, "eot": strength.eot}
    assert found.largest == pytest.approx(EPSILON)
    assert torch.allclose(found.adversarial, images() + EPSILON, rtol=0, atol=1e-12)


def test_names_are_of_one_attack_each() -> None:
    assert list(family.ATTACKS) == [name for kind in family.KINDS for name in kind.names]
    for kind in family.KINDS:
        for name in kind.names:
            assert type(named(name, Strength(EPSILON))) is kind
    usual = {
        name: getattr(named(name, Strength(EPSILON)), "steps", None) for name in family.ATTACKS
    }
    assert {name: n for name, n in usual.items() if n not in (None, 20)} == {"sa-pgd": 100}
