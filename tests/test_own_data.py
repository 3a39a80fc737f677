"""One's own data: arrays, files and functions, in every command; regression and time series too."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import spikeship
from spikeship.hw_targets import read_netx, simulate
from spikeship.hw_targets.network.coding import Coding
from spikeship.models.data.dataset import Dataset, DatasetError, Split
from spikeship.models.data.grid import CodingChoice, grid, grid_of
from spikeship.models.data.load import load
from spikeship.models.data.own import of_arrays
from spikeship.pipeline.deploy.run import scores

from cli import ok, text
from own import NETWORK

STEPS, FEATURES = 6, 5
RNG = np.random.default_rng(0)
Arrays = dict[str, Any]

MODULE = (
    NETWORK
    + """
from spikeship.models.data.dataset import Dataset, Split

def images(): return network(16, 3)
def sequences(): return network(5, 3)
def regression(): return network(5, 1)

def dataset():
    a = {k: torch.tensor(v) for k, v in arrays().items()}
    train, test = (Split(a[f"x_{p}"], a[f"y_{p}"]) for p in ("train", "test"))
    return Dataset("own", train, train.first(8), test)
"""
)


def made(x: Callable[[int], NDArray[Any]], y: Callable[[int], NDArray[Any]], **more: Any) -> Arrays:
    """Arrays of a data set of 40 training and 12 test samples."""
    sizes = {"train": 40, "test": 12}
    both = {f"{a}_{p}": f(n) for p, n in sizes.items() for a, f in (("x", x), ("y", y))}
    return {**both, **more}


def classes(count: int) -> NDArray[Any]:
    return np.arange(count) % 3


def targets(count: int) -> NDArray[Any]:
    return np.linspace(-1, 1, count, dtype=np.float32)


def pictures(count: int) -> NDArray[Any]:
    """Real numbers in [0, 1] on no grid, brightest in the row of the class."""
    x = RNG.random((count, 1, 4, 4)) * 0.5
    x[np.arange(count), 0, classes(count)] += 0.5
    return x.astype(np.float32)


def series(count: int) -> NDArray[Any]:
    """Numbers of both signs, (sample, time, features)."""
    return RNG.normal(0, 1.5, (count, STEPS, FEATURES)).astype(np.float32)


def spikes(*shape: int) -> Callable[[int], NDArray[Any]]:
    return lambda count: RNG.integers(0, 2, (count, *shape))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own data as files and functions, own networks as functions, and what `export` made of them."""
    path = tmp_path_factory.mktemp("own")
    (path / "own_module.py").write_text(MODULE)
    np.savez(path / "images.npz", **made(pictures, classes))
    np.savez(path / "sequences.npz", **made(series, classes))
    np.savez(path / "regression.npz", **made(series, targets))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name in ("images", "sequences", "regression"):
            words = (f"own_module:{name}", "--data", f"{name}.npz", "--out", f"{name}.net")
            (path / f"{name}.json").write_text(json.dumps(ok("export", *words)))
    return path


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y", "more", "is_"), [
    (pictures, classes, {}, ("images", (1, 4, 4), None, 3, False)),
    (lambda n: RNG.random((n, 7)), classes, {}, ("images", (7,), None, 3, False)),
    (series, classes, {}, ("sequences", (5,), 6, 3, False)),
    (series, targets, {}, ("sequences", (5,), 6, 1, True)),
    (series, lambda n: np.ones((n, 2)) * targets(n)[:, None], {}, ("sequences", (5,), 6, 2, True)),
    (spikes(4, 2, 3, 3), classes, {}, ("events", (2, 3, 3), 4, 3, False)),
    (lambda n: spikes(4, 6)(n).astype(bool), classes, {}, ("events", (6,), 4, 3, False)),
    (lambda n: 3 * spikes(4, 6)(n), classes, {}, ("sequences", (6,), 4, 3, False)),
    (lambda n: spikes(4, 3, 3)(n) * 0.5, classes, {"kind": "sequences"}, ("sequences", (3, 3), 4, 3, False)),
    (lambda n: RNG.integers(0, 256, (n, 1, 4, 4)).astype(np.uint8), classes, {}, ("images", (1, 4, 4), None, 3, False)),
])  # fmt: skip
def test_what_axes_and_numbers_say(x: Any, y: Any, more: Arrays, is_: tuple[Any, ...]) -> None:
    arrays = made(x, y, **more)
    data = of_arrays(arrays, "mine")
    assert (data.kind, data.shape, data.steps, data.classes, data.regression) == is_
    assert [len(s) for s in (data.train, data.validation, data.test)] == [36, 4, 12]
    assert np.array_equal(data.test.images.numpy(), arrays["x_test"].astype(np.float32))
    assert np.array_equal(
        data.test.labels.numpy().squeeze(), arrays["y_test"].squeeze().astype(np.float32)
    )
    assert data.digest == of_arrays(arrays, "other").digest
    arrays["x_test"] = arrays["x_test"][::-1]
    assert of_arrays(arrays, "mine").digest != data.digest


@pytest.mark.parametrize(("change", "message"), [
    ({"x_test": None}, "mine: no x_test; it has x_train, y_train, y_test"),
    ({"X_val": np.ones(3)}, "mine: X_val unknown; it may hold x_train, y_train, x_test"),
    ({"x_train": np.array(["a", "b"])}, "x_train is of type <U1; numbers are needed"),
    ({"x_train": np.ones(40)}, r"x_train has shape \(40,\); \(sample, C, H, W\)"),
    ({"x_train": np.full((40, 1, 4, 4), np.nan)}, "x_train holds numbers that are not finite, first in sample 0"),
    ({"x_train": np.full((40, 1, 4, 4), 1 << 25)}, r"x_train reaches 33554432 .* beyond 2\^24"),
    ({"x_train": np.ones((40, 1, 4, 5))}, r"samples of shape \(1, 4, 4\) in test, of \(1, 4, 5\) in train"),
    ({"y_train": np.arange(39)}, "40 samples in x_train, 39 in y_train"),
    ({"y_train": np.arange(40) - 1}, "y_train reaches down to -1; classes count from 0"),
    ({"y_train": np.eye(40, dtype=int)}, r"y_train is int64 of shape \(40, 40\); classes are whole numbers"),
    ({"y_train": np.array(["cat"] * 40)}, "y_train is <U3 of shape"),
    ({"y_train": np.full(40, np.inf)}, "y_train holds targets that are not finite"),
    ({"y_train": np.arange(40) / 3}, "y_test and y_train are not alike"),
    ({"kind": "movies"}, "kind 'movies'; choose from images, sequences, events"),
    ({"kind": "events"}, "kind is events, but x holds other numbers than 0 and 1"),
    ({"x_train": np.ones((4, 1, 4, 4)), "y_train": np.arange(4)}, "4 training samples, of which a tenth"),
])  # fmt: skip
def test_arrays_that_are_no_data(change: Arrays, message: str) -> None:
    arrays = {**made(pictures, classes), **change}
    with pytest.raises(DatasetError, match=message):
        of_arrays({k: v for k, v in arrays.items() if v is not None}, "mine")


@pytest.mark.parametrize(
    "source", ["images.npz", "own_module:arrays", "own_module:tensors", "own_module.py:tensors"]
)
def test_a_file_and_functions_hold_the_same(source: str, folder: Path) -> None:
    data, same = load(source), of_arrays(dict(np.load("images.npz")), "same")
    assert (data.name, data.digest, data.kind) == (source, same.digest, "images")
    assert torch.equal(data.train.images, same.train.images)
    assert load(str(folder / "own_module.py") + ":dataset").name.endswith(":dataset")


@pytest.mark.parametrize(("source", "message"), [
    ("none.npz", "none.npz: no such file"),
    ("own_module.py", "unknown data set 'own_module.py'; choose from digits, .* or give data.npz"),
    ("own_module:none", "own_module has no function none"),
    ("no_module:none", "there is no module no_module to import from this folder"),
    ("none.py:data", "none.py: no such file"),
    ("own_module:images", "own_module:images: SequentialState is no data; a Dataset, torch data sets"),
])  # fmt: skip
def test_what_is_no_data(source: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(source)
    assert re.search(message, text("train", "--data", source, status=3).replace("\n", " "))


# -- the grid --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "levels", "lossless"), [
    ([0.0, 1.0], 1, True),
    ([-3.0, 7.0], 1, True),
    ([0.25, 0.5], 4, True),
    ([k / 255 for k in range(256)], 255, True),
    ([30_000.0, -2.0], 1, True),
    ([0.0, 0.123, 1.0], 127, False),
    ([-4.8, 0.123, 1.7], 26, False),
    ([1e-3, 2.345e-3], 54_157, False),
    ([0.0], 1, True),
])  # fmt: skip
def test_levels_suit_the_range(x: list[float], levels: int, lossless: bool) -> None:
    chosen = grid_of(torch.tensor(x))
    assert chosen.levels == levels
    assert (chosen.loss == 0) == lossless
    exact = np.round(np.array(x, np.float32).astype(float) * levels) / levels - np.float32(x)
    if not lossless:
        assert chosen.loss == pytest.approx(
            np.sqrt(np.mean(exact**2) / np.mean(np.square(x))), rel=1e-5
        )


def test_built_in_images_keep_their_16_grey_levels(digits: Dataset) -> None:
    assert CodingChoice().of(digits) == Coding.of("direct", 8)
    assert CodingChoice("rsc1", 4, sigma=0.1).of(digits) == Coding.of("rsc1", 4, sigma=0.1)


@pytest.mark.parametrize(("said", "message"), [
    (CodingChoice("poisson"), "sequences, which are not coded again: leave out coding"),
    (CodingChoice(steps=3), "steps = 3, but sequences.npz has 6 steps of its own"),
])  # fmt: skip
def test_sequences_are_not_coded_again(said: CodingChoice, message: str) -> None:
    data = load("sequences.npz")
    with pytest.raises(DatasetError, match=message):
        said.of(data)
    coding = CodingChoice().of(data)
    assert (coding.name, coding.steps, coding.levels) == ("sequence", 6, grid(data).levels)


# -- in every command ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["images", "sequences", "regression"])
def test_export_reports_the_grid_and_compares_answers(name: str) -> None:
    result = json.loads(Path(f"{name}.json").read_text())
    data, recipe = load(f"{name}.npz"), read_netx(f"{name}.net").recipe
    assert recipe is not None
    assert recipe.coding.levels == result["grid"]["levels"] == grid(data).levels
    assert "levels per 1.0 for x in" in recipe.provenance["input_grid"]
    assert recipe.provenance["dataset_sha256"] == data.digest
    answers = result["answers"]
    assert answers["integers"]["samples"] == 12
    if name == "regression":
        assert answers["same"] is None
        assert answers["apart"] < 0.05
        assert answers["integers"]["error"] == pytest.approx(answers["floating"]["error"], rel=0.1)
    else:
        assert answers["same"] >= 11 / 12


@pytest.mark.parametrize("name", ["images", "sequences", "regression"])
@pytest.mark.parametrize("given", [(), "data"])
def test_judging_takes_own_data(name: str, given: Any) -> None:
    words = (f"{name}.net", *(("--data", f"{name}.npz") if given else ()))
    chip, data = spikeship.load(f"{name}.net"), load(f"{name}.npz")
    evaluated, profiled = ok("evaluate", *words), ok("profile", *words, "--samples", 12)["profile"]
    answers = spikeship.evaluate(chip, f"{name}.npz")
    for key in ("accuracy", "error"):
        assert evaluated[key] == profiled[key] == getattr(answers.quality, key)
    assert (evaluated["accuracy"] is None) == (name == "regression")
    messages, _ = chip.encoded(data.test)
    trace = simulate(
        chip.network, messages, chip.recipe.timing(chip.network.latency), record=("spikes", "v")
    ).aligned(chip.network, chip.recipe.coding.steps)
    assert (answers.scores == scores(chip.network, trace)).all()
    verified = ok("verify", *words, "--lava-samples", 0)["result"]
    assert (verified["same_answers"] is None) == (name == "regression")
    assert (verified["values_apart"] is None) == (name != "regression")


@pytest.mark.parametrize(("words", "message"), [
    (("attack", "regression.net"), "regression.npz is regression: attacks and certificates"),
    (("certify", "regression.net"), "regression.npz is regression: attacks and certificates"),
    (("robustness", "regression.net"), "regression.npz is regression: attacks and certificates"),
    (("attack", "sequences.net", "--attack", "square"), r"samples of shape \(6, 5\) are no images"),
    (("certify", "sequences.net"), "a certificate is for images in .* sequences.npz is sequences of -"),
    (("robustness", "sequences.net"), "the suite of robustness is for images in"),
    (("evaluate", "images.net", "--data", "sequences.npz"), r"inputs of shape \(5,\); images.net takes"),
    (("evaluate", "images.net", "--coding", "poisson"), "says itself how its inputs are encoded"),
    (("train", "--data", "regression.npz", "--readout", "spikes"), "regression needs readout = voltage"),
    (("train", "--data", "sequences.npz", "--model", "cnn", "--epochs", 1), r"model cnn convolves images"),
    (("train", "--data", "sequences.npz", "--coding", "rsc1"), "is sequences, which are not coded again"),
    (("train", "--data", "sequences.npz", "--objective", "at"), "sequences cannot be attacked or moved"),

    (("export", "own_module:images"), "integers are chosen on data: give --data or --input"),
])  # fmt: skip
def test_what_a_method_cannot_do_is_refused_by_name(words: tuple[Any, ...], message: str) -> None:
    out = ("--out", "x.net") if words[0] == "export" else ()
    assert re.search(message, text(*words, *out, status=3).replace("\n", " "))


def test_own_images_are_attacked_and_certified(tmp_path: Path) -> None:
    ok(
        "train",
        "--data",
        "images.npz",
        "--epochs",
        1,
        "--steps",
        2,
        "--out",
        tmp_path / "r",
        "--coding",
        "phase",
        "--levels",
        8,
    )
    net = tmp_path / "phase.net"
    ok("export", tmp_path / "r" / "best.ckpt", "--out", net, "--calibration", 16)
    attacked = ok("attack", net, "--data", "images.npz", "--attack", "fgsm", "--draws", 2)
    assert (attacked["data"], attacked["attacks"][0]["samples"]) == ("images.npz", 12)
    assert ok("certify", net, "--samples", 3)["summary"]["samples"] == 3


def test_sequences_are_attacked_in_units_of_their_range() -> None:
    own = grid(load("sequences.npz"))
    epsilon = 0.01
    result = ok(
        "attack",
        "sequences.net",
        "--attack",
        "pgd",
        "--attack-steps",
        2,
        "--epsilon",
        epsilon,
        "--images",
        "moved.npy",
    )
    assert result["span"] == [own.low, own.high]
    attacked = result["attacks"][0]
    assert attacked["clean"]["accuracy"] == ok("evaluate", "sequences.net")["accuracy"]
    moved = own.low + (own.high - own.low) * np.load("moved.npy")[0]
    off = np.abs(moved - np.load("sequences.npz")["x_test"]).max() / (own.high - own.low)
    assert off == pytest.approx(epsilon, rel=1e-3)
    assert attacked["after"]["accuracy"] <= attacked["clean"]["accuracy"]


def test_changed_data_are_not_taken_for_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = made(pictures, classes)
    np.savez("mine.npz", **arrays)
    words = ("train", "--data", "mine.npz", "--epochs", 1, "--out", "run")
    first = ok(*words)
    assert ok(*words) == first  # done already
    np.savez("mine.npz", **{**arrays, "x_train": 1 - arrays["x_train"]})
    assert "what mine.npz holds now" in text(
        "export", "run/best.ckpt", "--out", "a.net", status=3
    ).replace("\n", " ")
    assert ok(*words)["settings"]["data_digest"] != first["settings"]["data_digest"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sequences", "regression"])
def test_training_and_tuning_on_time_series(name: str, tmp_path: Path) -> None:
    words = ("--data", f"{name}.npz", "--epochs", 2, "--out")
    trained = ok("train", *words, tmp_path / "snn")
    assert (
        trained["grid"]["levels"]
        == trained["settings"]["levels"]
        == grid(load(f"{name}.npz")).levels
    )
    ok("train", *words, tmp_path / "ann", "--ann")
    exported = ("export", tmp_path / "snn" / "best.ckpt", "--out", tmp_path / "t.net")
    assert ok(*exported, "--fine-tune", 1, "--bits", 4)["answers"] is not None
    profiled = ok("profile", tmp_path / "t.net", "--ann", tmp_path / "ann" / "best.ckpt")["profile"]
    assert (profiled["ann"]["accuracy"] is None) == (name == "regression")
    assert len(profiled["ann"]["errors"]) == (3 if name == "regression" else 0)
    refused = text("convert", tmp_path / "ann" / "best.ckpt", "--out", tmp_path, status=3)
    assert "an ANN of sequences sees all their steps at once" in refused.replace("\n", " ")


def test_the_door_takes_what_the_commands_take(folder: Path) -> None:
    arrays = dict(np.load("sequences.npz"))
    data = spikeship.data(arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        net = importlib.import_module("own_module").sequences()
    chip = spikeship.deploy(net, arrays)
    assert chip.digest == read_netx("sequences.net").digest
    assert spikeship.evaluate(chip, arrays).quality == spikeship.evaluate(chip, data).quality
    assert spikeship.verify(chip, arrays, lava_samples=0).same_answers is not None
    assert "levels per 1.0" in str(chip)
    in_memory = Dataset(
        "mine", data.train, data.validation, Split(data.test.images, data.test.labels)
    )
    assert spikeship.profile(chip, in_memory, samples=5).accuracy is not None


def test_a_forgotten_levels_shows(tmp_path: Path) -> None:
    """Inputs 16 times too large: labels show it, and without labels nobody is said to have looked."""
    data = load("sequences.npz")
    np.save("seq.npy", np.round(data.test.images.double().numpy() * 16).astype(np.int32))
    answers = spikeship.evaluate(spikeship.load("sequences.net"), data).predictions
    np.save("seq_y.npy", answers)
    words = ("export", "own_module:sequences", "--input", "seq.npy", "--out", tmp_path / "o.net")
    assert "NOT compared with labels" in text(*words)
    assert ok(*words)["answers"] is None
    labels = ("--labels", "seq_y.npy")
    right = ok(*words, *labels, "--levels", 16)["answers"]["integers"]["accuracy"]
    assert right >= 11 / 12 > ok(*words, *labels)["answers"]["integers"]["accuracy"]
