"""Training objectives, which compose: each maps a `Batch` to a scalar loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from . import crafting
from .activity import Activity
from .settings import Kind


class Model(Protocol):
    """A network with its input coding, as objectives see it; logits are those of the softmax."""

    training: bool

    def train(self, mode: bool) -> object: ...

    def encode(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """What the network is fed for images (sample, C, H, W), one draw of the coding."""

    def run(self, inputs: Tensor) -> Activity:
        """What the network does, given what `encode` made."""


@dataclass(frozen=True)
class Batch:
    """Images (sample, C, H, W) in [0, 1], their labels (sample,), and the model's one answer to them.

    `clean`: the images of the data set where `images` are adversarial; `done`: how much of the training
    is done, 0 to 1. Objectives of a sum share the forward pass `out`.
    """

    model: Model
    images: Tensor
    labels: Tensor
    draws: torch.Generator
    done: float = 0.0
    clean: Tensor | None = field(default=None, repr=False)

    @cached_property
    def shift(self) -> Tensor:
        """Zeros (sample, C, H, W) that are added to every frame: the input that `out` depends on."""
        return torch.zeros_like(self.images, requires_grad=True)

    @cached_property
    def inputs(self) -> Tensor:
        return self.model.encode(self.images, self.draws) + self.shift

    @cached_property
    def out(self) -> Activity:
        return self.model.run(self.inputs)

    def moved(self, images: Tensor) -> Batch:
        """The batch with other images (sample, C, H, W) in place of these."""
        clean = self.images if self.clean is None else self.clean
        return Batch(self.model, images, self.labels, self.draws, self.done, clean)

    def answers(self, images: Tensor) -> Tensor:
        """Logits (sample, classes) of other images, a fresh draw."""
        return self.model.run(self.model.encode(images, self.draws)).logits


Objective: TypeAlias = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class Sum:
    """sum over i of weight_i * objective_i, on one forward pass where they need the same."""

    terms: tuple[tuple[float, Objective], ...]

    def __call__(self, batch: Batch) -> Tensor:
        return torch.stack([weight * objective(batch) for weight, objective in self.terms]).sum()


def cross_entropy(batch: Batch) -> Tensor:
    """CE: the mean over the batch of -log softmax_y(z); of regression the mean squared error."""
    return loss(batch.out.logits, batch.labels)


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with classes (sample,), or mean squared error of targets (sample, outputs)."""
    if labels.is_floating_point():
        return functional.mse_loss(logits, labels.to(logits))
    return functional.cross_entropy(logits, labels)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(P || Q) = sum over k of P_k (log P_k - log Q_k), (sample,), from logits (sample, classes)."""
    log_p, log_q = functional.log_softmax(p, 1), functional.log_softmax(q, 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


@dataclass(frozen=True)
class Crafting:
    """How adversarial images within `epsilon` (L-infinity) are made for training.

    - ``fgsm``: x + epsilon * sign(g) (Goodfellow et al. 2015).
    - ``rfgsm``: a random sign step of epsilon / 2, then a gradient sign step of epsilon / 2 (Tramer et
      al. 2018, with the constants of Ozdenizci and Legenstein 2024).
    - ``pgd``: a uniform random start, then `steps` of 2.5 * epsilon / steps (Madry et al. 2018).

    One draw of the coding for each gradient, batch norm as at test time. Images stay in [0, 1].
    """

    kind: Kind
    epsilon: float
    steps: int = 5

    def __call__(self, batch: Batch, against: Tensor | None = None) -> Tensor:
        """Images that maximize CE or, with logits `against`, KL(softmax(against) || softmax(z))."""

        def slope(x: Tensor) -> Tensor:
            with torch.set_grad_enabled(True):
                x = x.detach().requires_grad_()
                z = batch.answers(x)
                if against is None:
                    loss = functional.cross_entropy(z, batch.labels, reduction="sum")
                else:
                    loss = divergence(against, z).sum()
                (gradient,) = torch.autograd.grad(loss, x)
            return gradient

        images, epsilon = batch.images, self.epsilon
        with _as_at_test(batch.model):
            if self.kind == "fgsm":
                return crafting.sign_steps(slope, images, images, epsilon, epsilon, 1)
            if self.kind == "rfgsm":
                start = crafting.random_signs(images, epsilon / 2, batch.draws)
                return crafting.sign_steps(slope, images, start, epsilon, epsilon / 2, 1)
            start = crafting.uniform_start(images, epsilon, batch.draws)
            step = crafting.PGD_REACH * epsilon / self.steps
            return crafting.sign_steps(slope, images, start, epsilon, step, self.steps)


@contextmanager
def _as_at_test(model: Model) -> Iterator[None]:
    before = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(before)


@dataclass(frozen=True)
class Adversarial:
    """Adversarial training: `objective` on the images that `craft` makes with CE.

    With CE as the objective it is that of Madry et al. 2018; with CE + lambda * `Sparsity` it is SR on
    adversarial batches (AT + SR; Liu et al. 2024 replace the images before the SR step).
    """

    craft: Crafting
    objective: Objective = cross_entropy

    def __call__(self, batch: Batch) -> Tensor:
        return self.objective(batch.moved(self.craft(batch)))


@dataclass(frozen=True)
class Trades:
    """TRADES (Zhang et al. 2019): CE(x) + beta * KL(p(x) || p(x')), mean over the batch.

    x' maximizes that KL. At x itself its gradient is zero, so `craft` must start at random.
    """

    craft: Crafting
    beta: float = 6.0

    def __post_init__(self) -> None:
        if self.craft.kind == "fgsm":
            raise ValueError(
                "TRADES with fgsm: at the image itself the KL's gradient is zero; use rfgsm or pgd."
            )

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad(), _as_at_test(batch.model):
            against = batch.answers(batch.images)
        adversarial = batch.moved(self.craft(batch, against)).out.logits
        return cross_entropy(batch) + self.beta * divergence(batch.out.logits, adversarial).mean()


@dataclass(frozen=True)
class Mart:
    """MART (Wang et al. 2020), mean over the batch, with p = p(x), p' = p(x'), x' maximizing CE::

    -log p'_y - log(1 - max over k != y of p'_k) + beta * KL(p || p') * (1 - p_y)
    """

    craft: Crafting
    beta: float = 6.0

    def __call__(self, batch: Batch) -> Tensor:
        z, y = batch.out.logits, batch.labels[:, None]
        moved = batch.moved(self.craft(batch)).out.logits
        others = moved.scatter(1, strongest_wrong(moved, batch.labels), -torch.inf)
        boosted = 2 * moved.logsumexp(1) - moved.gather(1, y)[:, 0] - others.logsumexp(1)
        unsure = 1 - functional.softmax(z, 1).gather(1, y)[:, 0]
        each: Tensor = boosted + self.beta * divergence(z, moved) * unsure
        return each.mean()


def strongest_wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """The class, other than the label, with the largest logit: (sample, 1)."""
    return logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1, keepdim=True)


@dataclass(frozen=True)
class Sparsity:
    """SR: the gradient sparsity regularization of Liu et al. (ICML 2024, arXiv 2405.20355).

    With r the strongest wrong class at x, kept, f(x) = sigmoid(z_y - z_r) and v = sign(df/dx), kept::

        mean over the batch of |(f(x + h v) - f(x)) / h| ^ power

    which is about ||df/dx||_1 ^ power; the gradient passes both f, and there is no double
    backpropagation. The authors' code has power 2 and h = 0.01, the paper's text power 1. x is the coded
    input: h v is added to every frame of the same draw, so neither the grid nor the noise of the coding
    enters the difference.
    """

    power: Literal[1, 2] = 2
    step: float = 1e-2

    def __call__(self, batch: Batch) -> Tensor:
        wrong = strongest_wrong(batch.out.logits, batch.labels)

        def probability(logits: Tensor) -> Tensor:
            margin = logits.gather(1, batch.labels[:, None]) - logits.gather(1, wrong)
            return torch.sigmoid(margin[:, 0])

        before = probability(batch.out.logits)
        (slope,) = torch.autograd.grad(before.sum(), batch.shift, retain_graph=True)
        after = probability(batch.model.run(batch.inputs + self.step * slope.sign()).logits)
        change: Tensor = (after - before) / self.step
        return change.abs().pow(self.power).mean()


def rate(batch: Batch) -> Tensor:
    """The mean of all spikes: spikes of a sample over steps * neurons, mean over the batch.

    As a penalty it is an L1 activity regularization: fewer spikes, fewer synaptic operations. Of an ANN
    it is the mean output of its ReLUs.
    """
    spikes = batch.out.spikes
    neurons = sum(layer[0, 0].numel() for layer in spikes)
    each = [layer.sum() / (layer.shape[0] * layer.shape[1]) for layer in spikes]
    return torch.stack(each).sum() / neurons


@dataclass(frozen=True)
class Distillation:
    """E-RSCT's terms beside CE: knowledge distillation and the pre-synaptic loss. OUR READING.

    RSC-SNN (arXiv 2407.20099) names the two losses; their form and weights are not published::

        weight * tau^2 * KL(softmax(z_T / tau) || softmax(z_S / tau))
        + presynaptic * (1 - done) * sum over l of mean (mean_t I_l(t) - a_l)^2

    z_S are the student's logits, z_T the teacher's on the clean image, I_l the synaptic current into
    the neurons of layer l, a_l the teacher's pre-activation there; a layer that only the student has
    (spiking output neurons) is left out. The pre-synaptic loss fades linearly to 0 over the training.
    The first term is that of Hinton et al. 2015.
    """

    teacher: Callable[[Tensor], Activity]
    weight: float = 1.0
    presynaptic: float = 0.0
    temperature: float = 4.0

    def __call__(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            taught = self.teacher(batch.images if batch.clean is None else batch.clean)
        tau, out = self.temperature, batch.out
        loss = self.weight * tau**2 * divergence(taught.logits / tau, out.logits / tau).mean()
        if self.presynaptic:
            layers = zip(out.currents, taught.currents, strict=False)
            pairs = [(a.mean(0), b.mean(0)) for a, b in layers]
            differ = [(tuple(a.shape), tuple(b.shape)) for a, b in pairs if a.shape != b.shape]
            if differ or not pairs or len(out.currents) < len(taught.currents):
                raise ValueError(
                    f"the pre-synaptic loss needs a teacher with the student's layers: it has "
                    f"{len(taught.currents)} of neurons, the student {len(out.currents)}; different "
                    f"shapes (student, teacher): {differ}. Train the twin with the same model and "
                    f"widths, or set the pre-synaptic weight to 0."
                )
            terms = torch.stack([functional.mse_loss(a, b) for a, b in pairs])
            loss = loss + self.presynaptic * (1 - batch.done) * terms.sum()
        return loss
