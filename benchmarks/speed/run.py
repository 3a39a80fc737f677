"""Our engine against Lava's CPU backend, SLAYER, Norse, plain torch and our own reference: speed.

Usage: python -m spikeship.benchmarks.speed [--quick] [--only mlp,nmnist,pilotnet] [--out FILE.json]

Same network, same input, one run: all contenders of a cell (network, spike rate, batch) take turns,
and what is claimed is the ratio of their medians, per sample and step. Then memory, the first call in
a fresh process, the share of what this machine can do at most, how time grows with steps, neurons,
spikes, batch and threads, and other kinds of neurons against Lava. An interrupted run goes on from the
cells it has (FILE.json.part).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numba
import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress

from ...hw_targets.counts.counts import count
from ...hw_targets.network.network import Network
from ...hw_targets.network.timing import Timing
from ...hw_targets.netx.file import write_netx
from ...hw_targets.simulate import engine
from ...hw_targets.simulate import lava as lava_cpu
from ...pipeline import records
from ..harness import RESULTS, command, finish
from . import kinds
from . import limits as machine
from .lava import Lava, lava_process
from .networks import PLANS, QUICK_PLANS, Plan, build, describe, random_input
from .peers import CONTENDERS, NOTES, OURS, OURS_RECORDED, disagreement
from .report import GOAL_BATCH, GOAL_RATE, LAVA, LAVA_RECORDED, goals, tables

FEWEST_STEPS = 4
SHORTEST = 0.02
"""Seconds; shorter calls are repeated within one measurement."""


@dataclass(frozen=True)
class Setup:
    """What a run measures."""

    plans: dict[str, Plan]
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    rates: tuple[float, ...] = (0.01, GOAL_RATE, 0.2, 1.0)
    batches: tuple[int, ...] = (1, GOAL_BATCH, 256)
    repeats: int = 3
    repeats_at_goal: int = 5
    limit: float = 1.0
    """seconds a measurement may take: beyond, fewer steps; beyond 4 times this, left out"""
    lava: bool = True
    fresh_calls: int = 3
    memory_batches: tuple[int, ...] = (1, GOAL_BATCH, 256)
    limits: tuple[int, int] = (64, 200_000_000)
    """arguments of `limits.measure`"""
    kinds: tuple[str, ...] = tuple(kinds.KINDS)
    kind_batches: tuple[int, ...] = (1, GOAL_BATCH)
    sweeps: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "steps": (8, 16, 32, 64, 128, 256),
            "hidden neurons": (128, 256, 512, 1024, 2048, 4096),
            "input spike rate": (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
            "batch": (1, 4, 16, 32, 64, 256, 1024),
            "threads": (1, 2, 4, 8, 16, 32, 64),
        }
    )


QUICK = Setup(
    plans=QUICK_PLANS,
    contenders=("engine", "engine, all spikes", "reference", "torch", "norse"),
    rates=(GOAL_RATE,),
    batches=(1, 4),
    repeats=2,
    repeats_at_goal=2,
    limit=0.2,
    lava=False,
    fresh_calls=1,
    memory_batches=(),
    limits=(4, 4_000_000),
    kinds=(),
    sweeps={"steps": (4, 8), "batch": (1, 4)},
)


# -- one cell -----------------------------------------------------------------------------------

Timed = Callable[[], float]
"""Runs once and returns seconds per sample and step."""


def timed(run: Callable[[int], Any], steps: int, batch: int, expected: float) -> Timed:
    """Calls expected to be short are made several times."""
    times = max(1, round(SHORTEST / max(expected, 1e-6)))

    def call() -> float:
        start = time.perf_counter()
        for _ in range(times):
            run(steps)
        return (time.perf_counter() - start) / (times * steps * batch)

    return call


def once(run: Callable[[int], Any], steps: int) -> float:
    """Seconds per step of the second call, the first being for warming up."""
    run(steps)
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


def cell(
    setup: Setup, plan: Plan, network: Network, rate: float, batch: int, lava: dict[str, Lava]
) -> dict[str, Any]:
    """All contenders on one network, rate and batch, taking turns."""
    x = random_input(plan.input_shape, rate, batch, plan.steps)
    first = x[: min(batch, 8)]
    differs = disagreement(network, first[:2])
    if differs is not None:
        raise RuntimeError(
            f"{plan.name}: spikes of {differs} differ between the engine and the torch loop."
        )
    turns: dict[str, Timed] = {}
    out: dict[str, dict[str, Any]] = {}
    for name in setup.contenders:
        make = CONTENDERS[name]
        few = min(FEWEST_STEPS, plan.steps)
        expected = few * once(make(network, first), few) * batch / len(first)
        if expected > 4 * setup.limit:
            out[name] = {"left_out": f"estimated {expected:.0f} s for {few} steps"}
            continue
        step = once(make(network, x), few)
        steps = min(plan.steps, max(few, int(setup.limit / step)))
        run = make(network, np.ascontiguousarray(x[:, :steps]))
        run(few)
        turns[name] = timed(run, steps, batch, step * steps)
        out[name] = {"steps": steps}
    for name, process in lava.items():
        if name == LAVA or batch == GOAL_BATCH:
            turns[name] = process.measure
            out[name] = {"steps": process.steps}
    repeats = setup.repeats_at_goal if rate == GOAL_RATE else setup.repeats
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, call in turns.items():
            if name != LAVA_RECORDED or len(seconds[name]) < setup.repeats:
                seconds[name].append(call())
    for name, values in seconds.items():
        ours = OURS_RECORDED if name == LAVA_RECORDED else OURS
        out[name] |= {
            "seconds_per_sample_step": values,
            "median": median(values),
            "times_engine": median(values) / median(seconds[ours]),
        }
    recorded = engine.simulate(network, first, record="spikes")
    assert recorded.spikes is not None
    counts = count(network, first, recorded)
    steps_counted = plan.steps * len(first)
    work = {
        name: counts.total(name) / steps_counted
        for name in ("synops", "dense_ops", "neuron_updates", "spikes_out")
    }
    return {
        "network": plan.name,
        "rate": rate,
        "batch": batch,
        "digest": network.digest,
        "achieved_rates": [float(s.mean()) for s in recorded.spikes],
        "work_per_sample_step": work,
        "engine_backend": recorded.backend,
        "contenders": out,
    }


# -- Lava, fresh processes, sweeps ---------------------------------------------------------------


@contextmanager
def lavas(setup: Setup, plan: Plan, network: Network, rate: float) -> Iterator[dict[str, Lava]]:
    """The Lava processes of one network and rate; every layer is read at the goals' rate only."""
    if not setup.lava:
        yield {}
        return
    (x,) = random_input(plan.input_shape, rate, 1, plan.steps)
    with lava_process(network, x, "output") as output:
        if rate != GOAL_RATE:
            yield {LAVA: output}
            return
        with lava_process(network, x, "all") as recorded:
            yield {LAVA: output, LAVA_RECORDED: recorded}


def children(setup: Setup, plan: Plan) -> dict[str, Any]:
    """First call in fresh processes (the compiled code's cache warm), and peak memory per batch."""
    with tempfile.TemporaryDirectory(prefix="spikeship-speed-") as name:
        folder = Path(name)
        write_netx(build(plan, GOAL_RATE), folder / "network.net")

        def fresh(record: str) -> dict[str, Any]:
            command = [sys.executable, "-m", "spikeship.benchmarks.speed.child", name, record]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return measured

        memory = {}
        for batch in setup.memory_batches:
            np.save(folder / "input.npy", random_input(plan.input_shape, 0.05, batch, plan.steps))
            memory[str(batch)] = {
                record: {k: measured[k] for k in ("peak_bytes", "input_bytes")}
                for record in ("counts", "spikes")
                for measured in (fresh(record),)
            }
        np.save(folder / "input.npy", random_input(plan.input_shape, 0.05, 1, plan.steps))
        calls = [fresh("counts") for _ in range(1 + setup.fresh_calls)][1:]
    return {
        "network": plan.name,
        "peak_memory": memory,
        "import_seconds": median(c["import_seconds"] for c in calls),
        "first_call_seconds": median(c["first_call_seconds"] for c in calls),
    }


def sweep(plan: Plan, what: str, values: tuple[float, ...]) -> list[dict[str, float]]:
    """Engine time against one quantity, else batch 32, 5 % spikes, the plan's steps, all cores.

    Numbers of threads that the machine has no cores for are left out.
    """
    network = build(plan, GOAL_RATE)
    rows = []
    for value in values:
        batch, rate, steps, threads = GOAL_BATCH, GOAL_RATE, plan.steps, None
        if what == "threads" and value > (os.cpu_count() or 1):
            continue
        if what == "steps":
            steps = int(value)
        elif what == "batch":
            batch = int(value)
        elif what == "threads":
            threads = int(value)
        elif what == "input spike rate":
            rate = value
        else:
            network = build(replace(plan, dense=(int(value), *plan.dense[1:])), rate)
        x = random_input(plan.input_shape, rate, batch, steps)

        def simulated(
            steps: int, network: Network = network, x: Any = x, threads: int | None = threads
        ) -> Any:
            return engine.simulate(network, x, Timing(steps), threads=threads)

        call = timed(simulated, steps, 1, SHORTEST)
        call()
        seconds = steps * median(call() for _ in range(5))
        spikes = engine.simulate(network, x[:8], record="spikes")
        counts = count(network, x[:8], spikes)
        rows.append(
            {
                "value": value,
                "seconds": seconds,
                "per_sample_step": seconds / (batch * steps),
                "synops_per_sample_step": counts.total("synops") / counts.samples / counts.steps,
            }
        )
    return rows


# -- the whole run ------------------------------------------------------------------------------


def signature(setup: Setup) -> str:
    """What must be the same for a run to go on from stored cells: settings, versions, our code."""
    sha = hashlib.sha256(json.dumps([records.plain(asdict(setup)), records.environment()]).encode())
    for folder in ("hw_targets", "benchmarks"):
        for path in sorted((Path(__file__).parents[2] / folder).rglob("*.py")):
            sha.update(path.read_bytes())
    return sha.hexdigest()


def run(setup: Setup, part: Path, console: Console) -> dict[str, Any]:
    """Every cell that `part` does not hold yet, then everything together."""
    stored: dict[str, Any] = json.loads(part.read_text()) if part.is_file() else {}
    if stored.get("signature") != signature(setup):
        stored = {"signature": signature(setup), "done": {}}
    done: dict[str, Any] = stored["done"]

    def stored_or(key: str, make: Callable[[], Any]) -> Any:
        if key not in done:
            done[key] = records.plain(make())
            records.write_json(stored, part)
        bar.advance(task)
        return done[key]

    sizes = len(setup.rates) * (1 + len(setup.batches)) + 1
    total = 1 + len(setup.plans) * sizes + len(setup.sweeps) + len(setup.kinds)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("machine limits", total=total)
        limits = stored_or("limits", partial(machine.measure, *setup.limits))
        cells, networks, fresh = [], {}, []
        for plan in setup.plans.values():
            for rate in setup.rates:
                bar.update(task, description=f"{plan.name}, {100 * rate:g} %")
                keys = [f"{plan.name}/{rate}/{batch}" for batch in setup.batches]
                described = f"{plan.name}/{rate}"
                if described not in done or any(key not in done for key in keys):
                    network = build(plan, rate)
                    with lavas(setup, plan, network, rate) as lava:
                        for key, batch in zip(keys, setup.batches, strict=True):
                            stored_or(key, partial(cell, setup, plan, network, rate, batch, lava))
                    lava_parts = {name: process.parts for name, process in lava.items()}
                    stored_or(described, partial(dict, describe(network), lava_parts=lava_parts))
                else:
                    bar.advance(task, 1 + len(keys))
                cells += [done[key] for key in keys]
                networks[described] = done[described]
            bar.update(task, description=f"{plan.name}, fresh processes")
            fresh.append(stored_or(f"{plan.name}/fresh", partial(children, setup, plan)))
        sweeps = {}
        for what, values in setup.sweeps.items():
            bar.update(task, description=f"growth with {what}")
            sweeps[what] = stored_or(what, partial(sweep, setup.plans["mlp"], what, values))
        of_kinds = []
        for name in setup.kinds:
            bar.update(task, description=name)
            kind = kinds.KINDS[name]
            measure = partial(
                kinds.measure, kind, setup.kind_batches, setup.repeats, lava=setup.lava
            )
            of_kinds.append(stored_or(name, measure))
    for measured in cells:
        engine_seconds = measured["contenders"][OURS].get("median")
        if engine_seconds is not None:
            measured["machine"] = machine.share(
                engine_seconds, measured["work_per_sample_step"], limits
            )
    return {
        "unit": "seconds per sample and step",
        "machine_limits": limits,
        "networks": networks,
        "cells": cells,
        "fresh_processes": fresh,
        "kinds": of_kinds,
        "growth": {"network": "mlp", "at": f"batch {GOAL_BATCH}, {GOAL_RATE} spikes", **sweeps},
    }


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Tiny networks, no Lava.")] = False,
    out: Annotated[Path, typer.Option()] = RESULTS / "speed.json",
    only: Annotated[str, typer.Option(help="Networks, comma-separated.")] = ",".join(PLANS),
) -> None:
    """Measure, print, write JSON."""
    setup = QUICK if quick else Setup(PLANS)
    chosen = [name.strip() for name in only.split(",")]
    unknown = set(chosen) - set(setup.plans)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(PLANS)}")
    reason = lava_cpu.why_unavailable() if setup.lava else "not in --quick"
    missing = ("slayer",) if reason else ()
    setup = replace(
        setup,
        plans={name: setup.plans[name] for name in chosen},
        lava=reason is None,
        contenders=tuple(name for name in setup.contenders if name not in missing),
        sweeps=setup.sweeps if "mlp" in chosen else {},
        kinds=setup.kinds if chosen == list(setup.plans) else (),
    )
    load, start = os.getloadavg()[0], time.time()
    part = out.with_name(out.name + ".part")
    measured = run(setup, part, Console(stderr=True))
    some = None if chosen == list(PLANS) else only
    result = {
        "command": command("speed", quick=quick, only=some),
        "without_lava": reason,
        "repeats": {"at 5 %": setup.repeats_at_goal, "otherwise": setup.repeats},
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "load_before": load,
        "minutes": (time.time() - start) / 60,
        "notes": NOTES,
        **measured,
        "goals": goals(measured),
    }
    finish(result, out, tables(result), width=180)
    part.unlink(missing_ok=True)
