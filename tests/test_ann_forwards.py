"""Whatever people write in a forward: each is right, to the spiking network's graph, or refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from spikeship.hw_targets import Coding
from spikeship.models.ann import Ann
from spikeship.models.ann_conversion import convert_ann
from spikeship.models.ann_layers import layers_of
from spikeship.models.ann_rewrite import AnnError
from spikeship.models.encoding import generator, real
from spikeship.pipeline.deploy.converted import graph_of
from spikeship.pipeline.float.execute import execute

IMAGE, ROW, VECTOR = (1, 6, 6), (2, 1, 12), (6,)
Make = Callable[[], nn.Module]


class Net(nn.Module):
    """Layers a, b, c of vectors of 6; k convolves IMAGE to 3 x 6 x 6, l reads 108 numbers; d is Dropout."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **more: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.k, self.l = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(108, 3)
        self.d = nn.Dropout(0.5)
        self.run = forward
        for name, layer in more.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def image(*middle: Any, out: int) -> nn.Module:
    """A convolution, ReLU, what is in the middle, and a Linear."""
    start = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(*start, *middle, nn.Flatten(), nn.Linear(out, 3))


def seen(norm: Any) -> Any:
    """A norm that has seen something."""
    norm.running_mean.normal_(0.2, 0.4)
    norm.running_var.uniform_(0.3, 2)
    if norm.affine:
        norm.weight.data.uniform_(0.3, 2)
        norm.bias.data.normal_(0.1, 0.3)
    return norm


class Standardized(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, self.bias)


class Masked(nn.Module):
    """Weights that are a buffer, times another; a scale that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w", torch.randn(6, 6))
        self.register_buffer("mask", (torch.rand(6, 6) < 0.5).float())
        self.scale, self.last = torch.tensor(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(F.linear(x * self.scale, self.w * self.mask)))


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3))


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "under heavy development"
        return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 3))


def pruned() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    prune.random_unstructured(net[0], "weight", 0.5)
    net(torch.rand(1, 6))
    with torch.no_grad():
        net(torch.rand(1, 6))  # the masked weight is then one that can be copied
    return net


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    net[0].register_forward_hook(lambda _, __, out: 2 * out)
    return net


class FunctionalRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.l = nn.Parameter(torch.randn(4, 2, 3) / 2), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool1d(F.relu(F.conv1d(x, self.w, padding=1)), 2)
        return self.l(x.flatten(1))


RIGHT: dict[str, tuple[Make, tuple[int, ...]]] = {
    "a norm without scale behind a Linear": (lambda: nn.Sequential(nn.Linear(6, 6), seen(nn.BatchNorm1d(6, affine=False)), nn.ReLU(), nn.Linear(6, 3)), VECTOR),
    "a norm without scale behind a convolution": (lambda: image(nn.Conv2d(4, 3, 3, bias=False), seen(nn.BatchNorm2d(3, affine=False)), nn.ReLU(), out=48), IMAGE),
    "a norm behind maxima of activations": (lambda: image(nn.MaxPool2d(2), seen(nn.BatchNorm2d(4)), nn.Conv2d(4, 3, 1), nn.ReLU(), out=27), IMAGE),
    "a norm behind averages": (lambda: image(nn.AvgPool2d(2), seen(nn.BatchNorm2d(4)), nn.Conv2d(4, 3, 1), nn.ReLU(), out=27), IMAGE),
    "a norm of a Flatten": (lambda: image(nn.AvgPool2d(2), nn.Flatten(), seen(nn.BatchNorm1d(36)), out=36), IMAGE),
    "in place, as modules": (lambda: image(nn.Dropout(inplace=True), nn.AvgPool2d(2), out=36), IMAGE),
    "in place, as functions": (lambda: Net(lambda n, x: n.c(F.relu_(n.a(x)))), VECTOR),
    "in place, as operators": (lambda: Net(lambda n, x: n.c(F.relu(n.a(x).mul_(2).add_(0.25)))), VECTOR),
    "a layer called twice": (lambda: Net(lambda n, x: n.c(F.relu(n.a(F.relu(n.a(x)))))), VECTOR),
    "dropout by its module, in training": (lambda: Net(lambda n, x: n.c(n.d(F.relu(n.a(x))))), VECTOR),
    "dropout by training": (lambda: Net(lambda n, x: n.c(F.dropout(F.relu(n.a(x)), training=n.training))), VECTOR),
    "padding by name": (lambda: image(nn.Conv2d(4, 3, 3, padding="same", dilation=2), nn.ReLU(), nn.Conv2d(3, 2, 3, padding="valid"), nn.ReLU(), out=32), IMAGE),
    "groups, strides, dilations": (lambda: image(nn.Conv2d(4, 8, 3, (2, 1), (2, 1), (1, 2), 4), nn.ReLU(), out=8 * 4 * 4), IMAGE),
    "ceil_mode that adds no window": (lambda: image(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.MaxPool2d(3, ceil_mode=True), out=3), IMAGE),
    "averages with padding": (lambda: image(nn.AvgPool2d(3, 2, 1), out=36), IMAGE),
    "maxima with padding and dilation": (lambda: image(nn.MaxPool2d(2, 2, 1, dilation=2), out=36), IMAGE),
    "ReLU, maxima, ReLU": (lambda: image(nn.MaxPool2d(2), nn.ReLU(), out=36), IMAGE),
    "ReLU, maxima, ReLU6": (lambda: image(nn.MaxPool2d(2), nn.Hardtanh(0, 0.5), out=36), IMAGE),
    "maxima of maxima, then ReLU": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.MaxPool2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)), IMAGE),
    "maxima of maxima": (lambda: image(nn.MaxPool2d(2), nn.MaxPool2d(3), out=4), IMAGE),
    "dim and keyword flatten": (lambda: Net(lambda n, x: n.l(torch.flatten(F.relu(n.k(x)), start_dim=1, end_dim=-1))), IMAGE),
    "reshape by size": (lambda: Net(lambda n, x: n.l(F.relu(n.k(x)).reshape(x.shape[0], -1))), IMAGE),
    "view by contiguous": (lambda: Net(lambda n, x: n.l(F.relu(n.k(x)).contiguous().view(-1, 108))), IMAGE),
    "mean over the image": (lambda: Net(lambda n, x: n.m(F.relu(n.k(x)).mean((2, 3))), m=nn.Linear(3, 3)), IMAGE),
    "mean over the image, axes kept": (lambda: Net(lambda n, x: n.m(F.relu(n.k(x)).mean((2, 3), keepdim=True).squeeze(3).squeeze(2)), m=nn.Linear(3, 3)), IMAGE),
    "clipped by two functions": (lambda: Net(lambda n, x: n.c(F.relu(n.a(x)).clamp(max=1.5))), VECTOR),
    "minimum of a ReLU": (lambda: Net(lambda n, x: n.c(torch.clamp(F.relu(n.a(x)), max=0.75))), VECTOR),
    "double precision": (lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double(), VECTOR),
    "half precision": (lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).half(), VECTOR),
    "casts": (lambda: Net(lambda n, x: n.c(F.relu(n.a(x.float())).to(torch.float32))), VECTOR),
    "buffers as weights, masks, plain tensors": (Masked, VECTOR),
    "weight_norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6)), seen(nn.BatchNorm1d(6)), nn.ReLU(), nn.Linear(6, 3)), VECTOR),
    "weight_norm of a convolution": (lambda: image(parametrizations.weight_norm(nn.Conv2d(4, 3, 3)), nn.ReLU(), out=48), IMAGE),
    "spectral_norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3)), VECTOR),
    "pruned": (pruned, VECTOR),
    "a convolution with a forward of its own": (lambda: image(Standardized(4, 3, 3), nn.ReLU(), out=48), IMAGE),
    "a wrapper": (lambda: nn.DataParallel(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))), VECTOR),
    "starts with an activation": (lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)), VECTOR),
    "starts with a pool": (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)), IMAGE),
    "two Linear in a row": (lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4), nn.Linear(4, 3)), VECTOR),
    "signals": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3, 2, 1), seen(nn.BatchNorm1d(4)), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 6, 3, dilation=1, padding="same", groups=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)), ROW),
    "signals, more of them": (lambda: nn.Sequential(seen(nn.BatchNorm1d(2)), nn.Conv1d(2, 4, 3, padding=2, dilation=2), nn.ReLU(), nn.AvgPool1d(3, 3), nn.Conv1d(4, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)), ROW),
    "signals, as functions": (FunctionalRows, ROW),
    "signals, their mean": (lambda: Net(lambda n, x: n.m(F.relu(n.s(x)).mean(-1)), s=nn.Conv1d(2, 4, 3), m=nn.Linear(4, 3)), ROW),
    "an image of one row": (lambda: nn.Sequential(nn.Conv2d(2, 4, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)), ROW),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    """Layers answer as the network, which stays as it was; the graph of the spiking one as it does."""
    make, shape = RIGHT[name]
    torch.manual_seed(0)
    model = make().train()
    for key, weight in model.named_parameters():
        if key.endswith("bias"):
            weight.data.abs_()  # so that no layer is silent
    images = torch.rand((40, *shape), generator=generator(3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ann = Ann.of(model, images)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    other = torch.rand((20, *shape), generator=generator(4)) * 2 - 0.5
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    own = model.eval() if dtype != torch.float16 else model.eval().float()
    given = other.squeeze(2) if "signals" in name else other
    with torch.no_grad():
        theirs = own(given.double() if dtype == torch.float64 else given).float()
        assert torch.allclose(ann.logits(other, generator(0)), theirs, rtol=1e-4, atol=1e-5)
    made = convert_ann(ann, Coding.of("direct", 4, 16), images, scale=1.0)
    frames = real(made.coding, images[:6], generator(0))
    with torch.no_grad():
        logits = made.net(frames).double().numpy()
    answers = execute(graph_of(made, shape), frames.transpose(0, 1).double().numpy())
    assert answers.voltage[-1] is not None
    off = np.abs(answers.voltage[-1].mean(1) - logits).max()
    assert off < 1e-4 * np.abs(logits).max()


REFUSED: dict[str, tuple[Make, tuple[int, ...], str]] = {
    "statistics of the batch": (lambda: image(nn.BatchNorm2d(4, track_running_stats=False), out=144), IMAGE, r"2 \(BatchNorm2d\) has no running statistics"),
    "a result in place that is dropped": (lambda: Net(lambda n, x: [y := n.a(x), F.relu_(y), n.c(y)][-1]), VECTOR, r"takes a \(Linear\), which relu_ in forward changes in place"),
    "the same by a module": (lambda: Net(lambda n, x: [y := n.a(x), n.r(y), n.c(y)][-1], r=nn.ReLU(inplace=True)), VECTOR, r"which r \(ReLU\) changes in place"),
    "dropout that never ends": (lambda: Net(lambda n, x: n.c(F.dropout(F.relu(n.a(x))))), VECTOR, "dropout in forward: answers at random in evaluation mode"),
    "noise": (lambda: Net(lambda n, x: n.c(F.relu(n.a(x) + torch.randn_like(x)))), VECTOR, "puts together|at random"),
    "circular padding": (lambda: image(nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), nn.ReLU(), out=108), IMAGE, "padding_mode 'circular'; netx pads with zeros alone"),
    "ceil_mode": (lambda: image(nn.AvgPool2d(4, ceil_mode=True), out=16), IMAGE, "ceil_mode adds windows beyond the border"),
    "ceil_mode alone makes windows": (lambda: image(nn.AvgPool2d(6), nn.AvgPool2d(2, ceil_mode=True), out=4), IMAGE, "ceil_mode adds windows beyond the border"),
    "ceil_mode of maxima": (lambda: image(nn.MaxPool2d(4, ceil_mode=True), out=16), IMAGE, "ceil_mode adds windows beyond the border"),
    "count_include_pad": (lambda: image(nn.AvgPool2d(3, 2, 1, count_include_pad=False), out=36), IMAGE, "count_include_pad=False"),
    "divisor_override": (lambda: image(nn.AvgPool2d(2, divisor_override=3), out=36), IMAGE, "divisor_override"),
    "maxima of currents": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)), IMAGE, "a maximum of numbers that are no activations"),
    "maxima of averages": (lambda: image(nn.AvgPool2d(2), nn.MaxPool2d(2), out=4), IMAGE, "a maximum of numbers that are no activations"),
    "maxima of the image": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)), IMAGE, "a maximum of numbers that are no activations"),
    "where maxima were": (lambda: Net(lambda n, x: n.l(F.max_pool2d(F.relu(n.k(x)), 1, return_indices=True)[0].flatten(1))), IMAGE, "max_pool2d.* in forward: gives several tensors"),
    "a chunk": (lambda: Net(lambda n, x: n.m(F.relu(n.a(x)).chunk(2, 1)[0]), m=nn.Linear(3, 3)), VECTOR, "chunk in forward: gives several tensors"),
    "Linear along the rows": (lambda: Net(lambda n, x: n.l(n.a(F.relu(n.k(x))).flatten(1))), IMAGE, r"a \(Linear\): acts on the last axis of \(3, 6, 6\) alone; put a Flatten"),
    "flatten of the batch": (lambda: Net(lambda n, x: F.relu(n.a(x)).flatten(0)), VECTOR, "there is no layer for it"),
    "flatten of the image alone": (lambda: Net(lambda n, x: n.l(F.relu(n.k(x)).flatten(2).flatten(1))), IMAGE, r"makes \(3, 36\) of \(3, 6, 6\); only Flatten is known"),
    "channels last": (lambda: Net(lambda n, x: n.l(F.relu(n.k(x)).permute(0, 2, 3, 1).flatten(1))), IMAGE, "permute in forward: there is no layer for it"),
    "a view of every second pixel": (lambda: Net(lambda n, x: n.m(F.relu(n.k(x))[:, :, ::2, ::2].flatten(1)), m=nn.Linear(27, 3)), IMAGE, "getitem in forward: there is no layer for it"),
    "softmax in the middle": (lambda: Net(lambda n, x: n.c(F.relu(n.b(n.a(x).softmax(1))))), VECTOR, "comes behind softmax in forward, which is left out only at the end"),
    "softmax over the batch": (lambda: Net(lambda n, x: n.c(F.relu(n.a(x))).softmax(0)), VECTOR, "not taken over the outputs"),
    "a number without an axis": (lambda: Net(lambda n, x: n.o(F.relu(n.a(x))).squeeze(-1), o=nn.Linear(6, 1)), VECTOR, r"without an axis: return \(sample, 1\)"),
    "images as answers": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 4)), IMAGE, r"answers with \(3, 1, 1\) numbers to an image; one row"),
    "a hook": (hooked, VECTOR, r"0 \(Linear\): a hook changes what it gives"),
    "lazy modules": (lazy, VECTOR, "lazy modules without weights"),
    "old weight_norm": (old_weight_norm, VECTOR, "remove_weight_norm"),
    "weights nowhere": (lambda: nn.Sequential(nn.Linear(6, 6, device="meta"), nn.ReLU(), nn.Linear(6, 3)), VECTOR, "cannot be copied"),
    "group and instance norms": (lambda: image(nn.InstanceNorm2d(4), out=144), IMAGE, "InstanceNorm2d.: there is no layer for it"),
    "signals without a row": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)), (2, 12), r"Give the data as images of one row, x \(sample, C, 1, L\)"),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), (1, 1, 2, 2), r"0 \(Conv3d\): there is no layer for it"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, shape, says = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(AnnError, match=says):
        layers_of(make(), torch.rand((8, *shape), generator=generator(0)))
