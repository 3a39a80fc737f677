"""Counts: the engine's, those read from traces, and a brute force that shares no code with either."""

from __future__ import annotations

import json
from collections import Counter as Multiset
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeship.benchmarks import _fuzz_checks, counting
from spikeship.benchmarks._fuzz_checks import difference, everything
from spikeship.hw_targets.counts.counter import Counter
from spikeship.hw_targets.counts.counts import (
    CoreCounts,
    Counts,
    LayerCounts,
    activity_of,
    count,
    tally,
)
from spikeship.hw_targets.counts.placement import Core, Mesh, Placement, layer_per_core
from spikeship.hw_targets.counts.routes import fan_out, routes
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network, Population
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate.inputs import prepare_input
from spikeship.hw_targets.simulate.trace import Trace

from kinds import case, every_kind

RNG = np.random.default_rng(5)
NEURON = CubaLIF(2000, 700, 90)
IMAGE = (4, 6, 5)
MESH = Mesh(cores_per_chip=4, cores_per_tile=2, rows=1)


def sparse(*shape: int) -> np.ndarray:
    """Integers of which about half are zero."""
    return RNG.integers(-60, 90, shape) * RNG.integers(0, 2, shape)


CONV = Conv(
    sparse(6, 2, 2, 3), None, NEURON, stride=(2, 1), padding=(1, 2), dilation=(3, 2), groups=2
)
NETWORKS = {
    "dense": Network([Dense(sparse(5, 7), None, NEURON), Dense(sparse(3, 5))]),
    "conv, every option": Network(
        [Input(IMAGE), CONV, Flatten(), Dense(sparse(3, 90), None, NEURON)]
    ),
    "input neurons": Network(
        [Input(IMAGE, NEURON), replace(CONV, groups=1, weight=sparse(3, 4, 2, 3))]
    ),
    "stride beyond the kernel": Network(
        [Input((1, 7, 7)), Conv(sparse(2, 1, 2, 2), None, NEURON, stride=3)]
    ),
}
SAMPLES, STEPS = 3, 6


def run(name: str, samples: int = SAMPLES) -> tuple[Network, np.ndarray, Trace]:
    """A network, its input and its trace without latencies."""
    network = NETWORKS[name]
    rng = np.random.default_rng(9)
    shape = (samples, STEPS, *network.input_shape)
    inputs = rng.integers(0, 90, shape) * rng.integers(0, 2, shape)
    trace = reference.simulate(network, inputs, Timing(STEPS + network.latency), record="spikes")
    return network, inputs, trace.aligned(network, STEPS)


# -- brute force ---------------------------------------------------------------------------------

Place = tuple[int, ...]


def synapses(p: Population, recurrent: bool = False) -> Iterator[tuple[Place, Place, int]]:
    """Every synapse of a layer: where it comes from, its neuron, its weight. Padding has none."""
    layer = p.layer
    if isinstance(layer, Input):
        return
    if isinstance(layer, Dense):
        matrices = [layer.recurrent] if recurrent else [layer.weight, layer.imaginary]
        for matrix in matrices:
            for (neuron, place), weight in np.ndenumerate([] if matrix is None else matrix):
                yield (place,), (neuron,), int(weight)
        return
    if recurrent:
        return
    outs, ins = len(layer.weight) // layer.groups, layer.weight.shape[1]
    for out, y, x in np.ndindex(p.shape):
        for c, ky, kx in np.ndindex(layer.weight.shape[1:]):
            iy = y * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
            ix = x * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
            if 0 <= iy < p.input_shape[1] and 0 <= ix < p.input_shape[2]:
                place = (out // outs * ins + c, iy, ix)
                yield place, (out, y, x), int(layer.weight[out, c, ky, kx])


def way(placement: Placement, sender: int, receiver: int) -> tuple[int, int, int, int]:
    """(same tile, hops along x, along y, off chip) of one message."""
    mesh = placement.mesh
    if mesh is None:
        return 0, 0, 0, 0
    if sender // mesh.cores_per_chip != receiver // mesh.cores_per_chip:
        return 0, 0, 0, 1
    start, end = (k % mesh.cores_per_chip // mesh.cores_per_tile for k in (sender, receiver))
    x, y = abs(start // mesh.rows - end // mesh.rows), abs(start % mesh.rows - end % mesh.rows)
    return int(start == end), x, y, 0


def core_of(placement: Placement, population: int, neuron: Place) -> int:
    (found,) = [
        k
        for k, core in enumerate(placement.cores)
        if core.population == population
        and all(low <= i < high for i, (low, high) in zip(neuron, core.box, strict=True))
    ]
    return found


def brute_force(network: Network, inputs: np.ndarray, trace: Trace, placement: Placement) -> Counts:
    """Message by message and synapse by synapse. Of an aligned trace with all states."""
    samples, steps = inputs.shape[:2]
    cores, layers = len(placement.cores), len(network.populations)
    # by core and, for the largest, by (core or layer, sample, step)
    total: dict[str, Multiset[int]] = {f: Multiset() for f in CoreCounts.__dataclass_fields__}
    peak: dict[str, Multiset[Any]] = {f: Multiset() for f in (*total, "layer synops", "layer out")}
    spikes_in: Multiset[int] = Multiset()
    weights: Multiset[int] = Multiset()
    input_messages = 0
    for source in range(layers + 1):
        sent = inputs if source == 0 else trace.spikes[source - 1]
        targets = [
            (p, recurrent)
            for p, recurrent in (
                *((p, False) for p in network.populations if p.index == source),
                *((p, True) for p in network.populations if p.index == source - 1),
            )
        ]
        leaving: dict[int, list[tuple[int, int, int]]] = {}
        shape = network.input_shape if source == 0 else network.populations[source - 1].shape
        for p, recurrent in targets:
            numbers = np.arange(int(np.prod(shape))).reshape(
                p.shape if recurrent else p.input_shape
            )
            for place, neuron, weight in synapses(p, recurrent):
                core = core_of(placement, p.index, neuron)
                leaving.setdefault(int(numbers[place]), []).append((p.index, core, weight))
                weights[p.index] += 1
            if not recurrent and not isinstance(p.layer, Input):
                spikes_in[p.index] += int(np.count_nonzero(sent))
        for s, t in np.ndindex(samples, steps):
            for element in np.flatnonzero(sent[s, t]).tolist():
                reached = set()
                for target, core, weight in leaving.get(element, []):
                    reached.add(core)
                    total["synops_fanout"][core] += 1
                    if weight:
                        total["synops"][core] += 1
                        peak["synops"][core, s, t] += 1
                        peak["layer synops"][target, s, t] += 1
                for core in reached:
                    total["messages_in"][core] += 1
                    peak["messages_in"][core, s, t] += 1
                if source == 0:
                    input_messages += len(reached)
                    continue
                place = tuple(int(i) for i in np.unravel_index(element, shape))
                sender = core_of(placement, source - 1, place)
                total["spikes_out"][sender] += 1
                peak["spikes_out"][sender, s, t] += 1
                peak["layer out"][source - 1, s, t] += 1
                total["axon_out"][sender] += len(reached)
                names = "messages_same_tile", "hops_ew", "hops_ns", "messages_off_chip"
                for core in reached:
                    for name, n in zip(names, way(placement, sender, core), strict=True):
                        total[name][sender] += n
    for p in network.populations:
        for index in np.ndindex(samples, steps, *p.shape):
            states = [getattr(trace, name)[p.index][index] for name in p.states]
            if any(states) or trace.spikes[p.index][index]:
                total["neuron_updates_active"][core_of(placement, p.index, index[2:])] += 1

    def most(name: str, of: int) -> int:
        return max((n for (where, *_), n in peak[name].items() if where == of), default=0)

    def one_core(k: int) -> CoreCounts:
        core = placement.cores[k]
        neurons = len([*np.ndindex(*(high - low for low, high in core.box))])
        known = {
            "population": core.population,
            "neurons": neurons,
            "neuron_updates": neurons * samples * steps,
            **{f"{name}_max": most(name, k) for name in ("spikes_out", "synops", "messages_in")},
        }
        return CoreCounts(**{name: known.get(name, total[name][k]) for name in total})

    found = [one_core(k) for k in range(cores)]

    def one_layer(p: Population) -> LayerCounts:
        mine = [core for core in found if core.population == p.index]

        def summed(name: str) -> int:
            return sum(getattr(core, name) for core in mine)

        graded = p.index > 0 and network.populations[p.index - 1].graded
        return LayerCounts(
            name=p.name,
            neurons=summed("neurons"),
            spikes_in=spikes_in[p.index],
            spikes_out=summed("spikes_out"),
            synops=summed("synops"),
            synops_fanout=summed("synops_fanout"),
            neuron_updates=summed("neuron_updates"),
            dense_ops=weights[p.index] * samples * steps,
            neuron_updates_active=summed("neuron_updates_active"),
            effective_acs=0 if graded else summed("synops"),
            effective_macs=summed("synops") if graded else 0,
            spikes_out_max=most("layer out", p.index),
            synops_max=most("layer synops", p.index),
        )

    mesh, n = placement.mesh, cores
    return Counts(
        tuple(one_layer(p) for p in network.populations),
        samples,
        steps,
        network.digest,
        tuple(found),
        input_messages,
        placement.chip,
        0 if mesh is None else len({k // mesh.cores_per_chip for k in range(n)}),
        0 if mesh is None else len({k // mesh.cores_per_tile for k in range(n)}),
    )


def scattered(network: Network, seed: int, parts: int = 4) -> Placement:
    """On a mesh of several chips."""
    return _fuzz_checks.scattered(network, seed, parts, MESH, "some chip")


def played(case: Any, **arguments: Any) -> tuple[np.ndarray, Trace]:
    """What a case of the parity table gave each step, and its trace with all states."""
    record = everything(case.network)
    trace = engine.simulate(case.network, case.inputs, case.timing, record=record, **arguments)
    steps = trace.spikes[0].shape[1]
    drive = prepare_input(case.network, case.inputs, case.timing)
    given = np.zeros((len(drive.x), steps, *case.network.input_shape), np.int64)
    given[:, : drive.x.shape[1]] = drive.x[:, :steps]
    return given, trace


# -- the three agree -----------------------------------------------------------------------------


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("on_chip", [False, True])
def test_counts_from_a_trace_equal_brute_force(kind: Any, on_chip: bool) -> None:
    example = case(kind, 0)
    network = example.network
    given, trace = played(example)
    steps = trace.spikes[0].shape[1] - network.latency
    placement = scattered(network, 7) if on_chip else layer_per_core(network)
    aligned = trace.aligned(network, steps)
    expected = brute_force(network, given[:, :steps], aligned, placement)
    assert count(network, given[:, :steps], aligned, placement) == expected
    if not on_chip:
        assert count(network, given[:, :steps], aligned) == expected


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("seed", range(3))
def test_the_engine_counts_what_its_trace_says(kind: Any, seed: int) -> None:
    """Layer by layer and core by core, of the whole run and of each layer's own time."""
    example = case(kind, seed)
    network = example.network
    plain = played(example)[1]
    for placement in (None, scattered(network, seed), scattered(network, seed + 9, 12)):
        given, trace = played(example, counter=Counter(network, placement))
        assert difference(network, trace, plain) is None
        assert trace.activity is not None
        whole = trace.spikes[0].shape[1]
        assert tally(network, trace.activity, placement) == count(network, given, trace, placement)
        steps = whole - network.latency
        counter = Counter(network, placement, steps)
        found = engine.simulate(network, example.inputs, example.timing, counter=counter).activity
        assert found is not None
        aligned = trace.aligned(network, steps)
        expected = activity_of(network, given[:, :steps], aligned, counter.placement)
        for name in ("sent", "active", "spikes", "synops", "messages"):
            pairs = zip(getattr(found, name), getattr(expected, name), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), name
        assert tally(network, found, placement) == tally(network, expected, placement)


WIDE = CubaLIF(1024, 512, 700)
LARGER = {
    # lines beyond 64, channels that stay in planes, many cores that all messages reach, long runs
    "planes": Network(
        [
            Input((3, 9, 70)),
            Conv(sparse(24, 3, 3, 3), None, WIDE, (2, 2), (1, 1)),
            Conv(sparse(8, 24, 3, 3), None, WIDE),
            Flatten(),
            Dense(sparse(40, 8 * 3 * 33), None, WIDE),
            Dense(sparse(30, 40), None, WIDE, sparse(30, 30)),
        ]
    ),
    "channels first": Network(
        [Input((5, 6, 30)), Conv(sparse(8, 5, 3, 3), None, WIDE), Flatten(), Dense(sparse(70, 896))]
    ),
    "flat": Network([Dense(sparse(100, 300), None, WIDE), Dense(sparse(90, 100), None, WIDE)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("largest", [1, 9])
@pytest.mark.parametrize("name", LARGER)
def test_the_engine_counts_larger_networks(
    name: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several turns and blocks, with several threads, beyond 255 steps at a time."""
    network = LARGER[name]
    rng = np.random.default_rng(1)
    shape = (5, 70, *network.input_shape)
    x = rng.integers(0, largest + 1, shape) * (rng.random(shape) < 0.3)
    steps = 70 - network.latency
    for placement in (None, scattered(network, 3, 9)):
        states = ("spikes", "u", "v")
        given, trace = x[:, :steps], engine.simulate(network, x, record=states)
        expected = count(network, given, trace.aligned(network, steps), placement)
        counter = Counter(network, placement, steps)
        for scratch, threads in ((2 << 20, 1), (1, 1), (1, 2), (1 << 15, 2)):
            monkeypatch.setattr(engine, "SCRATCH", scratch)
            monkeypatch.setattr(engine, "ALONE", 0)
            monkeypatch.setattr(engine, "SPLIT", 1)
            for of in (slice(None), slice(0, 1)):
                found = engine.simulate(network, x[of], threads=threads, counter=counter)
                assert found.activity is not None
                if of == slice(None):
                    assert tally(network, found.activity, placement) == expected
                else:
                    alone = engine.simulate(network, x[of], record=states)
                    assert tally(network, found.activity, placement) == count(
                        network, given[of], alone.aligned(network, steps), placement
                    )


def strided(rng: np.random.Generator) -> Network:
    """A convolution of any geometry: many inputs lie between its windows, or beside them."""
    channels, groups = ((1, 1), (2, 1), (2, 2), (3, 3), (16, 1))[rng.integers(5)]
    kernel, dilation, stride = rng.integers(1, 3, 2), rng.integers(1, 3, 2), rng.integers(1, 5, 2)
    rows, columns = (1, int(rng.integers(2, 12))) if rng.integers(2) else rng.integers(3, 9, 2)
    kernel[0] = 1 if rows == 1 else kernel[0]
    padding = np.maximum(rng.integers(0, 3, 2), dilation * (kernel - 1))
    weight = sparse(groups * int(rng.integers(1, 4)), channels // groups, *kernel)
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Network([Input((channels, rows, columns)), Conv(weight, None, WIDE, **shape)])


@pytest.mark.parametrize("seed", range(40))
def test_only_what_reaches_a_synapse_is_a_message_that_arrives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = strided(rng)
    x = rng.integers(0, (2, 9)[seed % 2], (2, 6, *network.input_shape))
    for placement in (None, scattered(network, seed)):
        counter = Counter(network, placement)
        trace = engine.simulate(network, x, record=("spikes", "u", "v"), counter=counter)
        assert trace.activity is not None
        assert tally(network, trace.activity, placement) == count(network, x, trace, placement)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "synops"),
    [
        (Network([Dense(np.ones((1 << 15, 2), int), None, WIDE)]), 2 << 15),
        (Network([Input((1, 1500, 2)), Conv(np.ones((30, 1, 1, 1), int), None, WIDE)]), 90_000),
    ],
    ids=["of one input", "of many lines"],
)
def test_more_synops_than_16_bits_hold(network: Network, synops: int) -> None:
    x = np.ones((2, 4, *network.input_shape), int)
    trace = engine.simulate(network, x, counter=Counter(network))
    assert trace.activity is not None
    (layer,) = tally(network, trace.activity).layers
    assert (layer.synops, layer.synops_max) == (8 * synops, synops)


def test_counting_more_than_255_steps() -> None:
    network = Network([Dense([[90]], None, CubaLIF(4096, 4096, 1))])
    trace = engine.simulate(network, np.ones((2, 700, 1), int), counter=Counter(network, steps=699))
    assert trace.activity is not None
    (layer,) = tally(network, trace.activity).layers
    assert (layer.spikes_in, layer.spikes_out, layer.neuron_updates_active) == (1398,) * 3


def test_what_a_counter_refuses() -> None:
    network, x = NETWORKS["dense"], np.ones((1, 6, 7), int)
    with pytest.raises(NetworkError, match=r"the run has 6 steps; to count 5 .* latency 2, 7 are"):
        engine.simulate(network, x, counter=Counter(network, steps=5))
    other = Network([Dense(sparse(5, 7), None, NEURON)])
    with pytest.raises(NetworkError, match="make a Counter of the network that runs"):
        engine.simulate(network, x, counter=Counter(other))
    with pytest.raises(NetworkError, match="neurons are on no core"):
        Counter(network, Placement(()))
    assert engine.simulate(network, x).activity is None


# -- invariants and definitions ------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_the_sums_of_cores(name: str) -> None:
    network, inputs, trace = run(name)
    placement = scattered(network, 2)
    counts = count(network, inputs, trace, placement)
    assert count(network, inputs, trace).layers == counts.layers
    for field in ("spikes_out", "synops", "synops_fanout", "neuron_updates"):
        for p, layer in zip(network.populations, counts.layers, strict=True):
            mine = [core for core in counts.cores if core.population == p.index]
            assert sum(getattr(core, field) for core in mine) == getattr(layer, field)
    for layer in counts.layers:
        assert layer.synops <= layer.synops_fanout <= layer.dense_ops
        assert layer.neuron_updates == layer.neurons * STEPS * SAMPLES
    arriving = counts.total("messages_in")
    assert arriving == counts.total("axon_out") + counts.input_messages
    one_tile = Placement(placement.cores, Mesh(128, 128, 1), "one tile")
    here = count(network, inputs, trace, one_tile)
    assert here.total("messages_same_tile") == here.total("axon_out")
    assert {here.total(k) for k in ("hops_ew", "hops_ns", "messages_off_chip")} == {0}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_fan_out_of_every_input(name: str, zeros: bool) -> None:
    for p in NETWORKS[name].populations:
        expected = np.zeros(p.input_shape, int)
        for place, _, weight in synapses(p):
            expected[place] += bool(weight) or zeros
        assert np.array_equal(fan_out(p, zeros=zeros), expected)


def test_routes_of_an_input() -> None:
    """The middle pixel of 1 x 3 reaches both columns of the next layer, on different cores."""
    network = Network([Input((1, 1, 3)), Conv(np.array([[[[5, 0]]], [[[0, 7]]]]), None, NEURON)])
    halves = (Core(0, ((0, 2), (0, 1), (0, 1))), Core(0, ((0, 2), (0, 1), (1, 2))))
    first, last = routes(network, Placement(halves))
    assert first.start.tolist() == [0, 1, 3, 4]
    assert first.core.tolist() == [0, 0, 1, 1]
    assert first.synops.tolist() == [1, 1, 1, 1]
    assert first.fanout.tolist() == [2, 2, 2, 2]
    assert last.start.tolist() == [0] * 5


def test_neurobenchs_example() -> None:
    """NeuroBench's: a 3 x 3 layer with 4 pairs of input and weight that are not zero, 9 in all."""
    network = Network([Dense([[1, 0, 2], [0, -3, 0], [4, 5, 0]], None, NEURON)])
    x = np.array([[[1, 1, 0]]])
    (layer,) = count(network, x, reference.simulate(network, x, record="spikes")).layers
    assert (layer.effective_acs, layer.effective_macs, layer.dense_ops) == (4, 0, 9)


@pytest.mark.parametrize(
    ("recipe", "macs"),
    [
        (None, False),
        (Recipe(Coding("direct", 1)), False),
        (Recipe(Coding("direct", 1, levels=255, message_bits=9)), True),
        (Recipe(Coding("signed_poisson", 1, levels=1, message_bits=2)), False),
    ],
)
def test_graded_messages_are_multiplied(recipe: Recipe | None, macs: bool) -> None:
    network = Network([Dense([[1, 2]], None, NEURON), Dense([[3]], None, NEURON)], recipe)
    x = np.ones((1, 3, 2), int)
    counts = count(network, x, reference.simulate(network, x, record="spikes"))
    first, second = counts.layers
    assert (first.effective_macs, first.effective_acs) == ((6, 0) if macs else (0, 6))
    assert (second.effective_macs, second.effective_acs) == (0, second.synops)


def test_no_spikes_no_synops() -> None:
    network = NETWORKS["dense"]
    silence = np.zeros((2, 4, 7), int)
    counts = count(network, silence, reference.simulate(network, silence, record="spikes"))
    events = [counts.total(k) for k in ("spikes_in", "spikes_out", "synops", "synops_fanout")]
    assert events == [0, 0, 0, 0]
    assert counts.total("neuron_updates") == (5 + 3) * 4 * 2
    assert counts.total("dense_ops") == (35 + 15) * 4 * 2


# -- adding and reading --------------------------------------------------------------------------


def test_counts_of_batches_add_up() -> None:
    network, inputs, trace = run("conv, every option")
    placement = scattered(network, 4)
    parts = [
        count(network, inputs[part], Trace(tuple(s[part] for s in trace.spikes)), placement)
        for part in (slice(0, 1), slice(1, None))
    ]
    assert parts[0] + parts[1] == count(network, inputs, trace, placement)
    assert parts[0] != parts[1]


def counted(name: str, digest: str | None = None, steps: int | None = None) -> Counts:
    counts = count(*run(name))
    return replace(counts, digest=digest or counts.digest, steps=steps or counts.steps)


ADDITIONS = [("other network", "0" * 64, None), ("other time", None, STEPS + 1)]


@pytest.mark.parametrize(("name", "digest", "steps"), ADDITIONS)
def test_counts_of_different_runs_do_not_add(
    name: str, digest: str | None, steps: int | None
) -> None:
    with pytest.raises(NetworkError, match="different networks or step numbers do not add"):
        counted("dense") + counted("dense", digest, steps)


def test_counting_needs_spikes_of_the_same_time() -> None:
    network, inputs, trace = run("dense")
    with pytest.raises(NetworkError, match="a trace with spikes: record='spikes'"):
        count(network, inputs, replace(trace, spikes=None))
    with pytest.raises(NetworkError, match=r"\(sample, time\) = \(3, 5\), the trace \(3, 6\)"):
        count(network, inputs[:, 1:], trace)


def test_what_was_not_counted_is_not_zero() -> None:
    counts = count(*run("dense"))
    assert [layer.neuron_updates_active for layer in counts.layers] == [None, None]
    for name in ("neuron_updates_active", "joules"):
        with pytest.raises(NetworkError, match=f"'{name}' was not counted"):
            counts.total(name)


# -- what counting costs -------------------------------------------------------------------------


def test_the_cost_of_counting_as_measured() -> None:
    path = Path(counting.__file__).parent / "results" / "counting.json"
    stored = json.loads(path.read_text())
    assert {c["network"] for c in stored["cells"]} == set(counting.PLANS)
    assert stored["median_extra"] <= stored["limit"] == counting.LIMIT == 0.2


def test_a_cell_of_the_measurement() -> None:
    plan = counting.QUICK_PLANS["nmnist"]
    cell = counting.cell(plan, 0.05, 2, 1)
    assert set(cell["extra"]) == {"layers", "cores"}
    assert cell["seconds_per_sample_step"]["no"] > 0
