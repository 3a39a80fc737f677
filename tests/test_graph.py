"""Every fault of a graph is named, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import pytest

from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.graph import (
    PARAMETERS,
    Dynamics,
    GraphError,
    LoweringError,
    chain,
    chain_graph,
    check,
    delay_steps,
    dynamics,
    recurrence,
    stages,
)
from spikeship.pipeline.lower import lower

from nets import nir_lif

DT = 1e-3
ONE = np.ones(4)


@dataclass(eq=False)
class Sine(nir.NIRNode):
    """A kind of node that NIR does not have."""

    def __post_init__(self) -> None:
        self.input_type = {"input": np.array([4])}
        self.output_type = {"output": np.array([4])}


def lif(size: int = 4, **metadata: Any) -> nir.LIF:
    return nir_lif(size, 4 * DT, 0.2, **metadata)


def linear(out: int = 4, into: int = 4) -> nir.Linear:
    return nir.Linear(np.random.default_rng(0).normal(size=(out, into)))


def good() -> nir.NIRGraph:
    """input -> w0 -> lif0 (recurrent through rec) -> w1 -> lif1 -> output"""
    nodes = [("w0", linear()), ("lif0", lif()), ("w1", linear(3)), ("lif1", lif(3))]
    return chain_graph(nodes, (4,), {"dt": DT}, {"lif0": [("rec", linear())]})


def replaced(name: str, node: nir.NIRNode) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: graph.nodes.update({name: node})


def changed(name: str, field: str, value: Any) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: setattr(graph.nodes[name], field, value)


def marked(name: str, **metadata: Any) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: graph.nodes[name].metadata.update(metadata)


def edges(*more: tuple[str, str]) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: graph.edges.extend(more)


def added(name: str, node: nir.NIRNode, *more: tuple[str, str]) -> Callable[[nir.NIRGraph], None]:
    def change(graph: nir.NIRGraph) -> None:
        graph.nodes[name] = node
        graph.edges.extend(more)

    return change


def without(*names: str) -> Callable[[nir.NIRGraph], None]:
    def change(graph: nir.NIRGraph) -> None:
        for name in names:
            del graph.nodes[name]
        graph.edges[:] = [e for e in graph.edges if not set(e) & set(names)]

    return change


def step(value: Any) -> Callable[[nir.NIRGraph], None]:
    return lambda graph: graph.metadata.update(dt=value)


def subgraph(*ends: tuple[str, nir.NIRNode]) -> nir.NIRGraph:
    return nir.NIRGraph({"lif": lif(), **dict(ends)}, [], type_check=False)


def conv(shape: tuple[int, ...] = (2, 2, 3, 3), **more: Any) -> nir.Conv2d:
    values = {
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": np.zeros(shape[0]),
        **more,
    }
    return nir.Conv2d(None, np.ones(shape), **values)


def on_images(node: nir.NIRNode) -> Callable[[nir.NIRGraph], None]:
    """The graph becomes input (2, 5, 4) -> node -> output."""

    def change(graph: nir.NIRGraph) -> None:
        graph.nodes.clear()
        start, end = nir.Input(np.array([2, 5, 4])), nir.Output({"output": None})
        graph.nodes.update({"input": start, "node": node, "output": end})
        graph.edges[:] = [("input", "node"), ("node", "output")]

    return change


FAULTS: dict[str, tuple[Callable[[nir.NIRGraph], None], list[str]]] = {
    # no chain
    "cycle": (
        edges(("lif1", "w0")),
        [
            "node lif1 feeds 2 nodes (output, w0); netx holds a chain without branches. Recurrence is a spiking neuron that feeds itself through Linear, Affine or Scale nodes.",
            "node w0 is fed by 2 nodes (input, lif1); netx holds a chain without joins. Recurrence is a spiking neuron that feeds itself through Linear, Affine or Scale nodes.",
            "nodes w0 -> lif0 -> w1 -> lif1 -> w0 form a cycle that is not recurrence: a spiking neuron that feeds itself through Linear, Affine or Scale nodes.",
        ],
    ),
    "neuron right to itself": (edges(("lif1", "lif1")), ["node lif1 feeds 2", "node lif1 is fed by 2", "nodes lif1 -> lif1 form a cycle"]),
    "recurrence of a readout": (
        added("back", nir.Scale(np.ones(3)), ("lif1", "back"), ("back", "lif1")), [],
    ),
    "recurrence of a readout, refused": (
        lambda g: (replaced("lif1", nir.I(np.ones(3)))(g), added("back", nir.Scale(np.ones(3)), ("lif1", "back"), ("back", "lif1"))(g)),
        ["node lif1 feeds 2", "node lif1 is fed by 2", "nodes lif1 -> back -> lif1 form a cycle"],
    ),
    "recurrence over a neuron": (
        added("mid", lif(3), ("lif1", "mid"), ("mid", "lif1")), ["node lif1 feeds 2", "node lif1 is fed by 2", "nodes lif1 -> mid -> lif1 form a cycle"],
    ),
    "two recurrences": (added("rec2", linear(), ("lif0", "rec2"), ("rec2", "lif0")), ["node lif0 feeds 2", "node lif0 is fed by 2", "lif0 -> rec2 -> lif0 form a cycle"]),
    "branch": (edges(("lif0", "lif1")), ["node lif0 feeds 2 nodes (w1, lif1)", "node lif1 is fed by 2 nodes (w1, lif0)", "lif0 -> lif1: lif1 (LIF) has tau of shape (3,), got shape (4,)"]),
    "two inputs": (
        added("more", nir.Input(np.array([4])), ("more", "w0")), ["the graph has 2 inputs (input, more); a chain has one.", "node w0 is fed by 2 nodes (input, more)"],
    ),
    "no input": (without("input"), ["the graph has 0 inputs; a chain has one."]),
    "two outputs": (
        added("end", nir.Output(np.array([3])), ("lif1", "end")), ["the graph has 2 outputs (output, end)", "node lif1 feeds 2 nodes"],
    ),
    "no output": (without("output"), ["the graph has 0 outputs; a chain has one."]),
    "off the chain": (added("alone", lif()), ["nodes alone are not on the way from the input to the output."]),
    "dead end": (
        added("end", lif(), ("lif0", "end")), ["node lif0 feeds 2 nodes (w1, end)", "nodes end are not on the way"],
    ),
    "a gap": (lambda g: g.edges.remove(("lif0", "w1")), ["nodes lif0, lif1, w0, w1 are not on the way"]),
    "edge to nowhere": (edges(("lif1", "ghost")), ["edge lif1 -> ghost: there is no node ghost."]),
    "edge twice": (edges(("w0", "lif0")), ["edge w0 -> lif0 is given twice."]),
    "subgraph with two inputs": (
        replaced("lif1", subgraph(("a", nir.Input(np.array([3]))), ("b", nir.Input(np.array([3]))))),
        ["subgraph lif1 has 2 inputs and 0 outputs; a chain needs one of each."],
    ),
    "one name for two": (
        lambda g: (replaced("w0", nir.NIRGraph.from_list(linear()))(g), added("w0.linear", linear())(g)), ["the name w0.linear stands for two nodes."],
    ),
    # numbers
    "no dt": (lambda g: g.metadata.clear(), ["the graph's metadata has no dt; set graph.metadata['dt'], the time step in seconds."]),
    "negative dt": (step(-0.1), ["dt is -0.1, but the time step is a positive number of seconds."]),
    "dt in words": (step("1 ms"), ["dt is '1 ms', but the time step"]),
    "NaN dt": (step(np.nan), ["dt is nan, but the time step"]),
    "NaN": (changed("w0", "weight", np.full((4, 4), np.nan)), ["node w0: 16 of 16 values of weight are NaN or infinite."]),
    "infinite": (changed("lif0", "r", np.array([1, np.inf, 1, 1])), ["node lif0: 1 of 4 values of r are NaN or infinite."]),
    "no numbers": (changed("lif0", "r", np.array(["a"] * 4)), ["node lif0: r is of type <U1, not of numbers."]),
    "tau": (changed("lif0", "tau", np.array([1, 0, 1, -2.0])), ["node lif0: tau is -2; time constants are positive."]),
    "negative delay": (replaced("w0", nir.Delay(-DT * ONE)), ["node w0: a delay of -0.001 s is negative."]),
    "part of a step": (replaced("w0", nir.Delay(DT * np.array([0, 1, 2.5, 3]))), ["node w0: a delay of 0.0025 s is 2.5 steps of dt = 0.001 s; delays are whole steps."]),
    "unknown reset": (marked("lif0", reset="soft"), ["node lif0: reset is 'soft'; known are 'zero', 'subtract', 'subtract-at-once', 'none'."]),
    "a delay of no reset": (marked("lif0", reset="none", reset_delay=1), ["node lif0: reset is 'none', which has no reset_delay; it is 1."]),
    "unknown reset_delay": (marked("lif0", reset_delay=2), ["node lif0: reset_delay is 2; known are 0 and 1."]),
    "half a reset_delay": (marked("lif0", reset_delay=0.5), ["node lif0: reset_delay is 0.5; it is a whole number."]),
    "state_grid": (marked("lif0", state_grid=0), ["node lif0: state_grid is 0; it is a positive whole number."]),
    "unsupported": (
        replaced("w0", Sine()),
        ["node w0 is a Sine, which is not supported (supported: Input, Output, Affine, Linear, Scale, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten, Delay, Threshold, I, LI, IF, LIF, CubaLI, CubaLIF)."],
    ),
    # shapes
    "too many inputs": (replaced("w1", linear(3, 5)), ["lif0 -> w1: w1 (Linear) expects 5 inputs, got shape (4,)."]),
    "wrong neurons": (replaced("lif1", lif(5)), ["w1 -> lif1: lif1 (LIF) has tau of shape (5,), got shape (3,)."]),
    "wrong recurrence": (replaced("rec", linear(5)), ["rec -> lif0: lif0 (LIF) has tau of shape (4,), got shape (5,)."]),
    "wrong output": (replaced("output", nir.Output(np.array([7]))), ["lif1 -> output: output (Output) is declared with shape (7,), but gets (3,)."]),
    "neurons of two sizes": (
        changed("lif0", "v_leak", np.zeros(2)),
        ["node lif0: its parameters have different shapes: tau (4,), r (4,), v_leak (2,), v_threshold (4,), v_reset (4,).", "w0 -> lif0: lif0 (LIF) has v_leak of shape (2,), got shape (4,)."],
    ),
    "weights of three axes": (replaced("w0", nir.Linear(np.ones((2, 4, 4)))), ["node w0: weight has shape (2, 4, 4), not (out, in).", "w0 (Linear) has a weight of shape (2, 4, 4), not (out, in)."]),
    "bias": (replaced("w0", nir.Affine(np.ones((4, 4)), np.ones(3))), ["node w0: bias has shape (3,), but there are 4 outputs."]),
    "image into a dense layer": (on_images(linear()), ["input -> node: node (Linear) expects 4 inputs, got shape (2, 5, 4). Put a Flatten before it."]),
    "channels": (on_images(conv((2, 3, 3, 3))), ["node (Conv2d) expects 3 channels of 2 axes, got shape (2, 5, 4)."]),
    "axes of a kernel": (on_images(nir.Conv1d(None, np.ones((2, 2, 3, 3)), 1, 0, 1, 1, np.zeros(2))), ["node node: weight has shape (2, 2, 3, 3); it needs 3 axes."]),
    "groups": (on_images(conv((3, 1, 3, 3), groups=2)), ["node (Conv2d) has 3 outputs, which 2 groups do not divide."]),
    "kernel too large": (on_images(conv((2, 2, 6, 3))), ["node (Conv2d) has windows of (6, 3), which do not fit into (5, 4)."]),
    "same with stride": (on_images(conv(stride=2, padding="same")), ["node (Conv2d) has padding 'same' with stride (2, 2); give numbers."]),
    "pooling of a vector": (replaced("w0", nir.SumPool2d(2, 2, 0)), ["w0 (SumPool2d) expects (C, H, W), got shape (4,)."]),
    "input without shape": (replaced("input", nir.Input({"input": None})), ["input input has no shape."]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name: str) -> None:
    change, messages = FAULTS[name]
    graph = good()
    change(graph)
    if not messages:
        check(graph)
        return
    with pytest.raises(GraphError) as error:
        check(graph)
    for message, problem in zip(messages, error.value.problems, strict=True):
        assert message in problem


def test_all_faults_come_at_once() -> None:
    graph = good()
    for name in ("no dt", "NaN", "branch", "off the chain", "unknown reset", "too many inputs"):
        FAULTS[name][0](graph)
    added("odd", Sine(), ("lif1", "odd"))(graph)
    with pytest.raises(GraphError) as error:
        check(graph)
    text = str(error.value)
    for part in (
        "the graph cannot be used:\n  - ",
        "no dt",
        "16 of 16 values of weight",
        "node lif0 feeds 2 nodes",
        "node odd is a Sine",
        "reset is 'soft'",
        "lif0 -> w1: w1 (Linear) expects 5 inputs",
        "nodes alone, odd are not on the way",
    ):
        assert part in text
    assert text.count("\n  - ") == len(error.value.problems)


@pytest.mark.parametrize("use", [lower, lambda graph: execute(graph, np.zeros((1, 2, 4)))])
def test_who_uses_graphs_checks_them(use: Callable[[nir.NIRGraph], Any]) -> None:
    graph = good()
    FAULTS["NaN"][0](graph)
    FAULTS["no dt"][0](graph)
    with pytest.raises(LoweringError, match=r"has no dt(?s:.)*16 of 16 values of weight"):
        use(graph)


def test_shapes_of_grouped_and_oblong_convolutions() -> None:
    """nir 1.0.8 gets these wrong, which must not count against the graph."""
    node = conv((4, 1, 3, 2), groups=2, stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    graph = good()
    on_images(node)(graph)
    checked = check(graph)
    assert checked.nodes["node"].input_type["input"].tolist() == [2, 5, 4]
    assert checked.nodes["output"].output_type["output"].tolist() == [4, 3, 2]
    assert node.input_type["input"] is None  # the given node is as it was


def test_one_number_for_all_neurons() -> None:
    graph = good()
    for field in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        setattr(graph.nodes["lif1"], field, np.array(0.5, np.float32))
    node = check(graph).nodes["lif1"]
    for field in PARAMETERS[nir.LIF]:
        assert getattr(node, field).tolist() == [0.5] * 3
        assert getattr(node, field).dtype == np.float64


def test_subgraphs_and_recurrence_within() -> None:
    """As snnTorch writes its recurrent cells: input -> lif <-> w_rec, lif -> output."""
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([4])), "lif": lif(), "w_rec": linear(), "output": nir.Output(np.array([4]))},
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")],
    )  # fmt: skip
    graph = chain_graph([("w", linear()), ("cell", inner), ("last", lif())], (4,), {"dt": DT})
    assert [name for name, _ in chain(graph)] == ["w", "cell.lif", "last"]
    assert {n: [m for m, _ in path] for n, path in recurrence(graph).items()} == {
        "cell.lif": ["cell.w_rec"]
    }
    assert [s.name for s in stages(lower(graph))] == ["cell.lif", "last"]


def test_delays_are_whole_steps_but_for_rounding() -> None:
    seconds = np.arange(1000) / 1000
    assert (seconds / DT != np.arange(1000)).any()
    node = nir.Delay(seconds)
    check(chain_graph([("d", node)], (1000,), {"dt": DT}))
    assert (delay_steps(node, DT) == np.arange(1000)).all()


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({}, Dynamics("zero", 0, None)),
        ({"reset": b"subtract", "reset_delay": np.int64(1)}, Dynamics("subtract", 1, None)),
        ({"state_grid": 4096.0, "other": 1}, Dynamics("zero", 0, 4096)),
    ],
)
def test_dynamics(metadata: dict[str, Any], wanted: Dynamics) -> None:
    assert dynamics(lif(**metadata)) == wanted


def test_names_of_a_chain_differ() -> None:
    with pytest.raises(ValueError, match="node names of a chain must differ"):
        chain_graph([("a", linear()), ("a", lif())], (4,), {})


def test_stages_need_a_lowered_graph() -> None:
    graph = chain_graph([("lif", lif())], (4,), {"dt": DT})
    with pytest.raises(
        LoweringError, match="neuron lif has no synapse before it; `lower` the graph"
    ):
        stages(graph)
