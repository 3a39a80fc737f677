"""Widened networks spike as the original does, neuron for neuron, and fit the integers better."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.graph import LoweringError, chain_graph, conv2d
from spikeship.pipeline.lower import bias_channel, copies
from spikeship.pipeline.quantize.limits import QuantizationError
from spikeship.pipeline.quantize.quantize import quantize

from nets import nir_lif

RNG = np.random.default_rng(0)
DT = 0.001


def neuron(kind: type, size: int) -> nir.NIRNode:
    values = {
        "tau": 0.004, "tau_mem": 0.004, "tau_syn": 0.002, "r": 1.0, "w_in": 2.0, "v_leak": -0.1,
        "v_threshold": 0.3, "v_reset": -0.1,
    }  # fmt: skip
    if kind is nir.IF:
        values |= {"r": 300.0, "v_reset": 0.05}
    names = {
        nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
        nir.IF: ("r", "v_threshold", "v_reset"),
        nir.CubaLIF: ("tau_syn", "tau_mem", "r", "w_in", "v_leak", "v_threshold", "v_reset"),
        nir.CubaLI: ("tau_syn", "tau_mem", "r", "w_in", "v_leak"),
    }[kind]
    return kind(**{name: np.full(size, values[name]) for name in names})


def network(kinds: tuple[type, ...], recurrent: bool) -> nir.NIRGraph:
    sizes = (5, 8, 6, 4)[: len(kinds) + 1]
    nodes, loops = [], {}
    for i, kind in enumerate(kinds):
        weight = RNG.normal(0.2, 0.5, (sizes[i + 1], sizes[i]))
        nodes.append((f"w{i}", nir.Affine(weight, RNG.normal(0.1, 0.1, sizes[i + 1]))))
        nodes.append((f"n{i}", neuron(kind, sizes[i + 1])))
        if recurrent and i == 0:
            back = nir.Affine(RNG.normal(0, 0.5, (8, 8)), RNG.normal(0.05, 0.05, 8))
            loops["n0"] = [("r0", back)]
    return chain_graph(nodes, (5,), {"dt": DT}, loops)


CASES = [
    ((nir.CubaLIF, nir.CubaLIF), True),
    ((nir.LIF, nir.IF, nir.LIF), False),
    ((nir.CubaLIF, nir.LIF, nir.CubaLI), True),
]


@pytest.mark.parametrize(("kinds", "recurrent"), CASES)
@pytest.mark.parametrize("times", [1, 3])
def test_the_first_neurons_are_the_original_ones(
    kinds: tuple[type, ...], recurrent: bool, times: int
) -> None:
    graph = network(kinds, recurrent)
    x = (RNG.random((4, 40, 5)) < 0.4).astype(float)
    ones = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    wide = execute(copies(bias_channel(graph), times), np.tile(ones, times))
    original = execute(graph, x)
    for i, (a, b) in enumerate(zip(original.spikes, wide.spikes, strict=True)):
        size, last = a.shape[-1], i == len(kinds) - 1
        assert b.shape[-1] == (size if last else times * (size + 1))
        assert (b[..., :size] == a).all()
        assert np.abs(wide.voltage[i][..., :size] - original.voltage[i]).max() < 1e-9
        if not last:
            assert b[..., size].all()  # the neuron that carries the next layer's biases
            assert 0.02 < a.mean() < 0.98


def test_the_channel_makes_current_biases_quantizable() -> None:
    graph = network((nir.CubaLIF, nir.CubaLIF), True)
    x = (RNG.random((4, 40, 5)) < 0.4).astype(np.int32)
    recipe = Recipe(Coding("direct", 40), reset_interval=40, reset_offset=1)
    with pytest.raises(QuantizationError, match="a bias into a neuron with synaptic current"):
        quantize(graph, x, recipe)
    ones = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    found = quantize(bias_channel(graph), ones, recipe, method="max")
    assert found.losses[0].agreement is not None
    assert found.losses[0].agreement > 0.9
    assert found.losses[0].bias_range == (0, 0)


def test_copies_add_up_to_finer_weights() -> None:
    """Weights of 0.5 beside one of -20: in 8 bits a step is 0.16, of the sum of 8 copies far less."""
    rng = np.random.default_rng(1)
    weight = rng.normal(0.3, 0.3, (6, 12))
    weight[:, 0] = -20
    nodes = [("w", nir.Linear(weight)), ("n", neuron(nir.LIF, 6))]
    graph = chain_graph(nodes, (12,), {"dt": DT})
    x = (rng.random((8, 60, 12)) < 0.3).astype(np.int32)
    x[:, 5:, 0] = 0
    recipe = Recipe(Coding("direct", 60), reset_interval=60, reset_offset=1)
    same = []
    for count in (1, 8):
        found = quantize(copies(graph, count), np.tile(x, count), recipe).losses[0]
        assert found.matched is not None
        same.append(found.matched)
    assert same[0] < 0.95
    assert same[1] > 0.97


@pytest.mark.parametrize("widen", [bias_channel, lambda graph: copies(graph, 2)])
def test_only_dense_layers(widen: object) -> None:
    conv = conv2d((4, 4), np.ones((2, 1, 3, 3)), np.zeros(2))
    lif = nir_lif((2, 2, 2), 0.01)
    graph = chain_graph([("conv", conv), ("lif", lif)], (1, 4, 4), {"dt": DT})
    with pytest.raises(LoweringError, match="lif: only dense layers without Flatten or delays"):
        widen(graph)  # type: ignore[operator]


def test_no_copies() -> None:
    with pytest.raises(ValueError, match="count = 0; give 1 or more"):
        copies(network((nir.LIF,), False), 0)
