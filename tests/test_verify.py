"""The sides of a network beside each other: what is compared, how it is named, what is reported."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from rich.table import Table
from torch import nn

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, Delta, SigmaDelta
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.simulate.trace import Recorded
from spikeship.pipeline import records
from spikeship.pipeline.cli.verify import verdicts, verification_tables
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import Backend, run_recipe, scores
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_netx, from_norse
from spikeship.pipeline.graph import chain_graph
from spikeship.pipeline.quantize import quantize
from spikeship.pipeline.verify.sides import float_layers, float_side, hardware, quantized_side
from spikeship.pipeline.verify.verify import Verification, layer_ids, verify

import nets
from nets import SHAPE, graph_of, lif, nir_lif, readout

RECIPE = Recipe(Coding("direct", 8, levels=16, message_bits=8), reset_interval=8, reset_offset=1)
LABELS = np.arange(48) % 5


def inputs(samples: int = 48, seed: int = 0) -> np.ndarray:
    return nets.inputs(samples, seed)


DENSE = graph_of(nn.Flatten(), nn.Linear(36, 24), lif(), nn.Linear(24, 5), lif())
CONV = graph_of(
    nn.Conv2d(1, 4, 3), lif(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5), readout()
)


@pytest.fixture(scope="module")
def dense() -> Network:
    return quantize(DENSE, inputs(), RECIPE, bits=4).network


@pytest.fixture(scope="module")
def conv() -> Network:
    return quantize(CONV, inputs(), replace(RECIPE, decode="mean voltage"), bits=6).network


@pytest.fixture(scope="module")
def result(dense: Network) -> Verification:
    return verify(Deployed(dense, DENSE), inputs(seed=1), labels=LABELS, lava_samples=0)


def test_layers_have_both_names(result: Verification, dense: Network) -> None:
    """The names follow from the architecture: a second export of other weights has the same."""
    names = [(layer.layer, layer.source, layer.shape) for layer in result.layers]
    assert names == [("2:dense", "2:lif", (24,)), ("3:dense", "4:lif", (5,))]
    again = quantize(DENSE, inputs(seed=5), RECIPE, bits=8).network
    assert again != dense
    assert layer_ids(again, float_layers(DENSE)) == result.layers
    for agreements in (result.to_float, result.to_quantized, result.from_quantized):
        assert agreements is not None
        assert [a.layer for a in agreements] == ["2:dense", "3:dense"]
    assert {d.layer for d in result.diagnoses} <= {"2:dense", "3:dense"}
    without = verify(Deployed(dense), inputs(4), lava_samples=0)
    assert [layer.source for layer in without.layers] == [None, None]
    assert without.to_float is without.same_answers is without.to_quantized is None


def test_another_network_is_refused_with_both_lists(dense: Network) -> None:
    with pytest.raises(ValueError, match="different layers") as error:
        verify(Deployed(dense, CONV), inputs(), lava_samples=0)
    assert "float: 1:lif 4x4x4, 5:li 5" in str(error.value)
    assert "network: 2:dense 24, 3:dense 5" in str(error.value)


def test_the_sides_are_what_they_say(dense: Network) -> None:
    """Float: `execute`; quantized: `execute` of the integers as a graph; integers: the simulator."""
    x = inputs(40, seed=1)
    side = float_side(DENSE, float_layers(DENSE), x, RECIPE)
    expected = execute(DENSE, x / 16)
    assert all((a == b).all() for a, b in zip(side.spikes, expected.spikes, strict=True))
    assert (side.scores == expected.spikes[-1].sum(axis=1)).all()

    graph = from_netx(dense)
    for node in graph.nodes.values():
        node.metadata.pop("state_grid", None)
    expected = execute(graph, x / 16)
    side = quantized_side(dense, x)
    assert all((a == b).all() for a, b in zip(side.spikes, expected.spikes, strict=True))

    trace = run_recipe(dense, x)
    assert trace.spikes is not None
    side = hardware(dense, x).side
    assert all((a == b).all() for a, b in zip(side.spikes, trace.spikes, strict=True))
    assert (side.scores == scores(dense, trace)).all()


def test_membranes_say_why_a_spike_differs(result: Verification) -> None:
    """One side above its threshold, the other not, as their spikes have it."""
    for agreements in (result.to_float, result.to_quantized, result.from_quantized):
        for a in agreements or ():
            if a.first is None:
                continue
            for spike, membrane in (
                (a.first.first, a.first.first_membrane),
                (a.first.second, a.first.second_membrane),
            ):
                assert membrane is not None
                assert spike == (membrane.voltage > membrane.threshold)
    assert not all(a.exact for a in result.to_float or ())


def test_agreement_over_time(result: Verification) -> None:
    for a in result.to_float or ():
        assert a.by_step is not None
        assert len(a.by_step) == 8
        assert np.isclose(np.mean(a.by_step), a.equal, atol=1e-5)
        assert (a.first is None) == (min(a.by_step) == 1)
        if a.first is not None:
            assert set(a.by_step[: a.first.step]) <= {1.0}
            assert a.by_step[a.first.step] < 1
    assert all(a.by_step is None for a in result.to_reference if a.quantity != "spikes")


def test_accuracies_and_their_differences(result: Verification, dense: Network) -> None:
    x = inputs(seed=1)
    expected = {
        "float": execute(DENSE, x / 16).spikes[-1].sum(axis=1),
        "quantized": quantized_side(dense, x).scores,
        "integers": scores(dense, run_recipe(dense, x)),
    }
    assert [a.side for a in result.accuracy] == list(expected)
    for a in result.accuracy:
        right = expected[a.side].argmax(axis=1) == LABELS
        assert (a.samples, a.accuracy) == (48, right.mean())
        assert a.delta == a.accuracy - result.accuracy[0].accuracy
    assert verify(Deployed(dense), x[:3], lava_samples=0).accuracy == ()


def test_a_readout_has_answers_but_no_spikes(conv: Network) -> None:
    x = inputs(seed=1)
    found = verify(Deployed(conv, CONV), x, labels=LABELS, lava_samples=0)
    assert [a.layer for a in found.to_float or ()] == ["1:conv"]
    assert [a.layer for a in found.from_quantized or ()] == ["1:conv"]
    assert [layer.layer for layer in found.layers] == ["1:conv", "3:dense"]
    assert found.same_answers is not None
    assert found.same_answers > 0.9
    answers = execute(CONV, x / 16).voltage[-1].mean(axis=1).argmax(axis=1)
    assert found.accuracy[0].accuracy == (answers == LABELS).mean()
    table = verification_tables(found)[0]
    assert isinstance(table, Table)
    assert [list(column.cells)[1] for column in table.columns][2:5] == ["readout"] * 3


def shared_cells() -> norse.SequentialState:
    torch.manual_seed(0)
    cell = norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.2)))
    net = norse.SequentialState(
        nn.Flatten(),
        nn.Linear(36, 20, bias=False),
        cell,
        nn.Linear(20, 12, bias=False),
        cell,
        nn.Linear(12, 5),
        readout(),
    )
    with torch.no_grad():
        net[3].weight *= 3
    return net


@pytest.mark.parametrize("wrong", [False, True])
def test_the_module_itself_is_a_side(wrong: bool) -> None:
    """Its own forward against the float graph, every spike; a graph of another network is not ok."""
    net = shared_cells()
    graph = from_norse(net, SHAPE)
    network = quantize(graph, inputs(), replace(RECIPE, decode="mean voltage")).network
    if wrong:
        with torch.no_grad():
            net[3].weight *= -1
    found = verify(
        Deployed(network, graph), inputs(seed=1), module=net, lava_samples=0, tolerance=1.0
    )
    assert found.to_module is not None
    assert [a.quantity for a in found.to_module] == ["spikes", "spikes", "answers"]
    assert found.ok is not wrong
    assert found.to_module[0].exact
    assert found.to_module[1].exact is not wrong
    assert any("the module itself" in str(line) for line in verification_tables(found))


def test_a_module_needs_its_graph(dense: Network) -> None:
    with pytest.raises(ValueError, match="give the graph as well"):
        verify(Deployed(dense), inputs(), module=shared_cells(), lava_samples=0)
    with pytest.raises(
        ValueError, match=r"layers of other shapes .*module that this file was made from"
    ):
        verify(Deployed(dense, DENSE), inputs(), module=shared_cells(), lava_samples=0)


def test_tolerance_decides(dense: Network, result: Verification) -> None:
    worst = 1 - min(a.equal for a in result.to_float or ())
    assert 0 < worst < 0.2
    assert replace(result, tolerance=worst + 1e-9).ok
    assert not replace(result, tolerance=worst - 1e-9).ok
    assert not replace(result, tolerance=1.0, reread=False).ok


def test_a_backend_that_differs_is_seen(dense: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """One state of one neuron off by one in the reference: not ok, and the place is named."""

    def off(network: Network, messages: Any, *, backend: Backend = "engine", **options: Any) -> Any:
        trace = run_recipe(network, messages, backend=backend, **options)
        if backend == "reference":
            assert trace.v is not None
            arrays = [a.copy() for a in trace.v]
            arrays[1][2, 5, 3] += 1
            trace = replace(trace, v=Recorded("v", arrays))
        return trace

    module = importlib.import_module("spikeship.pipeline.verify.verify")  # not the function
    monkeypatch.setattr(module, "run_recipe", off)
    found = verify(Deployed(dense), inputs(8), lava_samples=0, reference_samples=3)
    assert not found.ok
    (bad,) = (a for a in found.to_reference if not a.exact)
    assert (bad.layer, bad.quantity) == ("3:dense", "v")
    assert bad.first is not None
    assert (bad.first.sample, bad.first.step, bad.first.neuron) == (2, 5, (3,))
    assert (found.reference_samples, found.lava_skipped) == (3, "not asked for")


@pytest.mark.slow
@pytest.mark.lava
def test_lava_is_one_of_the_sides(conv: Network) -> None:
    found = verify(Deployed(conv, CONV), inputs(6, seed=1), labels=LABELS[:6], lava_samples=2)
    assert found.ok
    assert found.lava_samples == 2
    assert {a.quantity for a in found.to_lava or ()} == {"spikes", "u", "v"}
    assert all(a.exact for a in found.to_lava or ())
    assert [(a.side, a.samples) for a in found.accuracy] == [
        ("float", 6), ("quantized", 6), ("integers", 6), ("lava", 2),
    ]  # fmt: skip


def test_soft_resets_of_the_float_graph_stay() -> None:
    """Lowering refuses them; `verify` measures what they cost."""
    node = nir_lif(5, 2e-3, 0.5, reset="subtract")
    weight = np.random.default_rng(0).normal(0.1, 0.3, (5, 36))
    flat = nir.Flatten({"input": np.array(SHAPE)}, start_dim=0)
    nodes = [("f", flat), ("w", nir.Affine(weight, np.zeros(5))), ("n", node)]
    graph = chain_graph(nodes, SHAPE, {"dt": 1e-3})
    layer = Dense(np.round(weight * 128), None, CubaLIF(4096, 2048, 128 * 16))
    network = Network([Input(SHAPE), Flatten(), layer], RECIPE)
    found = verify(Deployed(network, graph), inputs(), lava_samples=0)
    (diagnosis,) = found.diagnoses
    assert diagnosis.cause == "reset"
    assert graph.nodes["n"].metadata == {"reset": "subtract"}


def test_networks_of_other_neurons_have_exact_checks_only() -> None:
    layers = [Input((4,), Delta(1)), Dense(np.eye(4) * 64, None, SigmaDelta(1))]
    recipe = Recipe(Coding("direct", 6, message_bits=16))
    x = np.random.default_rng(0).integers(0, 50, (3, 6, 4)).astype(np.int32)
    found = verify(Deployed(Network(layers, recipe)), x, lava_samples=0)
    assert found.ok
    assert found.from_quantized is None
    assert "is no layer of CubaLIF neurons" in (found.quantized_skipped or "")
    assert {a.quantity for a in found.to_reference} == {"spikes", "u", "v", "residue"}


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 3])
def test_what_quantize_does_is_called_rounding(bits: int) -> None:
    """Its errors make up for each other: no parameter is wrong for that."""
    for graph in (DENSE, CONV):
        decode = "mean voltage" if graph is CONV else "spike count"
        network = quantize(graph, inputs(), replace(RECIPE, decode=decode), bits=bits).network
        found = verify(
            Deployed(network, graph), inputs(seed=2), lava_samples=0, reference_samples=1
        )
        causes = {d.cause for d in found.diagnoses}
        assert causes <= {"rounding", "decay truncation", "inherited"}, found.diagnoses


def test_each_of_two_matrices_has_its_own_steps() -> None:
    """Recurrent weights far larger than the others are rounded more coarsely, and that is no fault."""
    p = norse.LIFParameters(
        tau_mem_inv=torch.tensor(300.0), tau_syn_inv=torch.tensor(400.0), v_th=torch.tensor(0.3)
    )
    torch.manual_seed(0)
    cell = norse.LIFRecurrentCell(36, 20, p=p)
    with torch.no_grad():
        cell.recurrent_weights *= 30
    graph = from_norse(norse.SequentialState(nn.Flatten(), cell), SHAPE)
    network = quantize(graph, inputs(), RECIPE, bits=5).network
    layer = network.layers[-1]
    assert isinstance(layer, Dense)
    assert layer.recurrent is not None
    assert np.abs(layer.recurrent).max() > 4 * np.abs(layer.weight).max()
    (found,) = verify(Deployed(network, graph), inputs(seed=1), lava_samples=0).diagnoses
    assert found.cause == "rounding"


def test_verdicts_are_one_line_per_layer_and_json_holds_all(result: Verification) -> None:
    lines = verdicts(result)
    assert [line.split(": ")[0] for line in lines] == [d.layer for d in result.diagnoses]
    for line, d in zip(lines, result.diagnoses, strict=True):
        assert f"Likely cause: {d.cause}" in line
        assert f"To do: {d.advice}" in line
        assert "first at sample" in line
        assert "(v " in line
    plain = json.loads(records.dumps(result))
    assert plain["layers"][0] == {"layer": "2:dense", "source": "2:lif", "shape": [24]}
    assert plain["diagnoses"][0]["tried"]
    assert len(plain["to_float"][0]["by_step"]) == 8
    assert plain["accuracy"][0]["side"] == "float"


# ---- what the original framework recorded ----


def recorded(graph: nir.NIRGraph, x: np.ndarray, form: str) -> np.ndarray:
    trace = execute(graph, x / 16)
    return {
        "spikes": trace.spikes[-1],
        "bool": trace.spikes[-1].astype(bool),
        "counts": trace.spikes[-1].sum(1),
        "voltages": trace.voltage[-1].astype(np.float32),
    }[form]


@pytest.mark.parametrize("form", ["spikes", "bool", "counts", "voltages"])
@pytest.mark.parametrize("right", [True, False])
def test_recorded_outputs_decide(dense: Network, conv: Network, form: str, right: bool) -> None:
    """One entry that differs from the float network is named, and nothing is verified."""
    network, graph = (conv, CONV) if form == "voltages" else (dense, DENSE)
    x = inputs(seed=1)
    outputs = recorded(graph, x, form).copy()
    if not right:
        place = (7, 3) if form == "counts" else (7, 5, 3)
        outputs[place] = not outputs[place] if form == "bool" else outputs[place] + 1
    found = verify(Deployed(network, graph), x, expect=outputs, lava_samples=0, tolerance=1.0)
    assert found.expected is not None
    assert found.ok is found.expected.ok is right
    assert found.expected.what == {"bool": "spikes"}.get(form, form)
    assert found.expected.samples == 48
    assert found.expected.first == (None if right else place)
    if right and form != "voltages":
        ours = run_recipe(network, x).spikes[-1]
        equal = ((ours.sum(1) if form == "counts" else ours) == outputs).mean()
        assert found.expected.to_integers == equal
        answers = scores(network, run_recipe(network, x)).argmax(1)
        same = (answers == recorded(graph, x, "counts").argmax(1)).mean()
        assert found.expected.same_answers == same
    text = "\n".join(map(str, verification_tables(found)))
    assert (f"all of the {found.expected.what} equal" in text) is right
    assert ("not the one that was recorded" in text) is not right


def test_outputs_recorded_in_float32_are_compared_in_float32() -> None:
    """A threshold that only rounding to float32 reaches."""
    node = nir.IF(np.ones(1), np.full(1, 0.3), np.zeros(1))
    graph = chain_graph(
        [("w", nir.Affine(np.full((1, 1), 0.1), np.zeros(1))), ("n", node)], (1,), {"dt": 1.0}
    )
    network = Network(
        [Dense(np.full((1, 1), 20), None, CubaLIF(4096, 0, 59))], Recipe(Coding("given", 4))
    )
    x = np.ones((2, 4, 1), np.int32)
    exact, single = (
        execute(graph, x.astype(float), d).spikes[-1] for d in (torch.float64, torch.float32)
    )
    assert (exact != single).any()
    for outputs, precision in ((exact, "float64"), (single, "float32")):
        found = verify(Deployed(network, graph), x, expect=outputs, lava_samples=0, tolerance=1.0)
        assert found.expected is not None
        assert found.expected.ok
        assert found.expected.precision == precision


def test_without_a_float_network_the_integers_are_compared(dense: Network) -> None:
    x = inputs(8)
    ours = run_recipe(dense, x).spikes[-1]
    found = verify(Deployed(dense), x, expect=ours, lava_samples=0)
    assert found.ok
    assert (found.expected.to_float, found.expected.to_integers) == (None, 1.0)
    assert not verify(Deployed(dense), x, expect=1 - ours, lava_samples=0).ok


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (np.zeros((8, 8, 4)), r"shape \(8, 8, 4\); spikes \(sample, 8, 5\) or counts \(sample, 5\)"),
        (np.zeros((7, 8, 5)), r"are needed, for 8 samples"),
        (np.full((8, 5), "a"), r"type <U1, not of numbers"),
    ],
)  # fmt: skip
def test_what_was_not_recorded_of_the_last_layer(
    dense: Network, outputs: np.ndarray, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        verify(Deployed(dense, DENSE), inputs(8), expect=outputs, lava_samples=0)


def test_the_verdict_names_what_was_compared(dense: Network) -> None:
    """ "verified" alone would say that the network is the one that was trained; nobody looked."""
    x = inputs(8)
    float_spikes, ours = recorded(DENSE, x, "spikes"), run_recipe(dense, x).spikes[-1]
    nobody = "NOT compared with the framework that trained it: give --expect or --model"
    graph, spikes = (
        "the integers spike as the float network (tolerance 0.5)",
        "the spikes that the original",
    )
    cases: list[tuple[nir.NIRGraph | None, np.ndarray | None, list[str], list[str]]] = [
        (DENSE, None, [graph, nobody], [spikes]),
        (DENSE, float_spikes, [spikes, "recorded are the float network's own", graph], [nobody]),
        (None, ours, [spikes, "recorded are the integers' own"], [nobody, graph]),
        (None, None, ["verified: simulator and reference are equal", nobody], [graph, spikes]),
        (DENSE, 1 - float_spikes, ["NOT verified: what the original framework"], [nobody, graph]),
    ]
    for float_graph, expect, says, says_not in cases:
        deployed = Deployed(dense, float_graph)
        found = verify(deployed, x, expect=expect, lava_samples=0, tolerance=0.5)
        assert found.verdict == verification_tables(found)[-1]
        assert [text for text in says if text not in found.verdict] == []
        assert [text for text in says_not if text in found.verdict] == []
        assert "Lava" not in found.verdict


def test_a_readout_that_answers_something_else_is_not_verified(conv: Network) -> None:
    """Spikes of hidden layers may be alike, and every answer another one."""
    found = verify(Deployed(conv, CONV), inputs(8), lava_samples=0, tolerance=0.5)
    assert "the integers give the float network's answers (tolerance 0.5)" in found.verdict
    other = replace(found, same_answers=0.4)
    assert "another answer for more than the tolerance of 0.5" in other.verdict
