"""Codings all the way: train, export, inspect, evaluate, verify; and which target takes which."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch

from spikeship.hw_targets import (
    CubaLIF,
    Delta,
    Dense,
    Input,
    Network,
    NetworkError,
    Recipe,
    SigmaDelta,
    read_netx,
)
from spikeship.hw_targets.chips.messages import (
    PAYLOADS,
    check_messages,
    message_problems,
    message_summary,
)
from spikeship.hw_targets.network.coding import CODINGS, Coding, CodingName
from spikeship.models import encoding, training
from spikeship.models.data.load import load
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import encoded, float_accuracy
from spikeship.pipeline.robustness.attacks.attack import expected
from spikeship.pipeline.robustness.victims import DeployedVictim, FloatVictim

from cli import ok

LIF = CubaLIF(4096, 2048, 5)
WEIGHT = [[2, -4], [6, 8]]
OF_IMAGES = tuple(coding for coding in CODINGS if coding not in ("sequence", "events"))


def of(coding: CodingName, **settings: int) -> Coding:
    return Coding.of(coding, sigma=0.1 if coding in ("rsc1", "rsc2") else 0.0, **settings)


def network(recipe: Recipe | None) -> Network:
    return Network([Dense(WEIGHT, neuron=LIF)], recipe)


@pytest.mark.parametrize(("coding", "loihi1"), [
    ("direct", False), ("rsc1", False), ("rsc2", False), ("signed_poisson", False),
    ("poisson", True), ("phase", True), ("events", True),
])  # fmt: skip
def test_which_target_takes_which_coding(coding: CodingName, loihi1: bool) -> None:
    found = network(Recipe.of(of(coding)))
    assert [not message_problems(found, target) for target in PAYLOADS] == [loihi1, True, True]
    for target in PAYLOADS:
        if target != "loihi1" or loihi1:
            check_messages(found, target)
    if not loihi1:
        bits = of(coding).message_bits
        with pytest.raises(NetworkError, match=rf"coding {coding}\) is graded spikes of {bits} "
                           r"bits.*; Loihi 1 has single spikes, 0 or 1. Train and export with coding "
                           r"poisson or phase"):  # fmt: skip
            check_messages(found, "loihi1")


@pytest.mark.parametrize(("target", "bits", "taken"), [
    ("loihi1", 0, True), ("loihi1", 1, False),
    ("loihi2", 24, True), ("loihi2", 25, False),
    ("lava", 24, True), ("lava", 25, False),
])  # fmt: skip
def test_the_widths_of_messages(target: str, bits: int, taken: bool) -> None:
    recipe = Recipe(Coding("direct", 4, message_bits=bits))
    assert (not message_problems(network(recipe), target)) == taken


def test_graded_layers_and_input_neurons() -> None:
    layers = [Dense(WEIGHT, neuron=SigmaDelta(10)), Dense(WEIGHT, neuron=SigmaDelta(10))]
    sigma_delta = Network(
        [Input((2,), Delta(5)), *layers], Recipe(Coding("direct", 4, message_bits=8))
    )
    (one, other) = message_problems(sigma_delta, "loihi1")  # the last layer's are only read
    assert one.startswith("layer 0:input sends graded spikes")
    assert other.endswith("Use spiking neurons instead of SigmaDelta.")
    assert not message_problems(sigma_delta, "loihi2")
    driven = Network(
        [Input((2,), LIF), Dense(WEIGHT, neuron=LIF)], Recipe(Coding("direct", 4, message_bits=8))
    )
    assert not message_problems(driven, "loihi1")


def test_the_summary_names_input_and_targets() -> None:
    lava = "Lava's CPU backend"
    assert message_summary(network(None)) == (
        f"input unknown (no recipe): for Loihi 1, Loihi 2, {lava}"
    )
    assert message_summary(network(Recipe.of(of("phase")))) == (
        f"input of single spikes: for Loihi 1, Loihi 2, {lava}"
    )
    assert message_summary(network(Recipe.of(of("signed_poisson")))) == (
        f"input of graded spikes, 2 bits: for Loihi 2, {lava}; not for Loihi 1"
    )
    assert message_summary(network(Recipe(Coding("direct", 1, message_bits=25)))) == (
        f"input of graded spikes, 25 bits: for none; not for Loihi 1, Loihi 2, {lava}"
    )


# -- train, export, inspect, evaluate, verify ------------------------------------------------------

TRAINED: tuple[CodingName, ...] = OF_IMAGES
PHASE = {"offsets": 2, "template": 7}


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[CodingName, Path]:
    """A small network per coding, trained for some epochs and exported, in a folder of its own."""
    folders = {}
    for coding in TRAINED:
        folders[coding] = folder = tmp_path_factory.mktemp(coding)
        settings = Settings.of(
            coding=coding,
            sigma=0.1 if coding in ("rsc1", "rsc2") else 0.0,
            epochs=4,
            widths=(32,),
            **(PHASE if coding == "phase" else {}),
        )
        training.train(settings, load("digits"), folder, progress=False)
        ok("export", folder / "best.ckpt", "--out", folder / "net.net", "--seed", 3)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("coding", TRAINED)
def test_the_file_says_how_to_encode(nets: dict[CodingName, Path], coding: CodingName) -> None:
    """Attributes only where the coding has such a thing: files of the first codings stay as they were."""
    folder = nets[coding]
    trained = training.load(folder / "best.ckpt").settings.coding
    recipe = read_netx(folder / "net.net").recipe
    assert recipe is not None
    assert recipe.coding == trained
    with h5py.File(folder / "net.net") as file:
        stored = {k: v for k, v in file["spikeship"].attrs.items() if k in ("grid", *PHASE)}
        assert (file["spikeship"].attrs["coding"].decode(), file["spikeship"].attrs["seed"]) == (
            coding,
            3,
        )
        assert file["spikeship"].attrs["levels"] == trained.levels
    one_unit = coding in ("poisson", "signed_poisson", "phase")
    assert stored == ({"grid": 16} if one_unit else {}) | (PHASE if coding == "phase" else {})
    shown = ok("inspect", folder / "net.net")["recipe"]
    assert (shown["coding"], shown["grid"]) == (coding, 16 if one_unit else None)
    assert (shown["offsets"], shown["template"]) == ((2, 7) if coding == "phase" else (None, None))


@pytest.mark.slow
def test_a_checkpoint_from_before_the_phase_code_is_read(
    nets: dict[CodingName, Path], tmp_path: Path
) -> None:
    stored = torch.load(nets["rsc1"] / "best.ckpt", weights_only=True)
    for name in PHASE:
        del stored["hyper_parameters"]["settings"][name]
    torch.save(stored, tmp_path / "old.ckpt")
    assert training.load(tmp_path / "old.ckpt").settings.coding == of("rsc1")


@pytest.mark.slow
@pytest.mark.parametrize("coding", TRAINED)
def test_both_forms_answer_the_same_draw(nets: dict[CodingName, Path], coding: CodingName) -> None:
    folder = nets[coding]
    test = load("digits").test
    classifier = training.load(folder / "best.ckpt")
    network = read_netx(folder / "net.net")
    assert network.recipe is not None
    messages, labels = next(encoded(network.recipe, test))
    again = next(encoded(network.recipe, test))[0]
    assert (messages == again).all()
    images, _ = test[list(range(len(labels)))]
    frames = encoding.real(classifier.settings.coding, images, generator(3))
    on_grid = torch.floor(frames.double() * classifier.settings.coding.levels + 0.5)
    assert (on_grid.transpose(0, 1).numpy() == messages).all()

    evaluated = ok("evaluate", folder / "net.net")["accuracy"]
    floating = float_accuracy(classifier.net, network.recipe, test)
    assert evaluated > 0.8
    assert evaluated == pytest.approx(floating, abs=0.02)
    assert ok("verify", folder / "net.net", "--lava-samples", 0)["ok"]


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.usefixtures("lava")
@pytest.mark.parametrize("coding", ["poisson", "signed_poisson", "phase"])
def test_lava_runs_single_spikes_alike(nets: dict[CodingName, Path], coding: CodingName) -> None:
    folder = nets[coding]
    result = ok("verify", folder / "net.net", "--samples", 20, "--lava-samples", 2)
    assert result["ok"]
    assert result["result"]["lava_skipped"] is None


@pytest.mark.slow
@pytest.mark.parametrize("coding", TRAINED)
def test_gradients_reach_the_image_on_both_sides(
    nets: dict[CodingName, Path], coding: CodingName
) -> None:
    """Float and integers see the same draw, so their input gradients point the same way."""
    images, labels = load("digits").test[list(range(40))]
    float_ = FloatVictim(training.load(nets[coding] / "best.ckpt"))
    deployed = DeployedVictim(Deployed.load(nets[coding] / "net.net"))
    slopes = [
        expected(victim, images, labels, generator(0)).gradient.flatten(1)
        for victim in (float_, deployed)
    ]
    assert all((slope != 0).float().mean() > 0.5 for slope in slopes)
    assert torch.cosine_similarity(*slopes).mean() > 0.9
