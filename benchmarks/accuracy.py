"""Float spiking networks against their exported integers: digits (MLP, three seeds), MNIST (CNN).

Usage: python -m spikeship.benchmarks.accuracy digits
       python -m spikeship.benchmarks.accuracy mnist --data-root ROOT      (about half an hour)

Trains (or goes on where an interrupted run stopped), exports, simulates the whole test set on the
same input draws, verifies some images on Lava where it is installed, prints a table, writes JSON.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Literal

import typer

from ..hw_targets.printed import table
from ..models import training
from ..models.data.dataset import Dataset
from ..models.data.load import load
from ..models.settings import Settings
from ..pipeline.deploy.deploy import deploy
from ..pipeline.deploy.run import evaluate, float_accuracy
from ..pipeline.float.execute import execute
from ..pipeline.lower import lower
from ..pipeline.text import percent
from ..pipeline.verify import verify
from .harness import RESULTS, SEEDS, command, finish

SETTINGS = {
    "digits": Settings(),
    "mnist": Settings(model="cnn", readout="voltage", epochs=4, batch=64, learning_rate=2e-3),
}
LIMITS = {"digits": 0.010, "mnist": 0.005}
"""Largest loss of accuracy from float to integers that the project promises."""


def measure(settings: Settings, data: Dataset, folder: Path) -> dict[str, Any]:
    """One seed: float and integer accuracy, agreement, digest."""
    snn, checkpoint = training.train(settings, data, folder)
    net = folder / f"{data.name}.net"
    deployed = deploy(checkpoint, data, seed=settings.seed).save(net)
    recipe = deployed.recipe
    evaluation = evaluate(deployed, data.test, progress=True)
    checked = verify(deployed, data, samples=64, lava_samples=2)
    some, _ = deployed.encoded(data.test, 64)
    assert deployed.graph is not None
    float_rates = [
        float(s.mean()) for s in execute(lower(deployed.graph), some / recipe.coding.levels).spikes
    ]
    return {
        "seed": settings.seed,
        "float_accuracy": float_accuracy(snn.net, recipe, data.test),
        "integer_accuracy": evaluation.accuracy,
        "network_digest": deployed.digest,
        "spikes_per_inference": evaluation.counts.total("spikes_out") / len(data.test),
        "synops_per_inference": evaluation.counts.total("synops") / len(data.test),
        "float_spike_rates": float_rates,
        "verification": checked,
        "overflow": evaluation.overflow,
        "layers": deployed.losses,
    }


def main(
    data: Annotated[Literal["digits", "mnist"], typer.Argument()],
    data_root: Annotated[Path | None, typer.Option()] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and networks.")] = Path("runs/accuracy"),
    out: Annotated[Path | None, typer.Option()] = None,
    seeds: Annotated[int | None, typer.Option(help="Default: 3 for digits, 1 for MNIST.")] = None,
) -> None:
    """Measure, print, write JSON."""
    dataset = load(data, data_root)
    count = seeds if seeds is not None else SEEDS[data]
    runs = [
        measure(replace(SETTINGS[data], seed=seed), dataset, work / f"{data}-{seed}")
        for seed in range(count)
    ]
    result = {
        "command": command("accuracy", data, data_root=data_root),
        "settings": SETTINGS[data].options(),
        "test_images": len(dataset.test),
        "limit": LIMITS[data],
        "runs": runs,
        "mean_float_accuracy": mean(run["float_accuracy"] for run in runs),
        "mean_integer_accuracy": mean(run["integer_accuracy"] for run in runs),
    }
    rows = [
        (
            f"seed {run['seed']}",
            percent(run["float_accuracy"]),
            percent(run["integer_accuracy"]),
            ", ".join(percent(a.equal) for a in run["verification"].to_float),
            run["network_digest"][:12],
        )
        for run in runs
    ]
    columns = ("", "float", "integers", "spikes equal, by layer", "digest")
    shown = table(f"{data}, {len(dataset.test)} test images", columns, rows)
    finish(result, out or RESULTS / f"accuracy_{data}.json", [shown])


if __name__ == "__main__":
    typer.run(main)
