"""SLAYER (lava-dl) twins of the Norse networks, whose forward pass is in the deployed integers.

lava-dl runs on Python 3.10 alone: it is imported when a network is made, not with this module.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .settings import Readout

MODELS = ("mlp", "cnn")
DECAY = 0.5
THRESHOLD = 2.0
"""With `DECAY`, the Norse networks' neuron: there v <- v + decay (i - v), spike above 1 = decay * 2."""
SCALE = 64
"""Integers per 1.0 of a weight: they are even and within [-256, 254], so [-4, 4) in steps of 1/32."""
FIRST_THRESHOLD_MAX = 1 << 13
"""Largest threshold of the first layer, in integers, a sixteenth of what its states hold: its input
is graded."""
GAIN = 2.0
"""Initial weights over torch's own: nothing normalizes the currents, and the threshold is 2."""
TAU_GRAD = 0.005
"""SLAYER's surrogate is exp(-|v - threshold| / tau), tau = 100 * tau_grad * threshold: half of it."""


class SlayerMissingError(ValueError):
    """lava-dl is not installed; the message says what to do."""


class SlayerClassifier(nn.Module):
    """A chain of SLAYER's CUBA blocks, fed with the graded spikes of the deployed network.

    forward: frames (steps, sample, C, H, W) to logits (sample, classes), the spike counts of the
    last layer. The first block sees round(frame * levels), the integers that `Coding.integers`
    makes; rounding passes the gradient straight through. With weights w = W / scale, W whole and
    even, and powers of two for scales, every number below is exact in float32 and the states, times
    64 * scale, are those of `CubaLIF` with i_decay = 4096::

        v <- tz(v (4096 - v_decay) / 4096) + 64 W k,  spike = v > 64 * threshold * scale, then v <- 0

    There is no delay between the layers (`delay_shift` is off): step t of any block is the step t of
    the aligned trace.
    """

    def __init__(self, blocks: Sequence[nn.Module], shape: Sequence[int], levels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.shape = tuple(shape)
        self.levels = levels

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        counts: torch.Tensor = self._sent(frames)[-1].sum(-1)
        return counts

    def spikes(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """Spikes 0 and 1 of each layer with neurons, (sample, steps, *layer shape)."""
        pairs = zip(self.blocks, self._sent(frames), strict=True)
        return [sent.movedim(-1, 1) for block, sent in pairs if hasattr(block, "neuron")]

    def _sent(self, frames: torch.Tensor) -> list[torch.Tensor]:
        graded = frames * self.levels
        x = (graded + (graded.round() - graded).detach()).movedim(0, -1)
        return list(itertools.accumulate(self.blocks, lambda x, block: block(x), initial=x))[1:]


def snn(
    model: str,
    shape: Sequence[int],
    classes: int,
    levels: int,
    readout: Readout = "spikes",
    widths: Sequence[int] | None = None,
) -> SlayerClassifier:
    """The SLAYER twin of `networks.snn`, for inputs of `levels` per 1.0.

    Widths, kernels and neurons are those of the Norse network, with these differences. No biases: a
    norm's bias, the only one SLAYER has, is within +-4, an eighth of the first layer's threshold at 16
    levels. The CNN has no batch norm, and strides of 2 in its convolutions where the Norse one averages
    2x2 (SLAYER's pooling is a layer of spiking neurons): after each, the shape is that after the pooling
    (one more row and column where it leaves some out).

    Raises ValueError, SlayerMissingError.
    """
    if model not in MODELS:
        raise ValueError(f"no SLAYER twin of model {model!r}; choose from {', '.join(MODELS)}.")
    if readout != "spikes":
        raise ValueError(
            f"readout {readout!r} is not possible with SLAYER: it has no layer whose voltage is read "
            f"out and that netx can hold; use readout 'spikes'."
        )
    cuba = _cuba()
    common = {"weight_scale": GAIN, "delay_shift": False}
    neurons = itertools.chain([_neuron(levels)], itertools.repeat(_neuron(1)))
    layers: list[Any] = []
    into, height, width = shape
    if model == "mlp":
        hidden = tuple(widths or (256,))
    else:
        hidden = ()
        kernel, padding = (5, 0) if min(height, width) >= 16 else (3, 1)
        for out in widths or (16, 32):
            layers.append(cuba.Conv(next(neurons), into, out, kernel, 2, padding, **common))
            height, width = ((n + 2 * padding - kernel) // 2 + 1 for n in (height, width))
            into = out
    layers.append(cuba.Flatten())
    for a, b in itertools.pairwise((into * height * width, *hidden, classes)):
        layers.append(cuba.Dense(next(neurons), a, b, **common))
    for layer in layers:
        if hasattr(layer, "neuron"):
            # SLAYER spikes at v >= threshold + eps. Its own eps is lost in float32 above a threshold
            # of 4096 integers; one whole unit of the state is exact: v > threshold.
            layer.neuron.threshold_eps = 1 / layer.neuron.s_scale
    return SlayerClassifier(layers, shape, levels)


def _neuron(per_one: int) -> dict[str, float]:
    """Parameters of a layer whose input has `per_one` integers per 1.0."""
    threshold, scale = per_one * THRESHOLD, SCALE
    while threshold * scale > FIRST_THRESHOLD_MAX:
        scale //= 2
    if not scale:
        raise ValueError(
            f"levels = {per_one}: the threshold of the first layer does not fit; use "
            f"{int(FIRST_THRESHOLD_MAX / THRESHOLD)} or less."
        )
    return {
        "threshold": threshold,
        "current_decay": 1.0,
        "voltage_decay": DECAY,
        "tau_grad": TAU_GRAD,
        "scale": scale,
    }


def _cuba() -> Any:
    printed = io.StringIO()  # lava-dl prints and warns about what it imports
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("ignore")
        try:
            from lava.lib.dl.slayer.block import cuba
        except ImportError:
            raise SlayerMissingError(
                "the framework 'slayer' is lava-dl, which is not installed: with Python 3.10, "
                '`pip install "spikeship[lava]"`.'
            ) from None
    return cuba
