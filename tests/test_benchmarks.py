"""The committed results: honest, within the promised limits, and what the README says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console

from spikeship.benchmarks import frameworks, mnist_mlp, quantization, readme_figures
from spikeship.benchmarks.harness import command
from spikeship.benchmarks.speed import report as speed_report
from spikeship.benchmarks.speed import run as speed
from spikeship.benchmarks.speed.lava import lava_process
from spikeship.benchmarks.speed.networks import QUICK_PLANS, build, random_input
from spikeship.benchmarks.speed.peers import CONTENDERS, NOTES, disagreement
from spikeship.hw_targets import simulate

from cli import call

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


def test_few_bits_cost_little() -> None:
    """Mean loss of three seeds, on every network, as promised; and less than by naive rounding."""
    stored = result("quantization")
    rows = {(r["network"], r["bits"], r["method"]): r for r in stored["summary"]}
    assert sorted({network for network, _, _ in rows}) == sorted(quantization.NETWORKS)
    for network in quantization.NETWORKS:
        for bits in quantization.BITS:
            naive, ours, tuned = (rows[network, bits, m] for m in quantization.METHODS)
            assert naive["seeds"] == ours["seeds"] == tuned["seeds"] == 3
            if bits in quantization.LIMITS:
                method, most = quantization.LIMITS[bits]
                assert rows[network, bits, method]["loss"] <= most, (network, bits)
            if bits <= 3:
                best = max(ours["integer_accuracy"], tuned["integer_accuracy"])
                assert best > naive["integer_accuracy"] + 0.01, (network, bits)


def test_networks_of_the_nir_paper() -> None:
    stored = result("exchange")
    lif, cnn, braille = (stored[name] for name in ("lif", "cnn", "braille"))
    chip = lif["paper"]["against"]["lava_loihi_fixed"]
    assert chip["spike_mismatches"] == lif["quantized"]["spike_mismatches"] == 0
    assert lif["float_mismatches"]["norse"] == 0
    assert cnn["samples"] == 200
    assert cnn["float_accuracy"] >= 0.96
    assert cnn["ours"]["accuracy"] >= cnn["float_accuracy"] - 0.01
    assert braille["float_against_recorded"]["snntorch"]["mismatches"] == 0
    found = {name: r["hidden"]["matched"] for name, r in braille["integers_against_float"].items()}
    assert found["ours, and every source twice"] >= 0.95
    assert found["naive: largest scale, biases on v"] < found["ours, biases on v"]
    assert braille["float_against_recorded"]["lava"]["matched"] < 0.5  # the published path


def test_slayer_beside_norse() -> None:
    """As good as Norse within 1.5 points, and the integers are what SLAYER itself computed."""
    stored = result("frameworks")
    rows = {(row["dataset"], row["framework"]): row for row in stored["summary"]}
    assert [(*key, row["seeds"]) for key, row in rows.items()] == [
        ("digits", "norse", 3),
        ("digits", "slayer", 3),
        ("mnist", "norse", 1),
        ("mnist", "slayer", 1),
    ]
    for name in ("digits", "mnist"):
        norse, slayer = rows[name, "norse"], rows[name, "slayer"]
        assert slayer["integer_accuracy"] > norse["integer_accuracy"] - 0.015
        assert slayer["equal_spikes"] == 1
        assert slayer["integer_accuracy"] == slayer["float_accuracy"]
    assert all(run["lava_equal"] for run in stored["runs"])
    assert not any(any(layer.values()) for run in stored["runs"] for layer in run["overflow"])


@pytest.mark.slow
@pytest.mark.lava
def test_frameworks_are_measured_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = replace(frameworks.SETTINGS["digits"], epochs=2, widths=(16,))
    monkeypatch.setattr(frameworks, "SETTINGS", {"digits": quick})
    monkeypatch.setattr(frameworks, "SEEDS", {"digits": 1})
    frameworks.main(None, tmp_path / "runs", tmp_path / "out.json")
    stored = json.loads((tmp_path / "out.json").read_text())
    norse, slayer = stored["summary"]
    assert (norse["time_over_norse"], norse["framework"]) == (1, "norse")
    assert slayer["equal_spikes"] == 1
    assert 0.95 < norse["equal_spikes"] <= 1
    for run in stored["runs"]:
        assert run["lava_equal"]
        assert run["float_accuracy"] > 0.4
        assert run["spikes_per_inference"] > 0
        assert len(run["spike_rates"]) == len(run["equal_spikes"]) == 2
    assert "spikes equal (worst layer)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "typed"),
    [
        (command("counting", quick=False), "counting"),
        (command("speed", quick=True, only=None), "speed --quick"),
        (command("accuracy", "mnist", data_root=Path("/data")), "accuracy mnist --data-root ROOT"),
        (command("mnist_mlp", steps=[20, 32]), "mnist_mlp --steps 20 --steps 32"),
        (
            command("energy", "digits", seeds=0, no_measure=True),
            "energy digits --seeds 0 --no-measure",
        ),
    ],
)
def test_the_command_is_stored_as_it_was_typed(made: str, typed: str) -> None:
    assert made == f"python -m spikeship.benchmarks.{typed}"


@pytest.mark.parametrize(
    "name",
    [
        "demo",
        "accuracy_digits",
        "accuracy_mnist",
        "mnist_mlp",
        "frameworks",
        "exchange",
        "quantization",
    ],
)
def test_results_name_versions_and_machine(name: str) -> None:
    stored = result(name)
    assert stored["python"]
    assert stored["processor"]
    assert stored["versions"]["lava-dl"]
    assert "digest" in json.dumps(stored)


def test_the_readme_says_what_the_fuzzer_ran() -> None:
    stored = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("fuzz_*.json"))]
    assert not any(run["failures"] for run in stored)
    assert len({run["seed"] for run in stored}) == len(stored) >= 4
    engine, lava, twin = (
        sum(run["checks"].get(name, 0) for run in stored) for name in ("engine", "lava", "twin")
    )
    text = " ".join((REPOSITORY / "README.md").read_text().split())
    assert (
        f"({engine:,} networks so far, {lava:,} on Lava, {twin:,} on the twin, nothing found"
        in text
    )


@pytest.mark.parametrize(
    ("page", "row"), [("README.md", "| SNN, integers |"), ("docs/limits.md", "| hidden neurons | ")]
)
def test_the_pages_show_the_stored_figures(page: str, row: str) -> None:
    text = (REPOSITORY / page).read_text()
    assert row in text
    assert readme_figures.PAGES[page](text) == text


def test_what_no_run_has_is_not_measured() -> None:
    """Nor is a number invented where a run ended early."""
    rows = [{"value": 8, "torch": 0.001, "engine": 0.5}, {"value": 16, "out of memory": "..."}]
    growth = {"steps": rows, "batch": None}
    assert readme_figures.growth_rows(growth, "torch") == [
        "| steps | 8: 1 |",
        "| batch | not measured |",
    ]
    assert (
        readme_figures.update_rows({"cells": {}})[0] == "| 32 bits | not measured | not measured |"
    )


@pytest.mark.slow
@pytest.mark.parametrize("steps", mnist_mlp.PUBLISHED)
def test_the_published_mnist_network(
    shared_data: Path, tmp_path: Path, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 10,000 test images, the authors' own input coding, by the command."""
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(shared_data / "datasets" / "mnist")
    net = shared_data / "golden/mnist_mlp/trained_mnist_network.net"
    mnist_mlp.main(net, tmp_path, tmp_path / "out.json", [steps])
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["command"] == f"python -m spikeship.benchmarks.mnist_mlp --steps {steps}"
    assert stored["test_images"] == 10_000
    (run,) = stored["runs"]
    assert run["published_accuracy"] == mnist_mlp.PUBLISHED[steps]
    assert abs(run["accuracy"] - mnist_mlp.PUBLISHED[steps]) <= 0.003
    assert "images per second" in capsys.readouterr().out


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """What `speed --quick` prints for two networks, and its JSON."""
    path = tmp_path_factory.mktemp("speed") / "speed.json"
    app = typer.Typer()
    app.command()(speed.main)
    done = call("--quick", "--only", "mlp,nmnist", "--out", path, of=app)
    assert done.exit_code == 0, done.exception
    assert not path.with_name("speed.json.part").exists()
    return done.stdout, json.loads(path.read_text())


@pytest.mark.slow
def test_speed_says_everything(quick: tuple[str, dict]) -> None:
    text, stored = quick
    assert stored["command"] == "python -m spikeship.benchmarks.speed --quick --only mlp,nmnist"
    assert stored["without_lava"] == "not in --quick"
    assert all(value > 0 for value in stored["machine_limits"].values())
    assert [(c["network"], c["batch"]) for c in stored["cells"]] == [
        (network, batch) for network in ("mlp", "nmnist") for batch in (1, 4)
    ]
    for cell in stored["cells"]:
        assert cell["digest"] == stored["networks"][f"{cell['network']}/0.05"]["digest"]
        assert set(cell["contenders"]) == {
            "engine",
            "engine, all spikes",
            "reference",
            "torch",
            "norse",
        }
        for name, contender in cell["contenders"].items():
            assert contender["median"] > 0
            assert len(contender["seconds_per_sample_step"]) == 2
            assert (name == "engine") <= (contender["times_engine"] == 1)
        assert cell["machine"]["share"] > 0
        assert cell["machine"]["limit"] in ("arithmetic", "memory")
    assert set(stored["growth"]) == {"network", "at", "steps", "batch"}
    assert [f["network"] for f in stored["fresh_processes"]] == ["mlp", "nmnist"]
    assert all(f["first_call_seconds"] > 0 for f in stored["fresh_processes"])
    assert {g["what"] for g in stored["goals"]} == {
        "mlp: import and first call",
        "nmnist: import and first call",
        "nmnist, batch 1: engine against norse",
    }
    assert stored["versions"]["norse"]
    assert "time of the others / engine's" in text
    assert "import and first call" in text


def test_an_interrupted_speed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that are stored are not measured again; with other settings everything is."""
    setup = replace(
        speed.QUICK, plans={"mlp": QUICK_PLANS["mlp"]}, contenders=("engine", "torch"), sweeps={}
    )
    part, measured = tmp_path / "speed.json.part", []

    def cell(setup, plan, network, rate, batch, lava):
        measured.append(batch)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(setup, plan, network, rate, batch, lava)

    measure = speed.cell
    monkeypatch.setattr(speed, "cell", cell)
    monkeypatch.setattr(speed, "children", lambda setup, plan: {})
    with pytest.raises(KeyboardInterrupt):
        speed.run(setup, part, Console(quiet=True))
    speed.run(setup, part, Console(quiet=True))
    assert measured == [1, 4, 4]
    speed.run(replace(setup, repeats_at_goal=1), part, Console(quiet=True))
    assert measured == [1, 4, 4, 1, 4]


@pytest.mark.slow
def test_slow_contenders_are_left_out_aloud(quick: tuple[str, dict]) -> None:
    plan = QUICK_PLANS["mlp"]
    setup = replace(speed.QUICK, limit=1e-9, contenders=("engine",))
    cell = speed.cell(setup, plan, build(plan, 0.05), 0.05, 4, {})
    assert cell["contenders"]["engine"]["left_out"].startswith("estimated 0 s for 4 steps")
    result = {**quick[1], "cells": [cell]}
    assert speed_report.goals(result)  # the fresh processes; no ratio without a measurement
    assert list(speed_report.tables(result))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("name", QUICK_PLANS)
def test_all_speed_networks_fire_at_their_rate_and_agree(name: str, rate: float) -> None:
    """The torch loop and the engine: every spike of every layer."""
    plan = QUICK_PLANS[name]
    network = build(plan, rate)
    x = random_input(plan.input_shape, rate, 4, 40, seed=2)
    assert disagreement(network, x) is None
    trace = simulate(network, x, record="spikes")
    assert trace.spikes is not None
    first = trace.spikes[0][:, 1:].mean()
    assert first == pytest.approx(rate, rel=0.5)


@pytest.mark.slow
@pytest.mark.lava
def test_slayer_and_lava_run_the_speed_networks() -> None:
    """SLAYER gives the engine's output; Lava answers with times."""
    plan = QUICK_PLANS["nmnist"]
    network = build(plan, 0.2)
    x = random_input(plan.input_shape, 0.2, 3, 30)
    counts = CONTENDERS["engine"](network, x)(30)
    assert counts.sum() > 0
    assert (CONTENDERS["slayer"](network, x)(30).numpy() == counts).all()
    with lava_process(network, x[0], "all") as lava:
        assert lava.measure() > 0
        assert set(lava.parts[0]) == {"run", "get"}
    assert {"slayer", "lava", "lava, all spikes"} <= set(NOTES)
