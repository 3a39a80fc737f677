"""Any torch ANN as a row of layers: what is followed, what is rewritten, what is refused and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeship.models.activation import Activation, activation_of
from spikeship.models.ann import Ann
from spikeship.models.ann_layers import AnnError, layers_of
from spikeship.models.encoding import generator


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
        torchvision = pytest.importorskip("torchvision")
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
