"""The energy benchmark: what it stored follows from its own counts; how it sums up; that it goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from spikeship.benchmarks.energy import plots, report
from spikeship.benchmarks.energy import run as energy
from spikeship.hw_targets.energy.device_files import load_device

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
stored_results = pytest.mark.parametrize("name", sorted(energy.BASE))


def stored(name: str) -> dict:
    return json.loads((RESULTS / f"energy_{name}.json").read_text())


@stored_results
def test_what_is_stored_follows_from_its_rows(name: str) -> None:
    result = stored(name)
    assert result["summary"] == json.loads(
        json.dumps(report.summary(result["rows"], result["twins"]))
    )
    labels = [row["label"] for row in result["summary"]]
    assert labels == [f"{c}, T = {t}" for t in energy.STEPS for c in ("Poisson", "direct")]
    assert {row["seeds"] for row in result["summary"]} == {energy.SEEDS[name]}
    assert result["processor"]
    assert result["versions"]["torch"]
    assert len({row["digest"] for row in result["rows"]}) == len(result["rows"])
    assert (RESULTS / f"energy_{name}.png").read_bytes().startswith(b"\x89PNG")


@stored_results
def test_a_reader_can_price_the_stored_counts_again(name: str) -> None:
    """By hand: each term is coefficient times counter, per inference; the whole is their sum."""
    done = 0
    for row in stored(name)["rows"]:
        for of in row["chips"].values():
            for device, price in of.get("prices", {}).items():
                value = 0.0
                for cost in load_device(device).costs:
                    # nobody published which updates are active: the value is the middle
                    count = of["counts"].get(cost.counter)
                    if cost.counter in ("neuron_updates_active", "neuron_updates_inactive"):
                        spikes, active = (
                            of["counts"][c] for c in ("spikes_out", "neuron_updates_active")
                        )
                        count = (spikes + active) / 2
                        if cost.counter.endswith("inactive"):
                            count = of["counts"]["neuron_updates"] - count
                    elif cost.counter == "neuron_updates_nonzero":
                        count = of["counts"]["neuron_updates_active"]
                    term = cost.value * count / of["counts"]["samples"]
                    assert price["terms"][cost.name][0] == pytest.approx(term, rel=1e-9, abs=0)
                    value += term
                assert price["dynamic"][0] == pytest.approx(value, rel=1e-9)
                done += 1
    assert done


@stored_results
def test_chips_take_what_they_can(name: str) -> None:
    """Single spikes: both chips; graded input: Loihi 2 alone, and Loihi 1 says why."""
    for row in stored(name)["rows"]:
        one, two = (row["chips"][chip] for chip in energy.CHIPS)
        assert two["violations"] == []
        assert two["counts"]["samples"] == stored(name)["test_images"]
        if row["coding"] == "poisson":
            assert one["violations"] == []
            # how neurons are spread over cores changes no spike and no synop
            for counter in ("spikes_out", "synops", "dense_ops", "neuron_updates_active"):
                assert one["counts"][counter] == two["counts"][counter]
        else:
            assert "single spikes" in one["violations"][0]
            assert "counts" not in one


@stored_results
def test_when_spikes_pay(name: str) -> None:
    """Below the break-even the spiking network needs less, above it more: the same verdict twice."""
    result = stored(name)
    for row in result["summary"]:
        assert row["spikes_per_synapse"] == pytest.approx(
            row["synops_per_inference"] / result["twins"][0]["macs"]
        )
        for ann, (ratio, low, high) in row["ratio"].items():
            assert low <= ratio <= high
            if energy.SEEDS[name] == 1:  # a mean of ratios is none of means
                assert (ratio > 1) == (row["spikes_per_synapse"] > row["break_even"][ann][0])
            if row["steps"] >= 4:
                assert ratio > 1
        assert row["ratio"][report.LEVELS][0] < row["ratio"][report.LEVELS + report.SKIPS][0]
        assert row["accuracy"] > row["float_accuracy"] - 0.01


def test_unavailable_is_no_number() -> None:
    for name in energy.BASE:
        for row in stored(name)["measured"]["baselines"]:
            assert (row["energy"]["joules"] is None) == (row["energy"]["status"] == "unavailable")
            assert row["energy"]["joules"] != 0
            assert row["energy"]["status"] == "measured" or row["energy"]["reason"]


@pytest.mark.parametrize(("costs", "front"), [
    ([(1, 5), (2, 3), (3, 4), (4, 1)], [(1, 5), (2, 3), (4, 1)]),
    ([(2, 2), (1, 2), (1, 3)], [(1, 2)]),
    ([(3, 1), (3, 1)], [(3, 1)]),
    ([(1, 1), (2, 1), (2, 0.5)], [(1, 1), (2, 0.5)]),
])  # fmt: skip
def test_pareto_front(costs: list, front: list) -> None:
    assert plots.pareto(costs) == front


def row(seed: int, dynamic: float, total: list[float] | None, break_even: float) -> dict:
    def opponent(bits: int, skips: bool) -> dict:
        return {
            "activation_bits": bits,
            "skips_zeros": skips,
            "energy": [bits, 1.0, 9.0],
            "ratio": [2.0 * bits, 1.0, 20.0],
            "break_even": [break_even, 0.0, 1.0],
        }

    price = {"dynamic": [dynamic, 1.0, 5.0], "total": total, "latency": None, "edp": None}
    counts = {"spikes_out": 30, "synops": 300, "samples": 10}
    return {
        "label": "Poisson, T = 4",
        "seed": seed,
        "coding": "poisson",
        "steps": 4,
        "accuracy": 0.9 + 0.02 * seed,
        "float_accuracy": 0.9,
        "chips": {
            "loihi1": {"violations": ["no"]},
            "loihi2": {"cores": {"a": 3, "b": 1}, "counts": counts, "prices": {"x": price}},
        },
        "fair": {
            "snn": [3.0, 1.0, 7.0],
            "spikes_per_synapse": 0.5,
            "opponents": [opponent(b, s) for b in (8, 3) for s in (False, True)],
        },
    }


def twin(seed: int) -> dict:
    return {"seed": seed, "accuracy_by_activation_bits": {"3": 0.8, "8": 0.9 + 0.1 * seed}}


def test_means_over_seeds() -> None:
    rows = [row(0, 2.0, [8.0, 7.0, 9.0], 0.2), row(1, 4.0, None, 0.4)]
    (found,) = report.summary(rows, [twin(0), twin(1)])
    assert found["seeds"] == 2
    assert found["accuracy"] == pytest.approx(0.91)
    assert found["spikes_per_inference"] == 3
    assert found["synops_per_inference"] == 30
    assert found["cores"] == {"loihi2": 4}
    assert found["energy"]["x"]["dynamic"] == [3.0, 1.0, 5.0]
    assert found["energy"]["x"]["total"] is None  # one seed has none: no mean of what is left
    assert found["ann_accuracy"] == {report.BITS8: pytest.approx(0.95), report.LEVELS: 0.8}
    assert found["fair"]["snn"] == [3.0, 1.0, 7.0]
    assert found["fair"][report.LEVELS] == [3.0, 1.0, 9.0]
    assert found["ratio"][report.BITS8] == [16.0, 1.0, 20.0]
    assert found["ratio"].keys() == found["break_even"].keys()
    assert found["break_even"][report.LEVELS + report.SKIPS] == [pytest.approx(0.3), 0.0, 1.0]


@pytest.mark.parametrize(("ends", "shown"), [
    ([1.5e-6, 1e-6, 2e-6], "1.5 uJ [1, 2]"),
    ([5e-3, 5e-3, 5e-3], "5 mJ"),
    ([2e-13, 2e-13, 2e-13], "0.2 pJ"),
    (None, "-"),
])  # fmt: skip
def test_energies_are_shown(ends: list | None, shown: str) -> None:
    assert report.joules(ends) == shown


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="iris is unknown; choose from digits, mnist"):
        energy.main("iris")


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a small network; then again, of which nothing is measured twice."""
    small = replace(energy.BASE["digits"], epochs=1, widths=(16,))
    monkeypatch.setattr(energy, "BASE", {"digits": small})
    monkeypatch.setattr(energy, "STEPS", (1, 2))
    work, out = tmp_path / "work", tmp_path / "out.json"
    energy.main("digits", seeds=1, measure=False, work=work, out=out)
    first = json.loads(out.read_text())
    assert first["measured"] is None
    assert first["command"].endswith("digits --seeds 1 --no-measure")
    assert (tmp_path / "out.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "break-even" in shown
    assert "at least" in shown  # the datasheet of a GPU is a lower bound

    path = work / "digits-0" / "cells" / "Poisson__T___2.json"
    cell = json.loads(path.read_text())
    cell["accuracy"] = 0.125
    path.write_text(json.dumps(cell))
    energy.main("digits", seeds=1, measure=False, work=work, out=out)
    again = json.loads(out.read_text())
    assert [r for r in again["rows"] if r["label"] != "Poisson, T = 2"] == [
        r for r in first["rows"] if r["label"] != "Poisson, T = 2"
    ]
    assert next(r for r in again["summary"] if r["label"] == "Poisson, T = 2")["accuracy"] == 0.125
