"""Why a layer differs: every cause, made on purpose in one layer, must be called by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
import torch

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.simulate.engine import simulate
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.float.cell import cell_of, integer_cell
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.float.neuron import UnknownNeuronError
from spikeship.pipeline.float.run import run_cell
from spikeship.pipeline.graph import chain_graph, conv2d, stages
from spikeship.pipeline.lower import lower
from spikeship.pipeline.verify import Verification, verify
from spikeship.pipeline.verify.diagnosis import diagnose
from spikeship.pipeline.verify.hypotheses import ADVICE
from spikeship.pipeline.verify.sides import float_layers

from nets import nir_lif

STEPS = 12
RECIPE = Recipe(
    Coding("direct", STEPS, levels=8, message_bits=8), reset_interval=STEPS, reset_offset=1
)
DT = 1e-3


def messages(samples: int = 24, shape: tuple[int, ...] = (20,), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 9, (samples, STEPS, *shape)).astype(np.int32)


def neurons(n: int, kind: str = "lif", **change: Any) -> nir.NIRNode:
    """`decay`, `syn`: dt / tau; thresholds in volts."""
    one = np.ones(n)
    p = {"decay": 0.25, "syn": 0.5, "threshold": 1.0, "v_reset": 0.0, **change}
    voltages = {"v_threshold": p["threshold"] * one, "v_reset": p["v_reset"] * one}
    node: nir.NIRNode
    if kind == "if":
        node = nir.IF(r=one / DT, **voltages)
    elif kind == "lif":
        node = nir.LIF(tau=DT / p["decay"] * one, r=one / p["decay"], v_leak=0 * one, **voltages)
    else:
        tau = DT / p["syn"] * one
        node = nir.CubaLIF(
            tau_syn=tau, tau_mem=DT / p["decay"] * one, r=one / p["decay"], v_leak=0 * one,
            w_in=one / p["syn"], **voltages,
        )  # fmt: skip
    node.metadata |= p.get("metadata", {})
    return node


def weights(out: int, into: int, seed: int, grid: int | None = None) -> np.ndarray:
    """Drawn; on whole multiples of 1 / `grid` if given."""
    w = np.random.default_rng(seed).normal(0.03, 0.25, (out, into))
    return w if grid is None else np.round(w * grid) / grid


def graph_of(
    *layers: tuple[np.ndarray, Any, nir.NIRNode], shape: tuple[int, ...] = (20,)
) -> nir.NIRGraph:
    """Layers of (weights, bias or None, neurons)."""
    nodes: list[tuple[str, nir.NIRNode]] = []
    for i, (w, b, n) in enumerate(layers):
        nodes += [(f"w{i}", nir.Affine(w, np.zeros(len(w)) if b is None else b)), (f"n{i}", n)]
    return chain_graph(nodes, shape, {"dt": DT})


def integers_of(graph: nir.NIRGraph, unit: float, recipe: Recipe = RECIPE) -> Network:
    """Rounds every parameter of a lowered graph of dense layers at one scale; clips nothing."""
    layers: list[Layer] = [Input((20,))]
    for i, stage in enumerate(stages(graph)):
        cell = cell_of(stage, DT, recipe.coding.levels if i == 0 else 1)
        scale = unit * (recipe.coding.levels if i == 0 else 1)
        bias = np.round((cell.bias + cell.charge / cell.i_decay) * scale)
        decays = (np.round(d * 4096).astype(int) for d in (cell.i_decay, cell.v_decay))
        i_decay, v_decay = (d.flat[0] for d in decays)
        threshold = int(np.round(cell.threshold * scale).flat[0])
        layers.append(
            Dense(
                np.round(cell.weight * scale),
                bias if bias.any() else None,
                CubaLIF(int(i_decay), int(v_decay), threshold),
            )
        )
    return Network(layers, recipe)


def changed(
    network: Network, index: int, neuron: dict[str, Any] | None = None, **layer: Any
) -> Network:
    """The network with one layer's fields replaced."""
    layers = list(network.layers)
    old: Any = layers[index]
    if neuron:
        layer["neuron"] = replace(old.neuron, **neuron)
    layers[index] = replace(old, **layer)
    return Network(layers, network.recipe)


def pair(
    kind: str = "lif",
    *,
    seed: int = 0,
    bias: bool = False,
    unit: float = 64.0,
    grid: int | None = 64,
    **p: Any,
) -> tuple[nir.NIRGraph, Network]:
    """Two layers in float, whose numbers are whole at `unit` = `grid`, and their integers."""
    b = (np.full(16, 0.125), np.full(8, 0.125)) if bias else (None, None)
    layers = [
        (weights(16, 20, seed, grid), b[0], neurons(16, kind, **p)),
        (weights(8, 16, seed + 1, grid), b[1], neurons(8, kind, **p)),
    ]
    graph = graph_of(*layers)
    return graph, integers_of(graph, unit)


# -- one layer's equation -------------------------------------------------------------------------

CELLS: dict[str, Callable[[], nir.NIRNode]] = {
    "if": lambda: neurons(16, "if", v_reset=0.25),
    "lif": lambda: neurons(16, v_reset=-0.2),
    "lif, subtract": lambda: neurons(16, metadata={"reset": "subtract"}),
    "lif, subtract late": lambda: neurons(16, metadata={"reset": "subtract", "reset_delay": 1}),
    "lif, subtract at once": lambda: neurons(16, threshold=0.3, metadata={"reset": "subtract-at-once"}),
    "lif, none": lambda: neurons(16, metadata={"reset": "none"}),
    "lif, zero late": lambda: neurons(16, metadata={"reset_delay": 1}),
    "cuba": lambda: neurons(16, "cuba"),
    "cuba, zero late": lambda: neurons(16, "cuba", metadata={"reset_delay": 1}),
    "cuba, grid": lambda: neurons(16, "cuba", syn=1000 / 4096, metadata={"state_grid": 4096}),
    "threshold": lambda: nir.Threshold(np.full(16, 0.7)),
    "li": lambda: nir.LI(tau=np.full(16, 4e-3), r=np.ones(16), v_leak=np.full(16, 0.1)),
    "i": lambda: nir.I(r=np.full(16, 10.0)),
}  # fmt: skip


@pytest.mark.parametrize("recurrent", [False, True], ids=["", "recurrent"])
@pytest.mark.parametrize("name", CELLS)
def test_a_float_layer_is_what_execute_runs(name: str, recurrent: bool) -> None:
    node = CELLS[name]()
    recurrent = recurrent and not isinstance(node, (nir.LI, nir.I))  # recurrence needs spikes
    nodes = [("w", nir.Affine(weights(16, 20, 3), np.full(16, 0.1))), ("n", node)]
    loop = {"n": [("r", nir.Linear(weights(16, 16, 4)))]} if recurrent else None
    graph = chain_graph(nodes, (20,), {"dt": DT}, loop)
    (stage,) = float_layers(graph)
    trace = execute(graph, messages() / 8)
    for unit in (1.0, 100.0):
        cell = cell_of(stage, DT, levels=8).scaled(unit)
        spikes, voltage = run_cell(cell, messages())
        assert (spikes == trace.spikes[0]).all()
        assert np.allclose(cell.rest + cell.gain * voltage, trace.voltage[0], atol=1e-9)
    assert trace.spikes[0].any() != isinstance(node, (nir.LI, nir.I))


def test_a_float_convolution_with_delay_and_unknown_neurons() -> None:
    rng = np.random.default_rng(0)
    conv = conv2d(
        (6, 7), rng.normal(0, 0.4, (4, 1, 3, 2)), rng.normal(0, 0.1, 4), (2, 1), (1, 0), (1, 2), 2
    )
    size = tuple(int(n) for n in conv.output_type["output"])
    node = nir_lif(size, 2e-3, 0.2)
    graph = lower(chain_graph([("c", conv), ("n", node)], (2, 6, 7), {"dt": DT}))
    x = messages(8, (2, 6, 7))
    spikes, _ = run_cell(cell_of(stages(graph)[0], DT), x)
    assert (spikes == execute(graph, x).spikes[0]).all()
    assert spikes.any()

    delay = nir.Delay(np.arange(20) % 3 * DT)
    graph = lower(
        chain_graph(
            [("d", delay), ("w", nir.Affine(weights(16, 20, 3), np.zeros(16))), ("n", neurons(16))],
            (20,),
            {"dt": DT},
        )
    )
    (stage,) = stages(graph)
    spikes, _ = run_cell(cell_of(stage, DT, levels=8), messages())
    assert (spikes == execute(graph, messages() / 8).spikes[0]).all()
    with pytest.raises(UnknownNeuronError, match="n: Delay neurons are not modelled"):
        cell_of(replace(stage, neuron=delay), DT)


def _random(rng: np.random.Generator, kind: str) -> Network:
    def draw(*shape: int, low: int = -100, high: int = 255) -> np.ndarray:
        return rng.integers(low, high, shape)

    def cuba(n: int) -> CubaLIF:
        return CubaLIF(
            rng.integers(0, 4097, n), int(rng.integers(0, 4097)), rng.integers(1, 2000, n)
        )

    if kind == "conv":
        layer = Conv(draw(4, 1, 3, 3), draw(4), cuba(4), stride=(2, 1), padding=(1, 1), groups=2)
        return Network([Input((2, 6, 6)), layer, Flatten(), Dense(draw(9, 72), None, cuba(9))])
    if kind == "conv overflow":  # most sums beyond 24 bits, many beyond 32
        return Network([Input((2, 6, 6)), Conv(draw(4, 2, 3, 3), draw(4), cuba(4))])
    if kind == "recurrent":
        return Network(
            [Input((20,)), Dense(draw(16, 20), draw(16), cuba(16), recurrent=draw(16, 16))]
        )
    if kind == "half weights":  # Lava clips -128 beside this excitatory recurrence to -127.5
        weight = np.where(rng.random((16, 20)) < 0.5, -128, -draw(16, 20, low=1, high=99))
        neuron = CubaLIF(0, 0, 40)
        return Network(
            [Input((20,)), Dense(weight, None, neuron, recurrent=draw(16, 16, low=1, high=31))]
        )
    if kind == "half weights back":
        weight = np.where(rng.random((16, 16)) < 0.5, -128, -draw(16, 16, low=1, high=99))
        neuron = CubaLIF(0, 0, 40)
        return Network(
            [Input((20,)), Dense(draw(16, 20, low=1, high=31), None, neuron, recurrent=weight)]
        )
    if kind == "delay":
        return Network(
            [
                Input((20,)),
                Dense(draw(16, 20), draw(16), cuba(16), delay=draw(16, 20, low=0, high=5)),
            ]
        )
    if kind == "overflow":
        neuron = CubaLIF(0, 0, 131000)
        return Network([Input((20,)), Dense(draw(16, 20), np.full(16, 4000), neuron)])
    return Network([Input((20,)), Dense(draw(16, 20), draw(16), None)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "kind",
    [
        "conv",
        "conv overflow",
        "recurrent",
        "half weights",
        "half weights back",
        "delay",
        "overflow",
        "integrator",
    ],
)
def test_an_integer_layer_is_what_the_engine_runs(kind: str, seed: int) -> None:
    network = _random(np.random.default_rng(seed), kind)
    reach = {
        "overflow": (0, 2000),
        "conv overflow": (1 - (1 << 24), 1 << 24),
        "half weights": (-2, 2),
    }
    low, high = reach.get(kind, (0, 2))
    x = (
        np.random.default_rng(seed + 9)
        .integers(low, high, (5, 30, *network.input_shape))
        .astype(np.int32)
    )
    trace = simulate(network, x, record=("spikes", "v"))
    assert trace.spikes is not None
    assert trace.v is not None
    before = x
    for p in network.populations:
        late = np.zeros_like(before)
        late[:, 1:] = before[:, :-1]
        spikes, voltage = run_cell(integer_cell(p), late)
        assert (spikes == trace.spikes[p.index]).all()
        assert (np.where(spikes, 0, voltage * 64) == trace.v[p.index]).all()
        before = trace.spikes[p.index]
        assert before.any() == (kind != "integrator")
    if kind == "conv overflow":
        weight = torch.tensor(network.layers[1].weight).double()
        sums = torch.nn.functional.conv2d(torch.as_tensor(x[:, 0]).double(), weight)
        assert (sums.abs() > 1 << 31).any()
        assert trace.overflow is not None
        assert trace.overflow[0].sum_wraps
    if kind == "overflow":
        assert trace.overflow is not None
        assert trace.overflow[0].u_wraps
        assert trace.overflow[0].v_clips


# -- causes made on purpose -----------------------------------------------------------------------

Case = tuple[nir.NIRGraph, Network, np.ndarray]


def made(
    kind: str = "lif",
    *,
    neuron: dict[str, Any] | None = None,
    layer: dict[str, Any] | None = None,
    recipe: Recipe = RECIPE,
    x: np.ndarray | None = None,
    unit: float = 64,
    grid: int | None = 64,
    bias: bool = False,
    **p: Any,
) -> Case:
    """A pair whose integers are exact, but for the fields given, which change in the first layer."""
    graph, network = pair(kind, unit=unit, grid=grid, bias=bias, **p)
    if neuron or layer:
        network = changed(network, 1, neuron, **(layer or {}))
    return graph, Network(network.layers, recipe), messages() if x is None else x


def soft(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"reset": "subtract", **metadata}}


def clipped_weights() -> Case:
    """Scale 200: one weight in five is beyond the range."""
    graph, network, x = made(unit=1, grid=64)
    (first, second) = (cell_of(s, DT) for s in stages(lower(graph)))
    del second
    weight = np.clip(np.round(first.weight * 768), -256, 254)
    layer = Dense(weight, None, CubaLIF(4096, 1024, 768 * 8))
    return graph, Network([network.layers[0], layer, network.layers[2]], RECIPE), x


def clipped_voltages() -> Case:
    """Strong inhibition first: v stops at -2^23, and recovers too early."""
    x = messages()
    x[:, :6], x[:, 6:] = -100, 100
    graph = graph_of((np.abs(weights(16, 20, 0, 64)), None, neurons(16, "if", threshold=60.0)))
    cell = cell_of(stages(graph)[0], DT, 8)
    network = Network(
        [Input((20,)), Dense(cell.weight * 512, None, CubaLIF(4096, 0, 60 * 512))], RECIPE
    )
    return graph, network, x


def other_delay() -> Case:
    graph, network, x = made()
    layers = chain_graph(
        [
            ("d", nir.Delay(np.full(20, DT))),
            *((n, graph.nodes[n]) for n in ("w0", "n0", "w1", "n1")),
        ],
        (20,),
        {"dt": DT},
    )
    return layers, network, x


def own_thresholds() -> Case:
    """Every row of the integers at a scale of its own: the same network."""
    graph, network, x = made(grid=None, unit=16)
    old: Any = network.layers[1]
    gain = 1 + np.arange(16) % 3
    cell = cell_of(stages(graph)[0], DT, 8)
    weight = np.round(cell.weight * 128 * gain[:, None])
    layer = Dense(weight, None, CubaLIF(4096, 1024, old.neuron.threshold * gain))
    return graph, Network([network.layers[0], layer, network.layers[2]], RECIPE), x


def late_convolution() -> Case:
    """A convolution of netx has no delays."""
    rng = np.random.default_rng(0)
    weight = np.round(rng.normal(0.03, 0.25, (4, 2, 3, 3)) * 64)
    x = messages(12, (2, 6, 6))
    node = nir_lif((4, 4, 4), 4e-3, r=4.0)
    nodes = [
        ("d", nir.Delay(np.full((2, 6, 6), DT))),
        ("c", conv2d((6, 6), weight / 64, np.zeros(4))),
        ("n", node),
    ]
    graph = chain_graph(nodes, (2, 6, 6), {"dt": DT})
    return (
        graph,
        Network([Input((2, 6, 6)), Conv(weight, None, CubaLIF(4096, 1024, 512))], RECIPE),
        x,
    )


LATE = Recipe(Coding("direct", STEPS, levels=8, message_bits=8))
CAUSES: dict[str, tuple[str, str, Callable[[], Case]]] = {
    "coarse weights": ("rounding", "weight", lambda: made("if", grid=None, unit=12)),
    "coarse weights, per row": ("rounding", "weight", own_thresholds),
    "coarse threshold": ("rounding", "threshold", lambda: made("if", grid=8, unit=8, threshold=1.03)),
"integer states": ("decay truncation", "cut", lambda: made(grid=2, unit=2, decay=1229 / 4096, threshold=0.25, x=messages() % 2)),
    "integer currents": ("decay truncation", "cut", lambda: made("cuba", grid=2, unit=2, syn=1229 / 4096, threshold=0.25, x=messages() % 2)),
    "weights at the edge": ("saturation", "of weight clipped", clipped_weights),
    "voltage at the edge": ("saturation", "v clips", clipped_voltages),
    "soft reset": ("reset", "float: subtract; integers: zero", lambda: made(**soft())),
    "soft reset at once": ("reset", "float: subtract-at-once", lambda: made(metadata={"reset": "subtract-at-once"})),
    "soft reset, late": ("reset", "subtract, a step later", lambda: made(**soft(reset_delay=1))),
    "late reset": ("reset", "zero, a step later", lambda: made("cuba", metadata={"reset_delay": 1})),
    "reset below rest": ("reset", "not the rest", lambda: made(v_reset=-0.5)),
    "one step late": ("latency", "delays differ", lambda: made(layer={"delay": 1})),
    "one step early": ("latency", "delays differ", other_delay),
    "convolution without its delay": ("latency", "1 step earlier", late_convolution),
    "half the dt": ("dt", "0.5 times", lambda: made(neuron={"v_decay": 512, "threshold": 8 * 64 * 2})),
    "ten times the dt": ("dt", "10 times", lambda: made(decay=0.0625, neuron={"v_decay": 2560, "threshold": 51})),
    "0.7 of the dt": ("dt", "0.7", lambda: made(neuron={"v_decay": 717, "threshold": 731})),
    "decays of twice the dt": ("dt", "decays fit 2 times", lambda: made(neuron={"v_decay": 2048})),
    "twice the dt, with current": ("dt", "2 times", lambda: made("cuba", syn=0.25, neuron={"v_decay": 2048, "i_decay": 2048, "threshold": 256})),
    "twice the dt, but for w_in": ("dt", "2 times", lambda: made("cuba", syn=0.25, neuron={"v_decay": 2048, "i_decay": 2048, "threshold": 128})),
    "integrators, twice the dt": ("dt", "2 times", lambda: made("if", neuron={"threshold": 256})),
    "biases before the data": ("bias timing", "another step", lambda: made(bias=True, recipe=LATE)),
    "bias charges the current": ("bias timing", "at once", lambda: made("cuba", bias=True, syn=0.125)),
    "fires at the threshold": ("threshold test", "integers fire where", lambda: made("if", grid=4, unit=4, neuron={"threshold": 31})),
    "does not fire at it": ("threshold test", "do not fire where", lambda: made("if", grid=4, unit=4, threshold=1 - 1e-9)),
    "another network": ("parameters", "of weight", lambda: made(layer={"weight": np.round(weights(16, 20, 77, 64) * 64)})),
}  # fmt: skip


def checked(case: Case) -> Verification:
    graph, network, x = case
    return verify(Deployed(network, graph), x, lava_samples=0, reference_samples=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSES)
def test_a_cause_is_called_by_its_name(name: str) -> None:
    cause, detail, make = CAUSES[name]
    result = checked(make())
    assert result.diagnoses
    first = result.diagnoses[0]
    assert first.layer in ("1:dense", "1:conv")
    assert first.own == first.alone == first.mismatches > 0
    assert first.cause == cause
    assert detail in first.detail
    assert first.explained > 0.5
    assert first.advice == ADVICE[cause]


@pytest.mark.parametrize("kind", ["lif", "if", "cuba"])
def test_equal_numbers_need_no_cause(kind: str) -> None:
    graph, network, x = made(kind, grid=64, unit=64, decay=0.25, syn=0.5)
    result = checked((graph, network, x))
    assert all(a.equal > 0.998 for a in result.to_float or ())
    assert {d.cause for d in result.diagnoses} <= {"decay truncation", "inherited"}
    assert kind != "if" or result.diagnoses == ()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["lif", "if", "cuba"])
def test_a_healthy_network_only_rounds(kind: str, seed: int) -> None:
    graph, network = pair(kind, seed=seed, grid=None, unit=16.0)
    result = checked((graph, network, messages(seed=seed)))
    assert result.diagnoses
    assert {d.cause for d in result.diagnoses} <= {"rounding", "decay truncation", "inherited"}


def test_what_comes_from_before_is_called_inherited() -> None:
    """The second layer computes right; its first is late."""
    graph, network, x = made("if", layer={"delay": 1})
    result = checked((graph, network, x))
    first, second = result.diagnoses
    assert first.cause == "latency"
    assert (second.layer, second.cause) == ("2:dense", "inherited")
    assert second.own == 0 < second.mismatches
    assert "alone it would have 0 of the" in second.detail


def test_what_mostly_comes_from_before_is_called_inherited() -> None:
    """The second layer rounds too, but that is not why it differs."""
    graph, network, x = made("if", grid=None, unit=48.0, layer={"delay": 1})
    _, second = checked((graph, network, x)).diagnoses
    assert second.cause == "inherited"
    assert 0 < second.own < second.mismatches / 4
    assert second.explained == 1 - second.own / second.mismatches
    assert second.causes[0].cause == "rounding"


def test_recurrence_is_given_its_own_input() -> None:
    """The mismatches that a layer makes, and those that its recurrence makes of them."""
    loop = {"n": [("r", nir.Linear(weights(16, 16, 4)))]}
    nodes = [("w", nir.Affine(weights(16, 20, 3), np.zeros(16))), ("n", neurons(16, "if"))]
    graph = chain_graph(nodes, (20,), {"dt": DT}, loop)
    (stage,) = float_layers(graph)
    cell = cell_of(stage, DT, 8).scaled(96.0)
    layer = Dense(
        np.round(cell.weight), None, CubaLIF(4096, 0, 96), recurrent=np.round(cell.recurrent)
    )
    result = checked((graph, Network([Input((20,)), layer], RECIPE), messages()))
    (found,) = result.diagnoses
    assert found.cause == "rounding"
    assert 0 < found.own < found.alone == found.mismatches
    assert f"recurrence makes {found.alone} mismatches of {found.own}" in found.detail
    (agreement,) = result.to_float or ()
    assert agreement.by_step is not None
    assert len(agreement.by_step) == STEPS
    assert np.mean(agreement.by_step[:3]) > np.mean(agreement.by_step[-3:])


def test_spikes_of_another_equation_have_no_known_cause() -> None:
    graph, network, x = made("if")
    (population, _) = network.populations
    real = cell_of(stages(graph)[0], DT, 8)
    noise = (np.random.default_rng(0).random((24, STEPS, 16)) < 0.3).astype(np.int8)
    found = diagnose("layer", real, integer_cell(population), x, noise, 500, slice(0, STEPS))
    assert found.cause == "unknown"
    assert "do not give these spikes either" in found.detail
    assert found.own > 0


def test_without_a_float_graph_only_states_can_differ() -> None:
    _, network, x = made(grid=2, unit=2, decay=1229 / 4096, threshold=0.25, x=messages() % 2)
    result = verify(Deployed(network), x, lava_samples=0, reference_samples=1)
    assert result.to_float is result.to_quantized is None
    assert result.from_quantized is not None
    assert {d.cause for d in result.diagnoses} <= {"decay truncation", "inherited"}
    assert result.diagnoses[0].cause == "decay truncation"
