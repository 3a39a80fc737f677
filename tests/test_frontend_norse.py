"""Norse to NIR: every supported module, run beside Norse's own forward pass."""

from __future__ import annotations

import itertools
from pathlib import Path

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from norse.torch.functional.iaf import IAFParameters
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from norse.torch.functional.reset import reset_subtract
from norse.torch.module.iaf import IAFCell
from norse.torch.module.leaky_integrator import LICell
from torch import nn

from spikeship.models import networks
from spikeship.pipeline.execute import execute
from spikeship.pipeline.frontends import from_norse
from spikeship.pipeline.frontends.norse import UnsupportedModuleError, leaves
from spikeship.pipeline.graph import READOUTS, chain
from spikeship.pipeline.lower import LoweringError, lower

SHAPE = (2, 8, 8)
T = torch.tensor


def lif_box(**p: float) -> nn.Module:
    p = {"tau_mem_inv": 300.0, "v_th": 0.1, **p}
    return norse.LIFBoxCell(norse.LIFBoxParameters(**{k: T(v) for k, v in p.items()}))


def lif(**p: float) -> nn.Module:
    p = {"tau_mem_inv": 300.0, "tau_syn_inv": 400.0, "v_th": 0.1, **p}
    return norse.LIFCell(norse.LIFParameters(**{k: T(v) for k, v in p.items()}))


def batch_norm(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for name in ("running_mean", "running_var", "weight", "bias"):
        value = getattr(layer, name)
        value.data = torch.rand(value.shape, generator=generator) + 0.5 * (name != "running_mean")
    return layer


NETWORKS = {
    "dense, LIFBox": lambda: [nn.Flatten(), nn.Linear(128, 20), lif_box(), nn.Linear(20, 5), lif_box()],
    "no bias, LIF, LI": lambda: [
        nn.Flatten(), nn.Linear(128, 20, bias=False), lif(),
        nn.Linear(20, 5, bias=False), LICell(),
    ],
    "IAF": lambda: [
        nn.Flatten(), nn.Linear(128, 20), IAFCell(IAFParameters(v_th=T(1.5))),
        nn.Linear(20, 5), IAFCell(IAFParameters(v_th=T(0.5))),
    ],
    "leak and reset at -0.2": lambda: [
        nn.Flatten(), nn.Linear(128, 20), lif_box(v_leak=-0.2, v_reset=-0.2),
        nn.Linear(20, 5), norse.LIBoxCell(LIBoxParameters(tau_mem_inv=T(200.0))),
    ],
    "linear chain, dropout, batch norm": lambda: [
        nn.Flatten(), nn.Linear(128, 16), batch_norm(nn.BatchNorm1d(16)), nn.Dropout(0.5),
        nn.Linear(16, 12), nn.Identity(), lif_box(), nn.Linear(12, 5), lif_box(),
    ],
    "conv, batch norm, pooling": lambda: [
        nn.Conv2d(2, 4, 3, padding=1), batch_norm(nn.BatchNorm2d(4)), lif_box(), nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 2), lif_box(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6, 5), lif_box(),
    ],
    "pooling into a padded conv": lambda: [
        nn.Conv2d(2, 4, 1), lif_box(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1, bias=False),
        lif_box(), nn.Flatten(), nn.Linear(96, 5), lif_box(),
    ],
    "stride, dilation, groups": lambda: [
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), lif_box(),
        nn.Conv2d(4, 4, 2, dilation=(1, 3), groups=4), batch_norm(nn.BatchNorm2d(4)), lif_box(),
        nn.AvgPool2d((1, 2), stride=1), nn.Flatten(), nn.Linear(36, 5), lif_box(),
    ],
    "padded overlapping pool after the conv": lambda: [
        nn.Conv2d(2, 3, 1, bias=False), nn.AvgPool2d(3, stride=2, padding=1), lif_box(),
        nn.Flatten(), nn.Linear(48, 5), lif_box(),
    ],
    "same padding, nested": lambda: [
        nn.Sequential(nn.Conv2d(2, 3, 3, padding="same"), nn.Conv2d(3, 4, 2)), lif_box(),
        nn.Flatten(), nn.Linear(196, 5), lif_box(),
    ],
}  # fmt: skip


def build(name: str, seed: int = 0) -> norse.SequentialState:
    torch.manual_seed(seed)
    model = norse.SequentialState(*NETWORKS[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    return model


def run_norse(model: nn.Module, frames: torch.Tensor) -> list[np.ndarray]:
    """What every stateful cell puts out, (sample, time, *shape)."""
    cells = [m for _, m in leaves(model)]
    seen: list[list[torch.Tensor]] = [[] for _ in cells]
    for i, cell in enumerate(cells):
        cell.register_forward_hook(lambda _, __, out, i=i: seen[i].append(out))
    state = None
    with torch.no_grad():
        for frame in frames.transpose(0, 1):
            _, state = model(frame, state)
    return [
        torch.stack([out[0] for out in outs], dim=1).numpy()
        for outs in seen
        if outs and isinstance(outs[0], tuple)
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_and_its_lowered_form_spike_as_norse(name: str) -> None:
    model = build(name)
    frames = torch.rand(6, 10, *SHAPE, generator=torch.Generator().manual_seed(2))
    theirs = run_norse(model, frames)
    graph = from_norse(model, SHAPE)
    for form in (graph, lower(graph)):
        trace = execute(form, frames.numpy())
        nodes = [node for _, node in chain(form) if hasattr(node, "r")]
        assert len(trace.spikes) == len(theirs) == len(nodes)
        for node, spikes, voltage, expected in zip(
            nodes, trace.spikes, trace.voltage, theirs, strict=True
        ):
            if isinstance(node, READOUTS):
                assert np.abs(voltage - expected).max() < 1e-5
            else:
                assert 0.005 < spikes.mean() < 0.9  # silence would prove nothing
                assert (spikes == expected).mean() > 0.999  # float64 beside Norse's float32


@pytest.mark.parametrize("name", NETWORKS)
def test_lowering_is_exact(name: str) -> None:
    graph = from_norse(build(name), SHAPE)
    frames = np.random.default_rng(0).random((4, 8, *SHAPE))
    before, after = execute(graph, frames), execute(lower(graph), frames)
    for a, b in itertools.chain(zip(before.voltage, after.voltage, strict=True)):
        assert np.abs(a - b).max() < 1e-9
    for a, b in zip(before.spikes, after.spikes, strict=True):
        assert (a == b).all()


def test_lowered_layers_alternate() -> None:
    nodes = [
        type(n).__name__
        for _, n in chain(lower(from_norse(build("conv, batch norm, pooling"), SHAPE)))
    ]
    assert nodes == ["Conv2d", "LIF", "Conv2d", "LIF", "Flatten", "Affine", "LIF"]


def test_metadata_and_nir_file(tmp_path: Path) -> None:
    graph = from_norse(build("no bias, LIF, LI"), SHAPE)
    nir.write(tmp_path / "x.nir", graph)
    read = nir.read(tmp_path / "x.nir")
    assert read.metadata["dt"] == pytest.approx(0.001)
    assert read.metadata["update"] == "current, voltage, current decay"
    frames = np.random.default_rng(0).random((2, 5, *SHAPE))
    for a, b in zip(execute(graph, frames).voltage, execute(read, frames).voltage, strict=True):
        assert np.abs(a - b).max() < 1e-6


def test_a_classifier_is_read_by_its_body() -> None:
    classifier = networks.snn("mlp", SHAPE, 10)
    assert list(from_norse(classifier, SHAPE).nodes) == list(
        from_norse(classifier.body, SHAPE).nodes
    )


def other_dt(dt: float) -> nn.Module:
    cell = lif_box()
    cell.dt = dt
    return cell


REFUSED = [
    ([nn.Linear(4, 4), nn.ReLU(), lif_box()], (4,), r"module 1 is a ReLU, which is not supported \(supported: AvgPool2d"),
    ([nn.Linear(4, 4), norse.LIFRefracCell()], (4,), "module 1 is a LIFRefracCell"),
    ([nn.Conv2d(2, 2, 3), nn.MaxPool2d(2), lif_box()], SHAPE, "module 1 is a MaxPool2d"),
    ([nn.Linear(4, 4), lif_box(), nn.Linear(4, 2), other_dt(0.002)], (4,), "different time steps dt"),
    ([nn.Linear(4, 4)], (4,), "no Norse neuron"),
    ([nn.Linear(128, 4), lif_box()], SHAPE, r"module 0 \(Linear\): expects 128 inputs, got shape \(2, 8, 8\). Put an nn.Flatten"),
    ([nn.Conv2d(3, 4, 3), lif_box()], SHAPE, "expects .C, H, W. with C = 3"),
    ([nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), lif_box()], SHAPE, "padding_mode 'reflect'"),
    ([nn.Conv2d(2, 4, 2, padding="same"), lif_box()], SHAPE, "uneven"),
    ([nn.AvgPool2d(3, ceil_mode=True), nn.Conv2d(2, 2, 1), lif_box()], SHAPE, "ceil_mode"),
    ([nn.AvgPool2d(2, padding=1, count_include_pad=False), nn.Conv2d(2, 2, 1), lif_box()], SHAPE, "count_include_pad"),
    ([nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), lif_box()], SHAPE, "no running statistics"),
    ([nn.Flatten(0), nn.Linear(128, 2), lif_box()], SHAPE, "start_dim=1"),
    (
        [nn.Linear(4, 4), norse.LIFBoxCell(norse.LIFBoxParameters(reset_method=reset_subtract))],
        (4,),
        r"module 1 \(LIFBoxCell\): resets by subtraction",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("modules", "shape", "message"), REFUSED)
def test_refused(modules: list[nn.Module], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnsupportedModuleError, match=message):
        from_norse(norse.SequentialState(*modules), shape)


NOT_LOWERED = [
    ([nn.Linear(4, 4), lif_box(), nn.Linear(4, 2)], (4,), "the last node, 2:affine, is no neuron"),
    ([nn.Linear(4, 4), LICell(), nn.Linear(4, 2), lif_box()], (4,), "never spikes, so it can only be the last"),
    ([nn.Conv2d(2, 2, 1), lif_box(), nn.AvgPool2d(3), nn.Conv2d(2, 2, 3, padding=1), lif_box()], SHAPE, "leave rows"),
    ([nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1), lif_box()], SHAPE, "padded convolution after a map with bias"),
]  # fmt: skip


@pytest.mark.parametrize(("modules", "shape", "message"), NOT_LOWERED)
def test_not_lowered(modules: list[nn.Module], shape: tuple[int, ...], message: str) -> None:
    graph = from_norse(norse.SequentialState(*modules), shape)
    with pytest.raises(LoweringError, match=message):
        lower(graph)


def test_branches_are_refused() -> None:
    graph = from_norse(norse.SequentialState(nn.Linear(4, 4), lif_box()), (4,))
    graph.edges.append(("0:affine", "output"))
    with pytest.raises(LoweringError, match="feeds 2 nodes"):
        lower(graph)
