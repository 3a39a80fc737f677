"""What must hold for every network: each check compares two ways to the same integers, with `==`.

A check takes a `Case` and returns None, or one line that says what differs first.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..hw_targets.counts.counter import Counter
from ..hw_targets.counts.counts import Counts, count, tally
from ..hw_targets.counts.placement import Box, Core, Mesh, Placement
from ..hw_targets.network.network import Network
from ..hw_targets.netx.file import NetxError, read_netx, write_netx
from ..hw_targets.simulate import engine, reference
from ..hw_targets.simulate import lava as lava_cpu
from ..hw_targets.simulate.inputs import prepare_input
from ..hw_targets.simulate.trace import Trace
from ._fuzz_networks import TYPES, Case, Rng, fits

Check: TypeAlias = Callable[[Case], str | None]


# -- running and comparing ------------------------------------------------------------------------


def everything(network: Network) -> tuple[str, ...]:
    """All that can be recorded."""
    states = {name for p in network.populations for name in p.states}
    return ("counts", "spikes", *sorted(states))


@lru_cache(2)  # most checks of a case want it
def by_reference(case: Case) -> Trace:
    """The definition, everything recorded."""
    record = everything(case.network)
    return reference.simulate(case.network, case.inputs, case.timing, record=record)


def by_engine(case: Case, **changed: Any) -> Trace:
    """The engine in one thread, as it cuts the work by default."""
    usual = {"timing": case.timing, "record": everything(case.network), "threads": 1}
    options: dict[str, Any] = usual | changed
    inputs = options.pop("inputs", case.inputs)
    return engine.simulate(case.network, inputs, **options)


@contextmanager
def in_pieces(scratch: int) -> Iterator[None]:
    """Samples, steps and rows cut as if work were large and caches small."""
    before = engine.SCRATCH, engine.SPLIT, engine.ALONE
    engine.SCRATCH, engine.SPLIT, engine.ALONE = scratch, 1, 0
    try:
        yield
    finally:
        engine.SCRATCH, engine.SPLIT, engine.ALONE = before


def difference(network: Network, trace: Trace, expected: Trace) -> str | None:
    """The first thing that differs between two traces of everything, along the chain."""
    for p in network.populations:
        for name in (*p.states, "spikes"):
            mine, theirs = getattr(trace, name)[p.index], getattr(expected, name)[p.index]
            if what := unequal(f"{name} of {p.name}", mine, theirs):
                return what
    if what := unequal("counts", trace.counts, expected.counts):
        return what
    if trace.overflow is not None and trace.overflow != expected.overflow:
        return f"overflow: {trace.overflow}, not {expected.overflow}"
    return None


def unequal(name: str, mine: Any, theirs: Any) -> str | None:
    """Type, shape, or the first entry that differs."""
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return f"{name}: {mine.dtype}{mine.shape}, not {theirs.dtype}{theirs.shape}"
    places = np.argwhere(mine != theirs)
    if not len(places):
        return None
    where = tuple(places[0].tolist())
    return f"{name} at {where}: {mine[where]}, not {theirs[where]} ({len(places)} differ)"


# -- the checks -----------------------------------------------------------------------------------


def engine_equals_reference(case: Case) -> str | None:
    expected = by_reference(case)
    trace = by_engine(case)
    assert trace.spikes is not None
    assert trace.counts is not None
    own = trace.spikes[-1].sum(axis=1, dtype=np.int64)
    return difference(case.network, trace, expected) or unequal("counts", trace.counts, own)


def pieces_equal_reference(case: Case) -> str | None:
    """The engine with several threads and small blocks."""
    with in_pieces(case.scratch):
        trace = by_engine(case, threads=case.threads)
    return difference(case.network, trace, by_reference(case))


def records_are_parts_of_the_whole(case: Case) -> str | None:
    """Asked for less, the engine gives the same of it."""
    rng = np.random.default_rng(case.inputs.size)
    whole = by_engine(case)
    possible = [
        *(f"{name}.{p.index}" for p in case.network.populations for name in ("spikes", *p.states)),
        "counts",
    ]
    chosen = [item for item in possible if rng.random() < 0.4]
    with in_pieces(case.scratch):
        part = by_engine(case, threads=case.threads, record=chosen)
    if "counts" in chosen and (what := unequal("counts", part.counts, whole.counts)):
        return what
    for item in chosen:
        name, _, index = item.partition(".")
        if index and (
            what := unequal(item, getattr(part, name)[int(index)], getattr(whole, name)[int(index)])
        ):
            return what
    return None


def samples_are_alone(case: Case) -> str | None:
    """No sample's result depends on the others: each alone, and all beside a loud one."""
    whole, n = by_engine(case), len(case.inputs)
    values = case.inputs.astype(np.int64)
    loudest = max(1, int(np.abs(values).max(initial=0)))
    loud = np.where(np.indices(values[:1].shape).sum(axis=0) % 2, loudest, -loudest)
    bits = case.timing.message_bits
    width = bits if bits is not None else 24
    if loudest == 1 and width > 4:
        loud = 9 * loud
    together = by_engine(case, inputs=np.concatenate([values[::-1], loud]))
    for name in everything(case.network)[1:]:
        traces = getattr(whole, name), getattr(together, name)
        for i in traces[0].populations:
            if what := unequal(f"{name}.{i}", traces[1][i][:n][::-1], traces[0][i]):
                return f"beside a loud sample, {what}"
    for s in range(n):
        alone = by_engine(case, inputs=case.inputs[s : s + 1])
        for name in everything(case.network)[1:]:
            single, all_ = getattr(alone, name), getattr(whole, name)
            for i in single.populations:
                if what := unequal(f"{name}.{i}", single[i], all_[i][s : s + 1]):
                    return f"sample {s} alone, {what}"
    return None


def types_mean_the_same(case: Case) -> str | None:
    """Inputs in another type of array give what they gave in their own."""
    whole = by_engine(case)
    for kind in TYPES:
        if fits(case.inputs.astype(np.int64), kind):
            trace = by_engine(case, inputs=case.inputs.astype(kind))
            if what := difference(case.network, trace, whole):
                return f"as {kind}, {what}"
    return None


def counter_equals_definition(case: Case) -> str | None:
    """Counts that the engine makes on its way, and those read from a trace of everything."""
    network, trace = case.network, by_reference(case)
    assert trace.spikes is not None
    steps = trace.spikes[0].shape[1]
    drive = prepare_input(network, case.inputs, case.timing)
    given = np.zeros((len(drive.x), steps, *network.input_shape), np.int64)
    given[:, : drive.x.shape[1]] = drive.x[:, :steps]
    own = steps - network.latency
    for placement in (None, scattered(network, case.inputs.size)):
        for counted in (None, own) if own > 0 else (None,):
            counter = Counter(network, placement, counted)
            with in_pieces(case.scratch):
                collected = by_engine(case, threads=case.threads, counter=counter)
            assert collected.activity is not None
            if what := difference(network, collected, trace):
                return f"with a counter, {what}"
            aligned = trace if counted is None else trace.aligned(network, own)
            seen = given if counted is None else given[:, :own]
            counts = tally(network, collected.activity, placement)
            expected = count(network, seen, aligned, placement)
            if counts != expected:
                return f"{_unequal_counts(counts, expected)} (of {counted or 'all'} steps, {placement})"
    return None


def _unequal_counts(counts: Counts, expected: Counts) -> str:
    for parts in ("layers", "cores"):
        pairs = zip(getattr(counts, parts), getattr(expected, parts), strict=True)
        for k, (mine, theirs) in enumerate(pairs):
            for f in fields(mine):
                counted, right = getattr(mine, f.name), getattr(theirs, f.name)
                if counted != right:
                    return f"{f.name} of {parts[:-1]} {k}: {counted}, not {right}"
    return f"{counts}, not {expected}"


def scattered(
    network: Network, seed: int, parts: int = 3, mesh: Mesh | None = None, chip: str | None = None
) -> Placement:
    """Every layer cut in up to `parts` random boxes, on cores in random order."""
    rng = np.random.default_rng(seed)
    cores = [
        Core(p.index, box)
        for p in network.populations
        for box in _boxes(rng, p.shape, int(rng.integers(1, parts + 1)))
    ]
    return Placement(tuple(cores[i] for i in rng.permutation(len(cores))), mesh, chip)


def _boxes(rng: Rng, shape: tuple[int, ...], parts: int) -> list[Box]:
    """A layer cut at random, again and again."""
    boxes: list[Box] = [tuple((0, n) for n in shape)]
    for _ in range(parts - 1):
        i = int(rng.integers(len(boxes)))
        axes = [a for a, (low, high) in enumerate(boxes[i]) if high - low > 1]
        if axes:
            axis = int(rng.choice(axes))
            low, high = boxes[i][axis]
            middle = int(rng.integers(low + 1, high))
            boxes[i : i + 1] = [
                (*boxes[i][:axis], ends, *boxes[i][axis + 1 :])
                for ends in ((low, middle), (middle, high))
            ]
    return boxes


def files_hold_the_network(case: Case) -> str | None:
    """Written, read, and written again."""
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name) / "one.net", Path(name) / "two.net"
        write_netx(case.network, first, for_lava=False)
        network = read_netx(first)
        if network != case.network or network.layers != case.network.layers:
            return f"read: {network!r}, not {case.network!r}"
        write_netx(network, second, for_lava=False)
        if first.read_bytes() != second.read_bytes():
            return "written again: other bytes"
    return None


def copies_are_equal(case: Case) -> str | None:
    """Pickled and copied."""
    for copied in (pickle.loads(pickle.dumps(case.network)), copy.deepcopy(case.network)):
        if copied != case.network or copied.layers != case.network.layers:
            return f"a copy: {copied!r}, not {case.network!r}"
    return None


def twin_equals_reference(case: Case) -> str | None:
    """The torch module of fine-tuning and attacks."""
    import torch

    from ..pipeline.twin.twin import Twin

    inputs = torch.tensor(case.inputs.astype(np.float64))
    with torch.no_grad():
        trace = Twin(case.network)(inputs, case.timing, record=everything(case.network))
    return difference(case.network, trace.numpy(), by_reference(case))


def torch_equals_reference(case: Case) -> str | None:
    """The torch backend, on a GPU where there is one: at once, and cut as if memory were small."""
    import torch

    from ..hw_targets.simulate.torch_engine import run as on_torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if what := unlike_reference(case, case.inputs.size, device):
        return what
    before = on_torch.WORKING_SET[device]
    on_torch.WORKING_SET[device] = case.scratch
    try:
        what = unlike_reference(case, case.inputs.size, device)
    finally:
        on_torch.WORKING_SET[device] = before
    return what and f"in pieces, {what}"


def unlike_reference(case: Case, seed: int, device: str) -> str | None:
    """What differs between the torch backend and the reference, counted events among it."""
    from ..hw_targets.simulate.torch_engine import run as on_torch

    network, expected = case.network, by_reference(case)
    assert expected.spikes is not None
    placement = scattered(network, seed) if seed % 2 else None
    trace = on_torch.simulate(
        network,
        case.inputs,
        case.timing,
        record=everything(network),
        device=device,
        counter=Counter(network, placement),
    )
    if what := difference(network, trace, expected):
        return what
    drive = prepare_input(network, case.inputs, case.timing)
    given = np.zeros((len(drive.x), drive.steps, *network.input_shape), np.int64)
    given[:, : drive.x.shape[1]] = drive.x[:, : drive.steps]
    assert trace.activity is not None
    counted = tally(network, trace.activity, placement)
    if counted != (right := count(network, given, expected, placement)):
        return _unequal_counts(counted, right)
    return None


def lava_equals_reference(case: Case) -> str | None:
    """Lava's CPU backend; networks that lava-dl cannot load are passed over."""
    try:
        trace = lava_cpu.run(
            case.network, case.inputs, case.timing, record=everything(case.network)
        )
    except NetxError as error:
        if "cannot load such a layer" in str(error):
            raise NotRunError from None
        raise
    return difference(case.network, replace(trace, overflow=None), by_reference(case))


class NotRunError(Exception):
    """A check that does not apply to a case."""


@dataclass(frozen=True)
class Share:
    """How many of the networks a check is run on, as a fraction."""

    check: Check
    of: float


CHECKS: dict[str, Share] = {
    "engine": Share(engine_equals_reference, 1.0),
    "pieces": Share(pieces_equal_reference, 1.0),
    "records": Share(records_are_parts_of_the_whole, 0.25),
    "samples": Share(samples_are_alone, 0.25),
    "types": Share(types_mean_the_same, 0.1),
    "counter": Share(counter_equals_definition, 0.25),
    "file": Share(files_hold_the_network, 0.1),
    "copies": Share(copies_are_equal, 0.1),
    "twin": Share(twin_equals_reference, 0.05),
    "lava": Share(lava_equals_reference, 0.0),
    "torch": Share(torch_equals_reference, 0.1),
}


def features(case: Case) -> list[str]:
    """What a case covers: layers with their neurons, and options."""
    covered = set()
    for layer in case.network.layers:
        neuron = getattr(layer, "neuron", None)
        kind = getattr(neuron, "kind", "") if type(neuron).__name__ == "ResonateFire" else ""
        covered.add(f"{type(layer).__name__} {type(neuron).__name__} {kind}".rstrip())
        for f in fields(layer):
            value = getattr(layer, f.name)
            if f.name in ("bias", "recurrent", "delay") and value is not None:
                per = " per neuron" if np.size(value) > 1 else ""
                covered.add(f"{type(layer).__name__} {f.name}{per}")
            if f.name in ("stride", "dilation", "groups") and np.any(np.greater(value, 1)):
                covered.add(f"Conv {f.name}")
            if f.name == "padding" and np.any(value):
                covered.add("Conv padding")
    covered.add("input constant" if case.constant else f"input {case.inputs.dtype}")
    if case.timing.reset_interval:
        covered.add("reset")
    if case.network.recipe is not None:
        covered.add("recipe")
    covered.add(f"message_bits {case.timing.message_bits}")
    covered.add(f"threads {case.threads}")
    return sorted(covered)


def choose(seed: int, shares: dict[str, float]) -> list[str]:
    """The checks that a seed gets: each by its share, whatever the others are."""
    out = []
    for i, (name, share) in enumerate(shares.items()):
        if np.random.default_rng([seed, i, 0xC4EC]).random() < share:
            out.append(name)
    return out
