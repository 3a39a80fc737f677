"""What convert, attack, certify and robustness do with one's own data of every kind, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import nn

import spikeship
from spikeship.hw_targets import read_netx
from spikeship.models.ann_conversion import Converted
from spikeship.models.data.grid import grid, has_own_grid
from spikeship.models.data.load import load
from spikeship.pipeline.robustness.attacks import ATTACKS

from cli import ok, text
from folders import pictures
from own import NETWORK

STEPS, FEATURES = 6, 5
MODULE = (
    NETWORK
    + """
import spikeship

def ann(inputs, outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.ReLU(), nn.Linear(20, outputs))

def ann_16(): return ann(16, 3)
def ann_16_1(): return ann(16, 1)
def ann_18(): return ann(18, 3)
def ann_30(): return ann(30, 3)
def ann_5(): return ann(5, 3)
def ann_7(): return ann(7, 3)
def ann_90(): return ann(90, 2)

def images(): return network(16, 3)
def signed(): return network(16, 3)
def predicted(): return network(16, 1)
def sequences(): return network(5, 3)
def forecast(): return network(5, 1)
def events(): return network(18, 3)

def dataset(): return spikeship.data(arrays())
def builtin(): return spikeship.data("digits")
"""
)
X = Callable[[np.random.Generator, int], Any]


def classes(rng: np.random.Generator, count: int) -> Any:
    return np.arange(count) % 3


def targets(rng: np.random.Generator, count: int) -> Any:
    return np.linspace(-1, 1, count, dtype=np.float32)


DATA: dict[str, tuple[X, X]] = {
    "images": (lambda rng, n: rng.random((n, 1, 4, 4), np.float32), classes),
    "signed": (lambda rng, n: rng.normal(0, 1, (n, 1, 4, 4)).astype(np.float32), classes),
    "vectors": (lambda rng, n: rng.random((n, 16), np.float32), classes),
    "predicted": (lambda rng, n: rng.random((n, 1, 4, 4), np.float32), targets),
    "sequences": (
        lambda rng, n: rng.normal(0, 1, (n, STEPS, FEATURES)).astype(np.float32),
        classes,
    ),
    "forecast": (lambda rng, n: rng.normal(0, 1, (n, STEPS, FEATURES)).astype(np.float32), targets),
    "events": (lambda rng, n: rng.integers(0, 2, (n, 4, 2, 3, 3)), classes),
    "channels": (lambda rng, n: rng.integers(0, 2, (n, 4, 7)), classes),
}
"""Own data of every kind, images twice beyond the usual: numbers of both signs, and vectors."""
EXPORTED = ("images", "signed", "predicted", "sequences", "forecast", "events")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, the networks, and the integers of a spiking network for each kind."""
    path = tmp_path_factory.mktemp("methods")
    (path / "own_methods.py").write_text(MODULE)
    pictures(path / "pictures")
    for name, (x, y) in DATA.items():
        rng = np.random.default_rng(0)
        sizes = {"train": 40, "test": 12}
        both = {f"{a}_{p}": f(rng, n) for p, n in sizes.items() for a, f in (("x", x), ("y", y))}
        np.savez(path / f"{name}.npz", **both)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name in EXPORTED:
            words = ("--data", f"{name}.npz", "--out", f"{name}.net", "--samples", 0)
            ok("export", f"own_methods.py:{name}", *words)
    return path


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)


# -- convert ---------------------------------------------------------------------------------------


def own_ann(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.ReLU(), nn.Linear(20, outputs))


@pytest.mark.slow
@pytest.mark.parametrize(("ann", "data"), [
    ((16, 3), "images.npz"),
    ((16, 3), "own_methods:arrays"),
    ((16, 3), "own_methods.py:tensors"),
    ((16, 3), "own_methods:dataset"),
    ((16, 3), "signed.npz"),
    ((16, 3), "vectors.npz"),
    ((16, 1), "predicted.npz"),
    ((18, 3), "events.npz"),
    ((7, 3), "channels.npz"),
    ((90, 2), "pictures"),
])  # fmt: skip
def test_convert_takes_own_data(ann: tuple[int, int], data: str, tmp_path: Path) -> None:
    """By file, folder or function: to NIR, to integers, judged, without a word about the data again."""
    source = "own_methods.py:ann_" + "_".join(map(str, ann[: 1 + (ann[1] == 1)]))
    made = ok("convert", source, "--data", data, "--out", tmp_path)
    read = load(data, None, 8)
    regression = data == "predicted.npz"
    assert (made["agreement"] is None) == regression
    assert (made["test_accuracy"]["ann"] is None) == regression
    assert f"--data {data} --out" in text("convert", source, "--data", data, "--out", tmp_path)

    net = tmp_path / "own.net"
    ok("export", made["graph"], "--data", data, "--out", net)
    recipe = read_netx(net).recipe
    assert recipe is not None
    assert recipe.provenance["dataset"] == data
    if read.kind == "events":
        assert (recipe.coding.name, recipe.coding.steps) == ("events", 4)
    else:
        assert has_own_grid(read)
        assert (recipe.coding.name, recipe.coding.levels) == ("direct", grid(read).levels)
    judged = ok("evaluate", net)
    assert (judged["data"], judged["samples"]) == (data, len(read.test))
    assert (judged["accuracy"] is None) == regression

    converted = spikeship.convert(own_ann(*ann), data)
    assert isinstance(converted, Converted)
    assert list(converted.thresholds) == made["thresholds"]
    assert converted.coding == recipe.coding
    assert spikeship.deploy(converted, data).digest == read_netx(net).digest


def test_arrays_at_the_door_are_converted_as_their_file() -> None:
    arrays = dict(np.load("signed.npz"))
    made, same = (spikeship.convert(own_ann(16, 3), data) for data in (arrays, "signed.npz"))
    assert isinstance(made, Converted)
    assert isinstance(same, Converted)
    assert (made.thresholds, made.coding) == (same.thresholds, same.coding)
    assert made.coding.levels == grid(load("signed.npz")).levels


@pytest.mark.parametrize(("ann", "data", "says"), [
    ("ann_30", "sequences.npz", "sequences.npz is sequences: an ANN of sequences sees all their steps at once"),
    ("ann_5", "forecast.npz", "forecast.npz is sequences: an ANN of sequences sees all their steps at once"),
    ("ann_16", "events.npz", r"Sequential fails on images of shape \(2, 3, 3\)"),
    ("ann_16", "none.npz", "none.npz: no such file"),
    ("ann_16", "own_methods:none", "own_methods has no function none"),
    ("ann_16", ".", "holds nothing that is known"),
])  # fmt: skip
def test_what_convert_refuses(ann: str, data: str, says: str, tmp_path: Path) -> None:
    words = ("convert", f"own_methods.py:{ann}", "--data", data, "--out", tmp_path / "made")
    assert re.search(says, text(*words, status=3).replace("\n", " "))
    assert not (tmp_path / "made").exists()
    with pytest.raises(ValueError, match=says):
        spikeship.convert(own_ann(int(ann.split("_")[1]), 3), data)


def test_what_a_function_returns_is_found_again_by_the_function() -> None:
    data = load("own_methods:dataset")
    assert (data.name, data.built_in) == ("own_methods:dataset", "")
    assert data.digest == load("images.npz").digest
    digits = load("own_methods:builtin")
    assert (digits.name, digits.built_in) == ("own_methods:builtin", "digits")
    assert digits.digest
    assert not has_own_grid(digits)  # 16 grey levels, as by their name


# -- attack, certify, robustness -------------------------------------------------------------------

REGRESSION = "is regression: attacks and certificates turn the answers of classifiers"
EVENTS = "events cannot be attacked"
REFUSED = {
    ("attack", "predicted"): REGRESSION,
    ("attack", "forecast"): REGRESSION,
    ("attack", "events"): EVENTS,
    ("certify", "images"): "which draws nothing, so there is no vote to certify",
    ("certify", "signed"): "a certificate is for images in .* signed.npz is images of -",
    ("certify", "predicted"): REGRESSION,
    ("certify", "sequences"): "a certificate is for images in .* sequences.npz is sequences of -",
    ("certify", "forecast"): REGRESSION,
    ("certify", "events"): EVENTS,
    (
        "robustness",
        "signed",
    ): "the suite of robustness is for images in .* signed.npz is images of -",
    ("robustness", "predicted"): REGRESSION,
    (
        "robustness",
        "sequences",
    ): "the suite of robustness is for images in .* sequences.npz is sequences",
    ("robustness", "forecast"): REGRESSION,
    ("robustness", "events"): EVENTS,
}
"""By command and data; all others are done."""
DONE = {
    ("attack", "images"),
    ("attack", "signed"),
    ("attack", "sequences"),
    ("robustness", "images"),
}


def test_every_command_and_kind_is_done_or_refused() -> None:
    pairs = {(c, name) for c in ("attack", "certify", "robustness") for name in EXPORTED}
    assert {*REFUSED} | DONE == pairs
    assert not {*REFUSED} & DONE


@pytest.mark.parametrize(("command", "name"), REFUSED)
def test_it_is_refused_by_name(command: str, name: str) -> None:
    says = REFUSED[command, name]
    for given in ((), ("--data", f"{name}.npz")):
        assert re.search(says, text(command, f"{name}.net", *given, status=3).replace("\n", " "))
    if command != "robustness":
        chip = spikeship.load(f"{name}.net")
        call = {"attack": attacked, "certify": certified}[command]
        with pytest.raises(ValueError, match=says):
            call(chip, f"{name}.npz")


def attacked(chip: Any, data: Any) -> Any:
    return spikeship.attack(chip, data, spikeship.PGD(0.1, steps=2), samples=4, draws=2)


def certified(chip: Any, data: Any) -> Any:
    return spikeship.certify(chip, data, samples=4, n0=5, n=20)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_on_sequences(attack: str) -> None:
    """Done, or refused by name; epsilon in units of the range of the data."""
    words = ("attack", "sequences.net", "--attack", attack, "--attack-steps", 2, "--eot", 1)
    says = {
        "square": r"square changes squares of pixels; samples of shape \(6, 5\) are no images",
        "apgd-t": "3 classes; the targeted DLR loss needs 4 or more",
    }
    if attack in says:
        assert re.search(says[attack], text(*words, status=3).replace("\n", " "))
        return
    own = grid(load("sequences.npz"))
    result = ok(*words, "--images", "moved.npy")
    assert result["span"] == [own.low, own.high]
    moved = own.low + (own.high - own.low) * np.load("moved.npy")[0]
    off = np.abs(moved - np.load("sequences.npz")["x_test"]).max() / (own.high - own.low)
    assert 0.01 < off <= 0.1 + 1e-6


@pytest.mark.parametrize("name", ["images", "signed", "sequences"])
def test_the_door_attacks_as_the_command_does(name: str) -> None:
    words = ("--attack", "pgd", "--attack-steps", 2, "--eot", 1, "--samples", 4, "--draws", 2)
    by_command = ok("attack", f"{name}.net", *words)["attacks"][0]
    by_door = attacked(spikeship.load(f"{name}.net"), dict(np.load(f"{name}.npz")))
    for which in ("clean", "after"):
        assert getattr(by_door, which).accuracy == by_command[which]["accuracy"]


def test_the_graph_says_which_coding_it_was_made_for(tmp_path: Path) -> None:
    made = ok("convert", "own_methods.py:ann_16", "--data", "signed.npz", "--out", tmp_path)
    assert "direct" in nir.read(made["graph"]).metadata["spikeship_coding"]
