"""Any torch ANN as a row of layers: what is followed, what is rewritten, what is refused and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import spikeship
from spikeship.hw_targets import Coding
from spikeship.models.activation import Activation, activation_of
from spikeship.models.ann import Ann
from spikeship.models.ann_conversion import IMAGES, Converted, convert_ann, fine_tuned
from spikeship.models.ann_layers import AnnError, layers_of
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.encoding import generator, real
from spikeship.models.quantized_ann import quantize, work
from spikeship.models.training import accuracy, load
from spikeship.pipeline.deploy.converted import coding_in, graph_of
from spikeship.pipeline.float.execute import execute

from cli import call, ok


class Net(nn.Module):
    """A class of the user's: its layers by name, and its forward."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class QCFS(nn.Module):
    """As its authors write it: a trained threshold, a straight-through floor."""

    def __init__(self, levels: int = 8, threshold: float = 1.7) -> None:
        super().__init__()
        self.thresh, self.t = nn.Parameter(torch.tensor([threshold])), levels

    def forward(self, x: Tensor) -> Tensor:
        x = (x / self.thresh).clamp(0, 1)
        return Floor.apply(x * self.t + 0.5) / self.t * self.thresh


class Alone(nn.Module):
    """Weights without a module, a batch norm and pooling as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3) / 2)
        self.weight = nn.Parameter(torch.randn(3, 64) / 3)
        self.register_buffer("mean", torch.randn(4) / 5)
        self.register_buffer("var", torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.kernel, padding=1)
        x = F.relu(F.batch_norm(x, self.mean, self.var), inplace=True)
        x = F.max_pool2d(x, 2)
        return F.linear(x.view(x.size(0), -1), self.weight)


def lenet(net: Any, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(net.conv1(x)), (2, 2))
    x = F.max_pool2d(F.relu(net.conv2(x)), 2)
    x = torch.flatten(x, 1)
    x = F.dropout(F.relu(net.fc1(x)), training=net.training)
    return net.fc2(x)


def residual(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.a(x))
    return net.c(F.relu(net.b(y) + y).flatten(1))


def vgg(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return getattr(torchvision.models, name)(num_classes=10)

    return make


def row(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def norm(kind: type[nn.Module], features: int) -> nn.Module:
    """That has seen something."""
    made: Any = kind(features)
    made.running_mean.normal_(0.2, 0.4)
    made.running_var.uniform_(0.3, 2)
    made.weight.data.uniform_(0.3, 2)
    made.bias.data.normal_(0.1, 0.3)
    return made


def small(*middle: nn.Module, out: int = 64) -> Callable[[], nn.Module]:
    """A convolution of an 8 x 8 image, what is in the middle, and a Linear."""
    return row(nn.Conv2d(1, 4, 3, padding=1), *middle, nn.Flatten(), nn.Linear(out, 3))


CONV, A, MAX, AVG, FLAT, LIN = "Conv2d", "Activation", "MaxPool2d", "AvgPool2d", "Flatten", "Linear"
IMAGE = (1, 8, 8)
TAKEN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "mlp": (row(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)), IMAGE, [FLAT, LIN, A, LIN]),
    "mlp on vectors": (row(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 3)), (6,), [LIN, A, LIN]),
    "functional": (lambda: Net(lenet, conv1=nn.Conv2d(1, 4, 3, padding=1), conv2=nn.Conv2d(4, 6, 3, padding=1), fc1=nn.Linear(24, 12), fc2=nn.Linear(12, 3)), IMAGE, [CONV, A, MAX, CONV, A, MAX, FLAT, LIN, A, LIN]),
    "weights without modules": (Alone, IMAGE, [CONV, A, MAX, FLAT, LIN]),
    "batch norms": (row(norm(nn.BatchNorm2d, 1), nn.Conv2d(1, 4, 3), norm(nn.BatchNorm2d, 4), nn.ReLU(), nn.AvgPool2d(2), norm(nn.BatchNorm2d, 4), nn.Flatten(), nn.Linear(36, 9), norm(nn.BatchNorm1d, 9), nn.ReLU(), nn.Linear(9, 3)), IMAGE, [CONV, CONV, A, AVG, CONV, FLAT, LIN, A, LIN]),
    "maximum, norm, ReLU": (small(nn.MaxPool2d(2), norm(nn.BatchNorm2d, 4), nn.ReLU()), IMAGE, [CONV, A, MAX, FLAT, LIN]),
    "ReLU twice": (small(nn.ReLU(), nn.AvgPool2d(2), nn.ReLU()), IMAGE, [CONV, A, AVG, FLAT, LIN]),
    "ReLU6": (small(nn.ReLU6(), nn.AvgPool2d(2)), IMAGE, [CONV, A, AVG, FLAT, LIN]),
    "clamp": (lambda: Net(lambda net, x: net.b(net.a(x).clamp(0, 1)), a=nn.Linear(6, 5), b=nn.Linear(5, 2)), (6,), [LIN, A, LIN]),
    "torch.clamp": (lambda: Net(lambda net, x: net.b(torch.clamp(net.a(x), min=0)), a=nn.Linear(6, 5), b=nn.Linear(5, 2)), (6,), [LIN, A, LIN]),
    "clip-floor": (small(QCFS(), nn.AvgPool2d(2)), IMAGE, [CONV, A, AVG, FLAT, LIN]),
    "adaptive pooling to parts": (small(nn.ReLU(), nn.AdaptiveAvgPool2d(4)), IMAGE, [CONV, A, AVG, FLAT, LIN]),
    "adaptive pooling to one": (small(nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), out=4), IMAGE, [CONV, A, AVG, FLAT, LIN]),
    "adaptive pooling that overlaps": (small(nn.ReLU(), nn.AdaptiveAvgPool2d(3), out=36), IMAGE, [CONV, A, FLAT, LIN]),
    "normalizes its input": (lambda: Net(lambda net, x: net.b(F.relu(net.a((x - 0.13) / 0.3)).flatten(1)), a=nn.Conv2d(1, 4, 3), b=nn.Linear(144, 3)), IMAGE, [CONV, CONV, CONV, A, FLAT, LIN]),
    "log softmax at the end": (row(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2), nn.LogSoftmax(1)), (6,), [LIN, A, LIN]),
    "softmax at the end": (lambda: Net(lambda net, x: F.softmax(net.b(F.relu(net.a(x))), dim=-1), a=nn.Linear(6, 5), b=nn.Linear(5, 2)), (6,), [LIN, A, LIN]),
    "only convolutions": (row(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGE, [CONV, A, CONV, AVG, FLAT]),
    "module at two places": (lambda: Net(lambda net, x: net.b(net.r(net.a(net.r(net.a(x))))), a=nn.Linear(6, 6), r=nn.ReLU(), b=nn.Linear(6, 2)), (6,), [LIN, A, LIN, A, LIN]),
    "vgg11 on 32 x 32": (vgg("vgg11"), (3, 32, 32), [CONV, A, MAX] * 2 + [CONV, A, CONV, A, MAX] * 3 + [FLAT] + [LIN, A] * 2 + [LIN]),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if "vgg" in n else n for n in TAKEN]
)
def test_the_layers_are_the_network(name: str) -> None:
    make, shape, kinds = TAKEN[name]
    torch.manual_seed(0)
    model = make().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.rand((20, *shape), generator=generator(3))
    ann = Ann.of(model, images[:8])
    assert [type(layer).__name__ for layer in ann.net] == kinds
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    other = torch.rand((20, *shape), generator=generator(4)) * 2 - 0.5
    with torch.no_grad():
        theirs = model.eval()(other)
        if "softmax" in name:
            assert torch.equal(theirs.argmax(1), ann.logits(other, generator(0)).argmax(1))
        else:
            assert torch.allclose(ann.logits(other, generator(0)), theirs, rtol=1e-4, atol=1e-5)


LINEARS = {"a": nn.Linear(6, 6), "b": nn.Linear(6, 6), "c": nn.Linear(6, 2)}
REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "skip connection": (lambda: Net(residual, **LINEARS), (6,), r"add in forward puts together b \(Linear\) and relu in forward \(a skip connection"),
    "branch": (lambda: Net(lambda net, x: [net.b(F.relu(net.a(x))), net.c(x)][1], **LINEARS), (6,), r"c \(Linear\) takes its input, not what comes before it, b \(Linear\): the network branches"),
    "concatenation": (lambda: Net(lambda net, x: torch.cat([net.a(x), net.b(x)], 1), **LINEARS), (6,), r"cat in forward puts together a \(Linear\) and b"),
    "other activations": (row(nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 2), nn.Tanh()), (6,), r"(?s)1 \(Sigmoid\): is an activation that neurons do not have.*3 \(GELU\): is.*5 \(Tanh\): is"),
    "leaky ReLU": (small(nn.LeakyReLU(), nn.AvgPool2d(2)), IMAGE, r"1 \(LeakyReLU\): is an activation that neurons do not have"),
    "group norm": (small(nn.GroupNorm(2, 4), nn.ReLU(), nn.AvgPool2d(2)), IMAGE, r"1 \(GroupNorm\): there is no layer for it"),
    "transposed convolution": (row(nn.ConvTranspose2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 2)), IMAGE, r"0 \(ConvTranspose2d\): there is no layer for it"),
    "a branch on values": (lambda: Net(lambda net, x: net.a(x) if x.sum() > 0 else net.b(x), **LINEARS), (6,), "cannot be followed by torch.fx.*Branches that depend on values must go"),
    "several answers": (lambda: Net(lambda net, x: (net.c(F.relu(net.a(x))), x), **LINEARS), (6,), "returns something else than what its last layer gives"),
    "linear": (row(nn.Linear(6, 6), nn.Linear(6, 2)), (6,), "there is no activation in it"),
    "ends with a ReLU": (row(nn.Linear(6, 6), nn.ReLU()), (6,), "ends with an activation"),
    "wrong shape": (row(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 2)), (6,), r"fails on images of shape \(6,\)"),
    "windows that overlap": (row(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 2, 4), nn.Flatten()), IMAGE, "windows that overlap; that is exact only where"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_row_is_refused(name: str) -> None:
    make, shape, says = REFUSED[name]
    with pytest.raises(AnnError, match=says):
        layers_of(make(), torch.rand((4, *shape), generator=generator(0)))


@pytest.mark.parametrize(
    ("function", "is_"),
    [
        (torch.relu, (None, None, 0.0)),
        (nn.ReLU6(), (6.0, None, 0.0)),
        (lambda x: x.clamp(0, 0.3), (0.3, None, 0.0)),
        (QCFS(8, 1.7).double(), (1.7, 8, 0.5)),
        (QCFS(4, 0.2).double(), (0.2, 4, 0.5)),
        (QCFS(1, 2.0).double(), (2.0, 1, 0.5)),
        (Activation(3.0, 16, 0.25), (3.0, 16, 0.25)),
        (Activation(3.0, 5), (3.0, 5, 0.0)),
        (torch.sigmoid, None),
        (torch.tanh, None),
        (F.silu, None),
        (F.softplus, None),
        (lambda x: 2 * torch.relu(x), None),
        (lambda x: torch.relu(x) + 1, None),
        (lambda x: torch.relu(x - 1), None),
        (torch.abs, None),
        (lambda x: x.clamp(-1, 1), None),
        (lambda x: torch.tanh(x).relu(), None),
    ],
)
def test_activations_are_told_apart_by_what_they_do(function: Any, is_: Any) -> None:
    made = activation_of(function)
    if is_ is None:
        assert made is None
        return
    assert made is not None
    assert made.ceiling == pytest.approx(is_[0]) if is_[0] else made.ceiling is None
    assert (made.levels, made.shift) == is_[1:]


def test_the_network_needs_an_image() -> None:
    with pytest.raises(AnnError, match="no images: at least one"):
        layers_of(nn.Linear(2, 2), torch.zeros(0, 2))


# -- conversion ------------------------------------------------------------------------------------


def bars(count: int, seed: int, signed: bool = False) -> Split:
    """Images of 8 x 8 with a bar in one of three places; where `signed`, with 0 in the middle."""
    draws = generator(seed)
    labels = torch.randint(0, 3, (count,), generator=draws)
    images = 0.3 * torch.rand((count, 1, 8, 8), generator=draws)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, :, 3 * label : 3 * label + 2] += 0.6
    return Split(images - 0.5 if signed else images, labels)


def data(signed: bool = False) -> Dataset:
    return Dataset("bars", bars(300, 0, signed), bars(20, 1, signed), bars(120, 2, signed))


def learned(model: nn.Module, dataset: Dataset, epochs: int = 12) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(epochs):
        for images, labels in zip(
            dataset.train.images.split(50), dataset.train.labels.split(50), strict=True
        ):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


NETS: dict[str, Callable[[], nn.Module]] = {
    "functional, maxima, norm": lambda: Net(
        lambda net, x: net.fc(F.max_pool2d(F.relu(net.n(net.c(x))), 2).flatten(1)),
        c=nn.Conv2d(1, 4, 3, padding=1), n=nn.BatchNorm2d(4), fc=nn.Linear(64, 3),
    ),
    "averages, no biases": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(64, 12, bias=False), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 3, bias=False),
    ),
    "clip-floor": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), QCFS(8, 2.0), nn.Linear(12, 12), QCFS(8, 2.0), nn.Linear(12, 3)
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_ones_own_ann_reaches_the_chip_and_stands_beside_it(name: str, tmp_path: Path) -> None:
    """convert, deploy, verify, profile beside the ANN, attack: on a data set of one's own."""
    torch.manual_seed(0)
    own, dataset = learned(NETS[name](), data()), data()
    made = spikeship.convert(own, dataset, Coding.of("direct", 8, 16))
    assert isinstance(made, Converted)
    assert made.agreement > 0.95
    assert accuracy(made, dataset.test) > 0.9
    assert any("maximum of spikes" in text for text in made.approximations) == ("maxima" in name)
    with pytest.raises(ValueError, match="converted for the coding direct in 8 steps and 16 grey"):
        spikeship.deploy(made, dataset, coding=Coding.of("direct", 9, 16))
    chip = spikeship.deploy(made, dataset)
    assert chip.recipe.coding == made.coding
    assert chip.save(tmp_path / "own.net").digest == chip.digest
    checked = spikeship.verify(chip, dataset, samples=20, lava_samples=0)
    assert checked.ok
    cost = spikeship.profile(chip, dataset, ann=own, samples=40)
    assert cost.ann is not None
    with torch.no_grad():
        right = own.eval()(dataset.test.images[:40]).argmax(1) == dataset.test.labels[:40]
    assert cost.ann.accuracy == right.float().mean()
    assert cost.ann.quantized_accuracy > 0.9
    weights = sum(p.numel() for n, p in own.named_parameters() if "weight" in n and p.ndim > 1)
    assert sum(layer.weights for layer in cost.ann.work.layers) == weights
    attacked = spikeship.attack(chip, dataset, spikeship.PGD(0.05, steps=2), draws=2)
    assert attacked.accuracy <= attacked.clean.accuracy


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["voltage", "spikes"])
@pytest.mark.parametrize("name", NETS)
def test_the_graph_of_a_converted_network_answers_as_it_does(name: str, readout: Any) -> None:
    torch.manual_seed(0)
    dataset = data()
    ann = Ann.of(learned(NETS[name](), dataset), dataset.train.images)
    made = convert_ann(ann, Coding.of("direct", 6, 16), dataset.train.images, readout=readout)
    graph = graph_of(made, dataset.shape)
    assert coding_in(graph) == made.coding
    frames = real(made.coding, dataset.test.images[:20], generator(0))
    with torch.no_grad():
        logits = made.net(frames).double().numpy()
    answers = execute(graph, frames.transpose(0, 1).double().numpy())
    last = answers.voltage[-1].mean(1) if readout == "voltage" else answers.spikes[-1].sum(1)
    assert np.abs(last - logits).max() < 1e-4 * np.abs(logits).max()


def test_clip_floor_of_as_many_levels_as_steps_is_exact_for_constant_input() -> None:
    """One spike per step at most, and a charge of half a threshold: all counts are rounded."""
    net = nn.Sequential(nn.Linear(1, 1), Activation(1.0, 8, 0.5), nn.Linear(1, 1))
    for layer in (net[0], net[2]):
        layer.weight.data.fill_(1)
        layer.bias.data.fill_(0)
    made = convert_ann(Ann(net), Coding.of("direct", 8, 16), torch.rand((32, 1)), scale=1.0)
    assert made.thresholds == (1.0,)
    first: Any = made.net.body[0]
    assert first.bias.item() == 0.5 / 8
    assert made.net.body[2].weight.item() == 1.0  # a spike stands for the threshold
    assert made.approximations == ("rates of neurons that reset to zero stand for activations",)
    other = convert_ann(Ann(net), Coding.of("direct", 4, 16), torch.rand((32, 1)))
    assert other.approximations[-1] == "4 steps stand for clip-floor activations of 8 levels"


def test_thresholds_come_from_the_data() -> None:
    """Currents are the images themselves: their percentile, then times the scale."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64, bias=False), Activation(), nn.Linear(64, 2))
    net[1].weight.data = torch.eye(64)
    images = torch.rand((IMAGES, 1, 8, 8), generator=generator(0)) * 3
    for percentile, threshold in ((100, 3.0), (50, 1.5)):
        made = convert_ann(
            Ann(net), Coding.of("direct", 8, 64), images, percentile=percentile, scale=0.5
        )
        assert made.thresholds[0] == pytest.approx(threshold / 2, rel=0.03)
        assert made.scale == 0.5


def test_what_cannot_be_converted() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Activation(), nn.Linear(4, 2))
    images = torch.rand((20, 1, 8, 8), generator=generator(0))
    for options, says in (
        ({"coding": Coding.of("signed_poisson")}, "the mean of signed_poisson is 2x - 1"),
        ({"coding": Coding.of("events", 8, 1)}, "events go with the coding events"),
        ({"scale": -1.0}, "scale = -1.0; thresholds need a scale above 0"),
        ({"percentile": 0}, "percentile = 0; one above 0"),
    ):
        with pytest.raises(ValueError, match=says):
            convert_ann(Ann(net), **{"coding": Coding.of("direct"), "images": images, **options})
    with pytest.raises(ValueError, match="thresholds are chosen on data"):
        spikeship.convert(net)


def test_one_output_has_no_answer_to_agree_on() -> None:
    """The scale with the smallest error is taken."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Activation(), nn.Linear(8, 1))
    images = torch.rand((40, 1, 8, 8), generator=generator(0))
    coding = Coding.of("direct", 8, 16)
    made = convert_ann(Ann(net), coding, images)
    assert made.agreement is None
    assert "answer" not in str(made)
    several = nn.Sequential(*net[:3], nn.Linear(8, 2))
    numbers = convert_ann(Ann.of(several, images), coding, images, regression=True)
    assert numbers.agreement is None
    assert all(convert_ann(Ann(net), coding, images, scale=s).error >= made.error for s in (1, 0.5))


def test_events() -> None:
    """The ANN sees how often each pixel has one, the spiking network every step."""
    torch.manual_seed(0)
    events = (torch.rand((30, 6, 2, 4, 4), generator=generator(0)) < 0.4).to(torch.int8)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    ann = Ann.of(net, events)
    with torch.no_grad():
        assert torch.allclose(
            ann.logits(events, generator(0)), net(events.float().mean(1)), atol=1e-6
        )
    made = convert_ann(ann, Coding.of("events", 6, 1), events)
    assert made.logits(events, generator(0)).shape == (30, 3)
    features = events[:, :, 0].flatten(2)  # (sample, time, features)
    flat = Ann.of(nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), features)
    made = convert_ann(flat, Coding.of("events", 6, 1), features)
    assert made.logits(features, generator(0)).shape == (30, 3)


def test_images_below_zero_are_quantized_with_sign() -> None:
    torch.manual_seed(0)
    dataset = data(signed=True)
    ann = Ann.of(learned(NETS["averages, no biases"](), dataset), dataset.train.images)
    rounded = quantize(ann, dataset.train.images, 8, 8)
    before, after = (net.logits(dataset.test.images, generator(0)) for net in (ann, rounded))
    assert (before.argmax(1) == after.argmax(1)).float().mean() > 0.95
    assert work(rounded, dataset.test.images).macs == work(ann, dataset.test.images).macs


@pytest.mark.slow
def test_fine_tuning_defends_ones_own(tmp_path: Path) -> None:
    """Weights and thresholds are trained; the same call loads what it made; the graph answers alike."""
    torch.manual_seed(0)
    dataset = data()
    ann = Ann.of(learned(NETS["averages, no biases"](), dataset), dataset.train.images)
    made = convert_ann(ann, Coding.of("direct", 4, 16), dataset.train.images)
    before = {key: value.clone() for key, value in made.net.state_dict().items()}
    tuned = fine_tuned(made, dataset, tmp_path, 0.1, 4)
    assert isinstance(tuned, Converted)
    assert all(torch.equal(value, before[key]) for key, value in made.net.state_dict().items())
    after = tuned.net.state_dict()
    assert all(not torch.equal(after[key], before[key]) for key in before if "p." not in key)
    assert tuned.thresholds != made.thresholds
    again = fine_tuned(made, dataset, tmp_path, 0.1, 4)
    assert isinstance(again, Converted)
    assert all(torch.equal(value, after[key]) for key, value in again.net.state_dict().items())
    attacked = [
        spikeship.attack(spikeship.deploy(net, dataset), dataset, spikeship.PGD(0.1, steps=5))
        for net in (made, tuned)
    ]
    assert attacked[1].accuracy > attacked[0].accuracy + 0.05
    with pytest.raises(ValueError, match=r"the network itself is in the \.nir files beside it"):
        load(tmp_path / "best.ckpt")


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (
            data(signed=True),
            r"bars reaches -0\.\d+ .. 0\.\d+: adversarial objectives and crafted noise move images",
        ),
        (Dataset("r", *[Split(bars(20, 0).images, torch.rand(20, 1))] * 3), "regression cannot be"),
    ],
)
def test_what_cannot_be_fine_tuned(dataset: Dataset, says: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, dataset.classes))
    made = convert_ann(
        Ann.of(net, dataset.train.images), Coding.of("direct", 4, 16), dataset.train.images
    )
    with pytest.raises(ValueError, match=says):
        fine_tuned(made, dataset, tmp_path, 0.1, 1)


def test_sequences_are_no_rates() -> None:
    torch.manual_seed(0)
    x = torch.rand((20, 5, 3), generator=generator(0))
    net = nn.Sequential(nn.Flatten(), nn.Linear(15, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(
        ValueError, match="sees all their steps at once, a spiking network one after"
    ):
        convert_ann(Ann.of(net, x), Coding.of("sequence", 5, 16), x)


MINE = """
import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(64, 20), nn.Linear(20, 10)
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))
def build():
    return Mine()
def graph():
    return 3
def branch():
    class Branch(Mine):
        def forward(self, x):
            return self.b(torch.relu(self.a(x.flatten(1)))) + x.flatten(1)[:, :10]
    return Branch()
"""


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/mine_ann.py").write_text(MINE)
    words = ("convert", "sub/mine_ann.py:build", "--data", "digits", "--out", "made")
    namespace: dict[str, Any] = {}
    exec(MINE, namespace)
    model = learned(namespace["build"](), spikeship.data("digits"), epochs=4)
    torch.save(model.state_dict(), "w.pt")
    made = ok(*words, "--checkpoint", "w.pt", "--steps", 10, "--levels", 32)
    assert made["graph"] == "made/converted.nir"
    assert made["test_accuracy"]["converted"] > made["test_accuracy"]["ann"] - 0.05 > 0.8
    tuned = ok(*words, "--checkpoint", "w.pt", "--out", "tuned", "--fine-tune", 1)
    assert tuned["graph"] == "tuned/fine_tuned.nir"
    assert sorted(tuned["test_accuracy"]) == ["ann", "converted", "fine-tuned"]
    assert tuned["test_accuracy"]["fine-tuned"] > 0.8
    ok("export", tuned["graph"], "--data", "digits", "--out", "tuned.net")
    exported = ok("export", "made/converted.nir", "--data", "digits", "--out", "mine.net")
    recipe = ok("inspect", "mine.net")["recipe"]
    assert (recipe["steps"], recipe["levels"]) == (10, 32)  # as it was converted
    twin = ("--ann", "sub/mine_ann.py:build", "--ann-checkpoint", "w.pt")
    profile = ok("profile", "mine.net", *twin, "--samples", 30)["profile"]
    assert profile["digest"] == exported["digest"]
    assert profile["ann"]["accuracy"] > 0.8
    for refused, says in (
        (words[:2], "thresholds are chosen on data: give --data."),
        (
            ("convert", "sub/mine_ann.py:graph", *words[2:]),
            "returns a int; a torch module is needed",
        ),
        (("convert", "sub/mine_ann.py:branch", *words[2:]), "puts together b (Linear) and"),
        (("convert", "w.pt"), "Write a function that returns that network"),
        (
            ("profile", "mine.net", "--ann", "w.pt"),
            "this file beside it with --ann-checkpoint w.pt",
        ),
        (("profile", "mine.net", "--measure"), "give it with --ann"),
    ):
        result = call(*refused)
        assert result.exit_code not in (0, None)
        assert says in " ".join(result.stderr.split()), result.stderr
