"""Norse against SLAYER: the same MLPs, coding, objective and loop, each deployed in integers.

Usage: python -m spikeship.benchmarks.frameworks                       (digits, three seeds)
       python -m spikeship.benchmarks.frameworks --data-root ROOT      (and MNIST; about 20 minutes)

Trains (or goes on where an interrupted run stopped), turns both into netx files, runs the whole test
set on the same input draws in the framework and in the simulator and two images on Lava; prints a
table, writes JSON. Needs lava-dl.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import norse.torch as norse
import numpy as np
import torch
import typer
from torch import nn

from ..hw_targets.printed import table
from ..models import slayer, training
from ..models.data.dataset import Dataset, Split
from ..models.data.load import load
from ..models.settings import FRAMEWORKS, Settings
from ..pipeline.deploy.deploy import deploy
from ..pipeline.deploy.deployed import Deployed
from ..pipeline.deploy.run import encoded, evaluate, float_accuracy, run_recipe
from ..pipeline.text import percent
from .harness import RESULTS, SEEDS, command, finish

SETTINGS = {
    "digits": Settings(),
    "mnist": Settings(dataset="mnist", epochs=4, batch=64, learning_rate=5e-3),
}
COMPARED = 256
"""Test images whose every spike is compared with the framework's."""
ON_LAVA = 2
TIMED = 1000


def spikes_of(net: nn.Module, frames: torch.Tensor) -> list[torch.Tensor]:
    """The framework's own spikes, per layer (sample, steps, *layer shape)."""
    if isinstance(net, slayer.SlayerClassifier):
        return net.spikes(frames)
    cells = [m for m in net.modules() if isinstance(m, norse.LIFBoxCell)]
    sent: list[list[torch.Tensor]] = [[] for _ in cells]
    hooks = [
        cell.register_forward_hook(lambda *call, into=into: into.append(call[2][0]))
        for cell, into in zip(cells, sent, strict=True)
    ]
    net(frames)
    for hook in hooks:
        hook.remove()
    return [torch.stack(steps, dim=1) for steps in sent]


def seconds_to_train(settings: Settings, data: Dataset) -> float:
    """Processor time of one epoch of the first `TIMED` training images, the least of three."""
    some = Split(*data.train[list(range(TIMED))])
    few = replace(data, train=some, validation=Split(*some[list(range(100))]))
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            training.train(replace(settings, epochs=1), few, folder, progress=False)
            times.append(time.process_time() - start)
    return min(times)


def measure(settings: Settings, data: Dataset, folder: Path) -> dict[str, Any]:
    """One framework and seed."""
    classifier, checkpoint = training.train(settings, data, folder)
    path = checkpoint.with_name("network.net")
    deploy(checkpoint, data, seed=settings.seed).save(path)
    deployed = Deployed.load(path)
    network, recipe = deployed.network, deployed.recipe

    messages = next(encoded(recipe, data.test))[0][:COMPARED]
    frames = torch.tensor(messages / recipe.coding.levels, dtype=torch.float32).transpose(0, 1)
    with torch.no_grad():
        own = [s.numpy() for s in spikes_of(classifier.net, frames)]
    trace = run_recipe(network, messages)
    lava = run_recipe(network, messages[:ON_LAVA], backend="lava")
    assert trace.spikes is not None
    assert lava.spikes is not None
    evaluation = evaluate(deployed, data.test, progress=True)
    per_inference = {
        f"{what}_per_inference": evaluation.counts.total(name) / len(data.test)
        for what, name in (("spikes", "spikes_out"), ("synops", "synops"))
    }
    return {
        "dataset": data.name,
        "framework": settings.framework,
        "seed": settings.seed,
        "test_images": len(data.test),
        "float_accuracy": float_accuracy(classifier.net, recipe, data.test),
        "integer_accuracy": evaluation.accuracy,
        **per_inference,
        "spike_rates": [float(s.mean()) for s in trace.spikes],
        "compared_images": len(messages),
        "equal_spikes": [float(np.mean(a == b)) for a, b in zip(own, trace.spikes, strict=True)],
        "lava_images": ON_LAVA,
        "lava_equal": all(
            np.array_equal(a, b[:ON_LAVA]) for a, b in zip(lava.spikes, trace.spikes, strict=True)
        ),
        "overflow": evaluation.overflow,
        "cpu_seconds_per_1000_images": seconds_to_train(settings, data),
        "network_digest": network.digest,
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds, per data set and framework; times also over Norse's."""
    averaged = (
        "float_accuracy",
        "integer_accuracy",
        "spikes_per_inference",
        "synops_per_inference",
        "cpu_seconds_per_1000_images",
    )
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(run["dataset"] for run in runs):
        for framework in FRAMEWORKS:
            some = [r for r in runs if (r["dataset"], r["framework"]) == (name, framework)]
            row = {"dataset": name, "framework": framework, "seeds": len(some)}
            row |= {key: mean(run[key] for run in some) for key in averaged}
            row["equal_spikes"] = min(min(run["equal_spikes"]) for run in some)
            norse_row = next(r for r in [*rows, row] if r["dataset"] == name)
            row["time_over_norse"] = (
                row["cpu_seconds_per_1000_images"] / norse_row["cpu_seconds_per_1000_images"]
            )
            rows.append(row)
    return rows


def main(
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds MNIST/raw.")] = None,
    work: Annotated[Path, typer.Option(help="Checkpoints and networks.")] = Path("runs/frameworks"),
    out: Annotated[Path, typer.Option()] = RESULTS / "frameworks.json",
) -> None:
    """Measure, print, write JSON."""
    names = ["digits"] if data_root is None else list(SETTINGS)
    runs = []
    for name in names:
        data = load(name, data_root)
        for seed in range(SEEDS[name]):
            for framework in FRAMEWORKS:
                settings = replace(SETTINGS[name], framework=framework, seed=seed)
                runs.append(measure(settings, data, work / f"{name}-{framework}-{seed}"))
    rows = summary(runs)
    result = {
        "command": command("frameworks", data_root=data_root),
        "settings": {name: SETTINGS[name].options() for name in names},
        "summary": rows,
        "runs": runs,
    }
    columns = (
        "",
        "framework",
        "float",
        "integers",
        "spikes",
        "synops",
        "spikes equal (worst layer)",
        "time",
    )
    cells = [
        (
            f"{row['dataset']}, {row['seeds']} seed{'s' * (row['seeds'] > 1)}",
            row["framework"],
            percent(row["float_accuracy"]),
            percent(row["integer_accuracy"]),
            f"{row['spikes_per_inference']:,.0f}",
            f"{row['synops_per_inference']:,.0f}",
            percent(row["equal_spikes"]),
            f"{row['time_over_norse']:.2f}",
        )
        for row in rows
    ]
    title = "MLPs; per inference; time of training over Norse's"
    finish(result, out, [table(title, columns, cells)])


if __name__ == "__main__":
    typer.run(main)
