"""Lowering changes no spike: random graphs of every kind, run before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.graph import (
    NEURONS,
    PARAMETERS,
    READOUTS,
    LoweringError,
    Stage,
    chain,
    chain_graph,
    input_shape,
    stages,
)
from spikeship.pipeline.lower import lower

DT = 1e-3
SAMPLES, STEPS = 4, 14


class Draw:
    """Random nodes, each of the shape it is asked for."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def weight(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0.1, 1.5 / np.sqrt(np.prod(shape[1:])), shape)

    def between(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.uniform(low, high, shape)

    def linear(self, out: int, into: int) -> nir.Linear:
        return nir.Linear(self.weight(out, into))

    def affine(self, out: int, into: int) -> nir.Affine:
        return nir.Affine(self.weight(out, into), 0.1 * self.weight(out))

    def conv(self, out: int, into: int, *kernel: int, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
             groups: int = 1, bias: bool = True) -> nir.NIRNode:  # fmt: skip
        kind = nir.Conv1d if len(kernel) == 1 else nir.Conv2d
        offset = 0.1 * self.weight(out) * bias
        return kind(
            None,
            self.weight(out, into // groups, *kernel),
            stride,
            padding,
            dilation,
            groups,
            offset,
        )

    def lif(self, *shape: int, **metadata: Any) -> nir.LIF:
        rest = self.between(-0.1, 0.1, shape)
        return nir.LIF(
            self.between(1.5 * DT, 6 * DT, shape), self.between(0.8, 1.2, shape), rest, rest + 0.2, rest - 0.1,
            metadata=metadata,
        )  # fmt: skip

    def instant(self, *shape: int, **metadata: Any) -> nir.LIF:
        """A LIF without memory."""
        node = self.lif(*shape, **metadata)
        node.tau = np.full(shape, DT)
        return node

    def cuba(
        self, *shape: int, tau: float = 0.0, tau_syn: float = 0.0, **metadata: Any
    ) -> nir.CubaLIF:
        rest = self.between(-0.1, 0.1, shape)
        return nir.CubaLIF(
            np.full(shape, tau_syn) if tau_syn else self.between(1.5 * DT, 4 * DT, shape),
            np.full(shape, tau) if tau else self.between(2 * DT, 6 * DT, shape),
            self.between(0.8, 1.2, shape), rest, rest + 0.2, rest, self.between(0.8, 1.2, shape),
            metadata=metadata,
        )  # fmt: skip

    def if_(self, *shape: int, **metadata: Any) -> nir.IF:
        return nir.IF(
            self.between(200, 600, shape), self.between(0.4, 0.8, shape), metadata=metadata
        )

    def threshold(self, *shape: int, **metadata: Any) -> nir.Threshold:
        return nir.Threshold(self.between(0.1, 0.4, shape), metadata=metadata)

    def li(self, *shape: int) -> nir.LI:
        return nir.LI(
            self.between(2 * DT, 6 * DT, shape), np.ones(shape), self.between(-0.1, 0.1, shape)
        )

    def scale(self, *shape: int) -> nir.Scale:
        return nir.Scale(self.between(0.5, 2.0, shape))

    def by_channel(self, *shape: int) -> nir.Scale:
        return nir.Scale(self.between(0.5, 2.0, shape[:1])[:, None, None] * np.ones(shape))

    def delay(self, *shape: int) -> nir.Delay:
        return nir.Delay(self.rng.integers(0, 5, shape) * DT)


def flat(*shape: int, start: int = 0) -> nir.Flatten:
    return nir.Flatten({"input": np.array(shape)}, start, -1)


def pool(kind: type[nir.NIRNode], size: Any, stride: Any = None, padding: Any = 0) -> nir.NIRNode:
    return kind(size, size if stride is None else stride, padding)


def nested(*nodes: nir.NIRNode) -> nir.NIRGraph:
    named = [(f"{i}", node) for i, node in enumerate(nodes)]
    return chain_graph(named, tuple(nodes[0].input_type["input"]), {})


Case = tuple[tuple[int, ...], list[nir.NIRNode], dict[int, list[nir.NIRNode]]]


def case(shape: tuple[int, ...], *nodes: nir.NIRNode, **loops: list[nir.NIRNode]) -> Case:
    """`at3=[...]`: the linear maps from node 3 to itself."""
    return shape, list(nodes), {int(name[2:]): path for name, path in loops.items()}


CASES: dict[str, Callable[[Draw], Case]] = {
    "dense": lambda d: case((6,), d.affine(8, 6), d.lif(8), d.linear(5, 8), d.cuba(5)),
    "three maps in a row": lambda d: case((6,), d.linear(7, 6), d.affine(9, 7), d.affine(8, 9), d.lif(8)),
    "readout": lambda d: case((6,), d.affine(8, 6), d.lif(8), d.linear(5, 8), d.li(5)),
    "integrator readout": lambda d: case((6,), d.affine(8, 6), d.if_(8), d.linear(5, 8), nir.I(d.between(100, 300, (5,)))),
    "Scale after a map": lambda d: case((6,), d.affine(8, 6), d.scale(8), d.lif(8)),
    "Scale before a map": lambda d: case((6,), d.scale(6), d.affine(8, 6), d.lif(8)),
    "Scale alone": lambda d: case((6,), d.affine(8, 6), d.lif(8), d.scale(8), d.lif(8)),
    "Scales everywhere": lambda d: case((6,), d.scale(6), d.scale(6), d.linear(8, 6), d.scale(8), d.cuba(8), d.scale(8), d.cuba(8)),
    "one Scale for all": lambda d: case((6,), nir.Scale(np.array(1.7)), d.affine(8, 6), d.lif(8)),
    "no synapse": lambda d: case((6,), d.lif(6), d.linear(8, 6), d.lif(8), d.if_(8)),
    "no synapse, image": lambda d: case((2, 5, 4), d.lif(2, 5, 4), d.lif(2, 5, 4), flat(2, 5, 4), d.lif(40)),
    "Threshold": lambda d: case((6,), d.affine(8, 6), d.threshold(8), d.linear(5, 8), d.threshold(5)),
    "Threshold with metadata of neurons": lambda d: case((6,), d.affine(8, 6), d.threshold(8, reset="subtract", reset_delay=1, state_grid=4)),
    "Threshold first": lambda d: case((2, 5, 4), d.threshold(2, 5, 4), flat(2, 5, 4), d.linear(6, 40), d.lif(6)),
    "delay before": lambda d: case((6,), d.delay(6), d.affine(8, 6), d.lif(8), d.delay(8), d.affine(5, 8), d.lif(5)),
    "delay after": lambda d: case((6,), d.linear(8, 6), d.delay(8), d.lif(8), d.linear(5, 8), d.delay(5), d.cuba(5)),
    "delays on both sides": lambda d: case((6,), d.delay(6), d.delay(6), d.linear(8, 6), d.delay(8), d.lif(8)),
    "one delay for all, between maps": lambda d: case((6,), d.delay(6), d.linear(7, 6), nir.Delay(np.array(2 * DT)), d.affine(8, 7), d.lif(8)),
    "delay and Scale": lambda d: case((6,), d.delay(6), d.scale(6), d.linear(8, 6), d.delay(8), d.scale(8), d.lif(8)),
    "delay without synapse": lambda d: case((6,), d.affine(8, 6), d.lif(8), d.delay(8), d.lif(8)),
    "delay of an image": lambda d: case((2, 5, 4), nir.Delay(np.array(3 * DT)), d.conv(3, 2, 2, 2), d.lif(3, 4, 3), d.delay(3, 4, 3), flat(3, 4, 3), d.linear(6, 36), d.lif(6)),
    "recurrent": lambda d: case((6,), d.affine(8, 6), d.lif(8), d.linear(5, 8), d.cuba(5), at1=[d.linear(8, 8)], at3=[d.affine(5, 5)]),
    "recurrent through three maps": lambda d: case((6,), d.affine(8, 6), d.cuba(8), at1=[d.affine(3, 8), nir.Scale(d.weight(3)), d.linear(8, 3)]),
    "recurrent Scale": lambda d: case((6,), d.affine(8, 6), d.if_(8), at1=[nir.Scale(d.weight(8))]),
    "recurrent without synapse": lambda d: case((6,), d.lif(6), d.linear(5, 6), d.threshold(5), at0=[d.linear(6, 6)], at2=[d.affine(5, 5)]),
    "recurrent after an image": lambda d: case((2, 5, 4), d.conv(3, 2, 2, 2), flat(3, 4, 3), d.lif(36), at2=[d.linear(36, 36)]),
    "delay before recurrence": lambda d: case((6,), d.delay(6), d.affine(8, 6), d.lif(8), at2=[d.affine(8, 8)]),
    "conv": lambda d: case((2, 9, 8), d.conv(4, 2, 3, 2, stride=(2, 1), padding=(1, 0)), d.lif(4, 5, 7), d.conv(6, 4, 2, 2, dilation=(2, 3), groups=2), d.cuba(6, 3, 4), flat(6, 3, 4), d.affine(5, 72), d.lif(5)),
    "conv, same": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3, padding="same"), d.lif(4, 6, 5), d.conv(3, 4, 2, 4, padding="same"), d.lif(3, 6, 5)),
    "conv, same, dilated": lambda d: case((2, 9, 8), d.conv(4, 2, 2, 3, padding="same", dilation=(3, 2)), d.lif(4, 9, 8), d.conv(3, 4, 4, 2, padding="same", dilation=(1, 2)), d.lif(3, 9, 8)),
    "conv, valid": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3, padding="valid"), d.lif(4, 4, 3)),
    "pooling": lambda d: case((2, 8, 8), d.conv(4, 2, 3, 3, padding=1), d.lif(4, 8, 8), pool(nir.AvgPool2d, 2), d.conv(3, 4, 3, 3, padding=1, bias=False), d.lif(3, 4, 4), pool(nir.SumPool2d, (2, 4)), flat(3, 2, 1), d.affine(5, 6), d.lif(5)),
    "pooling alone": lambda d: case((2, 8, 8), pool(nir.SumPool2d, 3, 2, 1), d.lif(2, 4, 4), pool(nir.AvgPool2d, (2, 1)), d.if_(2, 2, 4)),
    "conv, pool, dense": lambda d: case((2, 8, 8), d.conv(4, 2, 3, 3), pool(nir.AvgPool2d, 2), flat(4, 3, 3), d.affine(9, 36), d.lif(9)),
    "Scale by channel": lambda d: case((2, 6, 5), d.by_channel(2, 6, 5), d.conv(4, 2, 3, 3, padding=1), d.by_channel(4, 6, 5), d.lif(4, 6, 5), d.by_channel(4, 6, 5), d.lif(4, 6, 5)),
    "Scale by pixel into r": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3), d.scale(4, 4, 3), d.lif(4, 4, 3), d.scale(4, 4, 3), d.scale(4, 4, 3), d.cuba(4, 4, 3)),
    "Scale by pixel before Flatten": lambda d: case((2, 6, 5), d.lif(2, 6, 5), d.scale(2, 6, 5), flat(2, 6, 5), d.affine(7, 60), d.lif(7)),
    "Scale and Delay by pixel, Flatten": lambda d: case((2, 3, 5), d.lif(2, 3, 5), d.scale(2, 3, 5), d.delay(2, 3, 5), flat(2, 3, 5), d.lif(30)),
    "Flatten between conv and neuron": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3), flat(4, 4, 3), d.lif(48), d.linear(5, 48), d.lif(5)),
    "Flatten and delays between conv and neuron": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3, bias=False), flat(4, 4, 3), d.delay(48), d.lif(48)),
    "Flatten of what is flat": lambda d: case((6,), flat(6), d.affine(8, 6), flat(8), d.lif(8)),
    "Conv1d": lambda d: case((3, 12), d.conv(4, 3, 3, stride=2, padding=1), d.lif(4, 6), d.conv(6, 4, 2, dilation=2, groups=2), d.cuba(6, 4), flat(6, 4), d.affine(5, 24), d.lif(5)),
    "Conv1d, same, Scale, Delay": lambda d: case((3, 12), d.conv(4, 3, 4, padding="same", bias=False), d.lif(4, 12), d.scale(4, 12), d.delay(4, 12), flat(4, 12), d.linear(5, 48), d.lif(5)),
    "signals without Conv1d": lambda d: case((3, 4), d.lif(3, 4), d.threshold(3, 4), flat(3, 4), d.linear(5, 12), d.li(5)),
    "subgraphs": lambda d: case((6,), nested(d.affine(8, 6), nested(d.lif(8), d.scale(8))), d.linear(5, 8), d.lif(5)),
    "IF and LIF that reset in the next step": lambda d: case((6,), d.affine(8, 6), d.lif(8, reset_delay=1), d.affine(5, 8), d.if_(5, reset_delay=1)),
    "subtraction without memory": lambda d: case((6,), d.affine(8, 6), d.instant(8, reset="subtract"), d.linear(5, 8), d.cuba(5, tau=DT, reset="subtract")),
    "subtraction without memory, image": lambda d: case((2, 6, 5), d.conv(4, 2, 3, 3), d.instant(4, 4, 3, reset="subtract"), pool(nir.SumPool2d, 2), d.lif(4, 2, 1)),
    "no reset of neurons without memory": lambda d: case((6,), d.affine(8, 6), d.instant(8, reset="none")),
    "subtraction in the next step without memory": lambda d: case((6,), d.affine(8, 6), d.instant(8, reset="subtract", reset_delay=1), d.linear(5, 8), d.cuba(5, tau=DT, tau_syn=DT, reset="subtract", reset_delay=1)),
    "the same, recurrent": lambda d: case((6,), d.affine(8, 6), d.instant(8, reset="subtract", reset_delay=1), at1=[d.affine(8, 8)]),
    "bytes": lambda d: case((6,), d.affine(8, 6), d.instant(8, reset=b"subtract")),
}  # fmt: skip


def build(name: str, seed: int) -> nir.NIRGraph:
    shape, nodes, loops = CASES[name](Draw(seed))
    inner = {
        f"n{i}": [(f"n{i}.loop{k}", m) for k, m in enumerate(path)] for i, path in loops.items()
    }
    edges_to = [(f"n{i}", node) for i, node in enumerate(nodes)]
    return chain_graph(edges_to, shape, {"dt": DT, "note": "kept"}, inner)


def frames_for(graph: nir.NIRGraph, seed: int) -> np.ndarray:
    rng = np.random.default_rng(1000 + seed)
    return 0.5 * rng.normal(0.5, 1, (SAMPLES, STEPS, *input_shape(graph)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_lowered_graphs_spike_the_same(name: str) -> None:
    for seed in range(3):
        graph = build(name, seed)
        lowered = lower(graph)
        frames = frames_for(graph, seed)
        before = execute(graph, frames)
        after = execute(lowered, frames.reshape(SAMPLES, STEPS, *input_shape(lowered)))
        assert after.names == before.names
        for a, b, (_, node) in zip(before.spikes, after.spikes, neurons(lowered), strict=True):
            assert (a.reshape(b.shape) == b).all()
            assert isinstance(node, READOUTS) or 0.02 < a.mean() < 0.98  # silence proves nothing
        for a, b in zip(before.voltage, after.voltage, strict=True):
            assert np.abs(a.reshape(b.shape) - b).max() < 1e-11 or "Scale by pixel" in name
        assert lowered.metadata == graph.metadata


def neurons(graph: nir.NIRGraph) -> list[tuple[str, nir.NIRNode]]:
    return [(name, node) for name, node in chain(graph) if isinstance(node, NEURONS)]


@pytest.mark.parametrize("name", CASES)
def test_lowered_graphs_are_stages(name: str) -> None:
    lowered = lower(build(name, 0))
    layers = stages(lowered)
    assert [stage.name for stage in layers] == [n for n, _ in neurons(lowered)]
    assert lower(lowered).nodes.keys() == lowered.nodes.keys()  # nothing is left to do
    for stage in layers:
        assert type(stage.synapse) in (nir.Affine, nir.Conv2d)
        assert type(stage.neuron) is not nir.Threshold
        assert stage.neuron.metadata.get("reset", "zero") == "zero"
        assert not stage.neuron.metadata.get("reset_delay", 0)
        out, into = stage.synapse.weight.shape[:2]
        assert (stage.neuron.r.shape == (out,)) == (type(stage.synapse) is nir.Affine)
        if stage.recurrent is not None:
            assert stage.recurrent.weight.shape == (out, out)
        if stage.delay is not None:
            assert stage.delay.dtype == np.int64
            assert stage.delay.any()
            assert stage.delay.shape in ((1, 1), (1, into), (out, 1), (out, into))


def by_stages(layers: list[Stage], frames: np.ndarray) -> list[np.ndarray]:
    """The spikes of dense layers of LIF neurons, from the `Stage`s alone, step by step."""
    x, out = frames, []
    for stage in layers:
        weight = stage.synapse.weight
        delay = np.broadcast_to(0 if stage.delay is None else stage.delay, weight.shape)
        node, z = stage.neuron, np.zeros((SAMPLES, len(weight)))
        v, spikes = node.v_leak + z, []
        for t in range(STEPS):
            current = np.tile(stage.synapse.bias, (SAMPLES, 1))
            for o, i in np.ndindex(*weight.shape):
                if t >= delay[o, i]:
                    current[:, o] += weight[o, i] * x[:, t - delay[o, i], i]
            if stage.recurrent is not None:
                current = current + z @ stage.recurrent.weight.T + stage.recurrent.bias
            v = v + DT / node.tau * (node.v_leak - v + node.r * current)
            z = (v > node.v_threshold) * 1.0
            v = np.where(z > 0, node.v_reset, v)
            spikes.append(z)
        x = np.stack(spikes, 1)
        out.append(x)
    return out


STAGED = ["delay before", "delays on both sides", "one delay for all, between maps", "delay and Scale",
          "delay without synapse", "delay before recurrence", "the same, recurrent", "recurrent without synapse"]  # fmt: skip


@pytest.mark.parametrize("name", STAGED)
def test_stages_say_it_all(name: str) -> None:
    graph = build(name, 5)
    frames = frames_for(graph, 5)
    for ours, theirs in zip(
        by_stages(stages(lower(graph)), frames), execute(graph, frames).spikes, strict=True
    ):
        assert theirs.any()
        assert (ours == theirs).all()


def test_every_kind_of_node_is_lowered() -> None:
    kinds = {type(node) for name in CASES for node in CASES[name](Draw(0))[1]}
    assert kinds - {nir.NIRGraph} >= set(PARAMETERS) - {nir.Input, nir.Output, nir.CubaLI}


REFUSED: dict[str, tuple[Callable[[Draw], Case], str]] = {
    "subtraction": (
        lambda d: case((6,), d.affine(8, 6), d.lif(8, reset="subtract"), d.affine(8, 8), d.if_(8, reset="subtract", reset_delay=1)),
        r"n1 \(reset 'subtract'\); n3 \(reset 'subtract', one step after the spike\). Train with that reset, or allow approximate_reset",
    ),
    "held at reset": (
        lambda d: case((6,), d.affine(8, 6), d.cuba(8, reset_delay=1), d.affine(8, 8), d.lif(8, reset_delay=1), at3=[d.linear(8, 8)]),
        r"n1 \(reset 'zero', one step after the spike\); n3",
    ),
    "current with memory": (
        lambda d: case((6,), d.affine(8, 6), d.lif(8, reset="none"), d.affine(8, 8), d.instant(8, reset="subtract-at-once")),
        r"n1 \(reset 'none'\); n3 \(reset 'subtract-at-once'\)",
    ),
    "memory of the voltage": (
        lambda d: case((6,), d.affine(8, 6), d.cuba(8, tau=DT, reset="subtract", reset_delay=1)), "n1 .reset 'subtract', one step",
    ),
    "image whose reset is recurrence": (
        lambda d: case((2, 6, 5), d.lif(2, 6, 5), d.instant(2, 6, 5, reset="subtract", reset_delay=1)), "n1 .reset 'subtract', one step",
    ),
    "on a grid": (
        lambda d: case((6,), d.affine(8, 6), d.instant(8, reset="subtract", reset_delay=1, state_grid=64)), "n1 .reset 'subtract', one step",
    ),
    "bias behind a delay": (lambda d: case((6,), d.affine(8, 6), d.delay(8), d.lif(8)), "n1 delays the bias of n0 too"),
    "delays between maps": (
        lambda d: case((6,), d.linear(8, 6), d.delay(8), d.linear(5, 8), d.lif(5)), "n1 lies between two linear maps and its delays differ",
    ),
    "bias before a delay between maps": (
        lambda d: case((6,), d.affine(8, 6), nir.Delay(np.array(DT)), d.linear(5, 8), d.lif(5)), "n1 delays the bias of n0 too",
    ),
    "different delays of an image": (
        lambda d: case((2, 6, 5), d.delay(2, 6, 5), d.conv(3, 2, 2, 2), d.lif(3, 5, 4)), "n0 delays pixels of the convolution n1 differently",
    ),
    "pixels scaled before a conv": (
        lambda d: case((2, 6, 5), d.scale(2, 6, 5), d.conv(3, 2, 2, 2), d.lif(3, 5, 4)), "n0 scales every pixel by its own factor, which n1 behind it",
    ),
    "recurrent image": (
        lambda d: case((2, 6, 5), d.lif(2, 6, 5), at0=[d.scale(2, 6, 5)]), r"neuron n0 of shape \(2, 6, 5\) is recurrent",
    ),
    "Flatten of two axes": (
        lambda d: case((2, 6, 5), d.lif(2, 6, 5), flat(2, 6, 5, start=1), d.conv(3, 2, 2), d.lif(3, 29)), r"n1 makes \(2, 30\) of \(2, 6, 5\)",
    ),
    "readout inside": (lambda d: case((6,), d.affine(8, 6), d.li(8), d.affine(5, 8), d.lif(5)), "n1 never spikes"),
    "last is no neuron": (lambda d: case((6,), d.affine(8, 6), d.lif(8), d.delay(8)), "the last node, n2, is no neuron"),
    "no neuron": (lambda d: case((6,), d.affine(8, 6)), "the last node, n0, is no neuron"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    CASES[name] = make
    try:
        graph = build(name, 0)
    finally:
        del CASES[name]
    with pytest.raises(LoweringError, match=message):
        lower(graph)


@pytest.mark.parametrize("name", ["subtraction", "held at reset", "current with memory"])
def test_approximate_reset(name: str) -> None:
    """On request, a reset without exact image becomes the one that netx has, and nothing else."""
    shape, nodes, loops = REFUSED[name][0](Draw(1))
    inner = {f"n{i}": [(f"n{i}.loop", path[0])] for i, path in loops.items()}
    graph = chain_graph([(f"n{i}", node) for i, node in enumerate(nodes)], shape, {"dt": DT}, inner)
    approximate = lower(graph, approximate_reset=True)
    for node in nodes:
        node.metadata = {}
    frames = frames_for(graph, 1)
    plain, ours = execute(graph, frames), execute(approximate, frames)
    assert all((a == b).all() for a, b in zip(plain.spikes, ours.spikes, strict=True))
    assert all(stage.neuron.metadata == {} for stage in stages(approximate))


def test_lowering_leaves_its_graph_alone() -> None:
    graph = build("Conv1d, same, Scale, Delay", 0)
    frames = frames_for(graph, 0)
    before = execute(graph, frames)
    copies = {
        n: {k: np.copy(v) for k, v in vars(node).items() if isinstance(v, np.ndarray)}
        for n, node in graph.nodes.items()
    }
    lower(graph)
    for name, arrays in copies.items():
        for field, value in arrays.items():
            assert (getattr(graph.nodes[name], field) == value).all()
    assert (execute(graph, frames).spikes[-1] == before.spikes[-1]).all()


def test_a_lowered_graph_survives_its_file(tmp_path: Any) -> None:
    lowered = lower(build("recurrent", 0))
    nir.write(tmp_path / "x.nir", lowered)
    frames = frames_for(lowered, 0)
    read = nir.read(tmp_path / "x.nir")
    assert [s.recurrent is not None for s in stages(read)] == [True, True]
    for a, b in zip(execute(lowered, frames).spikes, execute(read, frames).spikes, strict=True):
        assert (a == b).all()
