"""Norse to NIR: every supported module, run beside Norse's own forward pass."""

from __future__ import annotations

import itertools
from pathlib import Path

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from norse.torch import IAFCell, IAFParameters, LIBoxParameters, LICell, reset_subtract
from torch import nn

from spikeship.models import networks
from spikeship.pipeline.float.execute import FloatTrace, execute
from spikeship.pipeline.frontends import from_norse
from spikeship.pipeline.frontends.norse import leaves
from spikeship.pipeline.frontends.norse_modules import CONVERSIONS, UnsupportedModuleError
from spikeship.pipeline.graph import NEURONS, READOUTS, LoweringError, chain
from spikeship.pipeline.graph import input_shape as graph_input_shape
from spikeship.pipeline.lower.passes import lower

SHAPE = (2, 8, 8)


def T(value: object) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def lif_box(**p: object) -> nn.Module:
    p = {"tau_mem_inv": 300.0, "v_th": 0.1, **p}
    return norse.LIFBoxCell(
        norse.LIFBoxParameters(**{k: v if callable(v) else T(v) for k, v in p.items()})
    )


def lif_parameters(**p: float) -> norse.LIFParameters:
    p = {"tau_mem_inv": 300.0, "tau_syn_inv": 400.0, "v_th": 0.1, **p}
    return norse.LIFParameters(**{k: T(v) for k, v in p.items()})


def lif(**p: float) -> nn.Module:
    return norse.LIFCell(lif_parameters(**p))


def lif_recurrent(inputs: int, hidden: int, **p: float) -> nn.Module:
    return norse.LIFRecurrentCell(inputs, hidden, lif_parameters(**p), autapses=True)


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
        nn.Linear(20, 5, bias=False), LICell(norse.LIParameters(T(300.0), T(200.0))),
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
        nn.Conv2d(2, 4, 3, padding=1), batch_norm(nn.BatchNorm2d(4)), nn.Dropout2d(0.5),
        lif_box(), nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 2), lif_box(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6, 5), lif_box(),
    ],
    "max pooling of spikes": lambda: [
        nn.Conv2d(2, 4, 3, padding=1), lif_box(), nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(4, 4, 2), lif(), nn.MaxPool2d((1, 2), 1, dilation=(1, 2)),
        nn.Flatten(), nn.Linear(12, 5), lif_box(),
    ],
    "pooling into a padded conv": lambda: [
        nn.Conv2d(2, 4, 1), lif_box(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1, bias=False),
        lif_box(), nn.AdaptiveAvgPool2d((4, None)), nn.Flatten(), nn.Linear(96, 5), lif_box(),
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
    "recurrent": lambda: [
        nn.Flatten(), lif_recurrent(128, 20), nn.Linear(20, 5), lif_box(),
    ],
    "recurrent twice, leak at -0.25, nested, LILinear": lambda: [
        nn.Flatten(),
        norse.SequentialState(
            nn.Linear(128, 16), lif_recurrent(16, 12, v_leak=-0.25, v_reset=-0.25, v_th=-0.1),
            norse.SequentialState(lif_recurrent(12, 10)),
        ),
        norse.LILinearCell(10, 3, norse.LIParameters(T(300.0), T(200.0))),
    ],
    "Conv1d": lambda: [
        nn.Conv1d(2, 4, 5, stride=3, padding=2, groups=2),
        batch_norm(nn.BatchNorm1d(4)), lif(), nn.Conv1d(4, 3, 2, dilation=2, padding="same"),
        lif_box(), nn.Flatten(), nn.Linear(66, 5), lif_box(),
    ],
}  # fmt: skip
SOFT_RESET = {
    "reset by subtraction": lambda: [
        nn.Flatten(), nn.Linear(128, 20), lif_box(reset_method=reset_subtract, v_reset=0.05),
        nn.Linear(20, 5), lif_box(reset_method=reset_subtract),
    ],
}  # fmt: skip
OVER_TIME = {
    "LIF, LI": lambda: [
        nn.Flatten(2), nn.Linear(128, 20), norse.LIF(lif_parameters()), nn.Linear(20, 5),
        norse.LI(norse.LIParameters(T(300.0), T(200.0))),
    ],
    "LIFRecurrent, IAF": lambda: [
        norse.Lift(nn.Flatten()), norse.LIFRecurrent(128, 20, lif_parameters(), autapses=True),
        nn.Linear(20, 5), norse.IAF(IAFParameters(T(0.5), T(0.0))),
    ],
    "lifted and spatial": lambda: [
        norse.LConv2d(2, 4, (3, 2), padding=(1, 0), stride=(2, 1)), norse.LIF(lif_parameters()),
        norse.Lift(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 2))),
        norse.LIF(lif_parameters()), nn.Flatten(2), nn.Linear(12, 5), norse.LIF(lif_parameters()),
    ],
}  # fmt: skip


def input_shape(name: str) -> tuple[int, ...]:
    return (2, 64) if name == "Conv1d" else SHAPE


def build(name: str, seed: int = 0) -> norse.SequentialState:
    torch.manual_seed(seed)
    model = norse.SequentialState(*{**NETWORKS, **OVER_TIME, **SOFT_RESET}[name]()).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    return model


def run_norse(model: nn.Module, frames: torch.Tensor, over_time: bool) -> list[np.ndarray]:
    """What every stateful module puts out, (sample, time, *shape)."""
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in leaves(model):
        if hasattr(module, "dt") or isinstance(module, nn.MaxPool2d):
            module.register_forward_hook(
                lambda _, __, out, name=name: seen.setdefault(name, []).append(
                    out[0] if isinstance(out, tuple) else out
                )
            )
    state = None
    with torch.no_grad():
        if over_time:
            model(frames.transpose(0, 1))
            return [out[0].transpose(0, 1).numpy() for out in seen.values()]
        for frame in frames.transpose(0, 1):
            _, state = model(frame, state)
    return [torch.stack(out, dim=1).numpy() for out in seen.values()]


def run(graph: nir.NIRGraph, frames: np.ndarray) -> FloatTrace:
    """Lowered networks of shape (C, L) have shape (C, 1, L)."""
    return execute(graph, frames.reshape(*frames.shape[:2], *graph_input_shape(graph)))


@pytest.mark.parametrize("name", [*NETWORKS, *OVER_TIME, *SOFT_RESET])
def test_the_graph_and_its_lowered_form_spike_as_norse(name: str) -> None:
    """Every spike of every layer, in float64."""
    model, shape = build(name), input_shape(name)
    frames = torch.rand(6, 10, *shape, generator=torch.Generator().manual_seed(2)).double()
    theirs = run_norse(model, frames, name in OVER_TIME)
    graph = from_norse(model, shape)
    for form in (graph,) if name in SOFT_RESET else (graph, lower(graph)):
        trace = run(form, frames.numpy())
        nodes = [node for _, node in chain(form) if isinstance(node, NEURONS)]
        assert len(trace.spikes) == len(theirs) == len(nodes)
        for node, spikes, voltage, expected in zip(
            nodes, trace.spikes, trace.voltage, theirs, strict=True
        ):
            if isinstance(node, READOUTS):
                assert np.abs(voltage.reshape(expected.shape) - expected).max() < 1e-9
            else:
                assert 0.005 < spikes.mean() < 0.9  # silence would prove nothing
                assert (spikes.reshape(expected.shape) == expected).all()


def test_every_supported_module_is_in_a_test() -> None:
    used = {type(m) for name in (*NETWORKS, *OVER_TIME) for _, m in leaves(build(name))}
    assert used == set(CONVERSIONS)


@pytest.mark.parametrize("name", NETWORKS)
def test_lowering_is_exact(name: str) -> None:
    graph = from_norse(build(name), input_shape(name))
    frames = np.random.default_rng(0).random((4, 8, *input_shape(name)))
    before, after = execute(graph, frames), run(lower(graph), frames)
    for a, b in itertools.chain(zip(before.voltage, after.voltage, strict=True)):
        assert np.abs(a.reshape(b.shape) - b).max() < 1e-9
    for a, b in zip(before.spikes, after.spikes, strict=True):
        assert (a.reshape(b.shape) == b).all()


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
    ([nn.Linear(4, 4), nn.ReLU(), lif_box()], (4,), r"module 1 is a ReLU, which is not supported\.\nSupported are AdaptiveAvgPool2d, AvgPool2d, .*LIFRecurrentCell"),
    ([nn.Linear(4, 4), norse.LIFRefracCell()], (4,), "module 1 is a LIFRefracCell, .*: Loihi-style neurons have no refractory"),
    ([nn.Linear(4, 4), norse.LIFAdExCell()], (4,), "module 1 is a LIFAdExCell, .*: its voltage grows exponentially"),
    ([nn.Linear(4, 4), norse.LSNNCell()], (4,), "module 1 is a LSNNCell, .*: its threshold adapts"),
    ([norse.LIFCorrelation(4, 4)], (4,), "module 0 is a LIFCorrelation, .*: its weights change"),
    ([nn.Linear(4, 4), norse.IzhikevichCell(norse.tonic_spiking)], (4,), "module 1 is a IzhikevichCell, .*: its voltage equation is quadratic"),
    ([norse.CobaLIFCell(4, 4)], (4,), "module 0 is a CobaLIFCell, .*: its synapses are conductances"),
    ([norse.LIFMCRecurrentCell(4, 4)], (4,), "module 0 is a LIFMCRecurrentCell, .*: it has several compartments"),
    ([norse.RecurrentSequential(nn.Linear(4, 4), lif())], (4,), "module 0 is a RecurrentSequential, .*: give a LIFRecurrentCell"),
    ([nn.Conv2d(2, 2, 3), lif_box(), nn.AvgPool2d(2), nn.MaxPool2d(2), lif_box()], SHAPE, "module 3 .MaxPool2d.: a maximum is exact only"),
    ([nn.Conv2d(2, 2, 3), lif_box(), nn.MaxPool2d(2, ceil_mode=True), lif_box()], SHAPE, "module 2 .MaxPool2d.: ceil_mode"),
    ([nn.Conv2d(2, 2, 3), lif_box(), nn.MaxPool2d(2, return_indices=True), lif_box()], SHAPE, "return_indices"),
    ([nn.Sequential(nn.Linear(4, 4), lif_box())], (4,), "module 0 is an nn.Sequential with cells in it, which loses their states"),
    ([nn.Conv2d(2, 2, 3), nn.MaxPool2d(2), lif_box()], SHAPE, "module 1 .MaxPool2d.: a maximum is exact only of spikes"),
    (
        [nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Flatten(0), norse.LIFRefracCell())], (4,),
        r"(?s)no exact image:\n  - module 0 \(Linear\): expects 3 inputs.*  - module 1 is a ReLU.*"
        r"  - module 2.0 \(Flatten\): only start_dim=1.*  - module 2.1 is a LIFRefracCell",
    ),
    ([nn.Flatten(2), nn.Linear(4, 4), lif(), norse.LIF()], (4,), "module 2 .LIFCell.: computes one step, but other"),
    ([nn.AvgPool2d(2), norse.LIF()], SHAPE, "module 0 .AvgPool2d.: knows no time axis. Put it into norse.Lift"),
    ([nn.Flatten(), nn.Linear(128, 4), norse.LIF()], SHAPE, "module 0 .Flatten.: only start_dim=2, end_dim=-1 .all but the time and"),
    ([norse.Lift(lif())], SHAPE, "module 0.lifted_module .LIFCell.: inside Lift its state is lost"),
    ([nn.Conv1d(2, 2, 3), lif_box()], SHAPE, r"expects \(C, L\) with C = 2"),
    ([nn.AvgPool2d(2), lif_box()], (4,), r"expects \(C, H, W\), got shape \(4,\)"),
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
    ([nn.Linear(4, 4), lif_box(reset_method=lambda z, v, reset, th: v)], (4,), r"module 1 .LIFBoxCell.: its reset_method is neither"),
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
