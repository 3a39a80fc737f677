"""Samples and neuron updates per second of the torch backend, and how its time grows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from ...hw_targets.network.layers import Input
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate import engine
from ...hw_targets.simulate.torch_engine import products, scan
from ...hw_targets.simulate.torch_engine import run as on_torch
from ..speed.networks import Plan, random_input
from .networks import Subject, network_of
from .setup import Setup


def seconds_of(run: Callable[[], Any], repeats: int) -> float:
    """Median; the first call is for warming up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def speed(setup: Setup, subject: Subject, batch: int) -> dict[str, Any]:
    """Samples and neuron updates per second: torch on the device, and the engine on the CPU."""
    network, steps = network_of(subject, setup.device), subject.input_steps
    x = random_input(network.input_shape, subject.rate, batch, steps)
    timing = Timing(steps + (network.latency if subject.steps else 0))
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


def growth(setup: Setup, what: str) -> dict[str, Any]:
    """Seconds of torch and of the engine against one quantity, all else fixed, of the first network.

    Batch `usual_batch`, spikes and steps of the subject. Threads are the engine's; a size that the
    device has no memory for ends the row of torch, and says so.
    """
    subject = setup.subjects[0]
    rows = [_grown(setup, subject, what, value) for value in _values(setup, what)]
    return {"network": subject.name, "batch": setup.usual_batch, "rows": rows}


def _values(setup: Setup, what: str) -> Iterator[float]:
    cores = len(os.sched_getaffinity(0))
    return (n for n in setup.growth[what] if what != "threads" or n <= cores)


def _grown(setup: Setup, subject: Subject, what: str, value: float) -> dict[str, Any]:
    batch, rate, steps, threads = setup.usual_batch, subject.rate, subject.input_steps, None
    if what == "steps":
        steps = int(value)
    elif what == "batch":
        batch = int(value)
    elif what == "input spike rate":
        rate = value
    elif what == "threads":
        threads = int(value)
    else:
        assert isinstance(subject.plan, Plan)
        plan = replace(subject.plan, dense=(int(value), *subject.plan.dense[1:]))
        subject = replace(subject, plan=plan)
    network = network_of(subject, setup.device)
    x = random_input(network.input_shape, rate, batch, steps)
    timing = Timing(steps)
    row: dict[str, Any] = {"value": value}
    row["engine"] = seconds_of(
        lambda: engine.simulate(network, x, timing, threads=threads), setup.repeats
    )
    if what == "threads":
        return row
    try:
        row["torch"] = seconds_of(
            lambda: on_torch.simulate(network, x, timing, device=setup.device), setup.repeats
        )
    except torch.cuda.OutOfMemoryError as error:
        row["out of memory"] = str(error)
    return row
