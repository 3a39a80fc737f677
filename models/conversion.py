"""Robust ANN to SNN conversion after Ozdenizci and Legenstein (TMLR 2024, arXiv 2311.09266)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..hw_targets.network.coding import Coding
from . import encoding
from .activity import activity, passed_on
from .encoding import generator
from .networks import SpikingClassifier, thresholds
from .settings import Readout, Settings
from .training import Classifier, digest

SEQUENCES = (
    "an ANN of sequences sees all their steps at once, a spiking network one after the other: they "
    "cannot have the same weights."
)
"""Why an ANN of sequences is not converted."""
Frames: TypeAlias = Callable[[], Iterable[Tensor]]
"""Mini-batches of frames (steps, sample, *shape), the same in every call."""


@torch.no_grad()
def convert(
    ann: Classifier,
    coding: Coding,
    images: Tensor,
    *,
    scale: float = 1.0,
    percentile: float = 99.7,
    batches: int = 11,
    batch: int = 64,
    calibration_steps: int = 100,
    leak: float = 1.0,
    readout: Readout = "voltage",
    seed: int = 0,
) -> Classifier:
    """The spiking network with an ANN's weights, to be used as it is or fine-tuned.

    1. Weights and biases are copied, of batch norms gamma and beta without the running statistics.
    2. `calibrate`: thresholds, from `batches` mini-batches of `batch` of the `images` (sample, C, H, W),
       training images in [0, 1], each coded in `calibration_steps` steps (events: in their own).
    3. `scale_thresholds` by `scale`; 0.3 makes neurons speak early enough for T = 8.
    4. `reestimate_norms` over the same images in the steps of `coding`.

    Neurons have the given `leak`, 1 being IF, and reset to zero; thresholds are parameters, one per
    layer. The softmax sees logits in the ANN's units. A spiking readout is calibrated as any layer:
    logits below 0 are lost. The settings are the ANN's with those of the spiking network;
    `start_digest` names the ANN.

    Ours, where the paper has networks whose biases are all in batch norms: a spike stands for its layer's
    threshold, which multiplies the next layer's weights, so that biases, which act in every step, keep
    their proportion. With a batch norm behind those weights this changes nothing.

    Raises ValueError where `ann` is none, images are too few, or the coding has not the mean x.
    """
    _check(ann, coding, len(images), batches * batch)
    settings = replace(
        ann.settings,
        spiking=True,
        framework="norse",
        readout=readout,
        leak=leak,
        learn_thresholds=True,
        coding=coding,
        start_digest=digest(ann.net),
    )
    classifier = Classifier(settings).to(ann.device)
    net = classifier.net
    assert isinstance(net, SpikingClassifier)
    chosen = torch.split(images[: batches * batch].to(ann.device), batch)
    long = coding if coding.name == "events" else replace(coding, steps=calibration_steps)
    _move_weights(ann.net, net, ann.scale / classifier.scale)
    calibrate(net, coded(chosen, long, seed), percentile)
    scale_thresholds(net, scale)
    reestimate_norms(net, coded(chosen, coding, seed))
    return classifier.eval()


@torch.no_grad()
def calibrate(
    net: SpikingClassifier,
    frames: Frames,
    percentile: float = 99.7,
    known: Sequence[float | None] = (),
) -> None:
    """Sets the thresholds, in the order of the layers, so that the next layer sees real spikes.

    threshold = max over mini-batches of the percentile of the layer's input currents over all neurons,
    images and steps; the percentile of n numbers is the ceil(n percentile / 100)-th smallest. Batch
    norms act with the statistics of the mini-batch. The weights of the next layer take the threshold up,
    see `convert`. `known`: thresholds, in the order of the layers, that are what they are; None and
    those left out are chosen. Raises ValueError where that percentile is not above 0.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile = {percentile}; one above 0 and up to 100 is needed.")
    net.train()
    for layer, (place, threshold) in enumerate(zip(_spiking(net), thresholds(net), strict=True)):
        if layer < len(known) and (said := known[layer]) is not None:
            _rescale(net, place, said / float(threshold))
            continue
        before = list(net.body.children())[:place]
        peak = max(_percentile(passed_on(before, x), percentile) for x in frames())
        if not peak > 0:
            raise ValueError(
                f"layer {place}: the {percentile:g}th percentile of its input currents is {peak:g}, so "
                f"its neurons would be silent. Train the ANN on, or raise the percentile."
            )
        _rescale(net, place, peak / float(threshold))
    net.eval()


@torch.no_grad()
def scale_thresholds(net: SpikingClassifier, scale: float) -> None:
    """Multiplies every threshold, and what a spike stands for, by `scale`.

    Raises ValueError for a scale that is not above 0, and for a network with fixed thresholds.
    """
    if not scale > 0:
        raise ValueError(f"scale = {scale}; thresholds need a scale above 0.")
    for place in _spiking(net):
        _rescale(net, place, scale)


@torch.no_grad()
def reestimate_norms(net: nn.Module, frames: Frames) -> None:
    """Running statistics of batch norms: the mean over mini-batches of those of all steps and images.

    The norms before a norm act with the statistics of the mini-batch meanwhile.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    before = [norm.momentum for norm in norms]
    net.train()
    for number, x in enumerate(frames(), 1):
        for norm in norms:
            norm.momentum = 1 / number  # the mean of all so far
        activity(net, x, norms_over_steps=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    net.eval()


def fine_tuning(converted: Settings, epsilon: float, **others: Any) -> Settings:
    """Settings of the robust fine-tuning of a converted network; `others` are options of `Settings`.

    CE(x) + 2 KL(p(x) || p(x')), x' by RFGSM on that KL, however the ANN was trained; weights and
    thresholds are trained. For `training.train(settings, data, folder, start=converted)`. The paper has
    60 epochs of SGD at 1e-3 with weight decay; here it is 20 of Adam at 5e-3 where `others` say nothing.
    """
    robust = {"objective": "trades", "attack": "rfgsm", "beta": 2.0, "epsilon": epsilon}
    alone = {"sparsity": 0.0, "rate_penalty": 0.0, "teacher": "", "distillation": 0.0}
    usual = {**robust, **alone, "presynaptic": 0.0, "epochs": 20, "learning_rate": 5e-3}
    return converted.changed(**{**usual, **others})


def coded(batches: Sequence[Tensor], coding: Coding, seed: int) -> Frames:
    """Mini-batches of frames, one at a time, with the same noise in every call."""

    def frames() -> Iterator[Tensor]:
        draws = generator(seed)
        return (encoding.real(coding, images, draws) for images in batches)

    return frames


def _check(ann: Classifier, coding: Coding, images: int, needed: int) -> None:
    problems = []
    if ann.settings.spiking:
        problems.append("the network is spiking already; give its ANN twin (train --ann).")
    if (ann.settings.coding.name == "events") != (coding.name == "events"):
        problems.append(
            f"the ANN was trained on {ann.settings.coding.name!r} data, the coding is "
            f"{coding.name!r}; events go with events, images with the others."
        )
    if "sequence" in (ann.settings.coding.name, coding.name):
        problems.append(SEQUENCES)
    if coding.name == "signed_poisson":
        problems.append("the mean of signed_poisson is 2x - 1, the ANN saw x; use poisson.")
    if images < needed:
        problems.append(
            f"{images} images, {needed} needed; give more, or fewer or smaller mini-batches."
        )
    if problems:
        raise ValueError(" ".join(problems))


def _move_weights(ann: nn.Module, net: SpikingClassifier, gain: float) -> None:
    """Copies all weights, those of the last layer times `gain`."""
    layers = list(net.body.children())
    for theirs, ours in zip(ann.children(), layers, strict=False):  # the readout comes after
        if not isinstance(theirs, nn.ReLU):
            ours.load_state_dict(theirs.state_dict())
    last = [layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    for weights in last.parameters():
        weights.mul_(gain)


def _spiking(net: SpikingClassifier) -> list[int]:
    """Places in the body of the layers with trained thresholds."""
    places = [i for i, layer in enumerate(net.body.children()) if hasattr(layer, "threshold")]
    if not places:
        raise ValueError("the network has fixed thresholds; build it with learn_thresholds=True.")
    return places


def _rescale(net: SpikingClassifier, place: int, factor: float) -> None:
    """Threshold times `factor`, and so the weights that its spikes meet next."""
    cell, *after = list(net.body.children())[place:]
    cell.threshold.mul_(factor)
    following = (layer for layer in after if isinstance(layer, nn.Linear | nn.Conv2d))
    if (layer := next(following, None)) is not None:
        layer.weight.mul_(factor)


def _percentile(values: Tensor, percentile: float) -> float:
    flat = values.flatten()
    place = max(1, math.ceil(len(flat) * percentile / 100))
    return float(flat.kthvalue(place).values)
