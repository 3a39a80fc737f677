"""Killed at any moment and started again, training ends with the very weights of a run that was not."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeship.models import checkpoints, training
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.settings import Settings

EPOCHS = 3
QUICK = Settings.of(
    epochs=EPOCHS, widths=(24,), steps=4, batch=25, attack_steps=2, learning_rate=0.1
)
CNN: dict[str, Any] = {"model": "cnn", "widths": (3, 4)}
DIRECT: dict[str, Any] = {"coding": "direct", "sigma": 0.0}


class KilledError(BaseException):
    """In place of SIGKILL: nothing catches it to put something right."""


def few(events: bool = False) -> Dataset:
    """Bars at four places, learnt within a few epochs; four batches an epoch, the last one smaller."""
    draws = torch.Generator().manual_seed(0)
    splits = []
    for count in (90, 60, 20):
        labels = torch.randint(4, (count,), generator=draws)
        labels[0] = 3  # the largest decides how many classes there are
        images = torch.rand((count, 1, 8, 8), generator=draws) * 0.6
        images[range(count), 0, labels, :] += 0.4
        if events:
            images = (torch.rand((count, 4, 1, 8, 8), generator=draws) < images[:, None]).to(
                torch.int8
            )
        splits.append(Split(images, labels))
    return Dataset("bars", *splits)


DATA = few()


def train(settings: Settings, folder: Path, data: Dataset = DATA, **options: Any) -> dict[str, Any]:
    """What `best.ckpt` says in the end, which is all that is in the folder then."""
    _, path = training.train(settings, data, folder, progress=False, **options)
    assert [file.name for file in folder.iterdir()] == [path.name] == ["best.ckpt"]
    return checkpoints.read(path)


def assert_same(found: Any, expected: Any) -> None:
    """Bit for bit, with the same epoch as the best."""
    assert found.keys() == expected.keys()
    for name in expected.keys() - {"state_dict"}:
        assert found[name] == expected[name], name
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, weights in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], weights), name


# Every setting, at every boundary between epochs


@dataclass(frozen=True)
class Case:
    fields: dict[str, Any]
    teacher: dict[str, Any] | None = None
    start: bool = False
    events: bool = False


CASES = {
    "direct": Case(DIRECT),
    "rsc1": Case({}),
    "rsc2, voltage": Case({"coding": "rsc2", "sigma": 0.3, "readout": "voltage"}),
    "poisson": Case({"coding": "poisson", "sigma": 0.0}),
    "phase": Case({"coding": "phase", "sigma": 0.0, "offsets": 2}),
    "events": Case({}, events=True),
    "cnn": Case(CNN),
    "cnn, at": Case({**CNN, "objective": "at"}),
    "vgg": Case({"model": "vgg", "widths": (3, 4)}),
    "at, direct": Case({**DIRECT, "objective": "at"}),
    "trades": Case({"objective": "trades", "attack": "rfgsm"}),
    "mart": Case({"objective": "mart"}),
    "sparsity": Case({"sparsity": 0.01}),
    "rate": Case({"rate_penalty": 0.1}),
    "hire": Case({"noise_periods": 2}),
    "thresholds": Case({"learn_thresholds": True, "leak": 0.8}),
    "taught by an ANN": Case({"distillation": 1.0, "presynaptic": 0.1}, {"spiking": False}),
    "taught by noise": Case({"distillation": 1.0}, {"coding": "rsc2", "sigma": 0.3}),
    "from a start": Case({}, start=True),
    "sgd": Case({"optimizer": "sgd", "weight_decay": 1e-3, "schedule": "constant"}),
    "augmented": Case({**CNN, "augmentation": "crop-flip", "weight_decay": 1e-3}),
    "bfloat16, at": Case({"precision": "bfloat16", "objective": "at"}),
    "ANN": Case({"spiking": False}),
    "ANN, cnn, at": Case({**CNN, "spiking": False, "objective": "at"}),
    "slayer": Case({"framework": "slayer"}),
    "slayer, at": Case({"framework": "slayer", "objective": "at"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.lava] if "slayer" in name else []) for name in CASES
])  # fmt: skip
def test_killed_before_every_epoch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, options = CASES[name], {}
    data = few(events=True) if case.events else DATA
    once, fields = replace(QUICK, epochs=1), case.fields
    if case.teacher is not None:
        train(once.changed(**case.teacher), tmp_path / "teacher")
        fields = {**fields, "teacher": str(tmp_path / "teacher/best.ckpt")}
    settings = QUICK.changed(**fields)
    if case.start:
        train(once, tmp_path / "start")
        options["start"] = training.load(tmp_path / "start/best.ckpt")
    whole = train(settings, tmp_path / "whole", data, **options)

    started = []

    def dies(self: training.Classifier) -> None:
        started.append(self.current_epoch)
        if len(started) % 2:  # the first epoch that a process begins is done, the next is not
            return
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training.Classifier, "on_train_epoch_start", dies)
        for _ in range(EPOCHS - 1):
            with pytest.raises(KilledError):
                train(settings, tmp_path / "killed", data, **options)
        killed = train(settings, tmp_path / "killed", data, **options)
    assert started == [0, 1, 1, 2, 2]
    assert_same(killed, whole)


# Every moment of one run


def moments(monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], None]) -> None:
    """Calls `happens` amid every epoch, before, while and after a file is written, and in the end."""
    step, save = training.Classifier.training_step, torch.save
    write, finish = checkpoints.write, checkpoints.Checkpoints.finish

    def stepping(self: training.Classifier, batch: Any, index: int) -> Any:
        if index == 1:
            happens("batch")
        return step(self, batch, index)

    def halving(content: Any, path: Path) -> None:
        save(content, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        happens(f"half of {path.name}")
        path.write_bytes(whole)

    def writing(content: Any, path: Path) -> None:
        happens(f"before {path.name}")
        write(content, path)
        happens(f"after {path.name}")

    def finishing(self: checkpoints.Checkpoints) -> Path:
        happens("before the end")
        path = finish(self)
        happens("after the end")
        return path

    monkeypatch.setattr(training.Classifier, "training_step", stepping)
    monkeypatch.setattr(torch, "save", halving)
    monkeypatch.setattr(checkpoints, "write", writing)
    monkeypatch.setattr(checkpoints.Checkpoints, "finish", finishing)


@pytest.mark.slow
def test_killed_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between best.ckpt and last.ckpt and while they are written, too."""
    settings = QUICK.changed(**DIRECT)
    whole = train(settings, tmp_path / "whole")
    seen: list[str] = []
    with monkeypatch.context() as patch:
        moments(patch, seen.append)
        train(settings, tmp_path / "seen")
    assert seen.count("batch") == EPOCHS
    assert seen.count("half of last.ckpt.partial") == EPOCHS
    assert seen.count("after best.ckpt") >= 2, "a run whose best epoch is its first shows little"
    for moment in range(len(seen)):
        folder, passed = tmp_path / str(moment), []

        def dies(name: str, passed: list[str] = passed, moment: int = moment) -> None:
            passed.append(name)
            if len(passed) == moment + 1:
                raise KilledError

        with monkeypatch.context() as patch:
            moments(patch, dies)
            with pytest.raises(KilledError):
                train(settings, folder)
        assert passed == seen[: moment + 1]
        assert_same(train(settings, folder), whole)


RUN = """
import signal, sys, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs with &
warnings.simplefilter("ignore")
from pathlib import Path
from test_resume import DATA, KILLED
from spikeship.models import training
print("ready", flush=True)
training.train(KILLED, DATA, Path(sys.argv[1]), progress=False)
"""
KILLED = QUICK.changed(epochs=12, objective="at", coding="rsc2", sigma=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=lambda sent: sent.name)
def test_killed_for_real(tmp_path: Path, sent: signal.Signals) -> None:
    """At random moments, four times in one run."""
    whole = train(KILLED, tmp_path / "whole")
    chance, killed = random.Random(0), 0
    for _ in range(4):
        run = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "killed")],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent,
        )  # fmt: skip
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        with suppress(subprocess.TimeoutExpired):
            run.wait(chance.uniform(0.1, 0.8))
        run.send_signal(sent)
        run.communicate()
        killed += run.returncode != 0
    assert killed > 1
    assert_same(train(KILLED, tmp_path / "killed"), whole)


# What no run can go on from


def interrupted(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A folder with a run that stopped before its last epoch; what its last.ckpt holds."""

    def dies(self: training.Classifier) -> None:
        if self.current_epoch == EPOCHS - 1:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training.Classifier, "on_train_epoch_start", dies)
        with pytest.raises(KilledError):
            train(settings, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    return checkpoints.read(folder / "last.ckpt")


def flipped(path: Path) -> None:
    """One bit of a weight."""
    raw = bytearray(path.read_bytes())
    weights = checkpoints.read(path)["state_dict"]["net.body.1.weight"].numpy().tobytes()
    raw[raw.index(weights) + 8] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda f: (f / "last.ckpt").write_bytes(b""), r"last\.ckpt: damaged"),
    (lambda f: (f / "last.ckpt").write_bytes((f / "last.ckpt").read_bytes()[:-1000]), "damaged"),
    (lambda f: flipped(f / "last.ckpt"), r"damaged \(the checksum of .* is wrong: it is damaged\), so that the interrupted run"),
    (lambda f: (f / "best.ckpt").unlink(), r"the best\.ckpt of the interrupted run is missing"),
    (lambda f: flipped(f / "best.ckpt"), "missing, or is another's"),
], ids=["empty", "cut", "flipped", "no best", "best flipped"])  # fmt: skip
def test_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], says: str
) -> None:
    settings = QUICK.changed(**DIRECT)
    interrupted(tmp_path, settings, monkeypatch)
    spoil(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=says) as raised:
        train(settings, tmp_path)
    assert f"delete {tmp_path / 'last.ckpt'} and the best.ckpt beside it" in str(raised.value)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}


def test_an_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose last.ckpt has no random numbers, schedule or score."""
    last = interrupted(tmp_path, QUICK, monkeypatch)
    for name in ("generators", "schedule", "score"):
        del last[name]
    torch.save(last, tmp_path / "last.ckpt")
    says = "an older version of spikeship wrote it, without generators, schedule, score: the interr"
    with pytest.raises(ValueError, match=says):
        train(QUICK, tmp_path)


@pytest.mark.parametrize(("change", "says"), [
    ({"seed": 1, "epochs": 9}, "epochs 3, not 9; seed 0, not 1"),
    ({"objective": "at"}, "objective 'ce', not 'at'"),
])  # fmt: skip
def test_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    """They neither go on with the interrupted run nor overwrite it."""
    whole = train(QUICK, tmp_path / "whole")
    interrupted(tmp_path / "killed", QUICK, monkeypatch)
    message = rf"a run with other settings was interrupted here \({re.escape(says)}\)"
    with pytest.raises(ValueError, match=message):
        train(QUICK.changed(**change), tmp_path / "killed")
    assert_same(train(QUICK, tmp_path / "killed"), whole)


def test_what_an_older_version_finished(tmp_path: Path) -> None:
    """A best.ckpt without last.ckpt is finished, whatever else it holds."""
    best = train(QUICK, tmp_path)
    best.pop("score")
    torch.save({**best, "callbacks": {}}, tmp_path / "best.ckpt")
    before = (tmp_path / "best.ckpt").read_bytes()
    train(QUICK, tmp_path)
    assert (tmp_path / "best.ckpt").read_bytes() == before


def test_a_moved_folder_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(QUICK, tmp_path / "whole")
    interrupted(tmp_path / "here", QUICK, monkeypatch)
    (tmp_path / "here").rename(tmp_path / "there")
    assert_same(train(QUICK, tmp_path / "there"), whole)
