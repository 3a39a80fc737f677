"""Transfer: crafted there, judged here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_targets.network.coding import Coding
from spikeship.models.encoding import generator
from spikeship.models.surrogates import USUAL, Gradient
from spikeship.pipeline.robustness.attacks.attack import attack
from spikeship.pipeline.robustness.attacks.gradient import FGSM
from spikeship.pipeline.robustness.attacks.transfer import transfer
from spikeship.pipeline.robustness.victims import Victim

EPSILON = 0.1


class Linear(Victim):
    """Class 0 where w . x, plus noise of `sigma` per image, is above 1/2."""

    shape, classes = (1, 1, 2), 2

    def __init__(self, digest: str, weight: tuple[float, float], sigma: float = 0.0) -> None:
        self.name = self.digest = digest
        self.weight, self.sigma = torch.tensor(weight).reshape(1, 1, 2), sigma
        self.coding = Coding.of("rsc1", sigma=sigma) if sigma else None

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        noise = self.sigma * torch.randn(len(images), generator=draws)
        value = (images * self.weight).sum((1, 2, 3)) + noise - 0.5
        return torch.stack([value, -value], 1)

    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        found: NDArray[Any] = self.logits(images, draws).detach().numpy()
        return found


def data(count: int = 200) -> tuple[Tensor, Tensor]:
    """Both pixels well above 1/2, or a little: class 0 for every network here."""
    x = 0.5 + 0.3 * torch.rand((count, 1, 1, 2), generator=generator(0))
    return x, torch.zeros(count, dtype=torch.int64)


def nets() -> dict[str, Victim]:
    return {
        "left": Linear("a", (1.0, 0.0)),
        "right": Linear("b", (0.0, 1.0)),
        "mean": Linear("c", (0.5, 0.5)),
        "noisy": Linear("d", (1.0, 0.0), sigma=0.05),
    }


def test_the_matrix_goes_both_ways() -> None:
    """FGSM on a network moves the pixels it looks at, no others."""
    images, labels = data()
    found = transfer(nets(), nets(), FGSM(EPSILON), images, labels)
    assert found.clean["left"].accuracy == found.clean["mean"].accuracy == 1
    near = float((images[:, 0, 0, 0] > 0.5 + EPSILON).float().mean())
    near_other = float((images[:, 0, 0, 1] > 0.5 + EPSILON).float().mean())
    assert found.accuracy("left", "left") == found.accuracy("mean", "left") == pytest.approx(near)
    assert found.accuracy("left", "right") == found.accuracy("right", "left") == 1
    assert found.accuracy("mean", "right") == pytest.approx(near_other)
    assert found.accuracy("left", "mean") > found.accuracy("mean", "mean")
    assert found.adversarial_loss("left", "left") == pytest.approx(1 - near)
    assert found.adversarial_loss("noisy", "right") == 0


def test_the_diagonal_is_white_box() -> None:
    images, labels = data()
    victims = nets()
    found = transfer(victims, victims, FGSM(EPSILON), images, labels, seed=3, draws=7)
    assert found.white_box == tuple((name, name) for name in victims)
    for name, victim in victims.items():
        alone = attack(victim, FGSM(EPSILON), images, labels, seed=3, draws=7)
        assert found.after[name][name] == alone.after
        assert found.clean[name] == alone.clean
        assert torch.equal(found.crafted[name].adversarial, alone.adversarial)
        for other in victims:
            assert found.accuracy(name, name) <= found.accuracy(other, name)
    assert {name: row["noisy"].draws for name, row in found.after.items()} == dict.fromkeys(
        victims, 7
    )


def test_networks_are_told_apart_by_digest_not_by_name() -> None:
    images, labels = data(20)
    found = transfer(
        {"a": Linear("one", (1.0, 0.0))},
        {"a": Linear("two", (0.0, 1.0)), "b": Linear("one", (1.0, 0.0))},
        FGSM(EPSILON),
        images,
        labels,
    )
    assert found.white_box == (("a", "b"),)
    assert found.accuracy("a", "a") == 1
    assert found.after["a"]["b"] is found.crafted["a"].after


def test_networks_for_other_images_are_refused() -> None:
    other = Linear("b", (0.0, 1.0))
    other.classes = 3
    images, labels = data(3)
    with pytest.raises(ValueError, match=r"\(1, 1, 2\) into 2 classes; \(1, 1, 2\) into 3 classes"):
        transfer({"a": Linear("a", (1.0, 0.0))}, {"b": other}, FGSM(EPSILON), images, labels)
