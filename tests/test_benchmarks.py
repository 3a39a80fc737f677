"""The committed results: honest, within the promised limits, and what the README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikeship.benchmarks import readme_figures
from spikeship.benchmarks.mnist_mlp import PUBLISHED, accuracy
from spikeship.hw_targets.netx import read_netx
from spikeship.models import datasets

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"


def result(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize(("name", "runs", "least", "loss"), [
    ("accuracy_digits", 3, 0.95, 0.010),
    ("accuracy_mnist", 1, 0.985, 0.005),
])  # fmt: skip
def test_accuracy_survives_the_integers(name: str, runs: int, least: float, loss: float) -> None:
    stored = result(name)
    assert len(stored["runs"]) == runs
    for run in stored["runs"]:
        assert run["float_accuracy"] >= least
        assert run["integer_accuracy"] >= max(least, run["float_accuracy"]) - loss
        assert all(a["first"] is None for a in run["verification"]["to_lava"])


@pytest.mark.parametrize("name", ["demo", "accuracy_digits", "accuracy_mnist", "mnist_mlp"])
def test_results_name_versions_and_machine(name: str) -> None:
    stored = result(name)
    assert stored["python"]
    assert stored["processor"]
    assert stored["versions"]["lava-dl"]
    assert "digest" in json.dumps(stored)


def test_the_readme_shows_the_stored_figures() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert "| SNN, integers |" in text
    assert readme_figures.updated(text) == text


@pytest.mark.slow
def test_the_published_mnist_network(shared_data: Path, tmp_path: Path) -> None:
    """All 10,000 test images, the authors' own input coding, 20 steps."""
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(shared_data / "datasets" / "mnist")
    network = read_netx(shared_data / "golden/mnist_mlp/trained_mnist_network.net")
    test = datasets.load("mnist", tmp_path).test
    assert len(test) == 10_000
    measured = accuracy(network, test.images.flatten(1).numpy(), test.labels.numpy(), 20)
    assert abs(measured - PUBLISHED) <= 0.003
