"""The torch backend on a GPU: is it exact there, and how fast is it beside the engine on the CPU.

Usage: python -m spikeship.benchmarks.gpu [--cpu-rehearsal] [--minutes M] [--work FOLDER]
           [--out FILE.json]

Needs torch, numba and h5py; neither Norse nor Lava nor data. First parity: random networks of every kind
(`_fuzz_networks`) against the reference, each spike, state, count and overflow with `==`, with neurons
updated in one kernel and step by step; then larger ones against the engine. Then samples and neuron
updates per second of an MLP, of an N-MNIST conv net and of a VGG-11 (T = 4), input and result arrays in
the computer's own memory. What is measured stays in FOLDER: an interrupted run goes on from there. A
cell that fails is stored with its error, and measured again by the next run. `--cpu-rehearsal`: all of
it at toy size on the CPU.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table

from ..hw_targets.counts.counter import Counter
from ..hw_targets.counts.counts import count, tally
from ..hw_targets.network import arithmetic
from ..hw_targets.network.layers import Conv, Dense, Input
from ..hw_targets.network.network import Network
from ..hw_targets.network.neurons import CubaLIF
from ..hw_targets.network.timing import Timing
from ..hw_targets.simulate import engine, reference
from ..hw_targets.simulate.inputs import prepare_input
from ..hw_targets.simulate.torch_engine import products, scan
from ..hw_targets.simulate.torch_engine import run as on_torch
from ..hw_targets.simulate.torch_engine.device import device_of
from ._fuzz_checks import difference, everything, scattered
from ._fuzz_networks import Case, draw
from .harness import RESULTS, command, finish, kept
from .speed.networks import PLANS, QUICK_PLANS, Plan, build, random_input

_VGG = tuple(
    (channels, 3, (stride, stride), (1, 1))
    for channels, stride in (
        (64, 1),
        (128, 2),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
        (512, 2),
        (512, 1),
    )
)
"""VGG-11 for images of 32 x 32; strides are where it pools."""


@dataclass(frozen=True)
class Setup:
    """What a run measures."""

    device: str
    plans: tuple[tuple[Plan, float, int | None], ...]
    """with the rate of the spikes, and the input steps (None: the plan's)"""
    batches: tuple[int, ...]
    networks: int
    """random ones, in each of the two ways of updating neurons"""
    seconds: float
    """that each of the two may take"""
    repeats: int
    engine_batch: int
    """samples that the engine gets at most"""
    scan: tuple[int, int]
    """elements and steps of the neuron update alone"""


FULL = Setup(
    device="cuda",
    plans=(
        (PLANS["mlp"], 0.05, None),
        (PLANS["nmnist"], 0.05, None),
        (Plan("vgg11", (3, 32, 32), _VGG, (512, 10), 4), 0.1, 4),
    ),
    batches=(1, 32, 256, 2048),
    networks=400,
    seconds=45.0,
    repeats=5,
    engine_batch=64,
    scan=(1 << 24, 32),
)
REHEARSAL = Setup(
    device="cpu",
    plans=(
        (QUICK_PLANS["mlp"], 0.05, None),
        (QUICK_PLANS["nmnist"], 0.05, None),
        (
            Plan("vgg11", (3, 8, 8), ((4, 3, (1, 1), (1, 1)), (6, 3, (2, 2), (1, 1))), (10,), 4),
            0.1,
            4,
        ),
    ),
    batches=(1, 8),
    networks=12,
    seconds=10.0,
    repeats=2,
    engine_batch=8,
    scan=(1 << 10, 4),
)


# -- networks ------------------------------------------------------------------------------------


@cache
def network_of(plan: Plan, rate: float, steps: int | None, device: str) -> Network:
    """The network whose layers fire at about `rate`: in a long run, or in `steps` steps from rest.

    From rest, a threshold is what v exceeds at this rate in the steps that answer the input, as long as
    nothing fires.
    """
    network = build(plan, rate)
    if steps is None:
        return network
    x = random_input(plan.input_shape, rate, 4, steps)
    layers = list(network.layers)
    for p in network.populations:
        i = network.layers.index(p.layer)
        layer, neuron = p.layer, p.layer.neuron
        assert isinstance(layer, Conv | Dense)
        assert isinstance(neuron, CubaLIF)
        layers[i] = replace(layer, neuron=replace(neuron, threshold=arithmetic.THRESHOLD_MAX))
        timing = Timing(steps + p.latency)
        trace = on_torch.simulate(Network(layers[: i + 1]), x, timing, record="v.-1", device=device)
        assert trace.v is not None
        level = np.quantile(trace.v[-1][:, p.latency :], 1 - rate)
        threshold = max(0, int(level) >> arithmetic.STATE_SHIFT)
        layers[i] = replace(layer, neuron=replace(neuron, threshold=threshold))
    return Network(layers)


# -- parity ---------------------------------------------------------------------------------------


@contextmanager
def stepwise(on: bool) -> Iterator[None]:
    """Neurons updated by torch's own operations, step by step, instead of in one kernel."""
    before = scan.ON
    scan.ON = not on
    try:
        yield
    finally:
        scan.ON = before


def unlike_reference(case: Case, seed: int, device: str) -> str | None:
    """What differs between the torch backend and the reference, counted events among it."""
    network, record = case.network, everything(case.network)
    expected = reference.simulate(network, case.inputs, case.timing, record=record)
    assert expected.spikes is not None
    placement = scattered(network, seed) if seed % 2 else None
    counter = Counter(network, placement)
    trace = on_torch.simulate(
        network, case.inputs, case.timing, record=record, device=device, counter=counter
    )
    if what := difference(network, trace, expected):
        return what
    drive = prepare_input(network, case.inputs, case.timing)
    given = np.zeros((len(drive.x), drive.steps, *network.input_shape), np.int64)
    given[:, : drive.x.shape[1]] = drive.x[:, : drive.steps]
    assert trace.activity is not None
    if tally(network, trace.activity, placement) != count(network, given, expected, placement):
        return "counts of events differ"
    return None


def random_networks(setup: Setup, by_steps: bool) -> dict[str, Any]:
    """Random networks of every kind against the reference, as many as there is time for."""
    differ, start, seed = [], time.monotonic(), 0
    with stepwise(by_steps):
        while seed < setup.networks and time.monotonic() - start < setup.seconds:
            if what := unlike_reference(draw(seed), seed, setup.device):
                differ.append({"seed": seed, "says": what})
            seed += 1
    return {"networks": seed, "differ": differ, "seconds": time.monotonic() - start}


def larger(setup: Setup, plan: Plan, rate: float, steps: int | None) -> dict[str, Any]:
    """Every spike and state of a network as people use, against the engine."""
    network = network_of(plan, rate, steps, setup.device)
    x = random_input(plan.input_shape, rate, 4, steps or plan.steps)
    timing = Timing(x.shape[1] + network.latency)
    record = everything(network)
    try:
        expected = engine.simulate(network, x, timing, record=record)
    except ImportError:
        expected = reference.simulate(network, x[:1], timing, record=record)
    x = x[: len(expected.counts if expected.counts is not None else x)]
    out = {}
    for by_steps in (False, True):
        with stepwise(by_steps):
            trace = on_torch.simulate(network, x, timing, record=record, device=setup.device)
        out["step by step" if by_steps else "one kernel"] = difference(network, trace, expected)
    assert expected.spikes is not None
    rates = [
        float((expected.spikes[p.index][:, p.latency : p.latency + (steps or plan.steps)]).mean())
        for p in network.populations
    ]
    return {"digest": network.digest, "differs": out, "rates": rates}


# -- speed ----------------------------------------------------------------------------------------


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Median; the first call is for warming up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def speed(setup: Setup, plan: Plan, rate: float, steps: int | None, batch: int) -> dict[str, Any]:
    """Samples and neuron updates per second: torch on the device, and the engine on the CPU."""
    network = network_of(plan, rate, steps, setup.device)
    x = random_input(plan.input_shape, rate, batch, steps or plan.steps)
    timing = Timing(x.shape[1] + network.latency if steps else x.shape[1])
    few = x[: setup.engine_batch]
    runs: dict[str, tuple[int, Callable[[], Any]]] = {
        "torch": (
            batch,
            lambda: on_torch.simulate(network, x, timing, device=setup.device).counts,
        ),
        "engine": (len(few), lambda: engine.simulate(network, few, timing).counts),
    }
    updates = sum(p.size for p in network.populations) * (timing.steps or 0)
    out: dict[str, Any] = {
        "digest": network.digest,
        "batch": batch,
        "steps": timing.steps,
    }
    counts = {}
    for name, (samples, run) in runs.items():
        try:
            counts[name] = run()[: len(few)]
            seconds = seconds_of(run, setup.repeats)
        except ImportError as error:  # the engine needs a numba that knows this numpy
            out[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        out[name] = {
            "samples": samples,
            "seconds": seconds,
            "samples_per_second": samples / seconds,
            "neuron_updates_per_second": samples * updates / seconds,
        }
    if len(counts) == len(runs):
        out["equal"] = np.array_equal(counts["torch"], counts["engine"])
    if setup.device == "cuda":
        out["largest_memory"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    return out


def updates_alone(setup: Setup) -> dict[str, Any]:
    """Neuron updates per second of the kernel alone, sums and messages in the device's memory."""
    elements, steps = setup.scan
    network = Network([Input((1024,), CubaLIF(1024, 512, 300))])
    (population,) = network.populations
    device = torch.device(setup.device)
    kernel = scan.scan_of(population, device)
    if kernel is None:
        return {"left_out": "there is no kernel on this device"}
    shape = (elements // 1024, 1024)
    states = [torch.zeros(shape, dtype=torch.int32, device=device) for _ in range(2)]
    sums = torch.randint(-200, 260, (steps, *shape), dtype=torch.int32, device=device)
    messages = torch.empty((steps, *shape), dtype=torch.int8, device=device)
    bias = torch.zeros(1024, dtype=torch.int32, device=device)
    overflow = torch.zeros(3, dtype=torch.int64, device=device)

    def run(small: bool) -> None:
        kernel(
            states,
            [products.Sums(sums)],
            [products.Sums(sums[0])],
            bias,
            messages,
            {},
            None,
            overflow,
            scan.Steps(1 << 30, 1, (0, 0)),
            small=small,
        )
        torch.cuda.synchronize()

    out: dict[str, Any] = {"elements": elements, "steps": steps}
    for small in (True, False):
        seconds = seconds_of(lambda small=small: run(small), setup.repeats)  # type: ignore[misc]
        out["32 bits" if small else "64 bits"] = {
            "seconds": seconds,
            "neuron_updates_per_second": elements * steps / seconds,
            "bytes_per_second": 5 * elements * steps / seconds,
        }
    out["spike_rate"] = float(messages.float().mean())
    return out


# -- the run --------------------------------------------------------------------------------------


def what_runs(setup: Setup) -> dict[str, Any]:
    """The versions, and what of the backend works on this device."""
    device = torch.device(setup.device)
    out: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if device.type == "cuda":
        out |= {"gpu": torch.cuda.get_device_name(), "memory": torch.cuda.mem_get_info()[1]}
        out |= {"kernel": scan.why_not(device) or "works"}
        out |= {"int8_products": products.int8_works(device)}
    for name in ("triton", "numba"):
        try:
            out[name] = __import__(name).__version__
        except Exception as error:
            out[name] = f"{type(error).__name__}: {error}"
    return out


def cells(setup: Setup) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every cell by its name, in the order in which they are measured."""
    yield "machine", lambda: what_runs(setup)
    for by_steps in (False, True):
        name = f"parity {'step by step' if by_steps else 'one kernel'}"
        yield name, lambda by_steps=by_steps: random_networks(setup, by_steps)  # type: ignore[misc]
    for plan, rate, steps in setup.plans:
        yield (
            f"parity {plan.name}",
            lambda plan=plan, rate=rate, steps=steps: larger(setup, plan, rate, steps),  # type: ignore[misc]
        )
    yield "neuron updates", lambda: updates_alone(setup)
    for batch in setup.batches:
        for plan, rate, steps in setup.plans:
            yield (
                f"speed {plan.name} {batch}",
                lambda p=plan, r=rate, s=steps, b=batch: speed(setup, p, r, s, b),  # type: ignore[misc]
            )


def measured(setup: Setup, work: Path, minutes: float) -> dict[str, Any]:
    """All cells; what is left out says why."""
    start, out = time.monotonic(), {}
    for name, measure in cells(setup):
        path = work / f"{name.replace(' ', '_')}.json"
        if time.monotonic() - start > 60 * minutes and not path.is_file():
            out[name] = {"left_out": f"more than {minutes:g} minutes had passed"}
            continue
        try:
            out[name] = kept(path, f"{name}: {time.monotonic() - start:.0f} s", measure)
        except Exception as error:
            traceback.print_exc()
            out[name] = {"error": f"{type(error).__name__}: {error}"}
    return out


def table(result: dict[str, Any]) -> Table:
    """Speeds, cell by cell."""
    out = Table(title=f"Samples per second, torch on {result['device']} beside the engine")
    for column in ("network", "batch", "torch", "engine", "ratio", "updates per second", "equal"):
        out.add_column(column, justify="left" if column == "network" else "right")
    for name, cell in result["cells"].items():
        if name.startswith("speed") and "torch" in cell:
            rates = [cell[key].get("samples_per_second") for key in ("torch", "engine")]
            out.add_row(
                name.split()[1],
                str(cell["batch"]),
                *("" if rate is None else f"{rate:,.0f}" for rate in rates),
                "" if None in rates else f"{rates[0] / rates[1]:.1f}x",
                f"{cell['torch']['neuron_updates_per_second']:.2g}",
                str(cell.get("equal", "")),
            )
    return out


def main(
    cpu_rehearsal: Annotated[
        bool, typer.Option("--cpu-rehearsal", help="All of it at toy size, on the CPU.")
    ] = False,
    minutes: Annotated[float, typer.Option(help="Begin no cell after so long.")] = 5.0,
    work: Annotated[Path, typer.Option(help="Folder of measured cells.")] = Path("runs/gpu"),
    out: Annotated[Path, typer.Option()] = RESULTS / "gpu.json",
) -> None:
    """Measure, print, write JSON. Status 1 where anything differs or failed."""
    setup = REHEARSAL if cpu_rehearsal else FULL
    device_of(setup.device)
    start = time.monotonic()
    done = measured(setup, work / setup.device, minutes)
    result = {
        "command": command("gpu", cpu_rehearsal=cpu_rehearsal),
        "device": setup.device,
        "minutes": (time.monotonic() - start) / 60,
        "cells": done,
    }
    notes = [
        f"{name}: {cell.get('networks', '')} {cell.get('differ', cell.get('differs'))}"
        for name, cell in done.items()
        if name.startswith("parity") and "error" not in cell
    ]
    failed = [f"{name}: {cell['error']}" for name, cell in done.items() if "error" in cell]
    finish(result, out, [table(result), *notes, *failed], work=work)
    raise typer.Exit(1 if failed or not all(map(_agrees, done.values())) else 0)


def _agrees(cell: dict[str, Any]) -> bool:
    """Whether a cell found nothing that differs."""
    return (
        not cell.get("differ")
        and cell.get("equal", True)
        and not any((cell.get("differs") or {}).values())
    )


if __name__ == "__main__":
    typer.run(main)
