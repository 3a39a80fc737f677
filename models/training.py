"""Training with Lightning: one loop for spiking networks and their ANN twins."""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from ..hw_targets.files import claimed
from ..hw_targets.network.coding import Coding
from ..hw_targets.simulate.torch_engine.device import device_of
from . import encoding, hire, networks, objectives, slayer
from .activity import Activity, activity
from .augmentation import augmented
from .checkpoints import MONITOR, Checkpoints, anew, not_ours, read, read_last, write
from .data.dataset import Dataset, Split
from .data.grid import grid, has_own_grid
from .data.load import DATASETS
from .data.load import load as load_data
from .encoding import generator
from .quality import Quality
from .settings import LOGIT_SCALE, OWN_MODEL, Settings

ROBUST_STEPS = 10
"""PGD steps against which the best epoch of an adversarially trained network is chosen."""


class Classifier(lightning.LightningModule):
    """A network with its input coding, trained as `Settings` say.

    `objective` is what is minimized instead of cross-entropy alone; None in a network that was loaded.
    `products`: what weights are multiplied in, float32 but while a network is trained in another
    precision. Whatever the objective is, batch norms in training see one time step after the other
    (`SpikingClassifier`).
    """

    objective: objectives.Objective | None = None
    products: torch.dtype = torch.float32

    def __init__(self, settings: Settings, net: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters({"settings": settings.options()})
        self.settings = s = settings
        self.net = _network(s) if net is None else net
        own = net is not None and s.readout == "voltage"  # in the units of its own softmax
        plain = s.regression or own
        self.scale = 1.0 if plain else LOGIT_SCALE[s.readout if s.spiking else "ann"]
        self.draws = generator(s.seed)
        self.automatic_optimization = s.noise_periods == 1

    @property
    def spiking(self) -> bool:
        """Whether it is no ANN."""
        return self.settings.spiking

    @property
    def seed(self) -> int:
        return self.settings.seed

    def with_net(self, layers: Sequence[nn.Module]) -> Classifier:
        """An ANN of the same settings with other layers."""
        result = Classifier(self.settings)
        result.net = nn.Sequential(*layers)
        return result.eval()

    def __repr__(self) -> str:
        s = self.settings
        kind = f"{s.model} of {s.framework}" if s.spiking else f"{s.model}, an ANN,"
        c = s.coding
        noise = f" (sigma {c.sigma:g})" if c.sigma else ""
        how = f", coding {c.name}{noise}, {c.steps} steps" if s.spiking else ""
        return f"{kind} on {s.dataset}{how}, seed {s.seed}"

    def logits(self, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Logits (sample, classes) of images (sample, C, H, W), encoded with fresh draws."""
        inputs = self.encode(images, draws)
        if self.products != torch.float32:
            return activity(self.net, inputs, products=self.products).logits
        return self.net(inputs)  # type: ignore[no-any-return]

    def encode(self, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """What the network is fed: frames (steps, sample, *shape), of an ANN the images.

        Where the coding is events, an ANN sees how often each pixel has one, (sample, *shape); where the
        data are sequences, all their steps at once.
        """
        if self.settings.spiking:
            return encoding.real(self.settings.coding, images, draws)
        return images.float().mean(1) if self.settings.coding.name == "events" else images

    def run(self, inputs: torch.Tensor) -> Activity:
        """Activity of the network on what `encode` gives; logits (sample, classes) for the softmax.

        Faster than `logits`, whose values it has up to the rounding of float32 sums.
        """
        if isinstance(self.net, slayer.SlayerClassifier):
            spikes = tuple(layer.transpose(0, 1) for layer in self.net.spikes(inputs))
            result = Activity(spikes[-1].sum(0), (), spikes)
        else:
            result = activity(self.net, inputs, products=self.products)
        return replace(result, logits=self.scale * result.logits)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        images, labels = batch
        images = augmented(images, self.settings.augmentation, self.draws)
        if self.settings.noise_periods > 1:
            return self._hire_step(images, labels)
        if self.objective is not None:
            done = self.current_epoch / self.settings.epochs
            return self.objective(objectives.Batch(self, images, labels, self.draws, done))
        logits = self.scale * self.logits(images, self.draws)
        return objectives.loss(logits, labels)

    def _hire_step(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        optimizer: Any = self.optimizers()
        assert isinstance(self.net, networks.SpikingClassifier)

        def update(loss: torch.Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

        return hire.periods(
            self.net,
            self.settings.coding,
            self.scale,
            images,
            labels,
            self.draws,
            number=self.settings.noise_periods,
            epsilon=self.settings.epsilon,
            update=update,
        )

    def on_train_batch_end(self, *_: Any) -> None:
        networks.clamp_thresholds(self.net)

    def on_train_epoch_end(self) -> None:
        if not self.automatic_optimization:
            schedule: Any = self.lr_schedulers()
            schedule.step()

    def on_validation_epoch_start(self) -> None:
        self._validation_draws = generator(self.settings.seed + 1, self.draws.device)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        images, labels = batch
        if self.settings.adversarial:
            craft = objectives.Crafting("pgd", self.settings.epsilon, ROBUST_STEPS)
            images = craft(objectives.Batch(self, images, labels, self._validation_draws))
        logits = self.logits(images, self._validation_draws)
        if self.settings.regression:
            error = nn.functional.mse_loss(logits, labels)
            self.log("validation squared error", error, prog_bar=True, batch_size=len(labels))
            self.log(MONITOR, -error, batch_size=len(labels))  # the largest is the best
            return
        right = (logits.argmax(1) == labels).float().mean()
        self.log(MONITOR, right, prog_bar=True, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optimizer = _optimizer(self.settings, self.net)
        schedule: Any
        if self.settings.schedule == "constant":
            schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        else:
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.settings.epochs)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def _optimizer(s: Settings, net: nn.Module) -> torch.optim.Optimizer:
    """What `Settings` say of a network's parameters; weights alone, of more than one axis, decay."""
    groups: Any = net.parameters()
    if s.weight_decay:
        decays = {True: s.weight_decay, False: 0.0}
        groups = [
            {
                "params": [p for p in net.parameters() if (p.ndim > 1) == weights],
                "weight_decay": decay,
            }
            for weights, decay in decays.items()
        ]
    if s.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=s.learning_rate, momentum=s.momentum or 0.0)
    return (torch.optim.AdamW if s.weight_decay else torch.optim.Adam)(groups, lr=s.learning_rate)


def _network(s: Settings) -> nn.Module:
    if not s.spiking:
        whole = s.coding.name == "sequence"  # it sees all steps at once
        shape = (s.coding.steps, *s.shape) if whole else s.shape
        return networks.ann(s.model, shape, s.classes, s.widths)
    if s.framework == "slayer":
        return slayer.snn(s.model, s.shape, s.classes, s.coding.levels, s.readout, s.widths)
    return networks.snn(
        s.model,
        s.shape,
        s.classes,
        s.readout,
        s.widths,
        leak=s.leak,
        learn_thresholds=s.learn_thresholds,
    )


def objective(s: Settings, teacher: Classifier | None = None) -> objectives.Objective | None:
    """What `Settings` says is minimized; None for plain cross-entropy."""
    terms: list[tuple[float, objectives.Objective]] = [(1.0, objectives.cross_entropy)]
    craft = objectives.Crafting(s.attack, s.epsilon, s.attack_steps)
    if s.objective == "trades":
        terms = [(1.0, objectives.Trades(craft, s.beta))]
    elif s.objective == "mart":
        terms = [(1.0, objectives.Mart(craft, s.beta))]
    if s.sparsity:
        terms.append((s.sparsity, objectives.Sparsity(s.sparsity_power, s.sparsity_step)))
    if s.rate_penalty:
        terms.append((s.rate_penalty, objectives.rate))
    if teacher is not None:
        weights = (s.distillation, s.presynaptic, s.temperature)
        terms.append((1.0, objectives.Distillation(_taught(teacher), *weights)))
    if not (s.adversarial or len(terms) > 1):
        return None
    whole = objectives.Sum(tuple(terms))
    return objectives.Adversarial(craft, whole) if s.objective == "at" else whole


def _taught(teacher: Classifier) -> Callable[[torch.Tensor], Activity]:
    return lambda images: teacher.run(teacher.encode(images, teacher.draws))


def digest(module: nn.Module) -> str:
    """SHA-256 of a module's weights, by name."""
    sha = sha256()
    for name, weights in module.state_dict().items():
        sha.update(name.encode() + weights.detach().cpu().numpy().tobytes())
    return sha.hexdigest()


def data_of(settings: Settings, data: Any = None, data_root: str | Path | None = None) -> Dataset:
    """The data that a network was trained on, or the same from elsewhere: whatever `load` takes.

    Raises ValueError where these are others, by their name or, of one's own, by their digest.
    """
    other = (
        f"this network was trained on {settings.dataset}, not on {{}}: give the data that it knows."
    )
    if isinstance(data, str) and data in DATASETS and data != settings.dataset:
        raise ValueError(other.format(data))
    dataset = load_data(
        settings.dataset if data is None else data, data_root, settings.coding.steps
    )
    if settings.data_digest:
        if dataset.digest != settings.data_digest:
            raise ValueError(other.format(f"what {dataset.name} holds now"))
    elif (dataset.built_in or dataset.name) != settings.dataset:
        raise ValueError(other.format(dataset.name))
    return dataset


def chosen(data: Dataset, typed: Mapping[str, Any]) -> Settings:
    """Settings from the options that were `typed`, see `Settings.of`, and what the data say of others.

    One's own images are rounded to a grid that suits them, see `data.grid`, in place of the usual 16
    grey levels; regression is read from voltages. Raises ValueError for a coding of data that have time.
    """
    options = dict(typed)
    if data.steps is not None and "coding" in options:
        raise ValueError(
            f"{data.name} is {data.kind}, which are not coded again: leave out coding (--coding)."
        )
    if data.steps is not None and options.get("steps", data.steps) != data.steps:
        raise ValueError(
            f"steps = {options['steps']}, but {data.name} has {data.steps} of its own: leave it out."
        )
    if data.steps is None and "levels" not in options and has_own_grid(data):
        options["levels"] = grid(data).levels
    if data.regression and "readout" not in options:
        options["readout"] = "voltage"
    if data.kind == "sequences":
        options |= {"coding": "sequence", "sigma": 0.0, "steps": data.steps}
        options.setdefault("levels", grid(data).levels)
    return suited(Settings.of(**options), data)


def suited(settings: Settings, data: Dataset) -> Settings:
    """The settings with what the data decide: name, shape, answers, range; where they have time, the
    coding."""
    peak = 1.0
    if data.kind != "events" and has_own_grid(data):
        peak = max(1.0, grid(data, 1).peak)
    c = settings.coding
    if data.kind == "events":
        coding = Coding.of("events", data.steps or 1, 1)
    elif data.kind == "sequences":
        levels = c.grid if c.name == "sequence" else grid(data).levels
        coding = Coding.of("sequence", data.steps or 1, levels, peak=peak)
    else:
        extent: dict[str, Any] = {"offsets": c.offsets, "template": c.template, "peak": peak}
        coding = Coding.of(c.name, c.steps, c.grid, c.sigma, **extent)
    return replace(
        settings,
        dataset=data.name,
        shape=data.shape,
        classes=data.classes,
        coding=coding,
        data_digest=data.digest,
        peak=peak,
        regression=data.regression,
    )


def train(
    settings: Settings,
    data: Dataset,
    folder: str | Path,
    *,
    start: nn.Module | None = None,
    net: nn.Module | None = None,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> tuple[Classifier, Path]:
    """Train; returns the network of the epoch that is best on the validation split, and its file.

    Where adversarial images are trained on, best is the accuracy under PGD of `ROBUST_STEPS` steps
    within the same epsilon. `start`: a Classifier (or network) whose weights to start from; `net`: a
    spiking network of other layers than the settings name, of which a copy is trained.
    `device`: where it is trained, "cpu", "cuda", "cuda:1", ...: the network, its teacher, the images
    and what is drawn; the network that is returned is on the CPU. Same settings, same device, machine,
    threads and versions: same weights. A run that was interrupted in `folder`, at whatever moment,
    begins its last epoch again and ends with these very weights; a finished one with the same settings,
    teacher and start is loaded, wherever it was trained (models/checkpoints.py).
    Raises NetworkError for a device that is not there; WriteError where another process trains in
    `folder`, or nothing can be written there; ValueError where teacher or start do not fit, where images
    beyond 0 .. 1 would have to be moved, and where an interrupted run cannot go on or has other settings.
    """
    settings, where = suited(settings, data), device_of(device)
    if where.type != "cpu" and settings.spiking and settings.framework == "slayer":
        raise ValueError(f"device '{where}': SLAYER networks are trained on the CPU; use cpu.")
    if settings.adversarial or settings.noise_periods > 1:
        _check_range(data)
    teacher = _teacher(settings, where) if settings.teacher else None
    begin = net or (start.net if isinstance(start, Classifier) else start)
    settings = replace(
        settings,
        teacher_digest="" if teacher is None else digest(teacher.net),
        start_digest="" if begin is None else digest(begin),
    )
    folder = Path(folder)
    with claimed(folder, folder=True):
        last, done = _interrupted(folder, settings, where, net), folder / "best.ckpt"
        if last is None and _same(done, settings, net):
            return load(done, net), done
        path = _run(settings, data, folder, last, begin, net, teacher, progress, where)
        return load(path, net), path


def _run(
    settings: Settings,
    data: Dataset,
    folder: Path,
    last: dict[str, Any] | None,
    begin: nn.Module | None,
    net: nn.Module | None,
    teacher: Classifier | None,
    progress: bool,
    where: torch.device,
) -> Path:
    """One run, from the start or where `last` says that it was interrupted; the file of its result."""
    with _calm(), _determinism_as_found():
        torch.manual_seed(settings.seed)
        classifier = Classifier(settings, _copied(net))
        classifier.objective = objective(settings, teacher)
        classifier.products = getattr(torch, settings.precision)
        classifier.draws = generator(settings.seed, where)
        if begin is not None:
            _start_from(classifier, begin)
        generators = {"global": torch.default_generator, "draws": classifier.draws}
        if teacher is not None:
            generators["teacher"] = teacher.draws
        checkpoints = Checkpoints(folder, generators, last)
        trainer = _trainer(settings, checkpoints, progress, where)
        with threads(1 if settings.model == "mlp" else None), _interruptible(trainer):
            trainer.fit(
                classifier,
                _loader(data.train, settings.batch, shuffle=True),
                _loader(data.validation, 256, shuffle=False),
            )
    return checkpoints.finish()


def _copied(net: nn.Module | None) -> nn.Module | None:
    """A network of which all weights are trained."""
    return None if net is None else copy.deepcopy(net).requires_grad_()


def _check_range(data: Dataset) -> None:
    """Refuse images beyond 0 .. 1, at whose ends those that are moved are cut."""
    low, high = (float(end) for end in torch.aminmax(data.train.images))
    if low < 0 or high > 1:
        raise ValueError(
            f"{data.name} reaches {low:g} .. {high:g}: adversarial objectives and crafted noise move "
            f"images within 0 .. 1. Scale the data to it; a network that needs another range can scale "
            f"its input itself."
        )


def _interrupted(
    folder: Path, settings: Settings, device: torch.device, net: nn.Module | None = None
) -> dict[str, Any] | None:
    """What the run that was interrupted in `folder` left to go on from; None where there is none."""
    path = folder / "last.ckpt"
    if not path.is_file():
        return None
    last = read_last(path)
    try:
        theirs, ours = _settings(last).options(), settings.options()
    except Exception as error:  # damaged settings fail anywhere in what they describe
        raise ValueError(
            f"{path}: its settings are damaged, or another version's ({type(error).__name__}: {error}). "
            f"{anew(path)}"
        ) from None
    differ = [
        f"{name} {theirs.get(name)!r}, not {ours.get(name)!r}"
        for name in {**ours, **theirs}
        if theirs.get(name) != ours.get(name)
    ]
    if differ:
        raise ValueError(
            f"{folder}: a run with other settings was interrupted here ({'; '.join(differ)}). Finish it "
            f"with its settings, or train in another folder (--out). {anew(path)}"
        )
    if (begun_on := last.get("device", "cpu")) != device.type:
        raise ValueError(
            f"{folder}: the run that was interrupted here began on {begun_on}, whose random numbers "
            f"{device.type} cannot go on with: use device={begun_on!r}, or train in another folder "
            f"(--out). {anew(path)}"
        )
    if last["score"] > -math.inf and not _same(folder / "best.ckpt", settings, net):
        raise ValueError(
            f"{folder}: the best.ckpt of the interrupted run is missing, or is another's. {anew(path)}"
        )
    return last


def _trainer(
    settings: Settings, checkpoints: Checkpoints, progress: bool, device: torch.device
) -> lightning.Trainer:
    bars = [RichProgressBar(leave=False, console_kwargs={"stderr": True})] if progress else []
    return lightning.Trainer(
        max_epochs=settings.epochs,
        accelerator="cpu" if device.type == "cpu" else "cuda",
        devices=1 if device.type == "cpu" else [device.index or 0],
        inference_mode=not settings.adversarial,
        callbacks=[checkpoints, *bars],
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        logger=False,
        deterministic=True,
        num_sanity_val_steps=0,
    )


def _teacher(settings: Settings, device: torch.device) -> Classifier:
    teacher = load(settings.teacher).requires_grad_(False)
    theirs, needed = teacher.settings, (settings.shape, settings.classes)
    if (theirs.shape, theirs.classes) != needed:
        raise ValueError(
            f"{settings.teacher}: a teacher for images of {theirs.shape} in {theirs.classes} classes; "
            f"{needed[0]} and {needed[1]} are needed."
        )
    teacher.draws = generator(teacher.settings.seed, device)
    return teacher.to(device)


def _start_from(classifier: Classifier, start: nn.Module) -> None:
    try:
        classifier.net.load_state_dict(start.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the network to start from is not the one that the settings describe: {error}"
        ) from None


def save(classifier: Classifier, path: str | Path) -> None:
    """Write a network as `train` does, for `load`; without the optimizer's state."""
    content = {
        "hyper_parameters": dict(classifier.hparams),
        "state_dict": classifier.state_dict(),
    }
    write(content, Path(path))


def load(path: str | Path, net: nn.Module | None = None) -> Classifier:
    """A trained network from its checkpoint, in evaluation mode.

    `net`: the network that `train` was given, which it then is a copy of. Raises FileNotFoundError, and
    ValueError for a file that `train` did not write.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        stored = read(path)
        settings, weights = _settings(stored), stored["state_dict"]
    except Exception as error:
        raise ValueError(f"{path}: {not_ours(path, error)}") from None
    if settings.model == OWN_MODEL and net is None:
        raise ValueError(
            f"{path}: weights of what `convert` made of an ANN of yours; the network itself is in the "
            f".nir files beside it: give fine_tuned.nir."
        )
    try:
        _check_sizes(settings, weights)
        classifier = Classifier(settings, _copied(net))
        classifier.load_state_dict(weights)
    except Exception as error:  # damaged settings fail anywhere in what they describe
        raise ValueError(
            f"{path}: its settings and its weights do not go together ({type(error).__name__}: {error}). "
            f"It is damaged, or another version of spikeship wrote it: train again."
        ) from None
    return classifier.eval()


def _check_sizes(settings: Settings, weights: Any) -> None:
    """Refuse settings whose network would be larger than the weights, before it is made."""
    stored = sum(tensor.numel() for tensor in weights.values())
    sizes = [math.prod(settings.shape), *(settings.widths or ()), settings.classes]
    most = max(sizes) if settings.model != "mlp" else max(a * b for a, b in pairwise(sizes))
    if min(sizes) < 1 or most > max(stored, 1):
        raise ValueError(f"layers of {sizes} neurons or channels, but {stored} stored numbers")


def _settings(stored: dict[str, Any]) -> Settings:
    """The settings in a checkpoint; fields that an older version did not have are as they were then."""
    settings = dict(stored["hyper_parameters"]["settings"])
    for name in ("shape", "widths"):
        settings[name] = None if settings[name] is None else tuple(settings[name])
    return Settings.of(**settings)


class Answering(Protocol):
    """What has logits: a Classifier, or an ANN of somebody else."""

    def logits(self, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor: ...


def accuracy(classifier: Answering, split: Split, seed: int = 0, batch: int = 500) -> float:
    """Fraction of right answers on a split, single draw of the coding noise from `seed`.

    Raises ValueError for regression, whose answers are not right or wrong: see `quality`.
    """
    result = quality(classifier, split, seed, batch).accuracy
    if result is None:
        raise ValueError("regression has no accuracy, but an error: see quality.")
    return result


def quality(classifier: Answering, split: Split, seed: int = 0, batch: int = 500) -> Quality:
    """Accuracy, or error of regression, on a split; single draw of the coding noise from `seed`.

    It is computed where the classifier is, with the same draws on every device.
    """
    draws, outputs = generator(seed), []
    device = getattr(classifier, "device", None)
    with torch.no_grad():
        for start in range(0, len(split), batch):
            images, _ = split[list(range(start, min(start + batch, len(split))))]
            there = images if device is None else images.to(device)
            outputs.append(classifier.logits(there, draws).cpu().numpy())
    return Quality.of(np.concatenate(outputs), split.labels.cpu().numpy())


def _same(checkpoint: Path, settings: Settings, net: nn.Module | None = None) -> bool:
    try:
        return checkpoint.is_file() and load(checkpoint, net).settings == settings
    except ValueError:
        return False


def _loader(split: Split, batch: int, *, shuffle: bool) -> Any:
    """Whole batches by one indexing call: far quicker than item by item for data in memory."""
    order = RandomSampler(split) if shuffle else SequentialSampler(split)
    sampler = BatchSampler(order, batch, drop_last=False)
    return DataLoader(split, sampler=sampler, batch_size=None)  # type: ignore[arg-type]


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads of torch within the block; None: as before.

    One suits networks without convolutions: small layers lose more to waiting than a second core gives.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _determinism_as_found() -> Iterator[None]:
    """Lightning's `deterministic` is a setting of torch itself; it is put back."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def _interruptible(trainer: lightning.Trainer) -> Iterator[None]:
    """Lightning turns an interruption into SystemExit and leaves SIGINT ignored; undo both."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def _calm() -> Iterator[None]:
    """Lightning's advice about loaders, loggers and folders does not concern these runs."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            yield
        finally:
            logger.setLevel(level)
