"""What a training run keeps on disk: `best.ckpt`, its result, and `last.ckpt`, to go on from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..hw_targets.files import WriteError, to_disk
from .archive import ArchiveError, read_archive

MONITOR = "validation accuracy"
"""The metric whose highest epoch, the first of equal ones, is the best."""
_KINDS: dict[str, type | tuple[type, ...]] = {
    "epoch": int,
    "global_step": int,
    "score": (int, float),
    **dict.fromkeys(
        ("hyper_parameters", "state_dict", "optimizer", "schedule", "generators"), dict
    ),
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KEYS = {
    "epoch",
    "global_step",
    "hyper_parameters",
    "state_dict",
    "optimizer",
    "schedule",
    "score",
    "generators",
}


class Checkpoints(Callback):
    """Keeps a run such that, killed at any moment, it goes on to the very same weights.

    - `best.ckpt`: the weights of the best epoch so far.
    - `last.ckpt`: all that decides what comes next, written before every epoch and hence after the
      `best.ckpt` of the epoch before: weights, optimizer, schedule, the epoch to begin, the best score,
      and the states of `generators`, which every random number of the run comes from, with the type of
      the `device` that they are of.

    `last.ckpt` is there from before the first epoch until `finish`: a `best.ckpt` alone is finished.
    `last`: what `read_last` found there, to go on from. The epoch that was interrupted is done again.
    """

    def __init__(
        self,
        folder: Path,
        generators: Mapping[str, torch.Generator],
        last: dict[str, Any] | None = None,
    ) -> None:
        self.best, self.last = folder / "best.ckpt", folder / "last.ckpt"
        self.generators = generators
        self.resumed = last
        self.score = -math.inf if last is None else last["score"]
        self.steps = 0 if last is None else last["global_step"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.resumed is None:
            return
        with self._sound():
            module.load_state_dict(self.resumed["state_dict"])
            trainer.optimizers[0].load_state_dict(self.resumed["optimizer"])
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.resumed["schedule"])
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.ready = progress.started = self.resumed["epoch"]
        progress.processed = progress.completed = self.resumed["epoch"]

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """What does not fit the run, which its settings do, is damage."""
        try:
            yield
        except Exception as error:  # torch raises nearly every kind where a state is broken
            raise ValueError(
                f"{self.last}: damaged ({type(error).__name__}: {error}), so that the interrupted run "
                f"cannot go on. {anew(self.last)}"
            ) from None

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.resumed is not None:  # not earlier: to set up a loader takes random numbers too
            with self._sound():
                for name, generator in self.generators.items():
                    generator.set_state(self.resumed["generators"][name])
            self.resumed = None
            return
        content = self._content(trainer, module)
        content["optimizer"] = trainer.optimizers[0].state_dict()
        content["schedule"] = trainer.lr_scheduler_configs[0].scheduler.state_dict()
        content["generators"] = {name: g.get_state() for name, g in self.generators.items()}
        content["device"] = self.generators["draws"].device.type
        write(content, self.last)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        score = trainer.callback_metrics[MONITOR].item()
        if score > self.score:
            self.score = score
            write(self._content(trainer, module), self.best)

    def finish(self) -> Path:
        """The run is over; returns the file of its result."""
        self.last.unlink(missing_ok=True)
        return self.best

    def _content(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        return {
            "epoch": trainer.current_epoch,
            "global_step": self.steps + trainer.global_step,
            "score": self.score,
            "hyper_parameters": dict(module.hparams),
            "state_dict": module.state_dict(),
        }


def write(content: dict[str, Any], path: Path) -> None:
    """`torch.save`, to a file beside and then renamed: `path` is never half written.

    Raises WriteError where there is no room, or the folder may not be written.
    """
    temporary = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, temporary)
        to_disk(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer says neither which file nor why
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise WriteError(
            f"{path}: cannot be written ({why}). What was there before is as it was; make room, or "
            f"choose another folder."
        ) from error


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote; tensors on the CPU. Raises ArchiveError for anything else, see there."""
    content = read_archive(path)
    if not isinstance(content, dict):
        raise ArchiveError(f"it holds a {type(content).__name__}, not a dictionary")
    return content


def not_ours(path: Path, error: Exception) -> str:
    """What a file is that `train` did not write, and how it is given; `error`: what reading it raised."""
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return (
            "an HDF5 file, as .net and .nir are, not a checkpoint of `spikeship train`. A .net holds "
            "integers, ready to be inspected, verified, profiled and attacked; export takes what it was "
            "made of."
        )
    if path.suffix == ".py":
        return f"a Python file. Name its function that returns the network, {path}:build."
    try:
        weights = state_dict(read_archive(path))
    except (ArchiveError, OSError):
        return f"not a checkpoint of `spikeship train`: {error}."
    if weights is None:
        return "a file of torch, but not a checkpoint of `spikeship train`, nor a state dict."
    return (
        f"a state dict of {len(weights)} tensors, which does not say what network they are of. Write a "
        f"function that returns that network, give module:function in its place (such as mynet:build or "
        f"path/to/mynet.py:build), and this file beside it with checkpoint={path}."
    )


def state_dict(stored: Any) -> dict[str, torch.Tensor] | None:
    """The tensors by name in what torch stored: all of it, or the one part that is such; else None."""
    inner = stored.values() if isinstance(stored, Mapping) else ()
    dicts = [dict(value) for value in (stored, *inner) if _are_tensors(value)]
    return dicts[0] if len(dicts) == 1 else None


def _are_tensors(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(item, torch.Tensor) for item in value.values())


def read_last(path: Path) -> dict[str, Any]:
    """The content of a `last.ckpt`. Raises ValueError where no run can go on from it."""
    try:
        content = read(path)
        missing = _KEYS - content.keys()
    except Exception as error:
        raise ValueError(
            f"{path}: damaged ({error}), so that the interrupted run cannot go on. {anew(path)}"
        ) from None
    if missing:
        raise ValueError(
            f"{path}: an older version of spikeship wrote it, without {', '.join(sorted(missing))}: the "
            f"interrupted run would end with other weights than an uninterrupted one. {anew(path)}"
        )
    for name, kind in _KINDS.items():
        if not isinstance(content[name], kind):
            raise ValueError(
                f"{path}: damaged ({name} is {type(content[name]).__name__}), so that the interrupted "
                f"run cannot go on. {anew(path)}"
            )
    return content


def anew(last: Path) -> str:
    """What to do to train from the start in a folder whose `last.ckpt` is in the way."""
    return f"To train anew, delete {last} and the {last.with_name('best.ckpt').name} beside it."
