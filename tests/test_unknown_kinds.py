"""A node or layer of a kind that some step has no rule for is refused by name; no last branch takes it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import nir
import numpy as np
import pytest

from spikeship.hw_targets.network.neurons import NetworkError
from spikeship.pipeline.float.execute import superspike
from spikeship.pipeline.float.layers import LinearMap, Neurons
from spikeship.pipeline.float.neuron import UnknownNeuronError, euler
from spikeship.pipeline.frontends import netx
from spikeship.pipeline.frontends.slayer_messages import sends
from spikeship.pipeline.graph import GraphError, UnknownNodeError, chain_graph, check, stages
from spikeship.pipeline.graph.problems import PARAMETERS
from spikeship.pipeline.lower.passes import scale_as_map
from spikeship.pipeline.lower.resets import resets_to_zero


class Strange(nir.NIRNode):
    """A kind of node that NIR may have one day."""

    def __init__(self) -> None:
        self.input_type, self.output_type = {"input": np.array([3])}, {"output": np.array([3])}
        self.metadata: dict[str, Any] = {}


def lif() -> nir.LIF:
    return nir.LIF(*(np.full(3, value) for value in (2.0, 1.0, 0.0, 1.0, 0.0)))


def threshold(shape: tuple[int, ...] = (3,), **metadata: str) -> nir.Threshold:
    node = nir.Threshold(np.ones(shape))
    node.metadata = metadata
    return node


def graph(node: nir.NIRNode) -> nir.NIRGraph:
    return chain_graph([("strange", node), ("n", lif())], (3,), {"dt": 1.0})


CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "running a map": (lambda: LinearMap(Strange()), UnknownNodeError, "Strange is no linear map"),
    "running a neuron as a map": (
        lambda: LinearMap(lif()),
        UnknownNodeError,
        "LIF is no linear map",
    ),
    "running neurons": (
        lambda: Neurons(Strange(), [], 1.0, superspike),
        UnknownNodeError,
        "Strange is no neuron",
    ),
    "a step of a neuron": (
        lambda: euler("n", Strange(), 1.0),
        UnknownNeuronError,
        "n: Strange neurons are not modelled",
    ),
    "a lowered graph": (
        lambda: stages(graph(Strange())),
        UnknownNodeError,
        "Strange is no node of a lowered graph",
    ),
    "a graph that is not lowered": (
        lambda: stages(graph(nir.Scale(np.ones(3)))),
        UnknownNodeError,
        "Scale is no node of a lowered graph",
    ),
    "scaling a neuron's input": (
        lambda: scale_as_map(
            [
                ("s", nir.Scale(np.arange(8.0).reshape(2, 2, 2))),
                ("n", threshold((2, 2, 2))),
            ]
        ),
        UnknownNodeError,
        r"Threshold is no neuron whose input can be scaled \(n\)",
    ),
    "a reset": (
        lambda: resets_to_zero([("n", threshold(reset="subtract"))], {}, 1.0),
        UnknownNodeError,
        "Threshold is no neuron with a reset",
    ),
    "checking a graph": (
        lambda: check(graph(Strange())),
        GraphError,
        "node strange is a Strange, which is not supported",
    ),
    "a layer as NIR": (
        lambda: netx._synapse(
            SimpleNamespace(weight=np.ones((3, 3))),
            None,
            64.0,
            None,  # type: ignore[arg-type]
        ),
        NetworkError,
        "SimpleNamespace layers have no image in NIR",
    ),
    "neurons as NIR": (
        lambda: [
            *netx._population(
                SimpleNamespace(name="n", shape=(3,), layer=SimpleNamespace(neuron=Strange())),
                64.0,
                1.0,
            )
        ],  # type: ignore[arg-type]
        NetworkError,
        "Strange neurons have no image in NIR",
    ),
    "messages of SLAYER": (
        lambda: sends(SimpleNamespace(neuron=Strange()), 1),
        NetworkError,
        "what Strange neurons send for 1.0 is not known here",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_kind_is_an_error(name: str) -> None:
    make, error, says = CASES[name]
    with pytest.raises(error, match=says):
        make()


def test_a_primitive_without_a_shape_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was only added to the table of primitives."""
    monkeypatch.setitem(PARAMETERS, Strange, ())
    with pytest.raises(GraphError, match="Strange is no node whose output has"):
        check(graph(Strange()))
