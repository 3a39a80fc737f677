"""Bits against accuracy: naive max scaling, our search, and fine-tuning through the twin.

Usage: python -m spikeship.benchmarks.quantization --data-root ROOT     (hours on two cores)
       python -m spikeship.benchmarks.quantization --only digits        (about ten minutes)

Digits, MNIST and Fashion-MNIST, an MLP and a CNN each, three seeds, weights of 8, 6, 4, 3 and 2
bits. Each network is trained, each cell measured once and kept in the work folder: an interrupted
run goes on. Prints a table of mean and spread, writes JSON.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer

from ..hw_targets.network.network import Network
from ..hw_targets.network.recipe import Recipe
from ..hw_targets.printed import table
from ..models import training
from ..models.data.dataset import Dataset
from ..models.data.load import load
from ..models.settings import Settings
from ..pipeline.deploy.calibration import calibration_messages
from ..pipeline.deploy.deployed import Deployed
from ..pipeline.deploy.run import classify, float_accuracy
from ..pipeline.frontends.norse import convert
from ..pipeline.quantize import quantize
from ..pipeline.text import percent
from ..pipeline.twin import Tuning, finetune
from .harness import RESULTS, command, finish, kept

_MLP = Settings(epochs=10, batch=128, learning_rate=5e-3)
_CNN = Settings.of(
    model="cnn", widths=(8, 16), readout="voltage", steps=4, epochs=4, batch=64, learning_rate=4e-3
)
NETWORKS = {
    "digits mlp": Settings(),
    "digits cnn": Settings(model="cnn", epochs=40),
    "mnist mlp": replace(_MLP, dataset="mnist"),
    "mnist cnn": replace(_CNN, dataset="mnist"),
    "fashion_mnist mlp": replace(_MLP, dataset="fashion_mnist"),
    "fashion_mnist cnn": replace(_CNN, dataset="fashion_mnist"),
}
BITS = (8, 6, 4, 3, 2)
METHODS = ("max", "search", "fine-tuned")
CALIBRATION = 128
"""Training images on which `search` and the start of fine-tuning choose."""
TUNING = {
    "digits": Tuning(epochs=10, layer_epochs=3, learning_rate=0.01),
    "mnist": Tuning(epochs=3, layer_epochs=1, learning_rate=0.01),
    "fashion_mnist": Tuning(epochs=3, layer_epochs=1, learning_rate=0.01),
}
TUNING_IMAGES = 10_000
"""Training images of an epoch of fine-tuning, at most."""
LIMITS = {8: ("search", 0.003), 4: ("fine-tuned", 0.01)}
"""Largest mean loss of accuracy that the project promises, by bits: method and loss."""


def measure(name: str, seed: int, data: Dataset, folder: Path) -> list[dict[str, Any]]:
    """All cells of one trained network; those measured before are read from `folder`."""
    snn, _ = training.train(replace(NETWORKS[name], seed=seed), data, folder)
    coding = snn.settings.coding
    messages = calibration_messages(coding, data.train.images[:CALIBRATION], seed)
    graph = convert(snn.net, data.shape, messages / coding.levels)
    recipe = Recipe.of(coding, seed, {"dataset": data.name})
    if snn.settings.readout == "voltage":
        recipe = replace(recipe, decode="mean voltage")
    real = float_accuracy(snn.net, recipe, data.test)
    few = replace(data, train=data.train.first(TUNING_IMAGES))

    def quantized(bits: int, method: str) -> dict[str, Any]:
        naive = method == "max"
        rounded = quantize(graph, messages, recipe, bits=bits, method="max" if naive else "search")
        network: Network = rounded.network
        if method == "fine-tuned":
            tuning = replace(TUNING[data.name], seed=seed)
            network = finetune(rounded, few, tuning, graph=graph).network
        unit = replace(recipe, output_unit=rounded.losses[-1].unit)
        result = classify(Deployed(Network(network.layers, unit)), data.test)
        return {
            "network": name,
            "seed": seed,
            "bits": bits,
            "method": method,
            "float_accuracy": real,
            "integer_accuracy": result.accuracy,
            "digest": network.digest,
            "agreement": [loss.agreement for loss in rounded.losses],
            "overflow": result.overflow,
        }

    return [
        kept(
            folder / f"{method}-{bits}.json",
            f"{name}, seed {seed}, {bits} bits, {method}",
            partial(quantized, bits, method),
        )
        for bits in BITS
        for method in METHODS
    ]


def summary(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and spread (sample standard deviation) over the seeds, per network, bits and method."""
    out = []
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["network"], cell["bits"], cell["method"]].append(cell)
    for (network, bits, method), group in groups.items():
        accuracies = [cell["integer_accuracy"] for cell in group]
        losses = [cell["float_accuracy"] - cell["integer_accuracy"] for cell in group]
        out.append(
            {
                "network": network,
                "bits": bits,
                "method": method,
                "seeds": len(group),
                "float_accuracy": mean(cell["float_accuracy"] for cell in group),
                "integer_accuracy": mean(accuracies),
                "spread": stdev(accuracies) if len(group) > 1 else None,
                "loss": mean(losses),
                "loss_spread": stdev(losses) if len(group) > 1 else None,
            }
        )
    return out


def main(
    only: Annotated[
        str | None, typer.Option(help="Networks whose name holds this, such as digits or cnn.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option()] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and cells.")] = Path("runs/quantization"),
    out: Annotated[Path, typer.Option()] = RESULTS / "quantization.json",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure, print, write JSON."""
    names = [name for name in NETWORKS if only is None or only in name]
    if not names:
        raise typer.BadParameter(f"--only {only}: choose from {', '.join(NETWORKS)}.")
    cells = []
    for seed in range(seeds):
        for name in names:
            data = load(NETWORKS[name].dataset, data_root)
            cells += measure(name, seed, data, work / f"{name.replace(' ', '-')}-{seed}")
    averages = summary(cells)
    result = {
        "command": command("quantization", only=only, data_root=data_root),
        "settings": {name: NETWORKS[name].options() for name in names},
        "tuning": {name: asdict(tuning) for name, tuning in TUNING.items()},
        "tuning_images": TUNING_IMAGES,
        "calibration_images": CALIBRATION,
        "limits": {str(bits): limit for bits, limit in LIMITS.items()},
        "summary": averages,
        "cells": cells,
    }
    rows = []
    for name in names:
        for bits in BITS:
            row = [c for c in averages if (c["network"], c["bits"]) == (name, bits)]
            rows.append(
                (
                    name if bits == BITS[0] else "",
                    percent(row[0]["float_accuracy"]) if bits == BITS[0] else "",
                    bits,
                    *(
                        percent(c["integer_accuracy"])
                        + ("" if c["spread"] is None else f" ± {100 * c['spread']:.2f}")
                        for c in row
                    ),
                )
            )
    columns = ("network", "float", "bits", *METHODS)
    shown = table(f"test accuracy, mean of {seeds} seeds", columns, rows)
    finish(result, out, [shown], work=work)


if __name__ == "__main__":
    typer.run(main)
