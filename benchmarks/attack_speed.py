"""What attacks and certificates of the deployed integers cost, beside Norse's own autograd.

Usage: python -m spikeship.benchmarks.attack_speed [--quick] [--device cuda] [--out FILE.json]

Networks trained on digits, deployed in 8 bits. A gradient of the cross-entropy with respect to the
images is taken through the twin of the integers and through the Norse network that they were made of, in
turns on one thread; what is claimed is the median of the ratios of neighbouring runs. Then images per
second of PGD-20 (EOT 8 where the coding draws), and of the certificate that suits the coding: of noise
with 100 and 10,000 draws, of the phase code exact. Prints a table, writes JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from ..hw_targets.simulate.torch_engine.device import device_of
from ..models import training
from ..models.data.dataset import Dataset
from ..models.data.load import load
from ..models.encoding import generator
from ..models.settings import Settings
from ..pipeline.robustness import PGD, DeployedVictim, FloatVictim, Victim
from ..pipeline.robustness.attacks.attack import cross_entropy
from ..pipeline.robustness.certificates.certify import certify
from .harness import RESULTS, command, finish

NETWORKS = {
    "MLP, rsc1": Settings.of(),
    "MLP, phase": Settings.of(coding="phase"),
    "MLP, direct": Settings.of(coding="direct"),
    "CNN, rsc1": Settings.of(model="cnn"),
}
EPSILON, EOT, BATCH = 0.1, 8, 250


def gradient(
    logits: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    """d cross-entropy / d images on one draw, the same in every call."""
    x = images.clone().requires_grad_()
    loss = cross_entropy(logits(x, generator(0, x.device)), labels).sum()
    (slope,) = torch.autograd.grad(loss, x)
    return slope


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """What `work` takes, to its end on the device."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def cell(
    network: training.Classifier, data: Dataset, device: torch.device, quick: bool
) -> dict[str, Any]:
    """One network: seconds of gradients, their ratio, and images per second."""
    integers = DeployedVictim.quantized(network, data.train.images[:128])
    norse = FloatVictim(network)
    few = 20 if quick else BATCH
    images, labels = data.test.images[:few].to(device), data.test.labels[:few].to(device)
    with integers.on(device), norse.on(device):
        sides = {
            "norse": lambda: gradient(
                lambda x, g: network.scale * network.logits(x, g), images, labels
            ),
            "twin": lambda: gradient(integers.logits, images, labels),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(4 if quick else 16):
            for name, work in sides.items():
                took = seconds(work, device)
                if turn:  # the first is for warming up
                    times[name].append(took)
        eot = EOT if integers.stochastic else 1
        attack = PGD(EPSILON, steps=2 if quick else 20, eot=eot)

        def attacked(victim: Victim) -> float:
            draws = generator(0, device)
            return few / seconds(lambda: attack.run(victim, images, labels, draws), device)

        result = {
            "digest": integers.digest,
            "batch": few,
            "gradient_seconds": {name: median(taken) for name, taken in times.items()},
            "twin_over_norse": median(
                b / a for a, b in zip(times["norse"], times["twin"], strict=True)
            ),
            "pgd": {"steps": attack.steps, "eot": eot},
            "pgd_images_per_second": {"integers": attacked(integers), "float": attacked(norse)},
        }
        if integers.stochastic:
            number = 2 if quick else 20
            n = 100 if quick else 10_000
            sample = (data.test.images[:number], data.test.labels[:number])
            certify(integers, sample[0][:1], sample[1][:1], n0=1, n=1)  # compiles
            certified = certify(integers, *sample, n0=100, n=n)
            result["certificate"] = {
                "method": certified.method,
                "runs": certified.runs,
                "images_per_second": number / certified.seconds,
            }
    return result


def table_of(cells: dict[str, dict[str, Any]]) -> Table:
    """What was measured, a network a row."""
    out = Table(title="Gradients, attacks and certificates of the integers")
    columns = (
        "network",
        "twin / Norse",
        "gradient, ms",
        "PGD, images/s",
        "float",
        "certificate, images/s",
    )
    for column in columns:
        out.add_column(column, justify="left" if column == "network" else "right")
    for name, c in cells.items():
        rates, certificate = c["pgd_images_per_second"], c.get("certificate")
        shown = "none" if certificate is None else f"{certificate['images_per_second']:.3g}"
        out.add_row(
            name,
            f"{c['twin_over_norse']:.2f}",
            f"{1e3 * c['gradient_seconds']['twin']:.1f}",
            f"{rates['integers']:.3g}",
            f"{rates['float']:.3g}",
            shown,
        )
    return out


def main(
    quick: Annotated[
        bool, typer.Option(help="Few images, steps and draws: only to see it run.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where all of it computes: cpu, cuda, ...")] = "cpu",
    out: Annotated[Path, typer.Option(help="JSON to write.")] = RESULTS / "attack_speed.json",
) -> None:
    """Measure, print, write JSON."""
    where, data, cells = device_of(device), load("digits"), {}
    with training.threads(1), TemporaryDirectory() as folder:
        for name, settings in NETWORKS.items():
            chosen = training.suited(settings.changed(epochs=1 if quick else 10), data)
            network, _ = training.train(chosen, data, Path(folder) / name, progress=False)
            cells[name] = cell(network, data, where, quick)
    result = {
        "command": command("attack_speed", quick=quick, device=None if device == "cpu" else device),
        "device": device,
        "cells": cells,
    }
    finish(result, out, [table_of(cells)])


if __name__ == "__main__":
    typer.run(main)
