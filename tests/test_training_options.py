"""How the loss is minimized: optimizers, schedules, decay, augmentation, precision, device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as vision

import spikeship
from spikeship.models import training
from spikeship.models.activity import activity
from spikeship.models.augmentation import augmented
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.encoding import generator
from spikeship.models.settings import AUGMENTATIONS, USUAL_LATER, Settings

from cli import ok, text

QUICK = Settings.of(epochs=2, widths=(3, 4), steps=2, batch=25, model="cnn", attack_steps=2)


def few(splits: tuple[int, ...] = (60, 40, 20)) -> Dataset:
    draws = generator(0)
    labels = [torch.randint(3, (n,), generator=draws).clamp(max=2) for n in splits]
    labels[0][0] = 2
    images = [torch.rand((len(y), 1, 8, 8), generator=draws) for y in labels]
    return Dataset("noise", *map(Split, images, labels))


def train(folder: Path, device: str = "cpu", **options: Any) -> training.Classifier:
    settings = QUICK.changed(**options)
    return training.train(settings, few(), folder, progress=False, device=device)[0]


# -- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "says"), [
    ({"optimizer": "lion"}, "optimizer 'lion' is unknown; choose from adam, sgd"),
    ({"schedule": "step"}, "schedule 'step' is unknown; choose from cosine, constant"),
    ({"precision": "float16"}, "precision 'float16' is unknown; choose from float32, bfloat16"),
    ({"augmentation": "mixup"}, "augmentation 'mixup' is unknown; choose from none, crop, flip"),
    ({"momentum": 0.9}, "momentum goes with optimizer = sgd; Adam has its own"),
    ({"optimizer": "sgd", "momentum": 1.0}, "momentum = 1.0; from 0 up to, not including, 1"),
    ({"weight_decay": -1.0}, "weight_decay = -1.0; a weight is 0 or more"),
    ({"augmentation": "flip", "coding": "events", "sigma": 0.0}, "augmentation = flip: only images"),
    ({"augmentation": "crop", "shape": (64,), "model": "mlp"}, "augmentation = crop: only images"),
    ({"augmentation": "crop", "regression": True, "readout": "voltage"}, "only images"),
    ({"precision": "bfloat16", "framework": "slayer"}, "SLAYER computes in float32 alone"),
    ({"precision": "bfloat16", "noise_periods": 2}, r"noise_periods \(HIRE\) computes in float32"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        QUICK.changed(**fields)


def test_usual_settings_do_not_tell_of_later_options() -> None:
    """Digests of float networks are made of what they tell."""
    assert not USUAL_LATER.keys() & QUICK.options().keys()
    told = QUICK.changed(optimizer="sgd", weight_decay=1e-4, precision="bfloat16").options()
    assert told["momentum"] == 0.9
    assert Settings.of(**told).options() == told
    defaults = Settings()
    assert {name: getattr(defaults, name) for name in USUAL_LATER} == USUAL_LATER


# -- one update ----------------------------------------------------------------------------------


SGD = {"optimizer": "sgd", "momentum": 0.0}


@pytest.mark.parametrize(("options", "of_weights", "of_others"), [
    ({}, lambda w, g: w - 0.01 * g.sign(), lambda w, g: w - 0.01 * g.sign()),
    ({"weight_decay": 0.1}, lambda w, g: w * 0.999 - 0.01 * g.sign(), lambda w, g: w - 0.01 * g.sign()),
    (SGD, lambda w, g: w - 0.01 * g, lambda w, g: w - 0.01 * g),
    ({**SGD, "weight_decay": 0.1}, lambda w, g: w - 0.01 * (g + 0.1 * w), lambda w, g: w - 0.01 * g),
])  # fmt: skip
def test_the_first_update_is_the_formula(
    options: dict[str, Any], of_weights: Any, of_others: Any
) -> None:
    """Adam's first step is the sign of the gradient; biases, norms and thresholds do not decay."""
    settings = QUICK.changed(**options, learn_thresholds=True, learning_rate=0.01)
    net = training.Classifier(settings).net
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.full_like(p, 3.0)
    training._optimizer(settings, net).step()
    for p, old in zip(net.parameters(), before, strict=True):
        rule = of_weights if p.ndim > 1 else of_others
        torch.testing.assert_close(p.detach(), rule(old, torch.full_like(old, 3.0)))


def test_momentum_and_schedule(tmp_path: Path) -> None:
    settings = QUICK.changed(optimizer="sgd", momentum=0.7, schedule="constant", epochs=7)
    made = training.Classifier(settings).configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]
    assert optimizer.param_groups[0]["momentum"] == 0.7
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [settings.learning_rate] * 7


# -- augmentation --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 8), (2, 5, 7)])
def test_every_image_is_a_crop_that_torchvision_makes(shape: tuple[int, ...]) -> None:
    images = torch.rand((200, *shape), generator=generator(1)) + 0.1
    height, width = shape[1:]
    border = max(1, min(height, width) // 8)
    padded = vision.pad(images, [border])
    places = [
        vision.crop(padded, top, left, height, width)
        for top in range(2 * border + 1)
        for left in range(2 * border + 1)
    ]
    moved = augmented(images, "crop", generator(2))
    same = torch.stack([(moved == place).flatten(1).all(1) for place in places])
    assert same.any(0).all()
    counts = same.sum(1)
    assert (counts > 0).float().mean() > 0.8  # places are all drawn, each sample its own
    flipped = augmented(images, "flip", generator(2))
    mirror = (flipped == vision.horizontal_flip(images)).flatten(1).all(1)
    assert (mirror | (flipped == images).flatten(1).all(1)).all()
    assert 0.3 < mirror.float().mean() < 0.7


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_is_repeatable_and_in_training_alone(kind: Any) -> None:
    images = torch.rand((9, 1, 8, 8), generator=generator(1))
    first, again = (augmented(images, kind, generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, images) == (kind == "none")
    net = training.Classifier(QUICK.changed(augmentation=kind, coding="direct", sigma=0.0)).eval()
    plain = training.Classifier(QUICK.changed(coding="direct", sigma=0.0)).eval()
    plain.load_state_dict(net.state_dict())
    assert torch.equal(net.logits(images, generator(0)), plain.logits(images, generator(0)))


# -- precision -----------------------------------------------------------------------------------


def test_products_are_bfloat16_and_membranes_float32() -> None:
    net = training.Classifier(QUICK.changed(model="vgg", widths=(4, 4))).net.train()
    seen: dict[str, set[torch.dtype]] = {"weights": set(), "rest": set()}

    def hook(module: nn.Module, inputs: Any, out: torch.Tensor) -> None:
        multiplies = isinstance(module, nn.Linear | nn.Conv2d)
        seen["weights" if multiplies else "rest"].add(out.dtype)

    for module in net.modules():
        if type(module).__module__.startswith("torch.nn"):
            module.register_forward_hook(hook)
    frames = torch.rand((2, 5, 1, 8, 8), generator=generator(0), requires_grad=True)
    out = activity(net, frames, products=torch.bfloat16)  # type: ignore[arg-type]
    assert seen == {"weights": {torch.bfloat16}, "rest": {torch.float32}}
    assert {x.dtype for x in (*out.currents, *out.spikes, out.logits)} == {torch.float32}
    out.logits.sum().backward()  # type: ignore[no-untyped-call]
    assert {p.grad.dtype for p in net.parameters() if p.grad is not None} == {torch.float32}
    assert frames.grad is not None
    close = activity(net, frames).currents[0]  # type: ignore[arg-type]
    torch.testing.assert_close(out.currents[0], close, rtol=0.02, atol=0.02)
    assert not torch.equal(out.currents[0], close)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ce", "at"])
def test_bfloat16_is_of_training_alone(objective: str, tmp_path: Path) -> None:
    """What is loaded answers in float32, and says how it was trained."""
    both = {
        p: train(tmp_path / p, objective=objective, precision=p) for p in ("float32", "bfloat16")
    }
    rough = both["bfloat16"]
    assert rough.products == torch.float32
    assert rough.settings.precision == "bfloat16"
    assert training.digest(rough.net) != training.digest(both["float32"].net)
    assert all(p.dtype == torch.float32 for p in rough.parameters())


# -- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "says"), [
    ("gpu", "device 'gpu' is no device of torch; use cpu or cuda"),
    ("mps", r"device 'mps': only cpu and cuda are known .* \(MPS has no float64\)"),
    ("cuda:99", r"device 'cuda:99': torch .* sees \d CUDA GPUs on this machine.*; use .*cpu"),
])  # fmt: skip
def test_a_device_that_is_not_there(device: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        train(tmp_path, device=device)
    with pytest.raises(ValueError, match=says):
        spikeship.train(few(), tmp_path, device=device, epochs=1)
    assert f"device '{device}'" in text("train", "--out", tmp_path, "--device", device, status=3)
    assert not any(tmp_path.iterdir())


def test_cuda_without_a_gpu_is_refused_by_what_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for count, use in ((0, "cpu"), (2, r"cuda:0 \(H100\) or cuda:1 \(H100\) or cpu")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
        with pytest.raises(
            ValueError, match=f"sees {count} CUDA GPUs on this machine.*; use {use}"
        ):
            train(tmp_path, device="cuda:5")


def test_a_run_goes_on_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The random numbers of a CPU cannot be gone on with by a GPU."""

    def dies(self: training.Classifier, *_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Classifier, "on_validation_epoch_start", dies)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        says = r"began on cpu, whose random numbers cuda cannot go on .*device='cpu'"
        with pytest.raises(ValueError, match=says):
            train(tmp_path, device="cuda")
    train(tmp_path, device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")
@pytest.mark.parametrize("options", [
    {}, {"objective": "trades", "attack": "rfgsm", "precision": "bfloat16"},
    {"coding": "rsc2", "optimizer": "sgd", "weight_decay": 1e-4, "augmentation": "crop-flip"},
    {"coding": "phase", "sigma": 0.0, "learn_thresholds": True}, {"noise_periods": 2}, {"spiking": False},
    {"coding": "poisson", "sigma": 0.0, "objective": "at"}, {"sparsity": 0.01, "readout": "voltage"},
])  # fmt: skip
def test_cuda(options: dict[str, Any], tmp_path: Path) -> None:
    first, again = (train(tmp_path / name, "cuda", **options) for name in ("a", "b"))
    assert training.digest(first.net) == training.digest(again.net)
    assert {p.device.type for p in first.parameters()} == {"cpu"}


def test_on_the_command_line(tmp_path: Path) -> None:
    words = ("--epochs", 1, "--steps", 2, "--batch", 400, "--optimizer", "sgd", "--momentum", 0.5)
    more = ("--weight-decay", 1e-4, "--augmentation", "flip", "--precision", "bfloat16")
    told = ok("train", "--out", tmp_path, *words, *more, "--device", "cpu")["settings"]
    expected = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 1e-4, "augmentation": "flip"}
    assert {**told, **expected, "precision": "bfloat16"} == told
