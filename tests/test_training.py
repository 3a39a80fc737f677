"""Networks, twins and the training loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeship.hw_targets.network.coding import Coding
from spikeship.models import networks, training
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.settings import Settings

QUICK = Settings.of(epochs=3, widths=(32,), steps=4)


@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("readout", ["spikes", "voltage"])
def test_the_twin_has_the_same_layers(model: str, readout: networks.Readout) -> None:
    """The spiking network has the ANN's weights and, for every ReLU, a LIF cell."""
    shape = (1, 28, 28)
    ann, snn = networks.ann(model, shape, 10), networks.snn(model, shape, 10, readout)
    weights = [tuple(p.shape) for p in ann.parameters()]
    assert [tuple(p.shape) for p in snn.parameters()] == weights
    relus = sum(isinstance(m, nn.ReLU) for m in ann)
    cells = sum(type(m).__name__ == "LIFBoxCell" for m in snn.body)
    assert cells == relus + (readout == "spikes")
    assert snn(torch.rand(3, 2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(("model", "shape", "macs"), [
    ("mlp", (1, 8, 8), 64 * 256 + 256 * 10),
    ("cnn", (1, 28, 28), 24 * 24 * 16 * 25 + 8 * 8 * 32 * 16 * 25 + 512 * 10),
    ("vgg", (3, 32, 32), 32**2 * 64 * 27 + 16**2 * 128 * 576 + 8**2 * 256 * (1152 + 2304)
     + 4**2 * 512 * (2304 + 4608) + 2**2 * 512 * 2 * 4608 + 512 * 10),
])  # fmt: skip
def test_macs(model: str, shape: tuple[int, ...], macs: int) -> None:
    assert networks.macs(networks.ann(model, shape, 10), shape) == macs


def test_unknown_model() -> None:
    with pytest.raises(ValueError, match="unknown model 'resnet'; choose from mlp, cnn, vgg"):
        networks.ann("resnet", (1, 8, 8), 10)


@pytest.mark.slow
def test_training_learns_and_repeats(digits: Dataset, tmp_path: Path) -> None:
    runs = [training.train(QUICK, digits, tmp_path / name, progress=False) for name in ("a", "b")]
    (first, path), (second, _) = runs
    assert path == tmp_path / "a" / "best.ckpt"
    assert not (tmp_path / "a" / "last.ckpt").exists()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.are_deterministic_algorithms_enabled()  # as before
    assert training.accuracy(first, digits.validation) > 0.6
    assert first.settings == replace(QUICK, shape=(1, 8, 8))


@pytest.mark.slow
def test_a_finished_run_is_loaded(digits: Dataset, tmp_path: Path) -> None:
    _, path = training.train(QUICK, digits, tmp_path, progress=False)
    before = path.stat().st_mtime_ns
    training.train(QUICK, digits, tmp_path, progress=False)
    assert path.stat().st_mtime_ns == before
    training.train(replace(QUICK, seed=1), digits, tmp_path, progress=False)
    assert path.stat().st_mtime_ns != before


def test_an_interrupted_run_goes_on(digits: Dataset, tmp_path: Path, monkeypatch) -> None:
    """Interrupted in its last epoch, a run does only that epoch again."""
    seen = []
    step = training.Classifier.training_step

    def interrupt(self, batch, index):
        seen.append(self.current_epoch)
        if len(seen) == 100:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(training.Classifier, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(QUICK, digits, tmp_path, progress=False)
    training.train(QUICK, digits, tmp_path, progress=False)
    assert seen[:99] == sorted(seen[:99])
    assert set(seen[100:]) == {2}


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_not_a_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ckpt: not a checkpoint of `spikeship train`"):
        training.load(path)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        training.load(tmp_path / "none.ckpt")


def test_settings_survive_the_checkpoint(digits: Dataset, tmp_path: Path) -> None:
    settings = QUICK.changed(epochs=1, coding="rsc2", sigma=0.3, readout="voltage", seed=4)
    settings = replace(settings, sparsity=0.01, sparsity_power=1, leak=0.9)
    _, path = training.train(settings, digits, tmp_path, progress=False)
    assert training.load(path).settings.options() == settings.options()


def test_old_checkpoints_load(tmp_path: Path) -> None:
    """What was written when there were Norse and cross-entropy alone."""
    options = replace(QUICK, seed=3).options()
    first = list(options)[: list(options).index("framework")]
    settings = {name: options[name] for name in first}
    weights = training.Classifier(Settings.of(**settings)).state_dict()
    path = tmp_path / "old.ckpt"
    torch.save({"hyper_parameters": {"settings": settings}, "state_dict": weights}, path)
    loaded = training.load(path)
    assert loaded.settings == replace(QUICK, seed=3)
    assert isinstance(loaded.net, networks.SpikingClassifier)


def test_unknown_framework() -> None:
    with pytest.raises(ValueError, match="framework 'nengo' is unknown; choose from norse, slayer"):
        Settings(framework="nengo")  # type: ignore[arg-type]


def test_events_need_no_coding(tmp_path: Path) -> None:
    """Two classes of moving bars are learnt from their events, by a spiking network and an ANN."""
    spikes = torch.zeros(60, 6, 2, 6, 6, dtype=torch.int8)
    labels = torch.arange(60) % 2
    for i, label in enumerate(labels):
        for t in range(6):
            spikes[i, t, label, [(t + i) % 6, (t + i + 2) % 6]] = 1
    split = Split(spikes, labels)
    data = Dataset("bars", split, split, split)
    for spiking in (True, False):
        settings = replace(QUICK, epochs=10, batch=10, spiking=spiking)
        network, path = training.train(settings, data, tmp_path / str(spiking), progress=False)
        found = training.load(path).settings
        assert (found.coding, found.shape) == (Coding("events", 6), (2, 6, 6))
        assert training.accuracy(network, data.test) > 0.9
