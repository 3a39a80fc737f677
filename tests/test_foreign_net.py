"""Files without recipe, as others write them: judged on inputs or data that the user says how to encode;
and what `simulate` and `inspect` say of any file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeship.hw_targets import (
    Counter,
    CubaLIF,
    Dense,
    Network,
    map_network,
    simulate,
    tally,
    write_netx,
)
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate.trace import Trace

from cli import call, ok, text

INPUTS, OUTPUTS, STEPS, SAMPLES = 12, 3, 7, 20
RNG = np.random.default_rng(1)
X = RNG.integers(0, 2, (SAMPLES, STEPS, INPUTS)).astype(np.int8)
Y = np.arange(SAMPLES) % OUTPUTS
IMAGES = RNG.random((SAMPLES, INPUTS)).astype(np.float32)


def network(*, readout: bool = False, outputs: int = OUTPUTS) -> Network:
    rng = np.random.default_rng(2)
    hidden = CubaLIF(i_decay=4096, v_decay=512, threshold=60)
    last = None if readout else CubaLIF(i_decay=4096, v_decay=512, threshold=40)
    return Network(
        [
            Dense(rng.integers(-40, 60, (9, INPUTS)) * 2, neuron=hidden),
            Dense(rng.integers(-40, 60, (outputs, 9)) * 2, neuron=last),
        ]
    )


NETWORKS = {
    "net.net": network(),
    "readout.net": network(readout=True),
    "value.net": network(readout=True, outputs=1),
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, each in NETWORKS.items():
        write_netx(each, name)
    np.save("x.npy", X)
    np.save("bool.npy", X.astype(bool))
    np.save("y.npy", Y)
    np.save("targets.npy", Y.astype(np.float32))
    np.save("images.npy", IMAGES)
    parts = {f"x_{p}": IMAGES for p in ("train", "test")} | {f"y_{p}": Y for p in ("train", "test")}
    np.savez("images.npz", **parts)


def answers(each: Network, x: np.ndarray = X, **reset: int) -> np.ndarray:
    """Scores by the definition: spike counts, or mean voltages, one step later per layer."""
    trace = simulate(
        each, x, Timing(x.shape[1] + each.latency, message_bits=8, **reset), record=("spikes", "v")
    )
    trace = trace.aligned(each, x.shape[1])
    assert trace.spikes is not None
    assert trace.v is not None
    if each.layers[-1].neuron is None:  # type: ignore[union-attr]
        return trace.v[-1].mean(axis=1) / 64
    return trace.spikes[-1].sum(axis=1)


# -- files without recipe --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "profile", "attack", "verify"])
def test_what_is_said_of_a_file_without_recipe_is_true(command: str) -> None:
    said = text(command, "net.net", status=3).replace("\n", " ")
    assert "this file has no recipe: it does not say how inputs are encoded" in said
    assert "Give --input X.npy" in said
    assert "spikeship export" not in said


@pytest.mark.parametrize("name", ["net.net", "readout.net"])
@pytest.mark.parametrize(("options", "reset"), [
    ((), {}), (("--reset-interval", 7), {"reset_interval": 7, "reset_offset": 1}),
])  # fmt: skip
def test_integers_of_ones_own(name: str, options: tuple[Any, ...], reset: dict[str, int]) -> None:
    words = (name, "--input", "x.npy", "--labels", "y.npy", *options)
    expected = float((answers(NETWORKS[name], **reset).argmax(axis=1) == Y).mean())
    evaluated, profiled = ok("evaluate", *words), ok("profile", *words)["profile"]
    assert evaluated["accuracy"] == profiled["accuracy"] == expected
    assert evaluated["decode"] == ("spike count" if name == "net.net" else "mean voltage")
    assert ok("verify", *words, "--lava-samples", 0)["ok"]
    counts = profiled["counts"]["loihi2"]["layers"]
    mapping = map_network(NETWORKS[name], "loihi2")
    timing = Timing(STEPS + 2, reset.get("reset_interval"), reset.get("reset_offset", 0))
    counted = simulate(
        NETWORKS[name], X, timing, counter=Counter(NETWORKS[name], mapping.placement, STEPS)
    )
    exact = tally(NETWORKS[name], counted.activity, mapping.placement)
    assert [layer["synops"] for layer in counts] == [layer.synops for layer in exact.layers]
    mapped = ok("map", *words)
    assert [layer["synops"] for layer in mapped["counts"]["layers"]] == [
        layer["synops"] for layer in counts
    ]


@pytest.mark.parametrize("coding", ["direct", "poisson"])
@pytest.mark.parametrize(
    "given", [("--data", "images.npz"), ("--input", "images.npy", "--labels", "y.npy")]
)
def test_images_in_a_coding(given: tuple[str, ...], coding: str) -> None:
    words = ("net.net", *given, "--coding", coding, "--time-steps", 4, "--levels", 10)
    evaluated = ok("evaluate", *words)
    assert (evaluated["steps"], evaluated["samples"]) == (4, SAMPLES)
    if coding == "direct":
        messages = np.repeat(np.round(IMAGES.astype(float) * 10).astype(int)[:, None], 4, axis=1)
        right = answers(NETWORKS["net.net"], messages).argmax(axis=1) == Y
        assert evaluated["accuracy"] == float(right.mean())
    attacked = ok("attack", *words, "--attack", "fgsm", "--samples", 5, "--draws", 2)["attacks"][0]
    assert attacked["samples"] == 5


def test_a_profile_needs_no_labels() -> None:
    assert ok("profile", "net.net", "--input", "x.npy")["profile"]["accuracy"] is None
    assert "no labels" in text("profile", "net.net", "--input", "x.npy")


@pytest.mark.parametrize(("words", "message"), [
    (("evaluate", "net.net", "--input", "x.npy"), "x.npy has no labels.*give --labels Y.npy"),
    (("evaluate", "net.net", "--labels", "y.npy"), "--labels go with --input"),
    (("evaluate", "net.net", "--input", "x.npy", "--data", "images.npz"), "--data and --input exclude each other"),
    (("evaluate", "net.net", "--input", "x.npy", "--labels", "y.npy", "--coding", "direct"), "integers, which are messages already"),
    (("evaluate", "net.net", "--input", "x.npy", "--labels", "y.npy", "--time-steps", 3), "x.npy has 7 steps"),
    (("evaluate", "net.net", "--input", "y.npy", "--labels", "y.npy"), r"int64 of shape \(20,\) are no inputs"),
    (("evaluate", "net.net", "--input", "wide.npy"), r"inputs of shape \(4,\); net.net takes \(12,\)"),
    (("evaluate", "value.net", "--input", "x.npy", "--labels", "y.npy"), r"the network has 1 output\(s\)"),
    (("evaluate", "net.net", "--input", "x.npy", "--labels", "targets.npy"), "the network has 3 outputs; one each"),
    (("attack", "net.net", "--input", "x.npy", "--labels", "y.npy"), "are integers, encoded already: attacks"),
    (("map", "net.net", "--input", "wide.npy"), r"inputs of shape \(4,\)"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused(words: tuple[Any, ...], message: str) -> None:
    np.save("wide.npy", X[:, :, :4])
    assert re.search(message, text(*words, status=3).replace("\n", " "))


def test_one_output_is_compared_as_a_value() -> None:
    evaluated = ok("evaluate", "value.net", "--input", "x.npy", "--labels", "targets.npy")
    scores = answers(NETWORKS["value.net"])
    assert evaluated["error"] == pytest.approx(float(np.sqrt(np.mean((scores - Y[:, None]) ** 2))))
    verified = ok("verify", "value.net", "--input", "x.npy", "--lava-samples", 0)["result"]
    assert verified["same_answers"] is None


# -- simulate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_", ["x.npy", "bool.npy"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_simulate_answers_every_input_step(name: str, input_: str) -> None:
    each = NETWORKS[name]
    labels = "targets.npy" if name == "value.net" else "y.npy"
    result = ok("simulate", name, "--input", input_, "--out", "t.npz", "--labels", labels)
    scores = answers(each)
    assert (np.array(result["scores"]) == scores).all()
    trace = Trace.load("t.npz")
    assert trace.spikes is not None
    assert trace.spikes[0].shape[1] == STEPS + each.latency
    if name == "value.net":
        assert result["classes"] is None
        assert result["quality"]["error"] > 0
    else:
        assert result["classes"] == scores.argmax(axis=1).tolist()
        assert result["quality"]["accuracy"] == float((scores.argmax(axis=1) == Y).mean())
    if name != "net.net":  # what a readout does is in its voltage
        assert trace.v is not None
        assert trace.v[1].any()


def test_simulate_says_what_is_cut_off() -> None:
    done = call("simulate", "net.net", "--input", "x.npy", "--out", "t.npz", "--steps", STEPS)
    assert "leaves out the answers to the last 2 input steps" in done.stderr.replace("\n", " ")
    done = call(
        "simulate",
        "net.net",
        "--input",
        "x.npy",
        "--out",
        "t.npz",
        "--record",
        "spikes.0",
        "--labels",
        "y.npy",
    )
    assert done.exit_code == 3
    assert "the output was not recorded" in done.stderr


@pytest.mark.parametrize("command", [
    ("simulate", "net.net", "--input", "x.npy", "--out", "none/t.npz"),
    ("attack", "net.net", "--data", "images.npz", "--images", "none/t.npz"),
    ("lower", "net.net", "--out", "none/o.net"),
    ("export", "own.nir", "--out", "none/o.net"),
])  # fmt: skip
def test_missing_folders_are_not_made_in_silence(command: tuple[str, ...]) -> None:
    assert "none: no such folder" in text(*command, status=3)
    assert not Path("none").exists()


def test_inspect_shows_the_size_of_the_input() -> None:
    assert re.search(r"input +│ +12 ", text("inspect", "net.net"))


def test_bools_are_spikes() -> None:
    assert Coding.given(X.astype(bool)) == Coding.given(X)
    write_netx(Network(NETWORKS["net.net"].layers, Recipe(Coding.given(X))), "own.net")
    words = ("evaluate", "own.net", "--labels", "y.npy", "--input")
    assert ok(*words, "bool.npy")["accuracy"] == ok(*words, "x.npy")["accuracy"]
