"""`import spikeship`: what it offers, that it is light, and that its examples run."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spikeship
from spikeship.hw_targets import CubaLIF, Dense, Network, read_netx, write_netx
from spikeship.pipeline.cli.app import COMMANDS

FUNCTIONS = [name for name in spikeship.__all__ if inspect.isfunction(vars(spikeship).get(name))]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the examples of the docstrings begin with."""
    folder = tmp_path_factory.mktemp("door")
    data = spikeship.data("digits")
    snn = spikeship.train(data, folder / "snn", epochs=8, coding="rsc1", sigma=0.1)
    ann = spikeship.train(data, folder / "ann", spiking=False, epochs=1)
    return {"data": data, "snn": snn, "ann": ann, "chip": spikeship.deploy(snn, data, bits=8)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_a_function_runs(
    name: str, names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(spikeship, name)
    globs = {**vars(spikeship), **names, name: function}
    if name == "data":
        globs["data"] = spikeship.data
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=globs)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    failed = doctest.DocTestRunner().run(test, out=said.append).failed
    assert not failed, "".join(said)


def test_every_name_is_there() -> None:
    assert sorted(spikeship.__all__) == sorted(set(spikeship.__all__))
    for name in spikeship.__all__:
        assert getattr(spikeship, name) is not None
    assert set(spikeship.__all__) <= set(dir(spikeship))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = spikeship.nothing


def test_a_command_is_a_function_of_the_same_name() -> None:
    commands = {command.__name__.rstrip("_") for panel in COMMANDS.values() for command in panel}
    only_functions = {"data", "deploy", "load", "load_device", "shipped_devices"}
    other_ways = {
        "demo": "the functions one after the other",
        "devices": "shipped_devices, load_device",
        "export": "deploy, save",
        "inspect": "load, printed",
        "lower": "hw_targets.read_netx(..., lower_pooling=True)",
        "supported": "pipeline.supported",
    }
    assert set(FUNCTIONS) - only_functions == commands - set(other_ways)


def test_a_file_without_recipe_is_judged_on_arrays(tmp_path: Path) -> None:
    """As the commands do with --input and --labels, or with --data and a coding that is said."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-60, 60, (3, 6))
    path = tmp_path / "theirs.net"
    write_netx(Network([Dense(weight, neuron=CubaLIF(1024, 512, 90))]), path)
    x, y = (rng.random((20, 10, 6)) < 0.3).astype(int), rng.integers(0, 3, 20)
    quality = spikeship.evaluate(path, (x, y))
    trace = spikeship.simulate(str(path), x)
    assert quality.accuracy == (trace.counts.argmax(1) == y).mean()
    assert spikeship.verify(path, x, lava_samples=0).accuracy == ()
    checked = spikeship.verify(path, x, labels=y, lava_samples=0)
    assert checked.ok
    assert checked.accuracy[-1].accuracy == quality.accuracy
    assert spikeship.profile(path, x).accuracy is None
    assert spikeship.map(path).cores == spikeship.map(read_netx(path)).cores == 1

    data = {"x_train": x / 4.0, "y_train": y, "x_test": x / 4.0, "y_test": y}
    coding = spikeship.Coding.of("sequence", 10, 16)
    chip = spikeship.load(path, coding=coding, reset_interval=10)
    assert chip.recipe.reset_interval == 10
    images = spikeship.load(path, coding=spikeship.Coding.of("direct", 10))
    assert (
        spikeship.evaluate(chip, data).accuracy == spikeship.evaluate(chip, (x / 4.0, y)).accuracy
    )
    for call, says in (
        (lambda: spikeship.evaluate(path), "has no recipe"),
        (lambda: spikeship.load(path, reset_interval=10), "it goes with coding"),
        (lambda: spikeship.evaluate(images, data), "takes images, in the coding direct"),
        (
            lambda: spikeship.evaluate(chip, (x[:, 0] / 4.0, y)),
            r"takes data with time \(sequence\)",
        ),
        (lambda: spikeship.evaluate(7, (x, y)), "a int holds no integers"),
        (lambda: spikeship.attack(chip, data, "pgd"), "'pgd' is no attack"),
        (lambda: spikeship.evaluate(chip, (x[:, :, :5], y)), r"shape \(5,\)"),
        (lambda: spikeship.evaluate(chip, (x, y[:5])), "5 labels"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


@pytest.mark.parametrize(
    ("used", "unloaded"),
    [
        ("spikeship.__version__", ("torch", "numba", "numpy", "norse", "nir", "lightning")),
        ("spikeship.LOIHI1", ("torch", "norse", "nir", "lightning")),
    ],
)
def test_what_is_not_used_is_not_loaded(used: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys, spikeship; {used}; print([m for m in {unloaded} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "result", ["chip", "evaluate", "verify", "map", "profile", "attack", "certify"]
)
def test_results_print_themselves_as_tables(result: str, names: dict[str, object]) -> None:
    chip, data = names["chip"], names["data"]
    value = {
        "chip": lambda: chip,
        "evaluate": lambda: spikeship.evaluate(chip, data, 20),
        "verify": lambda: spikeship.verify(chip, data, samples=20, lava_samples=0),
        "map": lambda: spikeship.map(chip),
        "profile": lambda: spikeship.profile(chip, data, samples=20),
        "attack": lambda: spikeship.attack(chip, data, spikeship.FGSM(0.1), samples=4, draws=2),
        "certify": lambda: spikeship.certify(chip, data, samples=2, n0=5, n=20),
    }[result]()
    text = str(value)
    assert repr(value) == text
    assert "object at 0x" not in text
    assert "array(" not in text
    assert 20 < len(text) < 10_000
    assert max(map(len, text.splitlines())) <= 140
    assert "<pre" in value._repr_html_()


@pytest.mark.parametrize("result", ["data", "snn", "ann", "trace", "counts", "network"])
def test_what_is_no_table_has_a_short_name(result: str, names: dict[str, object]) -> None:
    chip, data = names["chip"], names["data"]
    messages, _ = chip.encoded(data.test, 3)
    trace = spikeship.simulate(chip, messages, record=("counts", "spikes"))
    value = {
        **names,
        "trace": trace,
        "counts": spikeship.profile(chip, data, samples=3).first_counts,
        "network": chip.network,
    }[result]
    assert "object at 0x" not in repr(value)
    assert 10 < len(repr(value)) < 300
