"""Parity: every kind of network on every backend, all integers compared with `==`.

The kinds are those of tests/kinds.py; the reference is what all backends of the table below must
equal. Behind it: behaviour that every backend has, such as what `record` keeps.
"""

import importlib
import inspect
import multiprocessing
import os
import pkgutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship import hw_targets
from spikeship.benchmarks._fuzz_checks import difference, everything
from spikeship.hw_targets.network import layers as layers_module
from spikeship.hw_targets.network import network as network_module
from spikeship.hw_targets.network import neurons as neurons_module
from spikeship.hw_targets.network.layers import Conv, Input, Layer
from spikeship.hw_targets.network.network import Network, Population
from spikeship.hw_targets.network.neurons import (
    NEURONS,
    CubaLIF,
    Integrator,
    NetworkError,
    Neuron,
)
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.inputs import QUANTITIES
from spikeship.hw_targets.simulate.torch_engine import run as on_torch
from spikeship.hw_targets.simulate.trace import Overflow, Recorded, Trace

from kinds import (
    IMAGE,
    KINDS,
    SAMPLES,
    SEEDS,
    SIMULATORS,
    Case,
    Rng,
    Simulate,
    case,
    dense,
    dense_reset,
    draw,
    every_kind,
    input_bias,
    joined,
    run,
    sigma_delta_into_spikes,
)

BACKENDS: dict[str, tuple[Simulate, Callable[[Any], int]]] = {
    # backend: its function, and how many networks of a kind it runs
    "engine": (engine.simulate, lambda kind: SEEDS),
    "torch": (on_torch.simulate, lambda kind: SEEDS),
    "lava": (lava_cpu.run, lambda kind: KINDS[kind]),
}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU"),
    ),
]

LAVA_CASES = {
    f"{kind.__name__}-{seed}": (kind, seed) for kind, n in KINDS.items() for seed in range(n)
}


def same(first: Any, second: Any) -> bool:
    return bool(first.dtype == second.dtype and np.array_equal(first, second))


@every_kind
def test_engine(kind: Callable[[Rng], Case]) -> None:
    function, networks = BACKENDS["engine"]
    for seed in range(networks(kind)):
        example = case(kind, seed)
        found = run(function, example)
        assert difference(example.network, found, run(reference.simulate, example)) is None, (
            f"seed {seed}"
        )
        assert found.overflow is not None


@pytest.mark.parametrize("device", DEVICES)
@every_kind
def test_torch(kind: Callable[[Rng], Case], device: str) -> None:
    """Through `engine.simulate`, as it is called."""
    _, networks = BACKENDS["torch"]
    for seed in range(networks(kind)):
        example = case(kind, seed)
        found = run(engine.simulate, example, backend="torch", device=device)
        assert difference(example.network, found, run(reference.simulate, example)) is None, (
            f"seed {seed}"
        )
        assert found.backend == "torch"
        assert found.overflow is not None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kind=st.sampled_from(list(KINDS)), seed=st.integers(SEEDS, 2**32 - 1))
def test_engine_on_other_seeds(kind: Callable[[Rng], Case], seed: int) -> None:
    example = case(kind, seed)
    found, expected = run(engine.simulate, example), run(reference.simulate, example)
    assert difference(example.network, found, expected) is None


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("name", LAVA_CASES)
def test_lava(name: str, lava: Simulate) -> None:
    example = case(*LAVA_CASES[name])
    found = run(lava, example)
    assert difference(example.network, found, run(reference.simulate, example)) is None
    assert (found.backend, found.overflow) == ("lava", None)


# -- no holes ------------------------------------------------------------------------------------


def test_every_kind_on_every_backend() -> None:
    for name, (_, networks) in BACKENDS.items():
        holes = {kind for kind in KINDS if not networks(kind)}
        assert not holes, f"{name} does not run {[kind.__name__ for kind in holes]}"
    assert len(LAVA_CASES) >= 60
    assert len(KINDS) * SEEDS >= 300


def test_every_backend_is_in_the_table() -> None:
    """Any function of hw_targets that takes what `reference.simulate` takes is a backend."""
    wanted = inspect.signature(reference.simulate).parameters.keys()
    found = set()
    for info in pkgutil.walk_packages(hw_targets.__path__, f"{hw_targets.__name__}."):
        if info.name.endswith((".lava_worker", ".kernel")):  # Lava and Triton are not everywhere
            continue
        module = importlib.import_module(info.name)
        for function in vars(module).values():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and inspect.signature(function).parameters.keys() >= wanted:
                found.add(function)
    assert found == {reference.simulate, *(function for function, _ in BACKENDS.values())}


def alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) not in (None, Literal, tuple) else (hint,)


def test_every_part_of_a_network_is_in_the_table() -> None:
    """Every dataclass of network.py, every field in two values, every neuron in every layer."""
    parts = {
        part
        for module in (layers_module, network_module, neurons_module)
        for part in vars(module).values()
        if inspect.isclass(part) and is_dataclass(part) and part.__module__ == module.__name__
    } - {Network, Population, Recipe, Neuron, Integrator}
    assert parts == set(get_args(Layer)) | set(NEURONS)
    values: dict[tuple[type, str], set[Any]] = {
        (part, f.name): set() for part in parts for f in fields(part)
    }
    seen: set[tuple[type, type]] = set()
    for key in LAVA_CASES.values():
        for layer in case(*key).network.layers:
            neurons = getattr(layer, "neuron", None)
            seen.add((type(layer), type(neurons)))
            for part in (layer, neurons):
                for f in fields(part) if part is not None else ():
                    value = getattr(part, f.name)
                    if isinstance(value, np.ndarray):
                        value = (value.shape, value.tobytes())
                    values[type(part), f.name].add(value)
    for (part, name), found in values.items():
        hint = get_type_hints(part)[name]
        where = f"{part.__name__}.{name}"
        assert len({type(v) if is_dataclass(v) else v for v in found}) > 1, (
            f"{where} is always {found}"
        )
        if where != "Conv.neuron":  # None is refused there
            assert (None in found) == (NoneType in alternatives(hint)), f"{where}: with and without"
        if get_origin(hint) is Literal:
            assert found == set(get_args(hint)), where
        if name == "neuron":
            kinds = (*(k for k in NEURONS if part.__name__ in k.layers), NoneType)
            pairs = {(part, kind) for kind in kinds} - {(Conv, NoneType)}
            assert pairs == {pair for pair in seen if pair[0] is part}, where


def test_the_table_is_not_silent() -> None:
    """Every kind of neuron spikes, every overflow happens, every extreme occurs."""
    total = Overflow()
    spiking: dict[str, int] = {}
    extremes: dict[str, set[int]] = {}
    for key in LAVA_CASES.values():
        example = case(*key)
        trace = run(reference.simulate, example)
        assert len(trace.counts) >= 3
        total = sum(trace.overflow, total)
        for p, spikes in zip(example.network.populations, trace.spikes, strict=True):
            params = p.layer.neuron
            kind = f"{type(p.layer).__name__} {type(params).__name__} {getattr(params, 'kind', '')}"
            spiking[kind] = spiking.get(kind, 0) + int(np.count_nonzero(spikes))
            for part in (p.layer, params):
                for f in fields(part) if part is not None else ():
                    if np.asarray(getattr(part, f.name)).dtype.kind == "i":
                        found = np.asarray(getattr(part, f.name)).ravel().tolist()
                        extremes.setdefault(f.name, set()).update(found)
    assert spiking.pop("Dense NoneType ") == 0
    assert len(spiking) == 11
    assert min(spiking.values()) > 50, spiking
    assert min(total.u_wraps, total.v_clips, total.sum_wraps) >= 20, total
    for name, values in {
        "i_decay": {0, 1, 4095, 4096},
        "v_decay": {0, 1, 4095, 4096},
        "threshold": {0, 131071},
        "spike_exp": {0, 6, 7},
        "weight": {-256, -1, 0, 1, 254},
        "recurrent": {-256, 254},
        "imaginary": {-256, 254},
        "bias": {-4096, 4095},
        "delay": {0, 62},
        "sin_decay": {1, 4095},
        "cos_decay": {0, 4095},
    }.items():
        assert extremes[name] >= values, name


# -- what every backend does ---------------------------------------------------------------------

every_simulator = pytest.mark.parametrize("simulate", SIMULATORS.values(), ids=SIMULATORS)


def choices(network: Network) -> list[str | tuple[str, ...]]:
    """Ways to ask for less than everything."""
    last = len(network.populations) - 1
    state = next(iter(network.populations[0].states))
    return [
        *everything(network),
        (),
        "spikes.-1",
        (f"{state}.0", "counts"),
        (f"spikes.{last}", "spikes.0", f"{state}.0", state),
    ]


def check_record(simulate: Simulate, example: Case, whole: Trace, record: Any) -> None:
    found = run(simulate, example, record=record)
    asked = {record} if isinstance(record, str) else set(record)
    populations = example.network.populations
    for name in QUANTITIES:
        of = {
            p.index
            for p in populations
            for item in asked
            if (name == "spikes" or name in p.states)
            and item in (name, f"{name}.{p.index}", f"{name}.{p.index - len(populations)}")
        }
        kept = getattr(found, name)
        assert (kept is None) == (not of)
        if kept is None:
            continue
        assert isinstance(kept, Recorded)
        assert len(kept) == len(populations)
        assert kept.populations == tuple(sorted(of))
        assert all(same(kept[i], getattr(whole, name)[i]) for i in of)
    assert (found.counts is None) == ("counts" not in asked)
    assert found.counts is None or same(found.counts, whole.counts)
    assert found.overflow == whole.overflow


@pytest.mark.slow
@every_simulator
@every_kind
def test_record_keeps_what_is_asked_for(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    example = case(kind, 0)
    whole = run(simulate, example)
    assert same(whole.counts, whole.spikes[-1].sum(axis=1, dtype=np.int64))
    for record in choices(example.network):
        check_record(simulate, example, whole, record)


@pytest.mark.slow
@pytest.mark.lava
def test_record_on_lava(lava: Simulate) -> None:
    example = case(sigma_delta_into_spikes, 0)
    whole = run(lava, example)
    for record in ("counts", ("residue", "u.-1", "spikes.1")):
        check_record(lava, example, whole, record)


def test_counts_by_default() -> None:
    example = case(dense_reset, 0)
    for simulate in SIMULATORS.values():
        trace = simulate(example.network, example.inputs, example.timing)
        assert trace.counts.shape == (SAMPLES, 3)
        assert all(getattr(trace, name) is None for name in QUANTITIES)


@pytest.mark.slow
@every_simulator
@every_kind
def test_batch_equals_one_by_one(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    example = case(kind, 1)
    alone = [run(simulate, example, inputs=example.inputs[i : i + 1]) for i in range(SAMPLES)]
    assert (
        difference(example.network, run(simulate, example), joined(example.network, alone, axis=0))
        is None
    )


def loud(example: Case, rng: Rng) -> np.ndarray:
    """One more sample, of values as large as the network takes, of both signs."""
    first, bits = example.network.layers[0], example.arguments.get("message_bits")
    limit = min(1 << (bits or 24), 1 << 24) - 1
    if isinstance(first, Input) and isinstance(first.neuron, CubaLIF):
        limit = 4095
    return draw(rng, -limit, limit, *example.inputs[:1].shape)


@pytest.mark.slow
@every_simulator
@every_kind
def test_other_samples_decide_nothing(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    """Not even those whose values send a whole batch along another path: graded, large, negative."""
    for seed in range(4):
        example = case(kind, seed)
        quiet = (example.inputs != 0).astype(np.int64) if seed % 2 else example.inputs
        both = np.concatenate([quiet, loud(example, np.random.default_rng(seed))])
        alone, beside = run(simulate, example, inputs=quiet), run(simulate, example, inputs=both)
        assert same(alone.counts, beside.counts[:SAMPLES]), f"seed {seed}"
        for name in everything(example.network)[1:]:
            mine, theirs = getattr(alone, name), getattr(beside, name)
            for i in mine.populations:
                assert same(mine[i], theirs[i][:SAMPLES]), f"seed {seed}: {name}.{i}"


@pytest.mark.slow
@every_kind
def test_engine_in_small_pieces(
    kind: Callable[[Rng], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample and four steps at a time, rows shared among threads."""
    monkeypatch.setattr(engine, "SCRATCH", 1)
    monkeypatch.setattr(engine, "SPLIT", 1)
    monkeypatch.setattr(engine, "ALONE", 0)
    for seed in range(3):
        example = case(kind, seed)
        for x in (example.inputs, example.inputs[:1]):
            found = run(engine.simulate, example, inputs=x, threads=3)
            expected = run(reference.simulate, example, inputs=x)
            assert difference(example.network, found, expected) is None, f"seed {seed}"


@pytest.mark.slow
@every_kind
def test_torch_in_small_pieces(
    kind: Callable[[Rng], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample and one step at a time, or a few, and the patches of one frame."""
    for seed, room in enumerate((1, 1 << 10, 1 << 12)):
        monkeypatch.setitem(on_torch.WORKING_SET, "cpu", room)
        example = case(kind, seed)
        found = run(on_torch.simulate, example)
        assert difference(example.network, found, run(reference.simulate, example)) is None, (
            f"seed {seed}"
        )


@pytest.mark.slow
@every_simulator
@every_kind
def test_time_beyond_the_input_is_silent(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    example = case(kind, 3)
    if example.inputs.ndim == 1 + len(example.network.input_shape):
        pytest.skip("constant in time")
    steps = example.inputs.shape[1]
    padded = np.concatenate([example.inputs, np.zeros_like(example.inputs[:, :3])], axis=1)
    longer = run(simulate, example, steps=steps + 3)
    assert (
        difference(example.network, longer, run(simulate, example, inputs=padded, steps=None))
        is None
    )
    cut = run(simulate, example, inputs=example.inputs[:, : steps - 4], steps=None)
    assert difference(example.network, run(simulate, example, steps=steps - 4), cut) is None


@every_simulator
@every_kind
def test_a_held_input_is_the_same_in_every_step(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    example = case(kind, 4)
    first = example.network.layers[0]
    if isinstance(first, Input) and isinstance(first.neuron, CubaLIF):
        pytest.skip("a held input is the bias of Input neurons")
    axes = len(example.network.input_shape)
    held = example.inputs if example.inputs.ndim == 1 + axes else example.inputs[:, 0]
    again = np.repeat(held[:, None], 8, axis=1)
    found = run(simulate, example, inputs=held, steps=8)
    assert (
        difference(example.network, found, run(simulate, example, inputs=again, steps=None)) is None
    )


TYPES = (
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
)


@pytest.mark.slow
@every_simulator
@every_kind
def test_the_type_of_the_input_does_not_matter(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    example = case(kind, 5)
    highs = {"bool": 1, "float16": 99, **dict.fromkeys(TYPES, 99)}
    for name, high in highs.items():
        x = np.abs(example.inputs) % (high + 1)
        if np.dtype(name).kind in "if":
            x *= np.where(np.indices(x.shape).sum(axis=0) % 3, 1, -1)
        arguments = {"message_bits": None} if "message_bits" in example.arguments else {}
        expected = run(reference.simulate, example, inputs=x, **arguments)
        found = run(simulate, example, inputs=x.astype(name), **arguments)
        assert difference(example.network, found, expected) is None, name


@pytest.mark.slow
@every_simulator
@every_kind
def test_the_layout_of_the_input_does_not_matter(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    example = case(kind, 6)
    expected = run(simulate, example)
    x = example.inputs
    wide = np.zeros(
        (*x.shape[:-1], 2 * x.shape[-1]), np.int16 if np.abs(x).max() < 1 << 15 else np.int32
    )
    wide[..., ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    swapped = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    layouts = {
        "every other": wide[..., ::2],
        "Fortran": np.asfortranarray(x),
        "read-only": frozen,
        "backwards": backwards,
        "time first": swapped,
        "big-endian": x.astype(">i4"),
        "lists": x.tolist(),
    }
    for name, layout in layouts.items():
        assert (
            difference(example.network, run(simulate, example, inputs=layout), expected) is None
        ), name
    broadcast = np.broadcast_to(x[:1], x.shape)
    copied = run(simulate, example, inputs=broadcast.copy())
    assert difference(example.network, run(simulate, example, inputs=broadcast), copied) is None


@every_simulator
@every_kind
def test_no_samples(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    example = case(kind, 7)
    trace = run(simulate, example, inputs=example.inputs[:0])
    assert trace.counts.shape == (0, *example.network.output_shape)
    steps = run(simulate, example).spikes[0].shape[1]
    for p in example.network.populations:
        assert trace.spikes[p.index].shape == (0, steps, *p.shape)
    assert trace.overflow == tuple(Overflow() for _ in example.network.populations)


@pytest.mark.slow
@pytest.mark.lava
def test_no_samples_on_lava(lava: Simulate) -> None:
    example = case(input_bias, 0)
    trace = run(lava, example, inputs=example.inputs[:0])
    assert trace.counts.shape == (0, 3)
    assert trace.u[0].shape == (0, 13, *IMAGE)


@every_simulator
def test_nothing_is_changed_in_place(simulate: Simulate) -> None:
    for kind in KINDS:
        example = case(kind, 8)
        before, digest = example.inputs.copy(), Network(example.network.layers).digest
        first = run(simulate, example)
        assert np.array_equal(example.inputs, before)
        assert Network(example.network.layers).digest == digest
        assert difference(example.network, run(simulate, example), first) is None


@pytest.mark.slow
@every_simulator
def test_threads_do_not_disturb_each_other(simulate: Simulate) -> None:
    """Different networks, and the same one on different inputs, all at once."""
    cases = [case(kind, seed) for seed in range(2) for kind in KINDS]
    cases += [Case(c.network, c.inputs[::-1].copy(), c.arguments) for c in cases]
    expected = [run(reference.simulate, example) for example in cases]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda example: run(simulate, example), cases))
    for example, theirs, ours in zip(cases, found, expected, strict=True):
        assert difference(example.network, theirs, ours) is None


def in_a_child(name: str, seed: int) -> dict[str, str]:
    """What differs, kind by kind; a function of the module, so that it can be sent."""
    found = {}
    for kind in KINDS:
        example = case(kind, seed)
        expected = run(reference.simulate, example)
        found[kind.__name__] = difference(example.network, run(SIMULATORS[name], example), expected)
    return {kind: what for kind, what in found.items() if what}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    "name", ["reference", "engine"]
)  # torch's own threads do not survive a fork
def test_a_forked_child_computes_the_same(name: str) -> None:
    """As data loaders fork: after the parent has computed, with several threads."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(in_a_child, [name] * 2, range(2))) == [{}] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        with multiprocessing.get_context("fork").Pool(2) as children:
            found = children.starmap_async(in_a_child, [(name, seed) for seed in range(3)])
            assert found.get(timeout=120) == [{}] * 3


@every_simulator
def test_mistakes_are_refused_alike(simulate: Simulate) -> None:
    example = case(dense, 0)
    for changed, message in (
        ({"record": "w"}, 'cannot record "w"'),
        ({"record": "u.1"}, 'cannot record "u.1"'),
        ({"record": "residue"}, 'cannot record "residue"'),
        ({"reset_interval": 0}, "reset_interval = 0"),
        ({"reset_interval": 3, "reset_offset": -1}, "reset_offset = -1"),
        ({"steps": 0}, "steps = 0"),
        ({"inputs": example.inputs + 16, "message_bits": 4}, "enough message bits"),
        ({"message_bits": 26}, "message_bits = 26; give 0 for single spikes, up to 25"),
        ({"message_bits": -1}, "message_bits = -1"),
        ({"inputs": example.inputs + (1 << 24), "message_bits": 25}, "is outside"),
        ({"inputs": example.inputs + 0.5}, "is not an integer"),
        ({"inputs": example.inputs[..., 1:]}, "input has shape"),
    ):
        with pytest.raises(NetworkError, match=message):
            run(simulate, example, **changed)
