"""Where attacks, certificates, evaluations and fine-tuning compute; what a GPU may change, and what not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikeship
from spikeship.hw_targets.network.coding import Coding, CodingName
from spikeship.models import encoding, training
from spikeship.models.data.dataset import Dataset
from spikeship.models.encoding import generator
from spikeship.pipeline.deploy import run as deploy_run
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.robustness import PGD, DeployedVictim, FloatVictim
from spikeship.pipeline.robustness.attacks import ATTACKS, Strength, named
from spikeship.pipeline.robustness.attacks.attack import attack
from spikeship.pipeline.robustness.certificates.certify import certify
from spikeship.pipeline.twin import Tuning, Twin, finetune

from cli import ok, text

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")
COMMANDS = ("attack", "certify", "robustness", "evaluate")


@pytest.fixture(scope="module")
def chip(trained: Path) -> Deployed:
    return Deployed.load(trained / "net.net")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_a_device_that_is_not_there(trained: Path, command: str) -> None:
    said = text(command, trained / "net.net", "--samples", 2, "--device", "cuda:99", status=3)
    assert "device 'cuda:99': torch" in said
    assert "CUDA GPUs on this machine" in said


@pytest.mark.slow
def test_robustness_takes_energy_devices_beside_one_place(trained: Path) -> None:
    words = ("robustness", trained / "net.net", "--device", "cpu", "--device")
    assert "unknown device 'abacus'" in text(*words, "abacus", status=3)
    said = text(*words, "cuda", status=2)
    assert "--device cpu --device cuda: it is computed in one place" in said


@pytest.mark.slow
def test_results_say_where(trained: Path) -> None:
    net = trained / "net.net"
    for words in (("evaluate", net), ("attack", net, "--attack-steps", 1, "--draws", 2)):
        assert ok(*words, "--samples", 4, "--device", "cpu")["device"] == "cpu"


@pytest.mark.parametrize("device", ["cuda:99", "mps", "abacus"])
def test_the_door_refuses_what_commands_refuse(
    chip: Deployed, digits: Dataset, device: str
) -> None:
    net = training.Classifier(training.suited(training.Settings.of(widths=(4,)), digits))
    calls: list[Callable[[], object]] = [
        lambda: spikeship.evaluate(chip, digits, 2, device=device),
        lambda: spikeship.attack(chip, digits, PGD(0.1, steps=1), samples=2, device=device),
        lambda: spikeship.attack(net, digits, PGD(0.1, steps=1), samples=2, device=device),
        lambda: spikeship.certify(chip, digits, samples=2, device=device),
        lambda: finetune(chip.network, digits, Tuning(epochs=1), device=device),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"device '{device}'"):
            call()
    assert {p.device.type for p in net.parameters()} == {"cpu"}


def test_a_victim_moves_with_all_it_has_and_back(
    chip: Deployed, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is not needed to see who is told to go where."""
    gpu, cpu, moved = torch.device("cuda", 0), torch.device("cpu"), []
    settings = training.suited(training.Settings.of(widths=(4,), learn_thresholds=True), digits)
    victims = (FloatVictim(training.Classifier(settings)), DeployedVictim(chip))
    monkeypatch.setattr("spikeship.pipeline.robustness.victims.device_of", lambda _: gpu)
    for kind in (training.Classifier, Twin):
        monkeypatch.setattr(kind, "to", lambda self, device: moved.append((self, device)))
    for victim, module in zip(victims, (victims[0].classifier, victims[1].twin), strict=True):
        assert victim.modules == (module,)
        with victim.on("cuda"):
            assert victim.device == gpu
        assert victim.device == cpu
        assert moved == [(module, gpu), (module, cpu)]
        moved.clear()


def test_on_a_gpu_the_integers_are_those_of_torch(
    chip: Deployed, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`device` chooses the simulator: on the CPU the engine, elsewhere torch, here by its CPU."""
    calls: list[dict[str, Any]] = []
    real = deploy_run.run

    def run(*args: Any, **options: Any) -> Any:
        calls.append({name: options[name] for name in ("backend", "device")})
        return real(*args, **options | ({"device": "cpu"} if options["device"] else {}))

    monkeypatch.setattr(deploy_run, "run", run)
    here, there = (
        spikeship.evaluate(chip, digits, 20, device=device) for device in ("cpu", "cuda:7")
    )
    assert np.array_equal(here.scores, there.scores)
    assert here.overflow == there.overflow
    assert calls[0] == {"backend": "engine", "device": None}
    assert calls[-1] == {"backend": "torch", "device": "cuda:7"}


# -- draws ---------------------------------------------------------------------------------------


class Drawn(Exception):
    pass


@pytest.mark.parametrize("name", ["rsc1", "rsc2", "poisson", "signed_poisson", "phase"])
def test_numbers_are_drawn_where_the_generator_is(
    name: CodingName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 on a GPU, in float64 on the CPU: seen by what torch is asked for."""
    coding = Coding.of(name, 4, 16, 0.2 if name in ("rsc1", "rsc2") else 0.0)
    images = torch.rand((2, 1, 4, 4), generator=generator(0))

    class OfGpu:
        device = torch.device("cuda", 0)

    asked: dict[str, Any] = {}

    def draw(*_: Any, **options: Any) -> Any:
        asked.update(options)
        raise Drawn

    for drawing, dtype in ((OfGpu(), torch.float32), (generator(0), torch.float64)):
        with monkeypatch.context() as patch:
            for function in ("rand", "randn", "randint"):
                patch.setattr(torch, function, draw)
            for form in (encoding.real, encoding.messages, encoding.unlimited):
                asked.clear()
                with pytest.raises(Drawn):
                    form(coding, images, drawing)  # type: ignore[arg-type]
                assert asked["device"] == drawing.device
                assert asked.get("dtype", dtype) == dtype


@pytest.mark.parametrize("name", ["direct", "rsc1"])
def test_what_is_the_same_in_every_step_is_held_once(name: CodingName) -> None:
    coding = Coding.of(name, 5, 16, 0.1 if name == "rsc1" else 0.0)
    images = torch.rand((3, 2, 4, 4), generator=generator(0)).requires_grad_()
    frames = encoding.real(coding, images, generator(1))
    messages = encoding.messages(coding, images, generator(1))
    assert frames.stride(0) == messages.stride(1) == 0
    frames.sum().backward()
    assert torch.equal(images.grad, torch.full_like(images, 5))  # type: ignore[arg-type]


# -- on a GPU ------------------------------------------------------------------------------------


@cuda
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attacks_on_cuda(chip: Deployed, digits: Dataset, name: str) -> None:
    """They repeat, stay in the ball, and are judged by the same draws."""
    split = digits.test.first(6)
    how = named(name, Strength(0.1, steps=2, eot=2, queries=20))
    victim = DeployedVictim(chip)
    with victim.on("cuda"):
        first, again = (attack(victim, how, split.images, split.labels, draws=3) for _ in "ab")
    clean = attack(victim, PGD(0.1, steps=1), split.images, split.labels, draws=3).clean
    assert torch.equal(first.adversarial, again.adversarial)
    assert first.adversarial.device.type == "cpu"
    assert np.array_equal(first.clean.votes, clean.votes)


@cuda
def test_certificates_are_the_same_on_cuda(chip: Deployed, digits: Dataset) -> None:
    split = digits.test.first(4)
    victim = DeployedVictim(chip)
    here = certify(victim, split.images, split.labels, n0=10, n=100)
    with victim.on("cuda"):
        there = certify(victim, split.images, split.labels, n0=10, n=100)
    assert here.certificates == there.certificates


@cuda
def test_the_command_line_on_cuda(trained: Path) -> None:
    net, few = trained / "net.net", ("--samples", 20)
    both = [ok("evaluate", net, *few, "--device", device) for device in ("cpu", "cuda")]
    assert both[0]["accuracy"] == both[1]["accuracy"]
    ok("attack", trained / "snn/best.ckpt", *few, "--attack-steps", 2, "--device", "cuda")
    ok("attack", trained / "ann/best.ckpt", *few, "--attack-steps", 2, "--device", "cuda:0")


@cuda
def test_fine_tuning_on_cuda(chip: Deployed, digits: Dataset) -> None:
    tuned = finetune(chip.network, digits, Tuning(epochs=1), device="cuda")
    assert tuned.after >= tuned.before
