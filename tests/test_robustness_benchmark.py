"""The robustness benchmark: what it stored reaches the goals; how it judges claims; that it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from spikeship.benchmarks import readme_figures
from spikeship.benchmarks.robustness import claims
from spikeship.benchmarks.robustness import run as robustness

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def stored(name: str = "digits") -> dict:
    return json.loads((RESULTS / f"robustness_{name}.json").read_text())


def rounded(value: Any) -> Any:
    """Plain values, numbers with 12 digits: the last one of a spread is numpy's own."""
    return json.loads(json.dumps(value), parse_float=lambda text: f"{float(text):.12g}")


def figure(result: dict, *key: str) -> float:
    """The mean over the seeds of (experiment, network, victim, figure), from the rows themselves."""
    (found,) = [
        cell["values"]
        for cell in claims.summary(result["rows"])
        if (cell["experiment"], cell["network"], cell["victim"], cell["figure"]) == key
    ]
    assert len(found) == 3
    return mean(found)


def test_training_for_robustness_helps() -> None:
    digits = stored()
    assert digits["epsilon"] == 0.1
    plain, at, sr = (figure(digits, "objectives", n, "float", "PGD") for n in ("plain", "AT", "SR"))
    assert at - plain >= 0.25
    assert sr - plain >= 0.10


@pytest.mark.parametrize("sigma", ["0.1", "0.3"])
def test_averaging_over_draws_is_no_weaker(sigma: str) -> None:
    digits = stored()
    coding = f"RSC-I, sigma {sigma}"
    one, eight = (figure(digits, "averaging", coding, "float", f"EOT {k}") for k in (1, 8))
    assert eight <= one


def test_attacks_on_the_integers_are_no_weaker_than_those_carried_over() -> None:
    digits = stored()
    for network in ("plain", "AT"):
        carried = figure(digits, "bits", network, "3 bits", "transfer")
        assert figure(digits, "bits", network, "3 bits", "white_box") <= carried


def test_the_phase_code_is_certified() -> None:
    digits = stored()
    key = ("certificates", "phase, k = 1", "8 bits")
    assert figure(digits, *key, f"{claims.PHASE_NORM} 0") >= 0.95
    assert figure(digits, *key, f"{claims.PHASE_NORM} 0.25") >= 0.85


@pytest.mark.parametrize("name", readme_figures.ROBUSTNESS)
def test_what_is_stored_follows_from_its_rows(name: str) -> None:
    result = stored(name)
    assert result["data"] == name
    assert rounded(result["summary"]) == rounded(claims.summary(result["rows"]))
    judged = claims.claims(result["summary"], result["test_images"])
    assert result["claims"] == json.loads(json.dumps(judged))
    assert result["python"]
    assert result["processor"]
    assert result["versions"]["torch"]
    assert "digest" in json.dumps(result["rows"])


def row(network: str, seed: int, accuracy: float, experiment: str = "objectives") -> dict:
    cell = {
        "victim": "float",
        "clean": 0.99,
        "clean_voted": 0.99,
        "worst": accuracy + 0.01,
        "worst_voted": 0.5,
        "attacks": {"PGD": {"accuracy": accuracy, "voted": accuracy, "without_gradient": 0.0}},
    }
    return {"experiment": experiment, "label": network, "seed": seed, "cells": [cell]}


def judged(first: list[float], second: list[float], **claim: object) -> dict:
    """One claim on two networks, 400 images."""
    rows = [row(n, seed, a) for n, of in (("a", first), ("b", second)) for seed, a in enumerate(of)]
    keys = [("objectives", n, "float", "PGD") for n in "ab"]
    made = claims.Claim("a against b", "nobody", *keys, **claim)  # type: ignore[arg-type]
    (found,) = claims.claims(claims.summary(rows), 400, [made])
    return found


@pytest.mark.parametrize(("first", "second", "claim", "holds"), [
    ([0.8, 0.8, 0.8], [0.6, 0.6, 0.6], {}, "yes"),
    ([0.61, 0.61, 0.61], [0.6, 0.6, 0.6], {}, "no"),  # binomial error of 2 points
    ([0.9, 0.6, 0.6], [0.6, 0.6, 0.6], {}, "no"),  # one seed of three
    ([0.6, 0.6, 0.6], [0.8, 0.8, 0.8], {}, "opposite"),
    ([0.8, 0.8, 0.8], [0.6, 0.6, 0.6], {"by": 0.25}, "no"),
    ([0.9, 0.9, 0.9], [0.6, 0.6, 0.6], {"by": 0.25}, "yes"),
    ([0.8], [0.6], {}, "yes"),
    ([0.6, 0.6], [0.61, 0.61], {"kind": "no less"}, "yes"),
    ([0.6, 0.6], [0.7, 0.7], {"kind": "no less"}, "no"),
    ([0.6, 0.6], [0.61, 0.61], {"kind": "same", "by": 0.02}, "yes"),
    ([0.6, 0.6], [0.63, 0.63], {"kind": "same", "by": 0.02}, "no"),
])  # fmt: skip
def test_verdicts(first: list[float], second: list[float], claim: dict, holds: str) -> None:
    found = judged(first, second, **claim)
    assert found["holds"] == holds
    assert found["first"] == pytest.approx(mean(first))
    assert found["difference"] == pytest.approx(mean(first) - mean(second))
    assert found["seeds"] == len(first)


def test_the_error_of_a_difference() -> None:
    """Of the seeds: sd .1, 3 seeds; of 400 images: sqrt((.6 * .4 + .6 * .4) / (3 * 400))."""
    assert judged([0.7, 0.6, 0.5], [0.6] * 3)["error"] == pytest.approx(0.1 / 3**0.5)
    assert judged([0.6] * 3, [0.6] * 3)["error"] == pytest.approx((0.48 / 1200) ** 0.5)


def test_what_was_not_measured_has_no_verdict() -> None:
    assert {claim["holds"] for claim in claims.claims([], 10)} == {None}


def test_the_worst_is_no_better_than_any_attack() -> None:
    found = {c["figure"]: c["mean"] for c in claims.summary([row("a", 0, 0.3)])}
    assert found["PGD"] == found["worst"] == 0.3
    assert found["worst_voted"] == 0.3


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything once, on few images; then one experiment again, of which nothing is measured twice."""
    small = robustness.BASE["digits"].changed(epochs=1, widths=(16,), steps=4)
    monkeypatch.setattr(robustness, "BASE", {"digits": small})
    monkeypatch.setattr(robustness, "PHASE", {"digits": {"levels": 16}})
    monkeypatch.setattr(robustness, "TEST_IMAGES", {"digits": 8})
    monkeypatch.setattr(robustness, "CERTIFIED_IMAGES", {"digits": 2})
    monkeypatch.setattr(robustness, "TUNING_EPOCHS", {"digits": 1})
    for name, value in (
        ("DRAWS", 20),
        ("STEPS", dict.fromkeys(robustness.STEPS, 4)),
        ("QUERIES", 20),
        ("CURVE", (0.0, 1.0)),
        ("BITS", (8, 3)),
        ("AVERAGES", (1, 8)),
    ):
        monkeypatch.setattr(robustness, name, value)
    work, out = tmp_path / "work", tmp_path / "out.json"
    names = ["codings", "averaging", "conversion", "bits", "certificates"]
    robustness.main("digits", None, 1, names, work, out)
    first = json.loads(out.read_text())
    assert [*dict.fromkeys(r["experiment"] for r in first["rows"])] == names
    # those on T, leak and objectives are not measured; all others have a verdict
    unmeasured = [claim.text for claim in claims.CLAIMS if claim.first[0] not in names]
    assert [c["claim"] for c in first["claims"] if c["holds"] is None] == unmeasured
    assert len(unmeasured) == 7
    printed = capsys.readouterr().out
    assert "tuned, pgd, 8 bits" in printed
    assert "holds here" in printed

    path = work / "digits-0" / "cells" / "bits-AT.json"
    cell = json.loads(path.read_text())
    cell["bits"][-1]["white_box"] = 0.125
    path.write_text(json.dumps(cell))
    robustness.main("digits", None, 1, ["bits"], work, out)
    again = json.loads(out.read_text())
    assert [r for r in again["rows"] if r["experiment"] != "bits"] == [
        r for r in first["rows"] if r["experiment"] != "bits"
    ]
    (changed,) = [r for r in again["rows"] if r["experiment"] == "bits" and r["label"] == "AT"]
    assert changed["bits"][-1]["white_box"] == 0.125
