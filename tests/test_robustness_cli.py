"""`spikeship attack`, `certify` and `robustness`, as a user calls them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.netx.file import read_netx, write_netx
from spikeship.models.data.load import load
from spikeship.models.surrogates import SURROGATES, Fixed

from cli import call, ok

QUICK = (
    "--samples",
    12,
    "--attack-steps",
    2,
    "--eot",
    1,
    "--draws",
    3,
    "--queries",
    5,
    "--certify",
    30,
)


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained networks, and one with the phase code: phase/best.ckpt, phase.net."""
    out = shutil.copytree(trained, tmp_path_factory.mktemp("nets") / "trained")
    ok("train", "--out", out / "phase", "--epochs", 5, "--steps", 4, "--coding", "phase")
    ok("export", out / "phase/best.ckpt", "--out", out / "phase.net")
    return out


@pytest.mark.parametrize("command", ["attack", "certify", "robustness"])
def test_help(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--out", "--samples", "--seed", "--data-root"):
        assert option in result.stdout


def test_attack_on_the_integers(folder: Path, tmp_path: Path) -> None:
    options = ("--samples", 40, "--eot", 2, "--attack-steps", 5, "--draws", 4, "--epsilon", 0.2)
    names = ("--attack", "noise", "--attack", "pgd")
    stored, moved = tmp_path / "a.json", tmp_path / "a.npy"
    result = ok("attack", folder / "net.net", *names, *options, "--out", stored, "--images", moved)
    noise, pgd = result["attacks"]
    assert (noise["attack"], pgd["attack"]) == ("random noise", "PGD")
    assert (pgd["settings"]["steps"], pgd["settings"]["eot"], pgd["epsilon"]) == (5, 2, 0.2)
    assert pgd["digest"] == read_netx(folder / "net.net").digest
    assert pgd["after"]["draws"] == 4
    assert pgd["after"]["accuracy"] < noise["after"]["accuracy"] - 0.3
    assert json.loads(stored.read_text()) == result
    images = np.load(moved)
    clean = load("digits").test.images[:40].numpy()
    assert images.shape == (2, 40, 1, 8, 8)
    assert np.abs(images - clean).max() == pytest.approx(pgd["largest"], abs=1e-6)
    again = ok("attack", folder / "net.net", *names, *options)
    other = ok("attack", folder / "net.net", *names, *options, "--seed", 1)
    assert again["attacks"][1]["after"] == pgd["after"]
    assert other["attacks"][1]["after"] != pgd["after"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "victim"),
    [
        (("snn/best.ckpt",), "float"),
        (("ann/best.ckpt",), "ANN"),
        (("snn/best.ckpt", "--on", "deployed", "--bits", 4), "integers"),
        (("net.net", "--on", "float", "--float", "snn/best.ckpt"), "float"),
    ],
)
def test_attack_on_every_form(folder: Path, words: tuple, victim: str) -> None:
    paths = [folder / w if str(w).endswith(("ckpt", "net")) else w for w in words]
    options = ("--attack", "fgsm", "--samples", 10, "--draws", 2, "--gradient", "rate")
    (found,) = ok("attack", *paths, *options)["attacks"]
    assert found["victim"] == victim
    assert found["settings"]["gradient"] == "rate"
    text = call("attack", *paths, *options).stdout
    assert "FGSM" in text
    assert ("2 votes" in text) == (victim != "ANN")


def test_certify_by_noise_goes_on_in_its_folder(folder: Path, tmp_path: Path) -> None:
    options = ("--samples", 6, "--n", 60, "--n0", 10, "--folder", tmp_path / "votes")
    first = ok("certify", folder / "net.net", *options)
    assert first["summary"]["method"] == "rsc1-grid"
    assert first["summary"]["runs"] == 70
    assert first["summary"]["accuracy"][0] > 0.4
    assert len(first["certified"]["certificates"]) == 6
    assert list((tmp_path / "votes").iterdir())
    second = ok("certify", folder / "net.net", *options)
    assert second["summary"] == first["summary"]
    text = call("certify", folder / "net.net", *options).stdout
    assert "certificates, rsc1-grid, 6 images" in text
    assert "With probability 0.999 per image" in text


def test_certify_by_phases_is_exact(folder: Path) -> None:
    found = ok("certify", folder / "phase.net", "--samples", 10)["summary"]
    assert (found["method"], found["runs"], found["unit"]) == ("phase", 16, "grey level")
    assert found["radii"] == [0, 1, 2, 3, 4]
    assert found["statement"].startswith("Exactly")


@pytest.mark.slow
def test_robustness_of_the_integers(folder: Path, tmp_path: Path) -> None:
    stored = tmp_path / "r.json"
    result = call("robustness", folder / "net.net", *QUICK, "--attack", "apgd-ce", "--out", stored)
    written = json.loads(stored.read_text())
    assert result.exit_code == (0 if written["passed"] else 1)
    (victim,) = written["report"]["victims"]
    assert (victim["form"], victim["name"]) == ("integers", "integers")
    assert list(victim["transfers"]) == ["substitute ANN"]
    assert written["versions"]["torch"]
    assert len(victim["sanity"]["checks"]) == 14
    for part in (
        "worst of all",
        "APGD",
        "QTE",
        "sanity suite",
        "EOT curve flat",
        "certificates, rsc1-grid",
        "estimated energy per decision",
        "not modelled",
        "Oheo Gulch",
        "sanity suite, integers: ",
    ):
        assert part in result.stdout


@pytest.mark.slow
def test_robustness_of_both_forms_with_another_source(folder: Path) -> None:
    given = ("--float", folder / "snn/best.ckpt", "--source", folder / "ann/best.ckpt")
    result = call("robustness", folder / "net.net", *given, *QUICK, "--json")
    report = json.loads(result.stdout)["report"]
    assert [v["form"] for v in report["victims"]] == ["integers", "float"]
    ann = str(folder / "ann/best.ckpt")
    assert [list(v["transfers"]) for v in report["victims"]] == [["float", ann], ["integers", ann]]
    assert [len(v["decisions"]) for v in report["victims"]] == [3, 0]


@pytest.mark.parametrize(
    ("samples", "says", "status"),
    [
        (12, "sanity suite, ANN: too few images to tell of tiny epsilon", 1),
        (100, "sanity suite, ANN: passed", 0),
    ],
)
def test_robustness_of_an_ann(folder: Path, samples: int, says: str, status: int) -> None:
    result = call("robustness", folder / "ann/best.ckpt", *QUICK, "--samples", samples)
    assert result.exit_code == status, result.stdout
    assert says in result.stdout
    assert "no certificates: an ANN draws nothing" in result.stdout
    assert "energy: of the integer network only" in result.stdout
    assert "votes" not in result.stdout


@pytest.mark.slow
def test_robustness_fails_where_the_suite_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A surrogate so steep that no spike passes a gradient."""
    steep = Fixed(SURROGATES["triangle"], 1e4)
    monkeypatch.setattr("spikeship.pipeline.robustness.attacks.gradient_named", lambda _: steep)
    options = (
        "--samples",
        50,
        "--attack-steps",
        5,
        "--eot",
        1,
        "--draws",
        4,
        "--certify",
        0,
        "--queries",
        30,
    )
    result = call("robustness", folder / "net.net", *options, "--gradient", "steep")
    assert result.exit_code == 1
    assert "sanity suite, integers: FAILED: unbounded epsilon" in result.stdout
    assert "no certificates: not asked for" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says", "status"),
    [
        (("attack", "net.net", "--attack", "pdg"), "unknown attack 'pdg'; choose from noise, fgsm", 3),
        (("robustness", "net.net", "--attack", "pdg"), "unknown attack 'pdg'; choose from noise", 3),
        (("attack", "net.net", "--gradient", "x"), "unknown gradient 'x'; choose from superspike", 3),
        (("attack", "none.net"), "none.net: no such file", 3),
        (("attack", "net.net", "--on", "float"), "give the checkpoint that it was made from with --float", 2),
        (("attack", "net.net", "--bits", "4"), "a .net file has its bits", 2),
        (("attack", "snn/best.ckpt", "--bits", "4"), "--bits is for a checkpoint with --on deployed", 2),
        (("attack", "snn/best.ckpt", "--float", "ann/best.ckpt"), "--float goes with a .net file", 2),
        (("attack", "ann/best.ckpt", "--on", "deployed"), "is an ANN, which has no integers here", 3),
        (("attack", "net.net", "--epsilon", "-1"), "--epsilon -1.0; 0 or more is needed", 3),
        (("robustness", "net.net", "--epsilon", "1"), "--epsilon 1.0, 100 images: above 0 and below 1", 3),
        (("certify", "ann/best.ckpt"), "no vote to certify", 3),
        (("certify", "phase/best.ckpt", "--method", "phase"), "phase holds for integers", 3),
        (("certify", "net.net", "--method", "phase"), "phase is for the coding phase", 3),
        (("certify", "plain.net"), "has no recipe", 3),
        (("attack", "unknown.net"), "does not say which data set it was made for: give --data", 3),
        (("attack", "events.net"), "events cannot be attacked", 3),
        (("robustness", "net.net", "--device", "abacus"), "unknown device 'abacus'", 3),
    ],
)  # fmt: skip
def test_errors(folder: Path, words: tuple[str, ...], says: str, status: int) -> None:
    network = read_netx(folder / "net.net")
    recipe = network.recipe
    assert recipe is not None
    write_netx(Network(network.layers), folder / "plain.net")
    write_netx(Network(network.layers, replace(recipe, provenance={})), folder / "unknown.net")
    events = replace(recipe, coding=Coding.of("events", recipe.coding.steps, 1))
    write_netx(Network(network.layers, events), folder / "events.net")
    command, file, *rest = words
    found = [folder / w if w.endswith(".ckpt") else w for w in rest]
    result = call(command, folder / file, *found)
    assert result.exit_code == status
    assert says in result.stderr
    assert result.stdout == ""
