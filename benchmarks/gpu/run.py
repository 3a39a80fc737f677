"""The torch backend on a GPU: is it exact there, and how fast is it beside the engine on the CPU.

Usage: python -m spikeship.benchmarks.gpu [--cpu-rehearsal] [--only SECTION,...] [--minutes M]
           [--data-root ROOT] [--work FOLDER] [--out FILE.json]

Needs torch, numba and h5py; neither Norse nor Lava nor data, but for the last section. In this order:

    parity    random networks of every kind (`_fuzz_networks`) against the reference, each spike, state,
              count and overflow with `==`, with neurons updated in one kernel and step by step; then an
              MLP, an N-MNIST conv net, VGG-11, VGG-16 and ResNet-18 (T = 4) against the engine
    speed     samples and neuron updates per second of these five, input and result arrays in the
              computer's own memory, the engine on the processor beside it
    growth    the MLP's time against steps, neurons, spikes, batch and the engine's threads
    energy    joules per inference by NVML of VGG-11: as an ANN and as a spiking network in float32, TF32
              and float16, with and without CUDA graphs, and our integers
    cifar10   `spikeship.benchmarks.cifar10` for the rest of the time: robust training of VGG-11, then
              integers, attacks, certificates; where ROOT holds CIFAR-10, with Norse and Lightning

What is measured stays in FOLDER: the same command goes on from there. No section begins after M minutes.
A cell that fails is stored with its error, and measured again by the next run, as is energy without a
sensor. `--cpu-rehearsal`: all of
it at toy size on the CPU, with images drawn at random.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from ...hw_targets.simulate.torch_engine import products, scan
from ...hw_targets.simulate.torch_engine.device import device_of
from ..harness import RESULTS, command, finish, kept
from . import energy, parity, speed
from .setup import FULL, REHEARSAL, Setup

SECTIONS = ("parity", "speed", "growth", "energy", "cifar10")
Cells = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


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


def cells(setup: Setup) -> Cells:
    """Every cell by its name, which begins with its section, in the order in which they are measured."""
    for by_steps in (False, True):
        name = f"parity {'step by step' if by_steps else 'one kernel'}"
        yield name, partial(parity.random_networks, setup, by_steps)
    for subject in setup.subjects:
        yield f"parity {subject.name}", partial(parity.larger, setup, subject)
    yield "speed of updates", partial(speed.updates_alone, setup)
    for batch in setup.batches:
        for subject in setup.subjects:
            yield f"speed {subject.name} {batch}", partial(speed.speed, setup, subject, batch)
    for what in setup.growth:
        yield f"growth {what}", partial(speed.growth, setup, what)
    for name, measure in energy.cells(setup):
        yield f"energy {name}", measure


def measured(
    setup: Setup, work: Path, minutes: float, sections: Sequence[str] = SECTIONS
) -> dict[str, Any]:
    """All cells of some sections; what is left out says why."""
    start, out = time.monotonic(), {"machine": what_runs(setup)}
    for name, measure in cells(setup):
        path = work / f"{name.replace(' ', '_')}.json"
        if name.split()[0] not in sections and not path.is_file():
            continue
        if time.monotonic() - start > 60 * minutes and not path.is_file():
            out[name] = {"left_out": f"more than {minutes:g} minutes had passed"}
            continue
        try:
            out[name] = kept(path, f"{name}: {time.monotonic() - start:.0f} s", measure)
        except Exception as error:
            traceback.print_exc()
            out[name] = {"error": f"{type(error).__name__}: {error}"}
        if out[name].get("status") == "unavailable":  # perhaps the next run has the sensor
            path.unlink()
    return out


def training(setup: Setup, data_root: Path | None, folder: Path, minutes: float) -> dict[str, Any]:
    """The recipe of CIFAR-10 for so long, see `cifar10.run.piece`; or why not."""
    rehearsal = setup.device == "cpu"
    if data_root is None and not rehearsal:
        return {"left_out": "give --data-root, the folder that holds CIFAR-10"}
    if minutes <= 0:
        return {"left_out": "no time was left"}
    try:
        from ..cifar10 import recipe, run
    except ImportError as error:
        return {"left_out": f"{error}; training needs Norse and Lightning"}
    try:
        chosen = recipe.TOY if rehearsal else recipe.FULL
        bench = run.bench_of(chosen, data_root, folder, setup.device)
        done = run.piece(bench, minutes)
        return {**done, "summary": run.summary(chosen, done["cells"])}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


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


def energy_table(result: dict[str, Any]) -> Table:
    """Joules and time per inference."""
    network = result["energy_of"]
    out = Table(title=f"{network}, {result['device']}: per inference, idle power included")
    for column in ("what", "batch", "images per second", "energy", "error", "dynamic"):
        out.add_column(column, justify="left" if column == "what" else "right")
    for name, cell in result["cells"].items():
        if name.startswith("energy") and "status" in cell:
            known = cell["joules"] is not None
            shown = [f"{1e3 * cell[key]:.3g} mJ" if known and cell[key] else "" for key in JOULES]
            out.add_row(
                " ".join(word for word in name.split()[1:] if word != str(cell["batch"])),
                str(cell["batch"]),
                f"{cell['samples_per_second']:,.0f}",
                *(shown if known else [cell["reason"], "", ""]),
            )
    return out


JOULES = ("joules", "joules_error", "dynamic_joules")


def main(
    cpu_rehearsal: Annotated[
        bool, typer.Option("--cpu-rehearsal", help="All of it at toy size, on the CPU.")
    ] = False,
    only: Annotated[
        str, typer.Option(help=f"Sections, comma-separated, of {', '.join(SECTIONS)}.")
    ] = ",".join(SECTIONS),
    minutes: Annotated[float, typer.Option(help="Begin nothing after so long.")] = 8.0,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds CIFAR-10.")] = None,
    work: Annotated[Path, typer.Option(help="Folder of measured cells.")] = Path("runs/gpu"),
    out: Annotated[Path, typer.Option()] = RESULTS / "gpu.json",
) -> None:
    """Measure, print, write JSON. Status 1 where anything differs or failed."""
    sections = [name.strip() for name in only.split(",")]
    if unknown := [name for name in sections if name not in SECTIONS]:
        raise typer.BadParameter(
            f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}."
        )
    setup = REHEARSAL if cpu_rehearsal else FULL
    device_of(setup.device)
    start = time.monotonic()
    done = measured(setup, work / setup.device, minutes, sections)
    if "cifar10" in sections:
        rest = minutes - (time.monotonic() - start) / 60
        done["cifar10"] = training(setup, data_root, work / setup.device / "cifar10", rest)
    result = {
        "command": command(
            "gpu",
            cpu_rehearsal=cpu_rehearsal,
            only=None if sections == list(SECTIONS) else only,
            data_root=data_root,
        ),
        "device": setup.device,
        "minutes": (time.monotonic() - start) / 60,
        "energy_of": setup.energy.name,
        "cells": done,
    }
    notes = [
        f"{name}: {cell.get('networks', '')} {cell.get('differ', cell.get('differs'))}"
        for name, cell in done.items()
        if name.startswith("parity") and "error" not in cell and "left_out" not in cell
    ]
    left_out = [f"{name}: {cell['left_out']}" for name, cell in done.items() if "left_out" in cell]
    failed = [f"{name}: {cell['error']}" for name, cell in done.items() if "error" in cell]
    if left := done.get("cifar10", {}).get("left"):
        left_out.append(f"cifar10: {len(left)} cells are left; the same command goes on")
    tables = [table(result), energy_table(result)]
    finish(result, out, [*tables, *notes, *left_out, *failed], work=work)
    raise typer.Exit(1 if failed or not all(map(_agrees, done.values())) else 0)


def _agrees(cell: dict[str, Any]) -> bool:
    """Whether a cell found nothing that differs."""
    return (
        not cell.get("differ")
        and cell.get("equal", True)
        and not any((cell.get("differs") or {}).values())
    )
