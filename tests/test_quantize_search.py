"""What the search finds: better integers than the naive ones, the same at every run, and said aloud."""

from __future__ import annotations

import itertools

import nir
import numpy as np
import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.pipeline.deploy.run import run_recipe
from spikeship.pipeline.float.cell import cell_of
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.graph import Stage, conv2d
from spikeship.pipeline.lower import lower
from spikeship.pipeline.quantize import mixed_precision, search
from spikeship.pipeline.quantize.limits import QuantizationError
from spikeship.pipeline.quantize.loss import agree
from spikeship.pipeline.quantize.quantize import quantize
from spikeship.pipeline.quantize.rounding import (
    Compensation,
    columns,
    filtered,
    full_step,
    nearest,
    refit,
)

from nets import nir_lif

DT = 1e-3


def recipe(steps: int = 8, levels: int = 1, message_bits: int = 0) -> Recipe:
    coding = Coding("direct", steps, levels, message_bits=message_bits)
    return Recipe(coding, reset_interval=steps, reset_offset=1)


def graph_of(nodes: dict[str, nir.NIRNode], inputs: tuple[int, ...], *back: tuple[str, str]):
    out = next(reversed(nodes))
    everything = {"input": nir.Input({"input": np.array(inputs)}), **nodes}
    everything["output"] = nir.Output({"output": nodes[out].output_type["output"]})
    chain = [name for name in everything if name not in {b for pair in back for b in pair[1:]}]
    edges = list(itertools.pairwise(chain))
    edges += [edge for a, b in back for edge in ((a, b), (b, a))]
    return nir.NIRGraph(everything, edges, metadata={"dt": DT})


def dense(rng: np.random.Generator, out: int, into: int, gain: float = 1.0) -> nir.Affine:
    return nir.Affine(
        rng.normal(0.3, 1, (out, into)) * gain / np.sqrt(into), rng.normal(size=out) / 8
    )


def spikes(rng: np.random.Generator, samples: int, steps: int, *shape: int, rate: float = 0.3):
    return (rng.random((samples, steps, *shape)) < rate).astype(np.int32)


def mlp(seed: int = 0, gain: float = 5.0) -> nir.NIRGraph:
    rng = np.random.default_rng(seed)
    nodes = {
        "a": dense(rng, 24, 20, gain), "first": nir_lif(24),
        "b": dense(rng, 5, 24, gain), "last": nir_lif(5),
    }  # fmt: skip
    return graph_of(nodes, (20,))


X = spikes(np.random.default_rng(1), 48, 8, 20)


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(2, 9))
def test_bits_give_the_grid(bits: int) -> None:
    """Multiples of a step, as many as the bits have; what is stored is the real layer, rounded."""
    quantized = quantize(mlp(), X, recipe(), bits=bits)
    layers = [layer for layer in quantized.network.layers if isinstance(layer, Dense)]
    for layer, real, loss in zip(layers, quantized.real, quantized.losses, strict=True):
        assert (loss.bits, loss.step) == (bits, full_step(bits))
        whole = layer.weight // loss.step
        assert (whole * loss.step == layer.weight).all()
        assert whole.min() >= -(1 << (bits - 1))
        assert whole.max() < 1 << (bits - 1)
        assert (layer.weight == real.step * nearest(real.weight / real.step, bits)).all()
        assert isinstance(layer.neuron, CubaLIF)
        assert (layer.bias == np.round(real.bias)).all()
        assert (layer.neuron.threshold == np.round(real.threshold)).all()
        assert (layer.neuron.v_decay == np.round(real.v_decay)).all()


def test_bits_per_layer_and_wrong_ones() -> None:
    assert [loss.bits for loss in quantize(mlp(), X, recipe(), bits=[4, 6]).losses] == [4, 6]
    with pytest.raises(ValueError, match="bits has 3 entries; the network has 2 layers"):
        quantize(mlp(), X, recipe(), bits=[4, 6, 8])
    with pytest.raises(ValueError, match="weights have 2 to 8 bits"):
        quantize(mlp(), X, recipe(), bits=9)


def test_the_same_inputs_give_the_same_integers() -> None:
    first, second = (quantize(mlp(), X, recipe(), bits=3).network.digest for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "per_channel", "left"), [
    (2, False, 0.5), (3, False, 0.85), (4, False, 0.85), (8, False, 1.3),
    (2, True, 0.8), (3, True, 1.0), (4, True, 1.0), (8, True, 1.3),
])  # fmt: skip
def test_search_beats_the_naive_scaling(bits: int, per_channel: bool, left: float) -> None:
    """On inputs that were not used for the search; `left`: of the spikes that differed."""
    fresh = spikes(np.random.default_rng(2), 128, 8, 20)
    known = spikes(np.random.default_rng(3), 128, 8, 20)
    target = execute(lower(mlp()), fresh).spikes

    def differing(method: str) -> float:
        quantized = quantize(
            mlp(), known, recipe(), bits=bits, method=method, per_channel=per_channel
        )
        got = run_recipe(quantized.network, fresh).spikes
        assert got is not None
        return float(np.mean([(a != b).mean() for a, b in zip(target, got, strict=True)]))

    assert differing("search") <= left * differing("max")


@pytest.mark.parametrize(("bits", "outlier", "larger"), [(4, 60.0, 3), (8, 300.0, 10)])
def test_outliers_saturate_where_that_agrees_better(
    bits: int, outlier: float, larger: float
) -> None:
    """One large weight of a neuron that always fires takes the resolution of all others."""
    graph = mlp()
    graph.nodes["a"].weight[0, 0] = outlier
    naive, ours = (
        quantize(graph, X, recipe(), bits=bits, method=method).losses[0]
        for method in ("max", "search")
    )
    assert naive.saturated == 0
    assert 1 / 480 <= ours.saturated < 0.03
    assert ours.scale > larger * naive.scale
    assert ours.agreement > naive.agreement + 0.05


def test_compensated_rounding_cancels_errors_of_correlated_inputs() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 30)) + 0.1 * rng.normal(size=(500, 30))
    weight = rng.normal(size=(20, 30)) * 3
    compensation = Compensation.of(x.T @ x / len(x))
    errors = [
        np.mean((x @ (rounded - weight).T) ** 2)
        for rounded in (nearest(weight, 4), compensation.round(weight, 4))
    ]
    assert errors[1] < 0.3 * errors[0]
    assert (compensation.round(weight, 4) % 1 == 0).all()
    assert np.abs(compensation.round(10 * weight, 4)).max() == 8
    independent = Compensation.of(np.eye(30))
    assert (independent.round(weight, 4) == nearest(weight, 4)).all()


def test_refitted_weights_make_up_for_messages_that_changed() -> None:
    rng = np.random.default_rng(0)
    exact, weight = rng.normal(size=(400, 10)), rng.normal(size=(3, 10))
    assert np.allclose(refit(weight, exact, exact, 0.1), weight)
    halved = exact * np.where(np.arange(10) < 5, 0.5, 1)
    error = [np.mean((halved @ w.T - exact @ weight.T) ** 2) for w in
             (weight, refit(weight, exact, halved, 1e-6))]  # fmt: skip
    assert error[1] < 1e-6 * error[0]


def test_columns_are_what_the_kernel_meets() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 1, 3, 3))
    node = conv2d((6, 6), kernel, np.zeros(4), (2, 2), (1, 1), groups=2)
    x = rng.normal(size=(2, 2, 6, 6)).astype(np.float32)
    neurons = nir.IF(*(np.full((4, 3, 3), value) for value in (1.0, 1.0, 0.0)))
    parts = list(columns(cell_of(Stage("n", node, neurons), 1.0), x))
    from torch import nn, tensor

    expected = nn.functional.conv2d(
        tensor(x), tensor(kernel, dtype=tensor(x).dtype), stride=2, padding=1, groups=2
    ).numpy()
    for g, part in enumerate(parts):
        got = part @ kernel[2 * g : 2 * g + 2].reshape(2, -1).T
        assert np.allclose(
            got, np.moveaxis(expected[:, 2 * g : 2 * g + 2], 1, -1).reshape(-1, 2), atol=1e-5
        )


def test_filtered_messages() -> None:
    x = np.array([[[1], [0], [0]]])
    assert np.allclose(filtered(x, 1.0, 0.5).ravel(), [1, 0.5, 0.25])
    assert np.allclose(filtered(x, 0.5, 0.0).ravel(), [1, 1.5, 1.75])


def test_joint_rounding_makes_up_for_truncated_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak of 1 / 1500 rounds to 3 / 4096, and truncation takes more in each of 800 steps."""
    rng = np.random.default_rng(0)
    weight = rng.integers(20, 128, (12, 16)) * 2 / 254
    neurons = nir_lif(12, tau=1.5, threshold=2000 / 254 / 1500)
    graph = graph_of({"a": nir.Linear(weight), "n": neurons}, (16,))
    known, fresh = (spikes(rng, 24, 800, 16, rate=0.006) for _ in range(2))
    target = execute(lower(graph), fresh).spikes[0]

    def matched() -> float:
        got = run_recipe(quantize(graph, known, recipe(800)).network, fresh).spikes
        assert got is not None
        return agree(target, got[0])[1]

    joint = matched()
    monkeypatch.setattr(search, "ROUNDS", 0)
    assert 1 - joint < 0.7 * (1 - matched())


def test_biases_move_by_row_and_the_threshold_as_a_whole() -> None:
    quantized = quantize(mlp(), X, recipe(), bits=2)
    loss, real = quantized.losses[0], quantized.real[0]
    moved = real.bias - mlp().nodes["a"].bias * loss.unit
    assert len(np.unique(np.round(moved, 6))) > 2
    assert np.ptp(real.threshold) == 0
    own = quantize(mlp(), X, recipe(), bits=2, per_channel=True).real[0]
    assert np.ptp(own.threshold) > 0


def test_silence_is_no_agreement() -> None:
    """Where spikes are rare, few neuron-steps differ from those of a silent layer."""
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 4, (12, 17)) * 2 / 254
    weight[:, 16] = 1.0  # an input that never comes takes the range
    neurons = nir_lif(12, tau=1.5, threshold=120 / 254 / 1500)
    x = spikes(rng, 24, 600, 17, rate=0.004)
    x[:, :, 16] = 0
    graph = graph_of({"a": nir.Linear(weight), "n": neurons}, (17,))
    loss = quantize(graph, x, recipe(600)).losses[0]
    assert 0.997 < loss.agreement < 1
    assert loss.matched > 0.3


@pytest.mark.parametrize("levels", [1, 16])
def test_recurrent_layers_agree(levels: int) -> None:
    """One scale for both matrices, each with its own step: inputs of 16 levels need smaller weights."""
    rng = np.random.default_rng(0)
    loop = nir.Affine(rng.normal(size=(24, 24)) / 4, rng.normal(size=24) / 10)
    nodes = {"a": dense(rng, 24, 20, 3.0), "n": nir_lif(24), "back": loop}
    graph = graph_of(nodes, (20,), ("n", "back"))
    graph.nodes["output"] = nir.Output({"output": np.array([24])})
    graph.edges = [("input", "a"), ("a", "n"), ("n", "back"), ("back", "n"), ("n", "output")]
    x = levels * X if levels == 1 else rng.integers(0, 9, X.shape).astype(np.int32)
    quantized = quantize(graph, x, recipe(levels=levels, message_bits=8 if levels > 1 else 0))
    (loss,), (real,) = quantized.losses, quantized.real
    (layer,) = (one for one in quantized.network.layers if isinstance(one, Dense))
    assert layer.recurrent is not None
    assert np.abs(layer.recurrent).max() > 120
    assert (real.step < real.recurrent_step) == (levels > 1)
    assert loss.agreement > 0.97
    for stored, exact, step in (
        (layer.weight, real.weight, real.step),
        (layer.recurrent, real.recurrent, real.recurrent_step),
    ):
        assert (stored == step * nearest(exact / step, 8)).all()
    assert loss.unit == levels * loss.scale
    assert np.std(layer.recurrent / loss.unit - loop.weight) < 0.05 * np.std(loop.weight)


def test_delays_are_kept() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 4, 20)
    nodes = {"d": nir.Delay(steps * DT), "a": dense(rng, 24, 20, 5.0), "n": nir_lif(24)}
    quantized = quantize(graph_of(nodes, (20,)), X, recipe(), bits=6)
    layer = quantized.network.layers[-1]
    assert isinstance(layer, Dense)
    assert (layer.delays == steps).all()
    assert layer.delay.shape == (20,)
    assert quantized.losses[0].agreement > 0.97
    assert quantized.losses[0].rounding == "nearest"


def test_neurons_with_their_own_time_constants() -> None:
    rng = np.random.default_rng(0)
    ones, into = np.ones(24), dense(rng, 24, 20, 4.0)
    neurons = nir.CubaLIF(
        tau_syn=rng.uniform(2e-3, 5e-3, 24), tau_mem=rng.uniform(2e-3, 9e-3, 24), r=ones,
        v_leak=0 * ones, v_threshold=0.4 * ones, v_reset=0 * ones, w_in=rng.uniform(0.5, 2, 24),
    )  # fmt: skip
    graph = graph_of({"a": nir.Linear(into.weight), "n": neurons}, (20,))
    quantized = quantize(graph, X, recipe())
    layer = quantized.network.layers[-1]
    assert layer.neuron.i_decay.shape == layer.neuron.v_decay.shape == (24,)
    assert np.abs(layer.neuron.i_decay - 4096 * DT / neurons.tau_syn).max() < 40
    assert quantized.losses[0].agreement > 0.99


def test_scales_per_channel() -> None:
    """Every channel fills its range; thresholds follow; a convolution keeps one per channel."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 1, 3, 3)) * np.array([1, 0.5, 0.1, 0.05])[:, None, None, None]
    ones = np.ones((4, 4, 4))
    sizes = np.broadcast_to(np.array([1, 0.5, 0.1, 0.05])[:, None, None], ones.shape)
    neurons = nir.LIF(2e-3 * ones, ones, 0 * ones, 0.3 * sizes, 0 * ones)
    graph = graph_of({"a": conv2d((6, 6), kernel, np.zeros(4)), "n": neurons}, (1, 6, 6))
    x = spikes(rng, 32, 8, 1, 6, 6)
    shared, own = (
        quantize(graph, x, recipe(), bits=4, method="max", per_channel=p) for p in (False, True)
    )
    layer = own.network.layers[-1]
    assert isinstance(layer, Conv)
    assert (np.abs(layer.weight).max(axis=(1, 2, 3)) >= 192).all()
    assert np.shape(layer.neuron.threshold) == (4,)
    assert own.losses[0].agreement > shared.losses[0].agreement + 0.02


def test_the_use_of_every_window_is_reported() -> None:
    """From an independent run of the engine."""
    quantized = quantize(mlp(), X, recipe(), bits=4)
    trace = run_recipe(quantized.network, X, record=("u", "v"))
    assert trace.u is not None
    for i, (layer, loss) in enumerate(
        zip(
            (x for x in quantized.network.layers if isinstance(x, Dense)),
            quantized.losses,
            strict=True,
        )
    ):
        assert loss.weight_used == max(layer.weight.max() / 254, layer.weight.min() / -256)
        assert loss.bias_used == max(layer.bias.max() / 4095, layer.bias.min() / -4096)
        assert loss.threshold_used == np.max(layer.neuron.threshold) / 131071
        assert loss.u_used == np.abs(trace.u[i]).max() / 2**23
        reached = np.abs(trace.v[i]).max() / 2**23
        assert reached <= loss.v_used < 1
        assert loss.v_used > np.min(layer.neuron.threshold) * 64 / 2**23
        assert loss.violations == ()


def test_violations_of_all_layers_are_listed() -> None:
    """Those of the integers, too: of every layer, after every layer was tried."""
    graph = mlp()
    for name in ("first", "last"):
        graph.nodes[name].v_threshold = np.full_like(graph.nodes[name].v_threshold, 1e-7)
    with pytest.raises(QuantizationError) as error:
        quantize(graph, X, recipe())
    assert [v.where for v in error.value.violations] == ["first", "last"]
    assert all("threshold rounds to 0" in v.what for v in error.value.violations)


def test_approximations_are_reported() -> None:
    rng = np.random.default_rng(0)
    ones = np.ones(24)
    neurons = nir.CubaLIF(3e-3 * ones, 3e-3 * ones, ones, 0 * ones, 0.4 * ones, 0 * ones)
    graph = graph_of({"a": dense(rng, 24, 20, 4.0), "n": neurons}, (20,))
    (loss,) = quantize(graph, X, recipe(), approximate_current_bias=True).losses
    assert [v.what for v in loss.violations] == ["a bias into a neuron with synaptic current"]


def test_a_soft_reset_is_approximated_on_request_only() -> None:
    """Agreement is then that with the network as it is, not with its approximation."""
    graph = mlp()
    graph.nodes["first"].metadata["reset"] = "subtract"
    with pytest.raises(ValueError, match="approximate_reset"):
        quantize(graph, X, recipe())
    loss = quantize(graph, X, recipe(), approximate_reset=True).losses[0]
    assert loss.agreement < 0.98
    assert quantize(mlp(), X, recipe()).losses[0].agreement > 0.99


def sensitive() -> nir.NIRGraph:
    """A first layer that half its neurons make large, and a last one whose weights are all alike."""
    rng = np.random.default_rng(0)
    nodes = {
        "a": dense(rng, 24, 20, 5.0), "first": nir_lif(24),
        "b": nir.Affine(np.where(rng.random((5, 24)) < 0.5, 1.0, -1.0), np.zeros(5)), "last": nir_lif(5),
    }  # fmt: skip
    return graph_of(nodes, (20,))


def test_mixed_precision_keeps_the_size_and_spends_bits_where_they_count() -> None:
    budget = (24 * 20 * 5 + 24 * 5 * 3) / 8
    result = mixed_precision(sensitive(), X[:24], recipe(), size=budget)
    assert result.size == (24 * 20 * result.bits[0] + 24 * 5 * result.bits[1]) / 8 <= budget
    assert result.bits[0] == 5
    assert result.bits[1] <= 3
    assert tuple(loss.bits for loss in result.quantized.losses) == result.bits
    assert result.sensitivity[0][0] > 3 * result.sensitivity[1][0]
    with pytest.raises(ValueError, match="with 2 bits, the weights take 150"):
        mixed_precision(sensitive(), X[:24], recipe(), size=100)


@pytest.mark.slow
def test_mixed_precision_keeps_the_loss() -> None:
    result = mixed_precision(sensitive(), X[:24], recipe(), loss=0.1)
    assert result.loss <= 0.1
    assert result.size < 8 * (24 * 20 + 24 * 5) / 8
    got = run_recipe(result.quantized.network, X[:24]).spikes[-1].sum(axis=1).argmax(axis=1)
    target = execute(lower(sensitive()), X[:24]).spikes[-1].sum(axis=1).argmax(axis=1)
    assert result.loss == np.mean(got != target)
    with pytest.raises(ValueError, match="either size"):
        mixed_precision(sensitive(), X[:24], recipe())
