"""Training objectives against their mathematics: closed forms, hand-made terms, what they share."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.hw_targets.network.coding import Coding
from spikeship.models import crafting, encoding, hire, networks, training
from spikeship.models.activity import Activity, activity
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.encoding import generator
from spikeship.models.objectives import (
    Adversarial,
    Batch,
    Crafting,
    Distillation,
    Mart,
    Sparsity,
    Sum,
    Trades,
    cross_entropy,
    divergence,
    rate,
    strongest_wrong,
)
from spikeship.models.settings import Settings

QUICK = Settings.of(
    epochs=2, widths=(24,), steps=4, coding="direct", sigma=0.0, levels=64, attack_steps=2
)


class Plain(nn.Module):
    """Any map of images to logits, with `noise` as a coding that draws; keeps what it was given."""

    def __init__(self, logits: Callable[[Tensor], Tensor], noise: float = 0.0) -> None:
        super().__init__()
        self.logits = logits
        self.noise = noise
        self.seen: list[Tensor] = []

    def encode(self, images: Tensor, draws: torch.Generator) -> Tensor:
        return images + self.noise * torch.randn(images.shape, generator=draws)

    def run(self, inputs: Tensor) -> Activity:
        self.seen.append(inputs.detach())
        return Activity(self.logits(inputs), (), ())


class Linear(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        draws = generator(7)
        self.weight = nn.Parameter(torch.randn(classes, 12, generator=draws) * 2)
        self.bias = nn.Parameter(torch.randn(classes, generator=draws))

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(images.flatten(1), self.weight, self.bias)


def batch(
    model: object, size: int = 6, classes: int = 3, shape: tuple[int, ...] = (1, 3, 4)
) -> Batch:
    draws = generator(3)
    images = torch.rand(size, *shape, generator=draws)
    labels = torch.randint(classes, (size,), generator=draws)
    return Batch(model, images, labels, draws)  # type: ignore[arg-type]


def gradients(loss: Tensor, *parameters: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, retain_graph=True))


# Gradient sparsity


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_sparsity_of_a_linear_model(power: int, noise: float) -> None:
    """f = sigmoid(w x + b) has ||df/dx||_1 = ||w||_1 s (1 - s); the noise of the coding is shared."""
    linear = Linear(2).double()
    b = batch(Plain(linear, noise), classes=2)
    b = replace(b, images=b.images.double())
    penalty = Sparsity(power, step=1e-6)(b)  # type: ignore[arg-type]
    signs = torch.where(b.labels == 0, 1.0, -1.0).double()[:, None]
    w = signs * (linear.weight[0] - linear.weight[1])
    margin = (w * b.inputs.flatten(1)).sum(1) + signs[:, 0] * (linear.bias[0] - linear.bias[1])
    s = torch.sigmoid(margin)
    analytic = (w.abs().sum(1) * s * (1 - s)).pow(power).mean()
    assert penalty.item() == pytest.approx(analytic.item(), rel=1e-4)
    found, expected = (gradients(x, linear.weight, linear.bias) for x in (penalty, analytic))
    for a, e in zip(found, expected, strict=True):  # through f1 and f2: the whole gradient
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4)


def test_sparsity_is_the_published_steps() -> None:
    """Margin to the strongest wrong class, kept where another is strongest at x + h v; h = 0.01."""
    z = torch.tensor([[1.0, 0.9, 0.9 - 1e-4]])
    w = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 2.0]])
    b = batch(Plain(lambda x: z + (x - 0.5).flatten(1) @ w.T), 1, shape=(1, 1, 2))
    b = Batch(b.model, torch.full((1, 1, 1, 2), 0.5), torch.tensor([0]), b.draws)
    assert Sparsity() == Sparsity(power=2, step=0.01)
    f1 = torch.sigmoid(torch.tensor(0.1))
    f2 = torch.sigmoid(torch.tensor(0.1 + 0.01))  # z_0 - z_1 grows with the first input alone
    assert Sparsity()(b).item() == pytest.approx((((f2 - f1) / 0.01) ** 2).item(), rel=1e-4)
    assert torch.equal(b.model.seen[1] - b.model.seen[0], b.inputs * 0 + torch.tensor([0.51, 0.5]) - 0.5)  # type: ignore[attr-defined]  # fmt: skip


def test_sparsity_does_not_see_the_input_grid(small: training.Classifier) -> None:
    """On a grid of 2 grey levels, a step of 0.1 on the image would round to nothing."""
    coarse = training.Classifier(small.settings.changed(levels=2))
    coarse.load_state_dict(small.state_dict())
    assert Sparsity(step=0.1)(batch(coarse, 30, 4, (1, 4, 4))) > 0


# Adversarial objectives


@pytest.mark.parametrize("kind", ["fgsm", "rfgsm", "pgd"])
def test_crafting_stays_in_the_ball_and_hurts(kind: str) -> None:
    linear = Linear()
    b = batch(Plain(linear), 40)
    before = b.images.clone()
    moved = Crafting(kind, 0.1, steps=4)(b)  # type: ignore[arg-type]
    assert torch.equal(b.images, before)
    assert not moved.requires_grad
    assert (moved - b.images).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert cross_entropy(b.moved(moved)) > cross_entropy(b)
    assert b.moved(moved).clean is b.images
    assert b.moved(moved).moved(moved).clean is b.images


def test_fgsm_is_one_sign_step() -> None:
    linear = Linear()
    b = batch(Plain(linear))
    x = b.images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(functional.cross_entropy(linear(x), b.labels), x)
    expected = (b.images + 0.1 * slope.sign()).clamp(0, 1)
    torch.testing.assert_close(Crafting("fgsm", 0.1)(b), expected)


def test_rfgsm_is_a_random_and_a_gradient_step_of_half_epsilon() -> None:
    """Every pixel ends at -eps, 0 or +eps, the second step going along the gradient."""
    linear = Linear()
    b = batch(Plain(linear), 50)
    inside = Batch(b.model, 0.4 + 0.2 * b.images, b.labels, b.draws)
    x = inside.images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(functional.cross_entropy(linear(x), b.labels), x)
    moved = (Crafting("rfgsm", 0.1)(inside) - inside.images) / 0.1
    assert set(moved.round(decimals=4).abs().unique().tolist()) == {0.0, 1.0}
    assert (moved.round() == 0).float().mean() == pytest.approx(0.5, abs=0.1)
    along = moved.round() * slope.sign()  # nearly always: the slope is taken at the moved image
    assert (along >= 0).float().mean() > 0.95


def test_sign_steps_are_projected_one_by_one() -> None:
    """Towards 1: 0.3 a step, but never beyond 0.5 of the image; then back at once."""
    images = torch.tensor([0.2, 0.9])
    ways = iter([1.0, 1.0, -1.0])
    seen = []

    def slope(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.full_like(x, next(ways))

    end = crafting.sign_steps(slope, images, images, 0.5, 0.3, 3)
    torch.testing.assert_close(
        torch.stack(seen), torch.tensor([[0.2, 0.9], [0.5, 1.0], [0.7, 1.0]])
    )
    torch.testing.assert_close(end, torch.tensor([0.4, 0.7]))
    for start in (crafting.uniform_start, crafting.random_signs):
        moved = start(torch.full((1000,), 0.5), 0.2, generator(0)) - 0.5
        assert moved.abs().max() <= 0.2 + 1e-6
        assert abs(moved.mean()) < 0.02
        spread = {"uniform_start": 0.2 / math.sqrt(3), "random_signs": 0.2}[start.__name__]
        assert moved.std() == pytest.approx(spread, rel=0.1)


def test_pgd_reaches_the_worst_corner_of_a_linear_model() -> None:
    """For two classes the worst image is known: x - eps * sign(w_y - w_other)."""
    linear = Linear(2)
    b = batch(Plain(linear), 30, classes=2)
    worst = torch.where(b.labels[:, None] == 0, 1.0, -1.0) * (linear.weight[0] - linear.weight[1])
    corner = (b.images - 0.1 * worst.sign().detach().view_as(b.images)).clamp(0, 1)
    torch.testing.assert_close(Crafting("pgd", 0.1, 5)(b), corner)


def test_divergence_has_its_direction() -> None:
    """KL(P || Q) as torch.distributions has it; not KL(Q || P)."""
    p, q = torch.randn(2, 5, 4, generator=generator(1)) * 2
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
    )
    torch.testing.assert_close(divergence(p, q), expected)
    assert not torch.allclose(divergence(p, q), divergence(q, p))


def fixed_adversary(move: float) -> Callable[..., Tensor]:
    """In place of a `Crafting`, to compute the other terms by hand."""

    def craft(b: Batch, against: Tensor | None = None) -> Tensor:
        return b.images + move

    craft.kind = "pgd"  # type: ignore[attr-defined]
    return craft


def test_trades_with_beta_0_is_cross_entropy() -> None:
    linear = Linear()
    losses = [f(batch(Plain(linear))) for f in (Trades(Crafting("pgd", 0.1), 0.0), cross_entropy)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for a, e in zip(*(gradients(loss, linear.weight) for loss in losses), strict=True):
        torch.testing.assert_close(a, e)


def test_trades_by_hand() -> None:
    linear = Linear()
    b = batch(Plain(linear))
    loss = Trades(fixed_adversary(0.2), 3.0)(b)  # type: ignore[arg-type]
    p, q = (torch.softmax(linear(x), 1) for x in (b.images, b.images + 0.2))
    kl = (p * (p / q).log()).sum(1).mean()
    expected = -p[range(6), b.labels].log().mean() + 3 * kl
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, e in zip(*(gradients(x, linear.weight) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)  # the gradient passes p and p'


def test_trades_climbs_the_divergence_from_the_clean_answer() -> None:
    linear = Linear()
    b = batch(Plain(linear), 30)
    against = linear(b.images).detach()
    moved = Crafting("rfgsm", 0.1)(b, against)
    random = crafting.random_signs(b.images, 0.1, generator(9))
    found = divergence(against, linear(moved)).mean()
    assert found > divergence(against, linear(random)).mean()
    with pytest.raises(ValueError, match="the KL's gradient is zero; use rfgsm or pgd"):
        Trades(Crafting("fgsm", 0.1))


def test_mart_by_hand() -> None:
    linear = Linear()
    b = batch(Plain(linear))
    loss = Mart(fixed_adversary(0.2), 5.0)(b)  # type: ignore[arg-type]
    p, q = (torch.softmax(linear(x), 1) for x in (b.images, b.images + 0.2))
    each = []
    for i, y in enumerate(b.labels):
        wrong = max((k for k in range(3) if k != y), key=lambda k: q[i, k].item())
        kl = (p[i] * (p[i] / q[i]).log()).sum()
        each.append(-q[i, y].log() - (1 - q[i, wrong]).log() + 5 * kl * (1 - p[i, y]))
    expected = torch.stack(each).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, e in zip(*(gradients(x, linear.weight) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


def test_strongest_wrong_class() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 9.0]])
    assert strongest_wrong(logits, torch.tensor([0, 1, 0])).tolist() == [[1], [0], [2]]


def test_adversarial_training_with_sparsity_is_sparsity_of_adversarial_images() -> None:
    linear = Linear()
    both = Sum(((1.0, cross_entropy), (0.3, Sparsity())))
    composed = Adversarial(fixed_adversary(0.2), both)(batch(Plain(linear)))  # type: ignore[arg-type]
    b = batch(Plain(linear))
    moved = Batch(b.model, b.images + 0.2, b.labels, b.draws)
    expected = cross_entropy(moved) + 0.3 * Sparsity()(moved)
    assert composed.item() == pytest.approx(expected.item(), rel=1e-6)


def test_terms_of_a_sum_share_one_forward_pass() -> None:
    model = Plain(Linear())
    Sum(((1.0, cross_entropy), (0.1, Sparsity())))(batch(model))
    assert len(model.seen) == 2  # f(x), of which CE is too, and f(x + h v)


def test_batch_norm_is_as_at_test_while_crafting() -> None:
    """No statistics are moved by the attack's forward passes; training mode is on again after."""
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))
    model = Plain(norm)
    model.norm = norm
    Crafting("pgd", 0.1, 5)(batch(model))
    assert norm[1].num_batches_tracked == 0
    assert model.training
    assert norm[1].training


# Spikes: rates, teachers, hooks


@pytest.fixture(scope="module")
def small() -> training.Classifier:
    torch.manual_seed(0)
    settings = QUICK.changed(shape=(1, 4, 4), widths=(20,), classes=4, levels=16)
    classifier = training.Classifier(settings)
    with torch.no_grad():
        for p in classifier.net.parameters():
            p.mul_(4)
    return classifier


def test_rate_is_the_mean_of_all_spikes(small: training.Classifier) -> None:
    b = batch(small, 5, 4, (1, 4, 4))
    found = rate(b)
    hidden, out = b.out.spikes
    expected = (hidden.sum() + out.sum()) / (5 * 4 * (20 + 4))
    assert 0 < found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_rate_penalty_lowers_rates(small: training.Classifier) -> None:
    b = batch(small, 20, 4, (1, 4, 4))
    before = [p.detach().clone() for p in small.net.parameters()]
    rates = []
    for _ in range(5):
        loss = rate(Batch(small, b.images, b.labels, b.draws))
        rates.append(loss.item())
        slopes = gradients(loss, *small.net.parameters())
        for p, slope in zip(small.net.parameters(), slopes, strict=True):
            p.data -= 5 * slope
    for p, old in zip(small.net.parameters(), before, strict=True):
        p.data.copy_(old)
    assert rates[-1] < 0.9 * rates[0]


def test_distillation_by_hand(small: training.Classifier) -> None:
    """tau^2 KL(teacher || student) on the clean image, and the currents of common layers."""
    twin = training.Classifier(replace(small.settings, spiking=False))
    b = batch(small, 5, 4, (1, 4, 4)).moved(torch.rand(5, 1, 4, 4, generator=generator(8)))
    assert b.clean is not None
    taught = activity(twin.net, b.clean)
    loss = Distillation(lambda x: activity(twin.net, x), 0.7, 0.2, 3.0)(replace(b, done=0.25))
    student = small.run(small.encode(b.images, b.draws))
    p, q = (torch.softmax(z / 3, 1) for z in (taught.logits, student.logits))
    kl = (p * (p / q).log()).sum(1).mean()
    current = functional.linear(
        b.images.flatten(1).mul(16).round() / 16, small.net.body[1].weight, small.net.body[1].bias
    )
    pre = functional.linear(b.clean.flatten(1), twin.net[1].weight, twin.net[1].bias)
    expected = 0.7 * 9 * kl + 0.2 * 0.75 * ((current - pre) ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert not any(p.grad is not None for p in twin.parameters())


def test_the_teacher_has_the_students_layers(small: training.Classifier) -> None:
    other = networks.ann("mlp", (1, 4, 4), 4, (7,))
    loss = Distillation(lambda x: activity(other, x), presynaptic=1.0)
    with pytest.raises(
        ValueError, match=r"\(\(5, 20\), \(5, 7\)\)\]. Train the twin with the same"
    ):
        loss(batch(small, 5, 4, (1, 4, 4)))
    assert Distillation(lambda x: activity(other, x))(batch(small, 5, 4, (1, 4, 4))) > 0


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_snn_crafted_attack_is_autograd_straight_through(model: str) -> None:
    """Sharmin et al. 2020 hook the gradient at the first layer's currents, sum it over time and map
    it back with the transposed weights: exactly autograd with an identity through the Poisson code."""
    torch.manual_seed(1)
    shape = (1, 8, 8)
    net = networks.snn(model, shape, 5, widths=(6,)).eval()
    first = next(m for m in net.body.children() if isinstance(m, nn.Linear | nn.Conv2d))
    with torch.no_grad():
        first.weight.mul_(8)
    draws = generator(2)
    images = torch.rand(7, *shape, generator=draws)
    labels = torch.randint(5, (7,), generator=draws)
    coding = Coding.of("poisson", 6, grid=256)

    x = images.clone().requires_grad_()
    loss = functional.cross_entropy(net(encoding.real(coding, x, generator(3))), labels)
    (straight,) = torch.autograd.grad(loss, x)

    outs: list[Tensor] = []
    hook = first.register_forward_hook(lambda module, inputs, out: outs.append(out))
    spikes = encoding.real(coding, images, generator(3))
    loss = functional.cross_entropy(net(spikes), labels)
    hook.remove()
    over_time = torch.stack(torch.autograd.grad(loss, outs)).sum(0)
    if isinstance(first, nn.Conv2d):
        back = functional.conv_transpose2d(over_time, first.weight, padding=first.padding)
    else:
        back = (over_time @ first.weight).view_as(images)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert straight.abs().max() > 1e-4
    torch.testing.assert_close(straight, back, rtol=1e-5, atol=1e-6)


# HIRE


class _Counted(nn.Module):
    """Counts the forward steps of a network's body, and keeps its inputs."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.frames: list[Tensor] = []

    def forward(self, frame: Tensor, state: object) -> object:
        self.frames.append(frame.detach())
        return self.body(frame, state)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_hire_has_the_steps_of_plain_training(number: int) -> None:
    torch.manual_seed(0)
    net = networks.snn("mlp", (1, 4, 4), 4, widths=(20,))
    net.body = _Counted(net.body)
    draws = generator(0)
    images = torch.rand(5, 1, 4, 4, generator=draws)
    labels = torch.randint(4, (5,), generator=draws)
    updates = []
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)

    def update(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates.append(loss)

    coding = Coding.of("rsc1", 6, sigma=0.05)
    hire.periods(net, coding, 0.4, images, labels, draws, number=number, epsilon=0.1, update=update)
    frames = net.body.frames
    assert len(frames) == 6
    assert len(updates) == number
    plain = encoding.real(coding, images, generator(0))
    assert frames[0].shape == plain[0].shape
    changes = [i for i in range(1, 6) if not torch.equal(frames[i], frames[i - 1])]
    assert changes == [p[0].item() for p in torch.arange(6).tensor_split(number)[1:]]
    assert all((f - frames[0]).abs().max() <= 0.1 + 1 / 16 + 1e-6 for f in frames)


def test_hire_of_one_period_is_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    net = networks.snn("mlp", (1, 4, 4), 4, widths=(20,))
    images, labels = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 3, 0])
    losses: list[Tensor] = []

    def update(loss: Tensor) -> None:
        loss.backward()
        losses.append(loss)

    coding = Coding.of("direct", 4, 64)
    hire.periods(
        net, coding, 0.4, images, labels, generator(0), number=1, epsilon=0.1, update=update
    )
    expected = functional.cross_entropy(
        0.4 * net(encoding.real(coding, images, generator(0))), labels
    )
    assert torch.equal(losses[0], expected)


@pytest.mark.parametrize(("readout", "per_step"), [("spikes", 4), ("voltage", 1)])
def test_hire_by_hand(readout: networks.Readout, per_step: int) -> None:
    """Two periods of two steps: the second sees crafted noise, with the membranes of the first."""
    torch.manual_seed(0)
    net = networks.snn("mlp", (1, 4, 4), 4, readout, widths=(20,))
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(4)
    images, labels = torch.rand(9, 1, 4, 4), torch.arange(9) % 4
    losses: list[Tensor] = []

    def update(loss: Tensor) -> None:
        loss.backward()
        losses.append(loss.detach())

    coding = Coding.of("direct", 4, 1 << 20)
    hire.periods(
        net, coding, 0.4, images, labels, generator(0), number=2, epsilon=0.1, update=update
    )

    def outputs(frames: list[Tensor]) -> list[Tensor]:
        outs, state = [], None
        for frame in frames:
            out, state = net.body(frame, state)
            outs.append(out)
        return outs

    x = images.clone().requires_grad_()
    logits = 0.4 * per_step * sum(outputs([x, x])) / 2
    first = functional.cross_entropy(logits, labels)
    (slope,) = torch.autograd.grad(first, x)
    moved = (images + 0.1 * slope.sign()).clamp(0, 1)
    logits = 0.4 * per_step * sum(outputs([images, images, moved, moved])[2:]) / 2
    second = functional.cross_entropy(logits, labels)
    assert losses[0].item() == pytest.approx(first.item(), rel=1e-5)
    assert losses[1].item() == pytest.approx(second.item(), rel=1e-5)
    assert losses[1] > losses[0]


# In training


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Dataset:
    """A few images of each split: enough to take every path."""
    splits = [
        Split(*split[list(range(96))]) for split in (digits.train, digits.validation, digits.test)
    ]
    return Dataset("digits", *splits)


def by_hand(settings: Settings, data: Dataset) -> nn.Module:
    """What `train` did before there were objectives, as a plain loop."""
    torch.manual_seed(settings.seed)
    classifier = training.Classifier(settings)
    optimizer = torch.optim.Adam(classifier.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    loader = training._loader(data.train, settings.batch, shuffle=True)
    best, kept = -1.0, {}
    for _ in range(settings.epochs):
        classifier.train()
        for images, labels in loader:
            if settings.spiking:
                frames = encoding.real(settings.coding, images, classifier.draws)
                logits = classifier.scale * classifier.net(frames)
            else:
                logits = classifier.net(images)
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels).backward()
            optimizer.step()
        schedule.step()
        classifier.eval()
        draws = generator(settings.seed + 1)
        with torch.no_grad():
            right = [
                (classifier.logits(images, draws).argmax(1) == labels).float().mean().item()
                for images, labels in training._loader(data.validation, 256, shuffle=False)
            ]
        (found,) = right
        if found > best:
            best = found
            kept = {name: w.clone() for name, w in classifier.state_dict().items()}
    classifier.load_state_dict(kept)
    return classifier


@pytest.mark.parametrize("change", [
    {}, {"spiking": False}, {"coding": "rsc2", "sigma": 0.2, "readout": "voltage"},
    {"model": "cnn", "widths": (4, 4)},
], ids=str)  # fmt: skip
def test_plain_training_is_what_it_was(
    few: Dataset, tmp_path: Path, change: dict[str, object]
) -> None:
    settings = QUICK.changed(**change)
    network, _ = training.train(settings, few, tmp_path, progress=False)
    assert network.objective is None
    with training.threads(
        1 if settings.model == "mlp" else None
    ):  # they decide how sums are ordered
        expected = by_hand(settings, few).state_dict()
    for name, weights in network.state_dict().items():
        assert torch.equal(weights, expected[name])


OBJECTIVES = {
    "fgsm": {"objective": "at", "attack": "fgsm"},
    "rfgsm": {"objective": "at", "attack": "rfgsm"},
    "pgd": {"objective": "at"},
    "trades": {"objective": "trades"},
    "mart": {"objective": "mart"},
    "sparsity": {"sparsity": 0.01, "sparsity_step": 1 / 8},
    "sparsity, power 1": {"sparsity": 0.01, "sparsity_power": 1, "sparsity_step": 1 / 8},
    "at and sparsity": {"objective": "at", "sparsity": 0.01, "sparsity_step": 1 / 8},
    "rate": {"rate_penalty": 1.0},
    "hire": {"noise_periods": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [
    {}, {"spiking": False}, {"model": "cnn", "widths": (4, 4)}, {"coding": "poisson"},
    {"coding": "rsc1", "sigma": 0.1, "readout": "voltage"},
    pytest.param({"framework": "slayer"}, marks=pytest.mark.lava),
], ids=str)  # fmt: skip
def test_every_network_trains_with_every_objective(
    few: Dataset, tmp_path: Path, kind: dict[str, object]
) -> None:
    """Each objective leads to weights of its own, the same each time."""
    base = QUICK.changed(epochs=1, batch=48, shape=(1, 8, 8), **kind)
    start = training.Classifier(base)
    with torch.no_grad():  # the outputs of untrained networks hardly spike
        for weights in start.net.parameters():
            weights.mul_(4)
    found = {}
    for name, fields in {"plain": {}, **OBJECTIVES, "again": OBJECTIVES["pgd"]}.items():
        if name == "hire" and not (base.spiking and base.framework == "norse"):
            with pytest.raises(ValueError, match="only Norse networks stop and go on between"):
                replace(base, **fields)  # type: ignore[arg-type]
            continue
        network, path = training.train(
            replace(base, **fields),  # type: ignore[arg-type]
            few, tmp_path / name, start=start, progress=False,
        )  # fmt: skip
        assert training.load(path).settings == network.settings
        assert all(p.isfinite().all() for p in network.parameters())
        found[name] = training.digest(network.net)
    assert found.pop("again") == found["pgd"]
    same = [(a, b) for a, b in itertools.combinations(found, 2) if found[a] == found[b]]
    assert same == []


@pytest.mark.parametrize("name", ["plain", "cross-entropy", "taught", *OBJECTIVES])
@pytest.mark.parametrize("spiking", [True, False])
def test_batch_norms_see_the_same_whatever_is_minimized(name: str, spiking: bool) -> None:
    """One step at a time, in every pass of a training step; with the statistics of `net(inputs)`."""
    base = replace(QUICK, model="cnn", widths=(3, 4), shape=(1, 8, 8), spiking=spiking)
    if name == "hire" and not spiking:
        return  # cannot be, see above
    settings = replace(base, **OBJECTIVES.get(name, {}))  # type: ignore[arg-type]
    torch.manual_seed(0)
    classifier, teacher = (training.Classifier(settings).double() for _ in range(2))
    classifier.objective = (
        cross_entropy if name == "cross-entropy" else training.objective(settings)
    )
    if name == "taught":
        classifier.objective = training.objective(settings, teacher.eval())
    other = copy.deepcopy(classifier.net)
    ran: list[Tensor] = []
    sizes: list[int] = []
    run = classifier.run

    def watched(inputs: Tensor) -> Activity:
        if classifier.training:
            ran.append(inputs.detach())
        return run(inputs)

    def count(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm.training:
            sizes.append(len(inputs[0]))

    classifier.run = watched  # type: ignore[method-assign]
    norms = [m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_pre_hook(count)
    images = torch.rand((6, 1, 8, 8), generator=generator(1), dtype=torch.float64)
    labels = torch.arange(6)
    if name == "hire":
        options = {"number": 2, "epsilon": 0.1, "update": lambda loss: loss.backward()}
        hire.periods(
            classifier.net, settings.coding, 0.4, images, labels, classifier.draws, **options
        )
    else:
        classifier.training_step((images, labels), 0)
    if classifier.objective is None:  # then it is `net` that runs; HIRE moves its second period's
        ran.append(classifier.encode(images, generator(settings.seed)))
    passes = {"trades": 2, "mart": 2, "at and sparsity": 2}.get(name, 1 + name.startswith("spars"))
    assert len(ran) == passes
    steps = settings.coding.steps if spiking else 1
    assert sizes == [6] * (passes * steps * len(norms))
    for inputs in ran:
        other(inputs)
    found, expected = (dict(net.named_buffers()) for net in (classifier.net, other))
    assert sum(name.endswith("tracked") for name in found) == len(norms) == 2
    for buffer, values in found.items():
        if name != "hire" or buffer.endswith("tracked"):
            assert torch.equal(values, expected[buffer])


def test_a_teacher_and_a_start(few: Dataset, tmp_path: Path) -> None:
    """Distillation from an ANN twin, from given weights; both are remembered by their weights."""
    once = replace(QUICK, epochs=1)
    twin, path = training.train(replace(once, spiking=False), few, tmp_path / "a", progress=False)
    first, _ = training.train(once, few, tmp_path / "first", progress=False)
    settings = replace(QUICK, teacher=str(path), distillation=1.0, presynaptic=0.1)
    network, _ = training.train(settings, few, tmp_path / "snn", start=first, progress=False)
    assert network.settings.teacher_digest == training.digest(twin.net)
    assert network.settings.start_digest == training.digest(first.net)
    assert not any("teacher" in name for name in network.state_dict())
    still, _ = training.train(
        replace(QUICK, learning_rate=0.0), few, tmp_path / "still", start=network, progress=False
    )
    assert training.digest(still.net) == training.digest(network.net)
    assert training.digest(still.net) != training.digest(first.net)
    wide = replace(QUICK, widths=(25,))
    with pytest.raises(ValueError, match="the network to start from is not the one"):
        training.train(wide, few, tmp_path / "x", start=first, progress=False)
    with pytest.raises(ValueError, match=r"a teacher for images of \(1, 8, 8\) in 10 classes"):
        training._teacher(replace(settings, classes=4), "cpu")


@pytest.mark.parametrize(("fields", "says"), [
    ({"objective": "pgd"}, "objective 'pgd' is unknown; choose from ce, at, trades, mart"),
    ({"attack": "cw", "sparsity_power": 3}, r"'cw' is unknown; .* sparsity_power 3 is unknown"),
    ({"epsilon": 0.0, "sparsity": -1.0}, r"epsilon = 0.0; it must be above 0. sparsity = -1.0"),
    ({"objective": "trades", "attack": "fgsm"}, "trades with fgsm"),
    ({"objective": "at", "coding": "events"}, "events cannot be attacked"),
    ({"teacher": "a.ckpt"}, "a teacher goes with a weight"),
    ({"distillation": 1.0}, "a teacher goes with a weight"),
    ({"noise_periods": 5}, "noise_periods = 5 of 4 steps"),
    ({"noise_periods": 2, "objective": "at"}, "noise_periods go with plain cross-entropy"),
    ({"framework": "slayer", "leak": 1.0}, "slayer networks have a leak of 0.5"),
    ({"framework": "slayer", "sparsity": 0.1}, r"0.01: SLAYER networks see whole numbers, .* 0.64"),
    ({"framework": "slayer", "presynaptic": 1.0, "teacher": "a"}, "SLAYER does not show its"),
])  # fmt: skip
def test_settings_that_cannot_be(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        QUICK.changed(**fields)


def test_thresholds_that_are_trained_stay_positive(few: Dataset, tmp_path: Path) -> None:
    settings = replace(QUICK, learn_thresholds=True, learning_rate=2.0)
    network, _ = training.train(settings, few, tmp_path, progress=False)
    found = [t.item() for t in networks.thresholds(network.net)]
    assert len(found) == 2
    assert min(found) >= networks.LEAST_THRESHOLD
    assert found != [1.0, 1.0]


def test_the_fast_path_is_the_network(small: training.Classifier) -> None:
    b = batch(small, 50, 4, (1, 4, 4))
    slow = small.scale * small.logits(b.images, generator(0))
    torch.testing.assert_close(small.run(small.encode(b.images, generator(0))).logits, slow)


@pytest.mark.slow
def test_adversarial_training_and_sparsity_make_digits_robust(
    digits: Dataset, tmp_path: Path
) -> None:
    base = QUICK.changed(steps=8, widths=None, epochs=30, attack_steps=5, readout="voltage")
    cases = {"plain": {}, "at": {"objective": "at"}, "sr": {"sparsity": 0.01}}
    found = {}
    for name, fields in cases.items():
        settings = replace(base, **fields)  # type: ignore[arg-type]
        network, _ = training.train(settings, digits, tmp_path / name, progress=False)
        images, labels = digits.test[list(range(len(digits.test)))]
        b = Batch(network, images, labels, generator(0))
        moved = Crafting("pgd", 0.1, 40)(b)
        with torch.no_grad():
            right = (network.logits(moved, generator(0)).argmax(1) == labels).float().mean()
        found[name] = right.item()
    assert found["at"] >= found["plain"] + 0.25
    assert found["sr"] >= found["plain"] + 0.10
