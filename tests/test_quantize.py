"""Quantization: one rounding, every limit a named violation, spikes that agree."""

from __future__ import annotations

from dataclasses import replace

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from norse.torch.module.iaf import IAFCell
from norse.torch.module.leaky_integrator import LICell
from torch import nn

from spikeship.hw_targets.network.arithmetic import synapse_format
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import run_recipe, scores
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.lower import lower
from spikeship.pipeline.quantize import fitting
from spikeship.pipeline.quantize.limits import QuantizationError
from spikeship.pipeline.quantize.quantize import quantize
from spikeship.pipeline.verify import verify

import nets
from nets import SHAPE, graph_of, inputs, lif

RECIPE = Recipe(Coding("direct", 8, levels=16, message_bits=8), reset_interval=8, reset_offset=1)


def cuba(**p: float) -> nn.Module:
    p = {"tau_mem_inv": 300.0, "tau_syn_inv": 400.0, "v_th": 0.3, **p}
    return norse.LIFCell(norse.LIFParameters(**{k: torch.tensor(v) for k, v in p.items()}))


NETWORKS = {
    "dense with bias": lambda: [nn.Flatten(), nn.Linear(36, 24), lif(), nn.Linear(24, 5), lif()],
    "conv with bias": lambda: [
        nn.Conv2d(1, 4, 3), lif(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5), lif(),
    ],
    "synaptic current": lambda: [
        nn.Flatten(), nn.Linear(36, 24, bias=False), cuba(), nn.Linear(24, 5, bias=False), cuba(),
    ],
    "integrate and fire": lambda: [nn.Flatten(), nn.Linear(36, 24), IAFCell(), nn.Linear(24, 5), IAFCell()],
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_agree_with_the_float_network(name: str) -> None:
    graph = graph_of(*NETWORKS[name]())
    network = quantize(graph, inputs(), RECIPE).network
    fresh = inputs(64, seed=1)
    result = verify(Deployed(network, graph), fresh, lava_samples=0)
    assert result.to_float is not None
    float_spikes = execute(lower(graph), fresh / 16).spikes
    assert all(s.mean() > 0.02 for s in float_spikes)
    assert all(a.equal > 0.985 for a in result.to_float), result.to_float
    assert result.same_answers is not None
    assert result.same_answers > 0.9


def test_the_integers_follow_the_formulas() -> None:
    """weight = 2 round(s w / 2), bias and threshold from the same s, decays of their own."""
    graph = graph_of(nn.Flatten(), nn.Linear(36, 24), lif(tau_mem_inv=123.0))
    quantized = quantize(graph, inputs(), RECIPE, method="max")
    (loss,) = quantized.losses
    _, flatten, dense = quantized.network.layers
    assert isinstance(flatten, Flatten)
    assert isinstance(dense, Dense)
    affine = next(n for n in graph.nodes.values() if isinstance(n, nir.Affine))
    scale = loss.unit / 16
    assert (dense.weight == 2 * np.round(affine.weight * scale / 2)).all()
    assert (dense.bias == np.round(affine.bias * loss.unit)).all()
    assert dense.neuron is not None
    assert dense.neuron.threshold == round(0.3 / 0.123 * loss.unit)
    assert (dense.neuron.i_decay, dense.neuron.v_decay) == (4096, round(0.123 * 4096))
    assert np.abs(dense.weight).max() > 100


def test_biases_begin_with_the_data() -> None:
    """Lava's biases act before the first data arrives; the recipe's reset undoes that exactly.

    With it, an input of zeros gives what the float network gives, from its first step on; without,
    the hidden layer has already integrated its bias for a step (and each later layer for more).
    """
    graph = graph_of(nn.Flatten(), nn.Linear(36, 24), lif(), nn.Linear(24, 5), lif(), gain=6.0)
    network = quantize(graph, inputs(), RECIPE).network
    silence = np.zeros((1, 8, *SHAPE), np.int32)
    expected = execute(lower(graph), silence / 16).spikes
    got = run_recipe(network, silence).spikes
    no_reset = replace(RECIPE, reset_interval=None, reset_offset=0)
    late = run_recipe(type(network)(network.layers, no_reset), silence).spikes
    assert got is not None
    assert late is not None
    assert all(e.any() for e in expected)
    assert all((g == e).all() for g, e in zip(got, expected, strict=True))
    assert any((x != e).any() for x, e in zip(late, expected, strict=True))


def test_samples_can_follow_each_other_without_gap() -> None:
    """The same reset makes a stream of samples equal to one run per sample."""
    graph = graph_of(*NETWORKS["dense with bias"]())
    network = quantize(graph, inputs(), RECIPE).network
    x = inputs(3, seed=2)
    alone = run_recipe(network, x).spikes
    stream = replace(RECIPE, coding=replace(RECIPE.coding, steps=24))
    together = run_recipe(type(network)(network.layers, stream), x.reshape(1, 24, *SHAPE)).spikes
    assert alone is not None
    assert together is not None
    for a, b in zip(alone, together, strict=True):
        assert (a.reshape(b.shape) == b).all()


@pytest.mark.parametrize("readout", [
    lambda: nets.readout(200.0),
    LICell,
])  # fmt: skip
def test_a_voltage_readout(readout) -> None:
    """The readout never spikes, and its voltage is the float one up to rounding."""
    bias = not isinstance(readout(), LICell)
    graph = graph_of(nn.Flatten(), nn.Linear(36, 24), lif(), nn.Linear(24, 5, bias=bias), readout())
    recipe = replace(RECIPE, decode="mean voltage")
    quantized = quantize(graph, inputs(), recipe)
    last = quantized.losses[-1]
    network = type(quantized.network)(
        quantized.network.layers, replace(recipe, output_unit=last.unit)
    )
    trace = run_recipe(network, inputs(seed=3), record=("spikes", "v"))
    assert trace.spikes is not None
    assert not trace.spikes[-1].any()
    exact = execute(lower(graph), inputs(seed=3) / 16).voltage[-1].mean(axis=1)
    gain = 0.2 if bias else 0.1
    error = np.abs(gain * scores(network, trace) - exact).max() / np.abs(exact).max()
    assert error < 0.1  # a hidden spike that differs moves a voltage by a few per cent
    assert last.voltage_error is not None
    assert last.voltage_error < 0.05


def test_a_current_bias_is_refused_unless_approximated() -> None:
    modules = [nn.Flatten(), nn.Linear(36, 5), cuba()]
    with pytest.raises(QuantizationError, match="a bias into a neuron with synaptic current"):
        quantize(graph_of(*modules), inputs(), RECIPE)
    approximate = quantize(graph_of(*modules), inputs(), RECIPE, approximate_current_bias=True)
    assert approximate.losses[0].agreement is not None
    assert approximate.losses[0].agreement > 0.8


def broken(change) -> nir.NIRGraph:
    graph = graph_of(nn.Flatten(), nn.Linear(36, 5), lif())
    nodes = {type(n).__name__: n for n in graph.nodes.values()}
    change(nodes["Affine"], nodes["LIF"])
    return graph


def setting(kind: str, name: str, value: float):
    def change(affine, neuron) -> None:
        node = affine if kind == "affine" else neuron
        setattr(node, name, np.full_like(getattr(node, name), value))

    return change


@pytest.mark.parametrize(("change", "message"), [
    (setting("affine", "weight", 0.0), "all weights are 0"),
    (setting("neuron", "v_threshold", -1.0), "threshold -2 is negative"),
    (setting("neuron", "v_reset", 0.1), "v_reset differs from v_leak"),
    (setting("neuron", "tau", 5e-4), "dt / tau_mem = 2"),
    (setting("neuron", "tau", 100.0), "rounds to no decay at all"),
    (setting("neuron", "r", -1.0), "r is not positive"),
    (setting("neuron", "v_threshold", 1e6), "all weights round to 0"),
    (setting("affine", "bias", 1e5), "all weights round to 0"),
    (setting("neuron", "v_threshold", 1e-7), "threshold rounds to 0"),
])  # fmt: skip
def test_violations_are_named(change, message: str) -> None:
    with pytest.raises(QuantizationError, match=message) as error:
        quantize(broken(change), inputs(), RECIPE)
    assert error.value.violations[0].where == "2:lif"


@pytest.mark.parametrize("method", ["search", "max"])
def test_scales_that_lava_would_change_are_avoided(method) -> None:
    """A matrix without positive weight may not have -2^m as its minimum (Lava changes it)."""
    graph = broken(setting("affine", "weight", -1.0))
    dense = quantize(graph, inputs(), RECIPE, method=method).network.layers[-1]
    assert isinstance(dense, Dense)
    assert (synapse_format(dense.weight).weight == dense.weight).all()
    assert (synapse_format(np.full((5, 36), -256)).weight != -256).all()


def test_all_violations_come_at_once() -> None:
    """Of every layer, those of the neuron and those of the synapses alike."""
    graph = graph_of(
        nn.Flatten(), nn.Linear(36, 9), lif(), nn.Linear(9, 7), lif(), nn.Linear(7, 5), lif()
    )
    affine = [n for n in graph.nodes.values() if isinstance(n, nir.Affine)]
    neurons = [n for n in graph.nodes.values() if isinstance(n, nir.LIF)]
    affine[0].weight = np.zeros_like(affine[0].weight)
    neurons[1].v_reset = neurons[1].v_reset + 0.1
    affine[2].weight = np.zeros_like(affine[2].weight)
    with pytest.raises(QuantizationError) as error:
        quantize(graph, inputs(), RECIPE)
    assert [v.where for v in error.value.violations] == ["2:lif", "4:lif", "6:lif"]


def test_a_readout_that_would_spike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without headroom the voltage reaches the largest threshold there is."""
    monkeypatch.setattr(fitting, "HEADROOM", 0.01)
    readout = norse.LIBoxCell(LIBoxParameters(tau_mem_inv=torch.tensor(200.0)))
    graph = graph_of(nn.Flatten(), nn.Linear(36, 5), readout, gain=0.001)
    affine = next(n for n in graph.nodes.values() if isinstance(n, nir.Affine))
    affine.bias = np.zeros_like(affine.bias)
    wide = replace(RECIPE, decode="mean voltage", coding=replace(RECIPE.coding, message_bits=20))
    with pytest.raises(QuantizationError, match="reaches the largest threshold"):
        quantize(graph, 900 * inputs(), wide)


@pytest.mark.parametrize("change", [
    {"reset_interval": None}, {"reset_offset": 0}, {"reset_interval": 4},
])  # fmt: skip
def test_a_recipe_that_starts_biases_early_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="biases start with the data"):
        quantize(graph_of(*NETWORKS["dense with bias"]()), inputs(), replace(RECIPE, **change))


def test_per_channel_parameters() -> None:
    """Thresholds that differ by channel stay one per channel."""
    graph = graph_of(nn.Conv2d(1, 4, 3), lif(), nn.Flatten(), nn.Linear(64, 5), lif())
    node = next(n for n in graph.nodes.values() if isinstance(n, nir.LIF))
    node.v_threshold = np.broadcast_to(
        np.array([0.2, 0.3, 0.4, 0.5])[:, None, None], (4, 4, 4)
    ).copy()
    network = quantize(graph, inputs(), RECIPE).network
    conv = network.layers[1]
    assert isinstance(network.layers[0], Input)
    assert isinstance(conv, Conv)
    assert conv.neuron is not None
    assert np.shape(conv.neuron.threshold) == (4,)
    result = verify(Deployed(network, graph), inputs(seed=4), lava_samples=0)
    assert result.ok
