"""The robust CIFAR-10 recipe at toy size: its whole path, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from spikeship.benchmarks.cifar10 import recipe as recipes
from spikeship.benchmarks.cifar10 import run
from spikeship.benchmarks.cifar10.recipe import EPSILON, FULL, REDUCED, TOY, Recipe, toy_data
from spikeship.benchmarks.cifar10.run import Bench
from spikeship.models import training


def bench(folder: Path, recipe: Recipe = TOY) -> Bench:
    return (
        run.bench_of(recipe, None, folder, "cpu")
        if recipe is TOY
        else Bench(toy_data(), 0, folder, recipe, "cpu")
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, dict[str, Any]]:
    """The toy recipe from data to energy."""
    made = bench(tmp_path_factory.mktemp("cifar10"))
    return made, run.piece(made)


@pytest.mark.slow
def test_the_whole_path(whole: tuple[Bench, dict[str, Any]]) -> None:
    _, result = whole
    assert result["left"] == []
    rows = run.summary(TOY, result["cells"])
    assert [(row["network"], row["form"]) for row in rows] == [
        (name, form)
        for name in ("direct, TRADES", "RSC, TRADES + SR")
        for form in ("float", "8 bits", "4 bits")
    ]
    for row in rows:
        assert 0 <= row["worst"] <= row["autoattack_without_fab"] + 0.2
        assert set(row["attacks"]) == set(run.ATTACKS)
        assert (row["joules"] is None) == (row["form"] == "float")
        assert (row["certified"] is None) == (
            (row["network"], row["form"]) != ("RSC, TRADES + SR", "8 bits")
        )
        if row["network"] == "direct, TRADES":  # draws do not vary: the worst is exactly that
            assert row["worst"] <= min(row["attacks"].values())
    digests = {
        cell["digest"]
        for name, cell in result["cells"].items()
        if name.startswith("direct, TRADES; 8 bits")
    }
    assert len(digests) == 1  # accuracy, attacks and energy are of the same integers


@pytest.mark.slow
def test_what_is_kept_is_not_measured_again(whole: tuple[Bench, dict[str, Any]]) -> None:
    made, result = whole
    before = time.monotonic()
    again = run.piece(bench(made.folder))
    assert again["cells"] == json.loads(json.dumps(result["cells"]))
    assert again["minutes"] >= result["minutes"]
    assert time.monotonic() - before < 5


@pytest.mark.slow
def test_attacks_stay_in_their_ball(whole: tuple[Bench, dict[str, Any]]) -> None:
    """What is kept for the worst case are the adversarial images of the chosen test images."""
    made, _ = whole
    images, _ = made.data.test[made.chosen]
    assert len(set(made.chosen)) == TOY.attacked
    for form in ("float", "4 bits"):
        for name in run.ATTACKS:
            scored, moved = run._scored(made, TOY.variants[0], form, name)
            assert moved.shape == images.shape
            assert 0 < float((moved - images).abs().max()) <= EPSILON + 1e-6
            assert scored.right.shape == (TOY.attacked,)


def test_training_that_is_stopped_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TOY, ann_epochs=12)
    only = lambda made: iter([("ANN", lambda: {"digest": training.digest(made.ann.net)})])  # noqa: E731
    monkeypatch.setattr(run, "cells", only)
    expected = run.piece(bench(tmp_path / "whole", recipe))["cells"]
    pieces = [run.piece(bench(tmp_path / "parts", recipe), minutes=0.01)]
    assert pieces[0]["left"] == ["ANN"]
    assert pieces[0]["cells"] == {}
    pieces.append(run.piece(bench(tmp_path / "parts", recipe)))
    assert pieces[1] == {"left": [], "cells": expected, "minutes": pieces[1]["minutes"]}
    assert pieces[1]["minutes"] > pieces[0]["minutes"] > 0


def test_an_interruption_by_hand_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "cells", lambda made: iter([("ANN", interrupted)]))
    with pytest.raises(KeyboardInterrupt):
        run.piece(bench(tmp_path), minutes=10)


def test_the_command_says_what_is_left_and_of_which_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cells(made: Bench) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        yield "direct, TRADES; float", lambda: {"accuracy": 0.5}
        yield "later", lambda: time.sleep(60) or {}

    monkeypatch.setattr(run, "cells", cells)
    monkeypatch.setattr(run, "load", lambda name, root: toy_data())
    monkeypatch.setattr(run, "REDUCED", TOY)
    out = tmp_path / "out.json"
    with pytest.raises(typer.Exit) as stopped:
        run.main(tmp_path, reduced=True, minutes=0.02, work=tmp_path / "work", out=out)
    assert stopped.value.exit_code == 1
    assert "1 cells are left; the same command goes on." in capsys.readouterr().out
    stored = json.loads(out.read_text())
    assert stored["images"] == "JPEG-compressed, lossy"
    assert stored["left"] == ["later"]
    assert stored["summary"][0]["clean"] == 0.5
    assert stored["summary"][0]["worst"] is None


def test_the_recipes_hold_together() -> None:
    """All that the full recipe has the reduced one exercises; nothing is trained on test images."""
    for recipe in (FULL, REDUCED, TOY):
        assert {bool(variant.sparsity) for variant in recipe.variants} == {True, False}
        assert {variant.coding for variant in recipe.variants} == set(recipes.CODINGS)
        assert recipe.bits == (8, 4)
        assert recipe.base.epsilon == EPSILON == 8 / 255
        assert recipe.ann.objective == "at"
        assert recipe.base.coding.steps == 4
        assert recipe.attacked % recipe.chunk == 0
    assert (FULL.base.optimizer, FULL.base.augmentation, FULL.base.precision) == (
        "sgd",
        "crop-flip",
        "bfloat16",
    )
    assert FULL.base.weight_decay > 0
    assert FULL.base.widths is None  # VGG-11's own
    data = toy_data()
    few = replace(REDUCED, images=(7, 5, 3)).parts_of(data)
    assert (len(few.train), len(few.validation), len(few.test)) == (7, 5, 3)
    assert torch.equal(few.test.images, data.test.images[:3])
    assert np.isin(data.train.labels, range(4)).all()
