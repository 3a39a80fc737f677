"""From any torch ANN to a spiking network: its weights, and thresholds from data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import norse.torch as norse
import torch
from torch import Tensor, nn

from ..hw_targets.network.coding import Coding
from . import conversion, encoding, networks, training
from .activation import Activation
from .ann import Ann, AnyAnn
from .conversion import SEQUENCES, calibrate, coded, scale_thresholds
from .data.dataset import Dataset, DatasetError, kind_of
from .encoding import generator
from .networks import SpikingClassifier, thresholds
from .settings import OWN_MODEL, Readout, Settings
from .training import Classifier

SCALES = (1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Scales of the thresholds, of which `convert_ann` takes the one that answers most as the ANN does."""
IMAGES, BATCH = 256, 64
"""Training images that thresholds are chosen on, and how many at a time."""


@dataclass(frozen=True)
class Converted:
    """A spiking network and how it came about.

    `scale`: of the thresholds; `agreement`: the fraction of the images it was chosen on that get the
    ANN's answer, None of regression and of an ANN with one output; `error`: the root mean square by which
    outputs are off, in parts of that of the ANN's outputs. `approximations`: what the spiking network
    does otherwise than the ANN. `net` takes frames (steps, sample, *shape), which `coding` makes of
    images.
    """

    net: SpikingClassifier
    coding: Coding
    thresholds: tuple[float, ...]
    scale: float
    agreement: float | None
    error: float
    approximations: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(f"{threshold:.3g}" for threshold in self.thresholds)
        off = f"outputs are off by {100 * self.error:.0f} %"
        if self.agreement is not None:
            same = f"{100 * self.agreement:.2f} % of the images that chose them get"
            off = f"{same} the ANN's answer; {off}"
        return "\n".join(
            (f"thresholds {known}, of scale {self.scale:g}", off, *self.approximations)
        )

    def logits(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Outputs (sample, classes) of images, encoded with fresh draws."""
        out: Tensor = self.net(encoding.real(self.coding, images, draws))
        return out


def converted(
    ann: AnyAnn,
    coding: Coding,
    images: Tensor,
    *,
    scale: float | None = None,
    regression: bool = False,
    **options: Any,
) -> Classifier | Converted:
    """The spiking network of an ANN, of whoever made it.

    What `train` made: `conversion.convert`, its `scale` 0.3 where it is None; any other: `convert_ann`.
    `options` and errors: as there.
    """
    if isinstance(ann, Ann):
        return convert_ann(ann, coding, images, scale=scale, regression=regression, **options)
    return conversion.convert(ann, coding, images, scale=0.3 if scale is None else scale, **options)


def fine_tuned(
    made: Classifier | Converted,
    data: Dataset,
    folder: str | Path,
    epsilon: float,
    epochs: int,
    *,
    progress: bool = False,
    device: str | torch.device = "cpu",
) -> Classifier | Converted:
    """A converted network, trained on against attacks within `epsilon`, see `conversion.fine_tuning`.

    Its checkpoints are in `folder`, as those of `training.train`, which goes on from them. `device`:
    where it is trained, "cpu", "cuda", "cuda:1", ... Raises
    ValueError for data whose images cannot be moved within 0 .. 1, and for regression.
    """
    how: dict[str, Any] = {"progress": progress, "device": device}
    if isinstance(made, Classifier):
        settings = conversion.fine_tuning(made.settings, epsilon, epochs=epochs)
        return training.train(settings, data, folder, start=made, **how)[0]
    c = made.coding
    usual = Settings.of(
        model=OWN_MODEL,
        coding=c.name,
        steps=c.steps,
        levels=c.grid,
        sigma=c.sigma,
        offsets=c.offsets,
        template=c.template,
        readout=made.net.readout,
        leak=1.0,
        learn_thresholds=True,
    )
    settings = conversion.fine_tuning(training.suited(usual, data), epsilon, epochs=epochs)
    if settings.coding != c:
        raise ValueError(f"{data.name} is not what the network was converted for: {c}.")
    trained, _ = training.train(settings, data, folder, net=made.net, **how)
    net = trained.net
    assert isinstance(net, SpikingClassifier)
    known = tuple(float(threshold) for threshold in thresholds(net))
    return replace(made, net=net, thresholds=known)


def check_data(data: Dataset) -> None:
    """Refuse, with a DatasetError, data on which no ANN is converted: sequences."""
    if data.kind == "sequences":
        raise DatasetError(
            f"{data.name} is sequences: {SEQUENCES} Train a spiking network on them (`spikeship train`)."
        )


@torch.no_grad()
def convert_ann(
    ann: Ann,
    coding: Coding,
    images: Tensor,
    *,
    scale: float | None = None,
    percentile: float = 99.7,
    readout: Readout = "voltage",
    seed: int = 0,
    regression: bool = False,
) -> Converted:
    r"""Integrate-and-fire neurons in place of the activations of an ANN; weights stay what they are.

    In the order of the layers, the threshold is the `percentile` of a layer's currents on the first
    `IMAGES` of `images`, coded by `coding`, as real spikes make them (see `conversion.calibrate`); of
    an activation with a ceiling it is the ceiling. A spike stands for the threshold, which the weights
    behind take up. All thresholds are then times `scale`; None chooses among `SCALES` the one whose
    network gives most images the ANN's answer, of equal ones, and of `regression`, that whose outputs
    are closest.

    A clip-floor activation, c / L clip(floor(x L / c + s), 0, L), is what a neuron with threshold c
    sends in T = L steps if it starts with a charge of s c and resets by subtraction. Here s c / T of it
    come with each of the T steps of `coding`, as a bias; of other activations half a threshold, so that
    rates are rounded, not cut (Deng and Gu, ICLR 2021). The neurons reset to zero, which is a further
    approximation, as maxima of rates by maxima of spikes are; `approximations` names them.

    Raises ValueError for a coding that does not go with the images, and for thresholds that are not
    above 0.
    """
    chosen = images[:IMAGES]
    problems = []
    if coding.name == "signed_poisson":
        problems.append("the mean of signed_poisson is 2x - 1, the ANN saw x; use poisson.")
    if coding.name == "sequence":
        problems.append(SEQUENCES)
    if (coding.name == "events") != (kind_of(images) == "events"):
        problems.append("events go with the coding events, images with the others.")
    if scale is not None and not scale > 0:
        problems.append(f"scale = {scale}; thresholds need a scale above 0.")
    if problems:
        raise ValueError(" ".join(problems))
    batches = torch.split(chosen, BATCH)
    frames = coded(batches, coding, seed)
    activations = [layer for layer in ann.net if isinstance(layer, Activation)]
    shares = [layer.shift if layer.levels else 0.5 for layer in activations]
    base = _spiking(ann, readout)
    calibrate(base, frames, percentile, [layer.ceiling for layer in activations])
    expected = torch.cat([ann.logits(batch, generator(seed)) for batch in batches])
    tried = []
    for factor in SCALES if scale is None else (scale,):
        net = copy.deepcopy(base)
        scale_thresholds(net, factor)
        _charge(net, shares, coding.steps)
        logits = torch.cat([net(x) for x in frames()])
        tried.append(_judged(net.eval(), coding, factor, logits, expected, regression))
    best = max(tried, key=lambda made: (made.agreement or 0.0, -made.error))
    return replace(best, approximations=tuple(_approximations(ann.net, coding.steps)))


def _spiking(ann: Ann, readout: Readout) -> SpikingClassifier:
    """The layers of an ANN with neurons that integrate and fire for activations, and a readout."""
    body = [
        networks.neurons(1.0, learn_threshold=True)
        if isinstance(layer, Activation)
        else copy.deepcopy(layer)
        for layer in ann.net
    ]
    body.append(networks.readout_neurons(readout, 1.0, learn_threshold=True))
    return SpikingClassifier(norse.SequentialState(*body), readout)


def _charge(net: SpikingClassifier, shares: Sequence[float], steps: int) -> None:
    """In every step one part in `steps` of a share of the threshold, as a bias of the weights before."""
    left = list(shares)
    last: nn.Linear | nn.Conv2d | None = None
    for layer in net.body.children():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            last = layer
        elif left and hasattr(layer, "threshold"):
            charge = left.pop(0) * float(layer.threshold) / steps
            if last is not None and charge:
                bias = torch.zeros(len(last.weight)) if last.bias is None else last.bias
                last.bias = nn.Parameter(bias + charge, requires_grad=False)
            last = None


def _judged(
    net: SpikingClassifier,
    coding: Coding,
    scale: float,
    logits: Tensor,
    expected: Tensor,
    regression: bool,
) -> Converted:
    agreement: float | None = None
    if expected.shape[1] > 1 and not regression:
        agreement = float((logits.argmax(1) == expected.argmax(1)).float().mean())
    size = expected.square().mean().sqrt().clamp(min=1e-30)
    error = float((logits - expected).square().mean().sqrt() / size)
    known = tuple(float(threshold) for threshold in thresholds(net))
    return Converted(net, coding, known, scale, agreement, error, ())


def _approximations(layers: nn.Sequential, steps: int) -> list[str]:
    said = ["rates of neurons that reset to zero stand for activations"]
    if any(isinstance(layer, nn.MaxPool2d) for layer in layers):
        said.append(
            "the maximum of spikes in each step stands for the maximum of rates, and is never below it"
        )
    floors = [layer.levels for layer in layers if isinstance(layer, Activation) and layer.levels]
    if other := sorted({levels for levels in floors if levels != steps}):
        listed = ", ".join(map(str, other))
        said.append(f"{steps} steps stand for clip-floor activations of {listed} levels")
    return said
