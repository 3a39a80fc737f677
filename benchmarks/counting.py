"""What counting costs: the engine with a `Counter` against the engine without, on the same input.

Usage: python -m spikeship.benchmarks.counting [--quick] [--out FILE.json]

The networks of the speed benchmark at several spike rates, counted layer by layer and core by core
(where `map_network` puts them on Loihi 2), on one thread. All three take turns; what is claimed is the
median of the ratios of neighbouring runs. Each cell first checks that counting changed no result, and
that the counts equal those read from a recorded trace. Prints a table, writes JSON.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from ..hw_targets.chips.mapper import map_network
from ..hw_targets.counts.counter import Counter
from ..hw_targets.counts.counts import count, tally
from ..hw_targets.simulate import engine
from .harness import RESULTS, command, finish
from .speed.networks import PLANS, QUICK_PLANS, Plan, build, random_input

RATES = (0.01, 0.05, 0.2, 1.0)
BATCHES = {"mlp": 64, "nmnist": 16, "pilotnet": 4}
REPEATS = 15
MEDIAN_LIMIT, LIMIT = 0.1, 0.2
"""The goals for the extra time, of the median and of every cell."""


def cell(plan: Plan, rate: float, batch: int, repeats: int) -> dict[str, Any]:
    """One network at one rate: seconds per sample and step, and the ratios."""
    network = build(plan, rate)
    x = random_input(plan.input_shape, rate, batch, plan.steps)
    placement = map_network(network, "loihi2").placement
    assert placement is not None
    counters = {"no": None, "layers": Counter(network), "cores": Counter(network, placement)}
    recorded = engine.simulate(network, x[:1], record=("spikes", "u", "v"))
    for counter in counters.values():
        trace = engine.simulate(network, x[:1], record=("spikes", "u", "v"), counter=counter)
        if counter is None or trace.activity is None:
            continue
        assert trace.spikes is not None
        assert recorded.spikes is not None
        if not all(map(np.array_equal, trace.spikes, recorded.spikes)):
            raise RuntimeError(f"{plan.name}: counting changed the spikes.")
        if tally(network, trace.activity, counter.placement) != count(
            network, x[:1], recorded, counter.placement
        ):
            raise RuntimeError(f"{plan.name}: the counts are not those of the trace.")
    seconds: dict[str, list[float]] = {name: [] for name in counters}
    for turn in range(1 + repeats):
        for name, counter in counters.items():
            start = time.perf_counter()
            engine.simulate(network, x, threads=1, counter=counter)
            if turn:  # the first is for warming up
                seconds[name].append(time.perf_counter() - start)
    per = batch * plan.steps
    return {
        "network": plan.name,
        "digest": network.digest,
        "rate": rate,
        "batch": batch,
        "steps": plan.steps,
        "cores": len(placement.cores),
        "seconds_per_sample_step": {name: median(s) / per for name, s in seconds.items()},
        "extra": {
            name: median(b / a for a, b in zip(seconds["no"], s, strict=True)) - 1
            for name, s in seconds.items()
            if name != "no"
        },
    }


def table(cells: Sequence[dict[str, Any]]) -> Table:
    """The extra time, cell by cell."""
    out = Table(title="Extra time for counting (median of ratios)")
    for column in ("network", "rate", "plain", "by layer", "by core", "cores"):
        out.add_column(column, justify="left" if column == "network" else "right")
    for c in cells:
        out.add_row(
            c["network"],
            f"{100 * c['rate']:g} %",
            f"{1e6 * c['seconds_per_sample_step']['no']:.2f} us",
            f"{100 * c['extra']['layers']:+.0f} %",
            f"{100 * c['extra']['cores']:+.0f} %",
            str(c["cores"]),
        )
    return out


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny networks, few runs.")] = False,
    out: Annotated[Path, typer.Option()] = RESULTS / "counting.json",
) -> None:
    """Measure, print, write JSON."""
    load = os.getloadavg()[0]
    plans, repeats = (QUICK_PLANS, 2) if quick else (PLANS, REPEATS)
    cells = [
        cell(plan, rate, BATCHES[plan.name], repeats) for plan in plans.values() for rate in RATES
    ]
    extra = [value for c in cells for value in c["extra"].values()]
    result = {
        "command": command("counting", quick=quick),
        "unit": "seconds per sample and step, one thread",
        "repeats": repeats,
        "load_before": load,
        "limit": LIMIT,
        "median_limit": MEDIAN_LIMIT,
        "median_extra": median(extra),
        "largest_extra": max(extra),
        "cells": cells,
    }
    extremes = (
        f"median {100 * median(extra):.0f} % (goal {100 * MEDIAN_LIMIT:.0f} %), "
        f"largest {100 * max(extra):.0f} % (goal {100 * LIMIT:.0f} %)"
    )
    finish(result, out, [table(cells), extremes])


if __name__ == "__main__":
    typer.run(main)
