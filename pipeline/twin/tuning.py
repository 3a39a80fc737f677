"""Quantization-aware fine-tuning: train the integers themselves, through their twin."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...hw_targets.files import write_bytes
from ...hw_targets.network import arithmetic
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.netx.write import check_layer
from ...hw_targets.simulate.torch_engine.device import device_of
from ...models import encoding
from ...models.archive import ArchiveError, read_archive
from ...models.data.dataset import Dataset, Split
from ...models.encoding import generator
from ...models.quality import Quality
from ...models.settings import LOGIT_SCALE
from ..deploy.run import encoded, needed_recipe, output_scores
from ..float.execute import FloatTrace, execute
from ..lower import lower
from ..quantize import Quantized, RealLayer
from .layer import TwinLayer
from .twin import TRAINED, Twin, TwinTrace

Objective: TypeAlias = Literal["labels", "teacher"]

TEACHER_SHARPNESS = 2.5
"""By what logits are multiplied to compare them with a teacher's: of 0.4, 1 and 2 per spike, 1 was the
best on digits; the 0.4 that labels are learnt with leaves classes too alike."""
_STATE_ONE = 1 << arithmetic.STATE_SHIFT


@dataclass(frozen=True)
class Tuning:
    """Everything that decides a fine-tuning run; stored with its progress.

    `epochs`: end to end; `layer_epochs`: before that, for each layer in turn, to do what the float
    layer does, its input being the integer spikes of the layers before. `learning_rate`: Adam's, in
    steps of a weight's grid, so that it suits all bit widths; it falls to 0 as a cosine in each
    phase. `objective`: cross-entropy with the "labels", or with the answers of the float network,
    the "teacher". `surrogate`, `sharpness`, `trainable`: see `Twin`.
    """

    epochs: int = 10
    layer_epochs: int = 0
    learning_rate: float = 0.02
    batch: int = 64
    objective: Objective = "labels"
    surrogate: str = "superspike"
    sharpness: float = 1.0
    trainable: tuple[str, ...] = TRAINED
    seed: int = 0


@dataclass(frozen=True)
class FineTuned:
    """The best network on the validation split: the start, or one after a phase or epoch.

    `real`: its numbers before rounding; `before`, `after`: accuracy (of regression minus the rms error)
    of start and best on the validation split, by the engine; `history`: that of every candidate (the
    worst for one whose weights Lava would change, see `write_netx`); `losses`: mean loss per epoch.
    """

    network: Network
    real: tuple[RealLayer, ...]
    before: float
    after: float
    history: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class _Epoch:
    """Number `number` of `of` epochs for one layer, or for all (`layer` None)."""

    layer: int | None
    number: int
    of: int


@dataclass
class _Progress:
    """What an interrupted run needs to go on."""

    done: int = 0
    """epochs, layer by layer and end to end"""
    history: list[tuple[float, float]] = field(default_factory=list)
    """of every candidate, accuracy and minus the cross-entropy: the largest is the best"""
    losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    current: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    draws: Tensor | None = None


def finetune(
    start: Quantized | Network,
    data: Dataset,
    tuning: Tuning | None = None,
    *,
    graph: nir.NIRGraph | None = None,
    folder: str | Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
    device: str | torch.device = "cpu",
) -> FineTuned:
    """Train a network's integers on `data.train`; keep what is best on `data.validation`.

    The network runs and answers as its recipe says. `start`: a Quantized, whose numbers before
    rounding are the starting values, or a Network. `graph`: the float network that it came from,
    needed by `layer_epochs` and the objective "teacher". Of regression, the recipe's `output_unit` must
    be that of the answers. The result is never worse than the start on the validation split, where the
    engine counts, not the twin; of equally accurate candidates the one with the smaller cross-entropy is
    kept. Same tuning, start, data, machine and versions: same integers.

    `folder`: where progress is kept, in `finetune.ckpt`: an interrupted run goes on from its last
    epoch, a finished one is loaded; progress of another run there is dropped. `device`: where twin and
    integers compute, "cpu", "cuda", ...; the draws are the same everywhere. Raises ValueError,
    NetworkError.
    """
    tuning, where = tuning or Tuning(), device_of(device)
    network = start.network if isinstance(start, Quantized) else start
    recipe = needed_recipe(network)
    unit = recipe.output_unit
    if isinstance(start, Quantized) and not data.regression:
        unit = start.losses[-1].unit
    lesson = _Lesson(tuning, recipe, unit, _teacher(tuning, graph), where)
    twin = Twin(
        network,
        start.real if isinstance(start, Quantized) else None,
        surrogate=tuning.surrogate,
        sharpness=tuning.sharpness,
        trainable=tuning.trainable,
    ).to(where)
    path = None if folder is None else Path(folder) / "finetune.ckpt"
    identity = {**asdict(tuning), "data": data.name, "start": _digest(twin, recipe)}
    state = _load(path, identity)
    draws = generator(tuning.seed)
    if state.history:
        twin.load_state_dict(state.current)
        assert state.draws is not None
        draws.set_state(state.draws)
    else:
        state.history.append(lesson.judge(network, data.validation))
        state.current = state.best = _copy(twin)
    for epoch in _plan(tuning, len(twin.layers))[state.done :]:
        if epoch.number == 0 and epoch.layer is None:
            twin.load_state_dict(state.best)
        optimizer = _optimizer(twin, epoch.layer, tuning.learning_rate)
        if epoch.number:
            optimizer.load_state_dict(state.optimizer)
        state.losses.append(lesson.teach(twin, data.train, epoch, optimizer, draws))
        state.done += 1
        if epoch.layer is None or epoch.number == epoch.of - 1:
            judged = lesson.judge(twin.network(), data.validation)
            if judged > max(state.history):
                state.best = _copy(twin)
            state.history.append(judged)
        state.current, state.optimizer = _copy(twin), optimizer.state_dict()
        state.draws = draws.get_state()
        _save(path, identity, state)
        what = "all layers" if epoch.layer is None else network.populations[epoch.layer].name
        progress(
            f"{what}, epoch {epoch.number + 1} of {epoch.of}: loss {state.losses[-1]:.4g}, "
            f"validation {_said(state.history[-1][0], data.regression)}"
        )
    twin.load_state_dict(state.best)
    history = tuple(accuracy for accuracy, _ in state.history)
    return FineTuned(
        twin.network(), twin.real(), history[0], max(history), history, tuple(state.losses)
    )


def _said(judged: float, regression: bool) -> str:
    return f"rms error {-judged:.4g}" if regression else f"accuracy {100 * judged:.2f} %"


def _plan(tuning: Tuning, layers: int) -> list[_Epoch]:
    each = tuning.layer_epochs
    by_layer = [_Epoch(i, number, each) for i in range(layers) for number in range(each)]
    return by_layer + [_Epoch(None, number, tuning.epochs) for number in range(tuning.epochs)]


def _teacher(tuning: Tuning, graph: nir.NIRGraph | None) -> nir.NIRGraph | None:
    if not tuning.layer_epochs and tuning.objective == "labels":
        return None
    if graph is None:
        raise ValueError(
            "layer_epochs and the objective 'teacher' need the float network: give `graph`, the NIR "
            "graph that was quantized."
        )
    return lower(graph)


@dataclass(frozen=True)
class _Lesson:
    """What is asked of the network: the loss of a batch, an epoch of batches, and the judgement."""

    tuning: Tuning
    recipe: Recipe
    unit: float
    teacher: nir.NIRGraph | None
    device: torch.device

    def teach(
        self,
        twin: Twin,
        split: Split,
        epoch: _Epoch,
        optimizer: torch.optim.Optimizer,
        draws: torch.Generator,
    ) -> float:
        """One epoch; the mean loss. The learning rate falls as a cosine over the phase."""
        order = torch.randperm(len(split), generator=draws).tolist()
        starts = range(0, len(order), self.tuning.batch)
        losses = []
        for i, first in enumerate(starts):
            passed = (epoch.number + i / len(starts)) / epoch.of
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * (0.5 + 0.5 * math.cos(math.pi * passed))
            images, labels = split[order[first : first + self.tuning.batch]]
            messages = encoding.integers(self.recipe.coding, images, draws)
            optimizer.zero_grad()
            loss = self.loss(twin, messages, labels, epoch.layer)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            twin.confine()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def loss(
        self, twin: Twin, messages: NDArray[np.int32], labels: Tensor, layer: int | None
    ) -> Tensor:
        """The loss of the answers, or, with `layer`, of how that layer imitates the float one."""
        target: FloatTrace | None = None
        if self.teacher is not None and (layer is not None or self.tuning.objective == "teacher"):
            target = execute(self.teacher, messages / self.recipe.coding.levels, torch.float32)
        x, labels = torch.as_tensor(messages).to(self.device).float(), labels.to(self.device)
        if layer is not None:
            assert target is not None
            trace = twin.run_recipe(x, record=(f"spikes.{layer}", f"v.{layer}"))
            return _imitation(trace, target, layer)
        read = "spikes" if self.recipe.decode == "spike count" else "v"
        (*_, out) = getattr(twin.run_recipe(x, record=f"{read}.-1"), read)
        assert out is not None
        value = out if read == "spikes" else out / (self.unit * _STATE_ONE)
        if labels.is_floating_point():
            return functional.mse_loss(self._read(value), labels)
        logits = self._logits(value)
        if target is None:
            return functional.cross_entropy(logits, labels)
        theirs = target.spikes[-1] if read == "spikes" else target.voltage[-1]
        return _divergence(self._logits(torch.as_tensor(theirs).to(logits)), logits)

    def _read(self, out: Tensor) -> Tensor:
        """Scores (sample, outputs) of (sample, time, *output shape)."""
        if self.recipe.decode == "spike count":
            return out.sum(1).flatten(1)
        return (out.mean(1) if self.recipe.decode == "mean voltage" else out[:, -1]).flatten(1)

    def _logits(self, out: Tensor) -> Tensor:
        """`_read`, in the range that the float networks learn with."""
        spikes = self.recipe.decode == "spike count"
        return LOGIT_SCALE["spikes" if spikes else "voltage"] * self._read(out)

    def judge(self, network: Network, split: Split) -> tuple[float, float]:
        """Accuracy and minus the mean cross-entropy, by the engine; the worst if netx cannot hold it.

        Of regression both are minus the rms error.
        """
        regression = split.labels.is_floating_point()
        try:
            for layer in network.layers:
                check_layer(layer)
        except NetworkError:
            return -math.inf if regression else 0.0, -math.inf
        if regression:
            return (self._error(network, split),) * 2
        right, entropy = 0, 0.0
        spikes = self.recipe.decode == "spike count"
        factor = LOGIT_SCALE["spikes" if spikes else "voltage"]
        factor *= 1 if spikes else self.recipe.output_unit / self.unit
        for messages, labels in encoded(self.recipe, split):
            answers = output_scores(network, messages, self.device)
            right += int((answers.argmax(axis=1) == labels).sum())
            logits = torch.as_tensor(factor * answers).double()
            aim = torch.as_tensor(labels)
            entropy += float(functional.cross_entropy(logits, aim, reduction="sum"))
        return right / len(split), -entropy / len(split)

    def _error(self, network: Network, split: Split) -> float:
        """Minus the rms error of the answers, in the float network's own units."""
        spikes = self.recipe.decode == "spike count"
        factor = 1.0 if spikes else self.recipe.output_unit / self.unit
        blocks = [
            (factor * output_scores(network, messages, self.device), targets)
            for messages, targets in encoded(self.recipe, split)
        ]
        answers, targets = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return Quality.of(answers, targets).score


def _optimizer(twin: Twin, phase: int | None, learning_rate: float) -> torch.optim.Adam:
    """Adam over one layer or all; the others' gradients are switched off."""
    groups = []
    for index, layer in enumerate(twin.layers):
        assert isinstance(layer, TwinLayer)
        for name, parameter in layer.named_parameters():
            wanted = name in layer.trainable and phase in (None, index)
            parameter.requires_grad_(wanted)
            if wanted:
                highest = learning_rate * layer.unit(name)
                groups.append({"params": [parameter], "highest": highest})
    return torch.optim.Adam(groups, lr=learning_rate)


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """Kullback-Leibler divergence of our probabilities for the classes from theirs."""
    aim = (TEACHER_SHARPNESS * theirs).double().log_softmax(1)
    given = (TEACHER_SHARPNESS * ours).double().log_softmax(1)
    return functional.kl_div(given, aim, reduction="batchmean", log_target=True)


def _imitation(trace: TwinTrace, target: FloatTrace, index: int) -> Tensor:
    """How far a layer is from the float one: spikes by step and by count; voltages where it has none.

    mean((s - s')^2) + mean((sum_t s - sum_t s')^2) / T; for a readout mean((c v - v')^2) / mean(v'^2)
    with the best factor c from integers to the float voltage.
    """
    spikes, v = trace.spikes[index], trace.v[index]
    assert spikes is not None
    assert v is not None
    wanted = torch.as_tensor(target.spikes[index]).to(spikes.device).float()
    if wanted.any():
        apart = spikes - wanted
        return apart.square().mean() + apart.sum(1).square().mean() / apart.shape[1]
    voltage = torch.as_tensor(target.voltage[index]).to(v.device).float()
    factor = (v * voltage).sum().detach() / v.detach().square().sum().clamp(min=1)
    return (factor * v - voltage).square().mean() / voltage.square().mean()


def _digest(twin: Twin, recipe: Recipe) -> str:
    """Names the starting values and the way the network runs."""
    sha = hashlib.sha256(recipe.text.encode())
    for name, value in twin.state_dict().items():
        sha.update(name.encode() + value.cpu().numpy().tobytes())
    return sha.hexdigest()


def _copy(twin: Twin) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in twin.state_dict().items()}


def _save(path: Path | None, identity: dict[str, Any], state: _Progress) -> None:
    if path is not None:
        content = BytesIO()
        torch.save({"identity": identity, "state": vars(state)}, content)
        write_bytes(path, content.getbuffer())


def _load(path: Path | None, identity: dict[str, Any]) -> _Progress:
    if path is None or not path.is_file():
        return _Progress()
    try:
        stored = read_archive(path)
        same = stored["identity"] == identity
        return _Progress(**stored["state"]) if same else _Progress()
    except (ArchiveError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and tuning begins anew.") from None
