"""Float execution equals the frameworks' own forward passes, spike for spike, in float64."""

from __future__ import annotations

from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import snntorch
import torch
from torch import nn

from spikeship.hw_targets.network import arithmetic
from spikeship.pipeline.float.execute import FloatNetwork, execute, superspike
from spikeship.pipeline.graph import chain_graph

from nets import nir_lif

DT = 1e-3
SAMPLES, STEPS, INPUTS, HIDDEN = 8, 60, 12, 20
T = torch.tensor


def currents(seed: int, scale: float = 0.4, size: int = INPUTS) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(0.3, 1.0, (SAMPLES, STEPS, size))


def weights(seed: int, out: int = HIDDEN, into: int = INPUTS) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.4, (out, into))


def graph_of(
    *nodes: Any, shape: tuple[int, ...], loops: dict[int, list[Any]] | None = None
) -> nir.NIRGraph:
    named = [(f"{i}", node) for i, node in enumerate(nodes)]
    inner = {
        f"{i}": [(f"{i}.{k}", n) for k, n in enumerate(path)] for i, path in (loops or {}).items()
    }
    return chain_graph(named, shape, {"dt": DT}, inner)


def spread(value: Any, size: int = HIDDEN) -> np.ndarray:
    return np.ones(size) * torch.as_tensor(value).detach().double().numpy()


# snnTorch: beta is the decay of the membrane, alpha that of the current


def lif_of(module: nn.Module) -> nir.LIF:
    tau = DT / (1 - spread(module.beta))
    threshold = spread(module.threshold)
    zero = np.zeros(HIDDEN)
    return nir.LIF(
        tau, r=tau / DT, v_leak=zero, v_threshold=threshold, v_reset=zero, metadata=marks(module)
    )


def cuba_of(module: nn.Module) -> nir.CubaLIF:
    tau, tau_syn = DT / (1 - spread(module.beta)), DT / (1 - spread(module.alpha))
    return nir.CubaLIF(
        tau_syn, tau, r=tau / DT, v_leak=np.zeros(HIDDEN), v_threshold=spread(module.threshold),
        w_in=tau_syn / DT, metadata=marks(module),
    )  # fmt: skip


def marks(module: nn.Module) -> dict[str, Any]:
    """What a graph says of its reset; where snnTorch subtracts at once, it does so in its own way."""
    reset, delayed = module._reset_mechanism, bool(module.reset_delay)
    if reset == "none" or (reset == "subtract" and not delayed):
        return {"reset": "none" if reset == "none" else "subtract-at-once"}
    return {"reset": reset, "reset_delay": int(delayed)}


def loop_of(module: nn.Module) -> list[nir.NIRNode]:
    if not module.all_to_all:
        return [nir.Scale(spread(module.recurrent.V))]
    return [
        nir.Affine(*(p.detach().numpy() for p in (module.recurrent.weight, module.recurrent.bias)))
    ]


def per_neuron(low: float, high: float, seed: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(HIDDEN, generator=torch.Generator().manual_seed(seed))


SNNTORCH = {
    "Leaky": lambda **k: snntorch.Leaky(0.9, threshold=0.7, **k),
    "Leaky, one beta and threshold a neuron": lambda **k: snntorch.Leaky(
        per_neuron(0.5, 0.99, 1), threshold=per_neuron(0.4, 1.0, 2), **k
    ),
    "Synaptic": lambda **k: snntorch.Synaptic(0.6, 0.8, threshold=1.5, **k),
    "RLeaky": lambda **k: snntorch.RLeaky(0.8, linear_features=HIDDEN, threshold=0.6, **k),
    "RLeaky, one to one": lambda **k: snntorch.RLeaky(0.8, V=per_neuron(-0.5, 0.5, 3), all_to_all=False, **k),
    "RSynaptic": lambda **k: snntorch.RSynaptic(0.5, 0.7, linear_features=HIDDEN, threshold=1.5, **k),
}  # fmt: skip


def run_snntorch(module: nn.Module, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membrane as snnTorch returns them, (sample, time, neuron)."""
    recurrent, synaptic = hasattr(module, "recurrent"), hasattr(module, "alpha")
    module.spike_grad = lambda x: (x > 0).to(x.dtype)  # snnTorch's own answers in float32
    state = [torch.zeros(len(frames), HIDDEN, dtype=torch.float64)] * (1 + recurrent + synaptic)
    spikes, voltage = [], []
    with torch.no_grad():
        for x in torch.as_tensor(frames).transpose(0, 1):
            out = module(x, *state)
            state = list(out) if recurrent else list(out[1:])
            spikes.append(out[0].numpy())
            voltage.append(out[-1].numpy())
    return np.stack(spikes, 1), np.stack(voltage, 1)


def snntorch_graph(module: nn.Module) -> nir.NIRGraph:
    neuron = cuba_of(module) if hasattr(module, "alpha") else lif_of(module)
    loops = {0: loop_of(module)} if hasattr(module, "recurrent") else None
    return graph_of(neuron, shape=(HIDDEN,), loops=loops)


AT_ONCE = [name for name in SNNTORCH if name != "RSynaptic"]
"""snnTorch 1.0's RSynaptic drops the result of a reset in the step of the spike."""


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
@pytest.mark.parametrize(
    ("name", "delayed"), [*((n, True) for n in SNNTORCH), *((n, False) for n in AT_ONCE)]
)
def test_snntorch(name: str, delayed: bool, reset: str) -> None:
    torch.manual_seed(0)
    module = SNNTORCH[name](reset_mechanism=reset, reset_delay=delayed).double()
    frames = currents(2, 0.6, HIDDEN)
    theirs, v = run_snntorch(module, frames)
    trace = execute(snntorch_graph(module), frames)
    assert 0.03 < theirs.mean() < 0.99  # silence would prove nothing
    assert (trace.spikes[0] == theirs).all()
    ours = trace.voltage[0]
    if not delayed and reset == "zero":  # then snnTorch returns the voltage after the reset
        ours = np.where(theirs > 0, 0, ours)
    if delayed or reset != "subtract":
        assert np.abs(ours - v).max() < 1e-9


def test_snntorch_holds_neurons_above_twice_their_threshold() -> None:
    """Reset by subtraction at once: snnTorch 1.0 takes the threshold off again before the next spike.

    2.5 thresholds at once are two spikes, one left 0.5; snnTorch makes one and stays at 1.5.
    """
    module = snntorch.Leaky(1.0, reset_mechanism="subtract", reset_delay=False).double()
    frames = np.zeros((1, 6, HIDDEN))
    frames[:, 0] = 2.5
    theirs, v = run_snntorch(module, frames)
    one = np.ones(HIDDEN)
    for reset, held in (("subtract-at-once", [1, 0, 0, 0, 0, 0]), ("subtract", [1, 1, 0, 0, 0, 0])):
        neuron = nir.IF(one / DT, v_threshold=one, metadata={"reset": reset})
        trace = execute(graph_of(neuron, shape=(HIDDEN,)), frames)
        assert trace.spikes[0][0, :, 0].tolist() == held
    assert theirs[0, :, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert v[0, -1, 0] == 1.5
    assert trace.voltage[0][0, -1, 0] == 0.5


# Norse: the parameters are inverse time constants, the current decays after use

NORSE = {
    "LIFBoxCell": lambda: norse.LIFBoxCell(
        norse.LIFBoxParameters(tau_mem_inv=T(250.0), v_th=T(0.1), v_leak=T(-0.1), v_reset=T(-0.2))
    ),
    "LIFCell": lambda: norse.LIFCell(
        norse.LIFParameters(tau_syn_inv=T(400.0), tau_mem_inv=T(200.0), v_th=T(0.2))
    ),
    "LIFRecurrentCell": lambda: norse.LIFRecurrentCell(
        INPUTS, HIDDEN, norse.LIFParameters(tau_syn_inv=T(400.0), tau_mem_inv=T(200.0), v_th=T(0.2))
    ),
    "LIFRecurrentCell with autapses": lambda: norse.LIFRecurrentCell(
        INPUTS, HIDDEN, norse.LIFParameters(v_th=T(0.1), v_reset=T(-0.3)), autapses=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORSE)
def test_norse(name: str) -> None:
    torch.manual_seed(1)
    cell = NORSE[name]().double()
    p = type(cell.p)(*(x.double() if isinstance(x, torch.Tensor) else x for x in cell.p))
    cell.p = p
    recurrent = "Recurrent" in name
    weight = cell.input_weights.detach().numpy() if recurrent else weights(3)
    frames = currents(4)
    state, spikes, voltage = None, [], []
    with torch.no_grad():
        for x in torch.as_tensor(frames).transpose(0, 1):
            z, state = cell(
                x if recurrent else nn.functional.linear(x, torch.as_tensor(weight)), state
            )
            spikes.append(z.numpy())
            voltage.append(state.v.expand(z.shape).numpy())
    theirs, v = np.stack(spikes, 1), np.stack(voltage, 1)
    values = {
        "r": np.ones(HIDDEN), "v_leak": spread(p.v_leak),
        "v_threshold": spread(p.v_th), "v_reset": spread(p.v_reset),
    }  # fmt: skip
    tau = 1 / spread(p.tau_mem_inv)
    if name == "LIFBoxCell":
        neuron = nir.LIF(tau, **values)
    else:
        tau_syn = 1 / spread(p.tau_syn_inv)
        neuron = nir.CubaLIF(tau_syn, tau, w_in=tau_syn / DT, **values)
    loops = {1: [nir.Linear(cell.recurrent_weights.detach().numpy())]} if recurrent else None
    trace = execute(graph_of(nir.Linear(weight), neuron, shape=(INPUTS,), loops=loops), frames)
    assert 0.03 < theirs.mean() < 0.6
    assert (trace.spikes[0] == theirs).all()
    ours = np.where(theirs > 0, spread(p.v_reset), trace.voltage[0])
    assert np.abs(ours - v).max() < 1e-9


# SLAYER: states on a grid of 1/4096, decays of whole parts of 4096


def slayer_graph(i_decay: int, v_decay: int, threshold: float) -> nir.NIRGraph:
    one = np.ones(HIDDEN)
    tau_syn, tau = DT * 4096 / i_decay * one, DT * 4096 / v_decay * one
    neuron = nir.CubaLIF(
        tau_syn, tau, r=tau / DT, v_leak=0 * one, v_threshold=threshold * one, w_in=tau_syn / DT,
        metadata={"state_grid": 4096},
    )  # fmt: skip
    return graph_of(neuron, shape=(HIDDEN,))


def on_grid(seed: int) -> np.ndarray:
    return np.rint(64 * currents(seed, size=HIDDEN)) / 64


DECAYS = [(4096, 410), (1000, 128), (77, 3), (1, 4095)]


@pytest.mark.parametrize(("i_decay", "v_decay"), DECAYS)
def test_state_grid_is_integer_arithmetic(i_decay: int, v_decay: int) -> None:
    frames = on_grid(5)
    trace = execute(slayer_graph(i_decay, v_decay, 1.25), frames)
    u = v = np.zeros((SAMPLES, HIDDEN), np.int32)
    for t in range(STEPS):
        u = arithmetic.decay(u, i_decay) + np.rint(4096 * frames[:, t]).astype(np.int32)
        v = arithmetic.decay(v, v_decay) + u
        assert (4096 * trace.voltage[0][:, t] == v).all()
        assert (trace.spikes[0][:, t] == (v > 1.25 * 4096)).all()
        v = np.where(v > 1.25 * 4096, 0, v)
    assert trace.spikes[0].any()


def test_state_grid_needs_float64() -> None:
    with pytest.raises(ValueError, match=r"exact in float64 only, not in torch.float32"):
        execute(slayer_graph(4096, 410, 1.25), on_grid(5), torch.float32)


@pytest.mark.lava
@pytest.mark.parametrize(("i_decay", "v_decay"), DECAYS)
def test_slayer(i_decay: int, v_decay: int) -> None:
    from lava.lib.dl import slayer

    frames = on_grid(6)
    neuron = slayer.neuron.cuba.Neuron(1.25, i_decay / 4096, v_decay / 4096)
    with torch.no_grad():  # (sample, neuron, time)
        theirs = neuron(torch.as_tensor(frames, dtype=torch.float32).transpose(1, 2))
    trace = execute(slayer_graph(i_decay, v_decay, 1.25), frames)
    assert theirs.any()
    assert (trace.spikes[0] == theirs.transpose(1, 2).numpy()).all()


# every other primitive beside torch or numpy


def scalar(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value)


def delayed(x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Element by element, step by step."""
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape[2:]):
        for t in range(steps[place], x.shape[1]):
            y[(slice(None), t, *place)] = x[(slice(None), t - steps[place], *place)]
    return y


def each_frame(map_: Any) -> Any:
    return lambda x: map_(torch.as_tensor(x).flatten(0, 1)).reshape(*x.shape[:2], -1).numpy()


F = nn.functional
RNG = np.random.default_rng(7)
KERNEL1, KERNEL2, BIAS = (
    RNG.normal(size=(4, 1, 3)),
    RNG.normal(size=(4, 1, 2, 3)),
    RNG.normal(size=4),
)
STEPS_OF = RNG.integers(0, 5, (2, 3))
K1, K2, B = (torch.as_tensor(a) for a in (KERNEL1, KERNEL2, BIAS))
MAPS = {
    "Linear": (nir.Linear(KERNEL1[:, 0]), (3,), lambda x: x @ KERNEL1[:, 0].T),
    "Affine": (nir.Affine(KERNEL1[:, 0], BIAS), (3,), lambda x: x @ KERNEL1[:, 0].T + BIAS),
    "Scale": (nir.Scale(KERNEL1[0]), (1, 3), lambda x: x * KERNEL1[0]),
    "one Scale for all": (nir.Scale(np.array([2.5])), (2, 3), lambda x: x * 2.5),
    "Delay": (nir.Delay(STEPS_OF * DT), (2, 3), lambda x: delayed(x, STEPS_OF)),
    "one Delay for all": (nir.Delay(np.array(2 * DT)), (3,), lambda x: delayed(x, np.array([2] * 3))),
    "Flatten": (nir.Flatten({"input": np.array([2, 3, 4])}, 0, -1), (2, 3, 4), lambda x: x),
    "Flatten two axes": (nir.Flatten({"input": np.array([2, 3, 4])}, 1, 2), (2, 3, 4), lambda x: x),
    "Conv1d, groups": (
        nir.Conv1d(9, KERNEL1, 2, 1, 2, 2, BIAS), (2, 9),
        each_frame(lambda x: F.conv1d(x, K1, B, 2, 1, 2, 2)),
    ),
    "Conv1d, same": (
        nir.Conv1d(9, KERNEL1, 1, "same", 1, 2, BIAS), (2, 9),
        each_frame(lambda x: F.conv1d(x, K1, B, 1, "same", 1, 2)),
    ),
    "Conv2d, groups, valid, no input_shape": (
        nir.Conv2d(None, KERNEL2, 1, "valid", (2, 1), 2, BIAS), (2, 5, 6),
        each_frame(lambda x: F.conv2d(x, K2, B, 1, 0, (2, 1), 2)),
    ),
    "Conv2d, same, bytes": (
        nir.Conv2d((5, 6), KERNEL2, 1, "same", 1, 2, BIAS), (2, 5, 6),
        each_frame(lambda x: F.conv2d(F.pad(x, (1, 1, 0, 1)), K2, B, 1, 0, 1, 2)),
    ),
    "AvgPool2d": (
        nir.AvgPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 0])), (2, 5, 6),
        each_frame(lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 0))),
    ),
    "SumPool2d": (
        nir.SumPool2d(2, 2, 0), (2, 5, 6), each_frame(lambda x: 4 * F.avg_pool2d(x, 2, 2)),
    ),
    "I": (nir.I(scalar(200.0, 3)), (3,), lambda x: 0.2 * x.cumsum(axis=1)),
    "Threshold": (nir.Threshold(scalar(0.25, 3)), (3,), lambda x: (x > 0.25) * 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str) -> None:
    node, shape, expected = MAPS[name]
    x = np.random.default_rng(0).normal(size=(3, 7, *shape))
    if name == "Conv2d, same, bytes":
        node.padding = b"same"
    network = FloatNetwork(graph_of(node, shape=shape))
    with torch.no_grad():
        y = network(torch.as_tensor(x).transpose(0, 1)).transpose(0, 1).numpy()
    wanted = expected(x)
    assert y.size == wanted.size
    assert np.abs(y.reshape(wanted.shape) - wanted).max() < 1e-12


def test_leaky_readouts_put_out_their_voltage() -> None:
    one, x = np.ones(3), np.random.default_rng(1).normal(size=(2, 9, 3))
    li = nir.LI(4 * DT * one, r=2 * one, v_leak=0.5 * one)
    cuba = nir.CubaLI(2 * DT * one, 4 * DT * one, r=2 * one, v_leak=0.5 * one, w_in=3 * one)
    v, i, w = 0.5 * np.ones((2, 3)), np.zeros((2, 3)), 0.5 * np.ones((2, 3))
    traces = [execute(graph_of(node, shape=(3,)), x) for node in (li, cuba)]
    for t in range(9):
        v = v + (0.5 - v + 2 * x[:, t]) / 4
        i = i / 2 + 3 * x[:, t] / 2
        w = w + (0.5 - w + 2 * i) / 4
        for trace, wanted in zip(traces, (v, w), strict=True):
            assert np.abs(trace.voltage[0][:, t] - wanted).max() < 1e-12
    assert not traces[0].spikes[0].any()
    out = FloatNetwork(graph_of(li, shape=(3,)))(torch.as_tensor(x).transpose(0, 1))
    assert (out.transpose(0, 1).numpy() == traces[0].voltage[0]).all()


def deep_graph() -> nir.NIRGraph:
    """Linear, recurrent CubaLIF, Linear, LIF that resets by subtraction."""
    zero, one = np.zeros(HIDDEN), np.ones(HIDDEN)
    first = nir.CubaLIF(2 * DT * one, 4 * DT * one, one, zero, 0.1 * one, w_in=one)
    second = nir_lif(HIDDEN, 3 * DT, 0.05, reset="subtract")
    recurrent = nir.Affine(0.3 * weights(8, HIDDEN, HIDDEN), 0.02 * one)
    return graph_of(
        nir.Linear(weights(9)), first, nir.Delay(np.array(DT)), nir.Linear(weights(10, HIDDEN, HIDDEN)),
        second, shape=(INPUTS,), loops={1: [recurrent]},
    )  # fmt: skip


def test_samples_do_not_touch_each_other_and_runs_start_afresh() -> None:
    graph, frames = deep_graph(), currents(11)
    whole, one = execute(graph, frames), execute(graph, frames[3:4])
    network = FloatNetwork(graph)
    x = torch.as_tensor(frames).transpose(0, 1)
    with torch.no_grad():
        twice = [network(x), network(x)]
    assert whole.names == network.names == ("1", "4")
    assert (whole.spikes[1][3:4] == one.spikes[1]).all()
    for out in twice:
        assert (out.transpose(0, 1).numpy() == whole.spikes[1]).all()


def test_float32() -> None:
    graph, frames = deep_graph(), currents(11)
    network = FloatNetwork(graph, torch.float32)
    out = network(torch.as_tensor(frames, dtype=torch.float32).transpose(0, 1))
    assert out.dtype == torch.float32
    single = execute(graph, frames, torch.float32)
    assert (single.spikes[1] == out.detach().transpose(0, 1).numpy()).all()
    assert (single.spikes[1] == execute(graph, frames).spikes[1]).mean() > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda() -> None:
    graph, frames = deep_graph(), currents(11)
    here, there = execute(graph, frames), execute(graph, torch.as_tensor(frames).cuda())
    assert all((a == b).all() for a, b in zip(here.spikes, there.spikes, strict=True))


def test_gradient_is_the_surrogate_of_the_distance_to_the_threshold() -> None:
    """Two steps of one neuron: dz/dw through v of both, the reset not differentiated."""
    neuron = nir_lif(1, 4 * DT, 0.3, r=2.0)
    network = FloatNetwork(graph_of(nir.Linear(np.array([[0.5]])), neuron, shape=(1,)))
    x = torch.tensor([0.8, 0.9], dtype=torch.float64).reshape(2, 1, 1)
    out = network(x)
    out.sum().backward()
    v0 = 0.5 * 2 / 4 * 0.8
    v1 = 0.75 * v0 + 0.5 * 2 / 4 * 0.9
    assert out.flatten().tolist() == [v0 > 0.3, v1 > 0.3] == [0, 1]
    dv0 = 2 / 4 * 0.8
    dv1 = 0.75 * dv0 + 2 / 4 * 0.9
    wanted = dv0 * superspike(T(v0 - 0.3)) + dv1 * superspike(T(v1 - 0.3))
    assert network.steps[0].weight.grad.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_gradients_pass_through_recurrence() -> None:
    """The second step hears of the input weight only by the spike of the first."""
    neuron = nir_lif(1, 2 * DT, 0.3)
    loops = {1: [nir.Linear(np.array([[0.8]]))]}
    graph = graph_of(nir.Linear(np.array([[1.5]])), neuron, shape=(1,), loops=loops)
    network = FloatNetwork(graph)
    out = network(torch.tensor([0.5, 0.0], dtype=torch.float64).reshape(2, 1, 1))
    out[1].sum().backward()
    assert out.flatten().tolist() == [1, 1]  # 0.375 and, after the reset, 0.4
    wanted = superspike(T(0.4 - 0.3)) * 0.5 * 0.8 * superspike(T(0.375 - 0.3)) * 0.5 * 0.5
    assert network.steps[0].weight.grad.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_every_weight_learns_and_neurons_do_not() -> None:
    network = FloatNetwork(deep_graph(), surrogate=lambda x: 1 / (1 + x.abs()) ** 2)
    network(torch.as_tensor(currents(12)).transpose(0, 1)).mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert set(gradients) == {
        "steps.0.weight",
        "steps.1.loop.0.weight",
        "steps.1.loop.0.bias",
        "steps.3.weight",
    }
    assert all(g is not None and torch.isfinite(g).all() and g.any() for g in gradients.values())
    assert "steps.4.v_threshold" in dict(network.named_buffers())


def test_frames_of_the_wrong_shape() -> None:
    with pytest.raises(
        ValueError, match=r"frames have shape \(7, 2, 5\); \(time, sample, 12\) is needed"
    ):
        execute(deep_graph(), np.zeros((2, 7, 5)))
