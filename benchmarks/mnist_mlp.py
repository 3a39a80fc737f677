"""A published SLAYER network (784-128-64-10) on MNIST: the published accuracy against ours.

Usage: python -m spikeship.benchmarks.mnist_mlp --net NET.net --data-root ROOT [--steps 20 --steps 32]

Input coding of the network's authors (R-Gaurav/mnist-on-loihi): one integrator per pixel adds the
intensity in [0, 1] in every step, spikes when it exceeds 1 and is then set to 0. The class is the
output neuron with the most spikes. All 10,000 test images.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from ..hw_targets.network.network import Network
from ..hw_targets.network.timing import Timing
from ..hw_targets.netx.file import read_netx
from ..hw_targets.simulate.engine import simulate
from ..models.data.load import load
from .harness import RESULTS, command, finish

PUBLISHED = {20: 0.9532, 32: 0.9523}
"""Accuracy by number of steps."""


def rate_code(images: NDArray[np.float32], steps: int) -> NDArray[np.int8]:
    """Spikes (sample, steps, pixels) of the deterministic integrator above."""
    level = np.zeros_like(images)
    spikes = np.zeros((len(images), steps, images.shape[1]), np.int8)
    for t in range(steps):
        level += images
        fired = level > 1
        level[fired] = 0
        spikes[:, t] = fired
    return spikes


def accuracy(
    network: Network, images: NDArray[np.float32], labels: NDArray[np.int64], steps: int
) -> float:
    """Fraction of right classes over output spikes within `steps` steps of data plus latency."""
    right = 0
    for start in range(0, len(images), 500):
        block = slice(start, start + 500)
        spikes = rate_code(images[block], steps)
        trace = simulate(network, spikes, Timing(steps + network.latency))
        assert trace.counts is not None
        right += int((trace.counts.argmax(axis=1) == labels[block]).sum())
    return right / len(images)


def main(
    net: Annotated[Path, typer.Option()],
    data_root: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()] = RESULTS / "mnist_mlp.json",
    steps: Annotated[list[int] | None, typer.Option(help="Repeatable. Default: 20 and 32.")] = None,
) -> None:
    """Measure, print, write JSON."""
    network = read_netx(net)
    test = load("mnist", data_root).test
    images, labels = test.images.flatten(1).numpy(), test.labels.numpy()
    runs = []
    for count in steps or PUBLISHED:
        start = time.perf_counter()
        measured = accuracy(network, images, labels, count)
        speed = len(images) / (time.perf_counter() - start)
        runs.append(
            {
                "steps": count,
                "accuracy": measured,
                "published_accuracy": PUBLISHED.get(count),
                "images_per_second": speed,
            }
        )
        published = f" (published {100 * PUBLISHED[count]:.2f} %)" if count in PUBLISHED else ""
        print(
            f"{count} steps: {100 * measured:.2f} %{published}, {speed:,.0f} images per second, "
            f"their coding included"
        )
    result = {
        "command": command("mnist_mlp", steps=[run["steps"] for run in runs]),
        "network_digest": network.digest,
        "test_images": len(images),
        "runs": runs,
    }
    finish(result, out)


if __name__ == "__main__":
    typer.run(main)
