"""Square: its budget, its patches, and that it searches rather than guesses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_targets.network.coding import Coding
from spikeship.models.encoding import generator
from spikeship.models.surrogates import USUAL, Gradient
from spikeship.pipeline.robustness.attacks.square import Square
from spikeship.pipeline.robustness.victims import Victim

EPSILON = 0.1


class Linear(Victim):
    """Scores +-(w . x) on the images it is shown, which it keeps; `sigma` of noise on every score."""

    name, digest = "linear", ""

    def __init__(self, weight: Tensor, offset: float, sigma: float = 0.0) -> None:
        self.weight, self.offset, self.sigma = weight, offset, sigma
        self.shape, self.classes = tuple(weight.shape), 2
        self.coding = Coding.of("rsc1", sigma=sigma) if sigma else None
        self.seen: list[Tensor] = []

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        raise AssertionError("Square asks for no gradients")

    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        self.seen.append(images.clone())
        value = (images * self.weight).sum((1, 2, 3)) + self.offset
        value = value + self.sigma * torch.randn(value.shape, generator=draws)
        return torch.stack([value, -value], 1).numpy()


def smooth(channels: int = 1, size: int = 12) -> Tensor:
    """Weights in large areas of one sign."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    plane = torch.sin(rows / 2.0) * torch.cos(columns / 3.0)
    return torch.stack([plane * (-1) ** c for c in range(channels)])


def images_for(victim: Linear, count: int = 20) -> tuple[Tensor, Tensor]:
    """Grey images, all of class 0."""
    x = 0.3 + 0.4 * torch.rand((count, *victim.shape), generator=generator(3))
    return x, torch.zeros(count, dtype=torch.int64)


def unbeatable(**options: Any) -> Linear:
    return Linear(smooth(**options), 1e6)


@pytest.mark.parametrize(
    ("sigma", "asked"), [(0.0, 1), (0.5, 3)], ids=["deterministic", "stochastic"]
)
def test_asks_exactly_for_its_budget(sigma: float, asked: int) -> None:
    victim = Linear(smooth(), 1e6, sigma)
    x, labels = images_for(victim)
    Square(EPSILON, queries=40, draws_per_query=3).run(victim, x, labels, generator(0))
    assert [len(seen) for seen in victim.seen] == [len(x)] * 40 * asked


def test_asks_no_more_about_images_that_are_wrong() -> None:
    victim = Linear(smooth(), -1e6)
    x, labels = images_for(victim)
    Square(EPSILON, queries=40).run(victim, x, labels, generator(0))
    assert [len(seen) for seen in victim.seen] == [len(x)]
    victim = Linear(smooth(), 3.0)
    x, labels = images_for(victim)
    Square(EPSILON, queries=60).run(victim, x, labels, generator(0))
    sizes = [len(seen) for seen in victim.seen]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_starts_with_stripes_then_paints_squares(channels: int) -> None:
    victim = unbeatable(channels=channels)
    x, labels = images_for(victim)
    attack = Square(EPSILON, queries=100)
    attack.run(victim, x, labels, generator(0))
    stripes = (victim.seen[0] - x) / EPSILON
    assert torch.allclose(stripes.abs(), torch.ones(()), atol=1e-5)
    assert (stripes.sign() == stripes.sign()[:, :, :1]).all(), "one sign per column"
    assert stripes.sign().unique(dim=3).shape[3] > 1
    best, low = victim.seen[0].clone(), margins(victim, victim.seen[0])
    for query, seen in enumerate(victim.seen[1:]):
        assert torch.allclose((seen - x).abs(), torch.full((), EPSILON), atol=1e-6), "in the ball"
        changed = (seen != best).any(1)
        side = attack.side(query, 12, 12)
        assert changed.flatten(1).any(1).all(), "no query is spent on nothing"
        assert (changed.any(2).sum(1) <= side).all()
        assert (changed.any(1).sum(1) <= side).all()
        better = (found := margins(victim, seen)) <= low
        best[better], low[better] = seen[better], found[better]


def margins(victim: Linear, images: Tensor) -> Tensor:
    value = (images * victim.weight).sum((1, 2, 3)) + victim.offset
    return value - -value


def test_sides_follow_the_published_schedule() -> None:
    """p = .8, halved after 10, 50, 200, ... of 10,000 queries, on 100 x 100 pixels."""
    table = [
        (0, 89), (10, 89), (11, 63), (50, 63), (51, 45), (200, 45), (201, 32), (501, 22), (1001, 16),
        (2001, 11), (4001, 8), (6001, 6), (8001, 4), (9999, 4),
    ]  # fmt: skip
    for queries in (10_000, 1_000_000):
        attack = Square(EPSILON, queries=queries)
        assert [(at, attack.side(at * queries // 10_000, 100, 100)) for at, _ in table] == table
    assert Square(EPSILON, queries=1000).side(999, 8, 8) == 1
    assert Square(EPSILON, queries=1000, area=1.0).side(0, 8, 6) == 5


def test_stays_in_the_ball_and_in_the_range_of_pixels() -> None:
    victim = Linear(smooth(3), 1.0)
    x, labels = images_for(victim)
    x[:10] = x[:10].round()
    before = x.clone()
    found = Square(EPSILON, queries=50).run(victim, x, labels, generator(0))
    assert (x == before).all()
    for images in (found, *(seen for seen in victim.seen if len(seen) == len(x))):
        assert (images - x).abs().max() <= EPSILON + 1e-7
        assert images.min() >= 0
        assert images.max() <= 1


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_beats_noise(sigma: float) -> None:
    victim = Linear(smooth(), 3.0, sigma)
    x, labels = images_for(victim)
    found = Square(EPSILON, queries=400, draws_per_query=4).run(victim, x, labels, generator(0))
    draws = generator(1)
    signs = [EPSILON * (torch.randint(2, x.shape, generator=draws) * 2 - 1) for _ in range(400)]
    noise = torch.stack([margins(victim, x + sign) for sign in signs]).amin(0)
    assert (noise <= 0).float().mean() < 0.2
    assert (margins(victim, found) <= 0).all()


def test_a_lucky_draw_does_not_stand_for_good() -> None:
    """Scores with much noise: the margin still falls as far as the draws can tell."""
    victim = Linear(smooth(), 1e6, sigma=2.0)
    x, labels = images_for(victim)
    found = Square(EPSILON, queries=300, draws_per_query=2).run(victim, x, labels, generator(0))
    assert (margins(victim, found) < margins(victim, victim.seen[0])).all()
    fall = margins(victim, x) - margins(victim, found)
    assert fall.mean() > 0.8 * 2 * EPSILON * victim.weight.abs().sum()


def test_epsilon_0_changes_nothing() -> None:
    victim = Linear(smooth(), 1.0)
    x, labels = images_for(victim)
    assert (Square(0.0, queries=5).run(victim, x, labels, generator(0)) == x).all()


def test_same_seed_same_images() -> None:
    victim = Linear(smooth(), 5.0, sigma=0.2)
    x, labels = images_for(victim)
    attack = Square(EPSILON, queries=30, draws_per_query=2)
    runs = [attack.run(victim, x, labels, generator(seed)) for seed in (0, 0, 1)]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


@pytest.mark.parametrize("wrong", [{"queries": 0}, {"draws_per_query": 0}, {"area": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Square: .* needed"):
        Square(EPSILON, **wrong)
