"""The fuzzer of networks: a short run of it, and that it finds, shrinks and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.benchmarks import _fuzz_checks, fuzz
from spikeship.benchmarks._fuzz_checks import CHECKS, features
from spikeship.benchmarks._fuzz_networks import TYPES, draw
from spikeship.hw_targets.network.layers import Layer
from spikeship.hw_targets.network.neurons import NEURONS
from spikeship.hw_targets.simulate import engine
from spikeship.hw_targets.simulate.trace import Trace

from cli import call

QUICK = {name: share.of for name, share in CHECKS.items()} | {"counter": 0.1, "file": 0.02}


def failures(seed: int, folder: Path) -> list[dict[str, Any]]:
    return fuzz.examine(seed, QUICK, folder).failures


@pytest.mark.slow
def test_no_check_fails(tmp_path: Path) -> None:
    assert [failure for seed in range(250) for failure in failures(seed, tmp_path)] == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(1000, 2**40))
def test_no_check_fails_on_other_seeds(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert failures(seed, tmp_path_factory.getbasetemp()) == []


@pytest.mark.slow
@pytest.mark.lava
def test_no_check_fails_on_lava(tmp_path: Path) -> None:
    with _fuzz_checks.lava_cpu.kept_ready():
        for seed in range(8):
            assert fuzz.examine(seed, {"lava": 1.0}, tmp_path).failures == []


def test_every_kind_is_drawn() -> None:
    """A layer, neuron or option that is new to the package must be new to the fuzzer as well."""
    seen = {feature for seed in range(600) for feature in features(draw(seed))}
    layers = {kind.__name__ for kind in get_args(Layer)}
    neurons = {kind.__name__ for kind in NEURONS}
    assert {feature.split()[0] for feature in seen} >= layers
    assert {word for feature in seen for word in feature.split()} >= neurons
    assert seen >= {
        *(f"Dense {kind}" for kind in ("CubaLIF", "SigmaDelta", "Sigma", "NoneType")),
        *(f"Dense ResonateFire {kind}" for kind in ("RF_PHASE", "RF_IZHIKEVICH")),
        *(f"Conv {kind}" for kind in ("CubaLIF", "SigmaDelta", "Sigma")),
        *(f"Input {kind}" for kind in ("CubaLIF", "Delta", "NoneType")),
        *(f"Dense {option}" for option in ("bias", "recurrent", "delay")),
        *(f"Conv {option}" for option in ("bias", "groups")),
        *(f"input {kind}" for kind in (*TYPES, "constant")),
        *(f"message_bits {bits}" for bits in (None, 0, 1, 4, 8, 16, 24, 25)),
        *(f"threads {threads}" for threads in (1, 2, 3)),
        "Flatten NoneType",
        "reset",
        "recipe",
    }


def test_a_seed_is_one_case() -> None:
    for seed in range(40):
        one, other = draw(seed), draw(seed)
        assert (one.network, one.timing) == (other.network, other.timing)
        assert one.inputs.dtype == other.inputs.dtype
        assert np.array_equal(one.inputs, other.inputs)
    assert len({draw(seed).network.digest for seed in range(40)}) == 40


# -- faults ------------------------------------------------------------------------------------


def doubled(trace: Trace, **_: Any) -> Trace:
    """Counts are there twice, as once in the engine."""
    return trace if trace.counts is None else replace(trace, counts=2 * trace.counts)


def late(trace: Trace, **options: Any) -> Trace:
    """The first spike of several threads is lost."""
    if options["threads"] > 1 and trace.spikes is not None and 0 in trace.spikes.populations:
        trace.spikes[0].flat[np.flatnonzero(trace.spikes[0])[:1]] = 0
    return trace


def broken(trace: Trace, **_: Any) -> Trace:
    raise IndexError("out of the array")


PLANTED: dict[str, tuple[Callable[..., Trace], str, str]] = {
    "counts": (doubled, "engine", "counts at "),
    "threads": (late, "pieces", "spikes of "),
    "exception": (broken, "engine", "IndexError: out of the array"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_is_found_and_made_small(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fault, check, says = PLANTED[name]
    simulate = engine.simulate
    with monkeypatch.context() as patched:
        patched.setattr(
            engine,
            "simulate",
            lambda *args, **options: fault(simulate(*args, **options), **options),
        )
        found = [
            f for seed in range(12) for f in fuzz.examine(seed, {check: 1.0}, tmp_path).failures
        ]
        assert found
        for failure in found:
            assert failure["says"].startswith(says), failure
            text = (tmp_path / failure["program"]).read_text()
            assert len(text) < 2000, text
            with pytest.raises(AssertionError if name != "exception" else IndexError):
                exec(text, {})
    for failure in found:  # the fault is gone
        exec((tmp_path / failure["program"]).read_text(), {})


# -- going on ----------------------------------------------------------------------------------


def run(folder: Path, networks: int, seed: int = 3) -> fuzz.Progressed:
    done = fuzz.resume(folder, seed, QUICK)
    for _ in fuzz.fuzz(done, folder, "a command", 5, networks):
        pass
    return done


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """Two runs one after the other are one run; a network in work when it breaks off runs again."""
    whole = run(tmp_path / "whole", 12)
    run(tmp_path / "parts", 5)
    done = fuzz.resume(tmp_path / "parts", 3, QUICK)
    going = fuzz.fuzz(done, tmp_path / "parts", "a command", 5, 12)
    next(going)
    going.close()  # as an interruption does
    parts = run(tmp_path / "parts", 12)
    for one, other in ((whole, parts), (whole, fuzz.resume(tmp_path / "parts", 3, QUICK))):
        assert replace(one, seconds=0) == replace(other, seconds=0)
    assert (whole.networks, whole.checks["engine"], whole.failures) == (12, 12, [])
    with pytest.raises(ValueError, match=r"fuzz.json: a run with --seed 3 .*or another --out"):
        fuzz.resume(tmp_path / "parts", 4, QUICK)


@pytest.mark.slow
def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = [
        "networks",
        "--networks",
        "6",
        "--seed",
        "9",
        "--out",
        str(tmp_path),
        "--twin-share",
        "0",
    ]
    result = call(*words, of=fuzz.app)
    assert result.exit_code == 0, result.output
    assert "6 networks, 0 failures; wrote" in result.output.replace("\n", "")
    stored = json.loads((tmp_path / "fuzz.json").read_text())
    assert (stored["networks"], stored["checks"]["engine"], stored["seed"]) == (6, 6, 9)
    assert stored["versions"]["numpy"]
    few = [*words[:-3], str(tmp_path / "few"), "--checks", "engine, file"]
    assert call(*few, of=fuzz.app).exit_code == 0
    stored = json.loads((tmp_path / "few" / "fuzz.json").read_text())
    assert {name for name, share in stored["shares"].items() if share} == {"engine", "file"}
    unknown = call(*words, "--checks", "engin", of=fuzz.app)
    assert unknown.exit_code == 2
    assert "no check engin; there are engine" in " ".join(unknown.output.split())
    simulate = engine.simulate
    monkeypatch.setattr(engine, "simulate", lambda *a, **o: doubled(simulate(*a, **o)))
    words[2] = "9"
    result = call(*words, of=fuzz.app)
    assert result.exit_code == 1, result.output
    stored = json.loads((tmp_path / "fuzz.json").read_text())
    assert stored["networks"] == 9
    assert {failure["check"] for failure in stored["failures"]} >= {"engine"}
