"""The proof that a SLAYER block and its integers are the same: both run, and are compared with ==.

Each block runs by itself on random messages, and the layers made of it run on the same ones in the
reference simulator; that the network is these blocks in a row, `slayer_order` has found. Compared is
every message and, of CUBA neurons, every voltage. Where training and chip are known to differ (see
`slayer.DIFFERENCES`), the copy of the block is changed to do as the chip, and nowhere else.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import remove_weight_norm

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Input, Layer, Shape
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    IntArray,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from ...hw_targets.simulate.reference import simulate
from .slayer_messages import MESSAGE, sends
from .slayer_neurons import weight_norm
from .slayer_run import run_block

SAMPLES, STEPS = 2, 24
DRIVES = ((0.3, 1), (0.5, 4), (0.7, 16), (0.9, 64), (0.05, 1), (0.01, 1))
"""(rate, largest payload) of random inputs: the first one on which a block sends something is enough."""
Numbers = NDArray[np.float64]


class UnprovenWarning(UserWarning):
    """A block whose integers could not be compared with SLAYER, since it answers nothing."""


@dataclass(frozen=True)
class Piece:
    """A block and the layers made of it."""

    name: str
    block: Any
    layers: Sequence[Layer]
    shape: Shape
    """of its input"""
    unit: int
    """what 1.0 of its input is on the chip"""
    before: IntArray | None
    """delays per input channel that the layers contain: those of the block before"""
    own: IntArray | None
    """delays per output channel of the block"""
    after: IntArray | None
    """those of them that the layers leave to the next one"""


def prove(piece: Piece) -> None:
    """Raise NetworkError where the block and its layers differ.

    UnprovenWarning: it sends nothing on any input that was tried.
    """
    piece = replace(piece, block=copy.deepcopy(piece.block))  # it may have a second place
    last: Any = piece.layers[-1]
    network = Network(
        piece.layers if isinstance(last, Input) else [Input(piece.shape), *piece.layers]
    )
    _as_the_chip(piece.block, last)
    states = ["v"] if isinstance(last.neuron, CubaLIF) else []
    compared = False
    if isinstance(last, Input) and not _is_power_of_two(piece.unit):
        return _say(piece, f"SLAYER itself rounds inputs to multiples of 2/{piece.unit} inexactly")
    for rate, size in DRIVES:
        real, messages = _drive(piece, last, rate, size)
        trace: Any = simulate(network, messages, record=["spikes", *states])
        if any(trace.overflow):
            continue  # the chip wraps or clips, training does not
        sent, voltage = _answers(piece, real, late=not isinstance(last, Input))
        ours = _late(trace.spikes[0], piece.after)
        if sent is not None:
            _compare("messages", ours, sent * sends(last, piece.unit))
        if voltage is not None:  # the block delays after its neurons, the layers before theirs
            early = piece.own if piece.after is None else None
            _compare("voltages", trace.v[0], _late(voltage, early) * piece.block.neuron.s_scale)
        compared |= voltage is not None
        if ours.any() or (sent is None and trace.v[0].any()):
            return
    if not compared:
        _say(piece, "on no random input within the chip's number range does it send anything")


def _say(piece: Piece, why: str) -> None:
    warnings.warn(
        f"{piece.name}: its integers were not compared with SLAYER: {why}.",
        UnprovenWarning,
        stacklevel=5,
    )


def _is_power_of_two(n: int) -> bool:
    return not n & (n - 1)


def _compare(what: str, found: NDArray[Any], expected: Numbers) -> None:
    expected = expected.reshape(found.shape)
    expected = np.where(abs(expected - np.rint(expected)) < 1e-2, np.rint(expected), expected)
    if differing := int(np.count_nonzero(found != expected)):
        raise NetworkError(
            f"its forward pass is not understood: {differing} of {found.size} {what} on random "
            f"input are not those of its integers. Use the block and its neurons as SLAYER made them."
        )


def _drive(piece: Piece, layer: Any, rate: float, size: int) -> tuple[Numbers, IntArray]:
    """Random inputs (sample, time, *shape): as SLAYER's numbers, and as the chip's."""
    rng = np.random.default_rng(0)
    shape = SAMPLES, STEPS, *piece.shape
    if isinstance(layer, Input):  # its transform is left to whoever prepares the input
        if layer.weight is None and layer.bias is None:
            whole = 2 * rng.integers(-size, size + 1, shape)
            return whole / piece.unit, whole.astype(np.int32)
        whole = rng.integers(0, 3, shape)
        weight = piece.unit if layer.weight is None else layer.weight
        return whole.astype(float), (whole * weight + (layer.bias or 0)).astype(np.int32)
    if piece.unit == MESSAGE:
        whole = rng.integers(-1024 * size, 1024 * size + 1, shape)
    else:
        whole = rng.integers(1, size + 1, shape)
    whole = (whole * (rng.random(shape) < rate)).astype(np.int32)
    return _late(whole, piece.before) / piece.unit, whole


def _late(messages: NDArray[Any], delay: IntArray | None) -> NDArray[Any]:
    """Messages (sample, time, channel, ...) after delays per channel, where there are any."""
    if delay is None:
        return messages
    out = np.zeros_like(messages)
    for channel, by in enumerate(np.repeat(delay, messages.shape[2] // len(delay))):
        if by < messages.shape[1]:
            out[:, by:, channel] = messages[:, : messages.shape[1] - by, channel]
    return out


def _answers(piece: Piece, real: Numbers, late: bool) -> tuple[Numbers | None, Numbers | None]:
    """What the block sends and, of CUBA neurons, its voltages after the reset, both time second.

    `late`: the chip adds biases one step before the first data, so that a blank frame comes first.
    """
    block, neuron = piece.block, piece.block.neuron
    voltages: list[torch.Tensor] = []
    own_spike = getattr(neuron, "spike", None)

    def spike(voltage: torch.Tensor) -> torch.Tensor:
        sent: torch.Tensor = own_spike(voltage)  # type: ignore[misc]
        voltages.append(voltage * (sent == 0))
        return sent

    kind = next(block.parameters(), torch.zeros(0)).dtype
    x = torch.as_tensor(np.moveaxis(real, 1, -1)).to(kind)
    if own_spike is not None and not neuron.complex:
        neuron.spike = spike
    with torch.no_grad():
        out = run_block(block, torch.nn.functional.pad(x, (int(late), 0)))
    if "spike" in vars(neuron):
        del neuron.spike
    sent, voltage = (
        None
        if part is None
        else np.moveaxis(part.detach().double().numpy(), -1, 1)[:, : real.shape[1]]
        for part in (out, torch.cat(voltages, -1) if voltages else None)
    )
    return (None, sent) if "Affine" in type(block).__name__ else (sent, voltage)


# -- what training and chip are known to do differently ------------------------------------------


def _as_the_chip(block: Any, layer: Any) -> None:
    """Change a copy of a block where chip and training are known to differ."""
    neuron, made = block.neuron, layer.neuron
    neuron.clamp()  # which SLAYER does before each step of training
    _without_weight_norm(block)
    if isinstance(made, ResonateFire):  # Lava's decays are one smaller at times
        neuron.requires_grad = False  # no clamping again
        parts = neuron.sin_decay, neuron.cos_decay
        own = [round(part.item()) for part in parts]
        for part, whole in zip(parts, arithmetic.resonator_decays(*own), strict=True):
            part.data.fill_(whole)
    if isinstance(made, SigmaDelta | Delta):  # learned thresholds are truncated
        threshold = neuron.delta.threshold
        threshold.data = (threshold.data * neuron.w_scale).floor() / neuron.w_scale
    if isinstance(made, SigmaDelta | Delta | Sigma):
        block.double()  # sums of messages with 12 fraction bits have more than float32 holds
    if not _is_power_of_two(neuron.w_scale):
        _with_scale_64(block)
    if isinstance(made, CubaLIF) and neuron.threshold_eps > 0:  # too little for float32 at times
        neuron.threshold_eps = 0.5 / neuron.s_scale


def _without_weight_norm(block: Any) -> None:
    """The normed weights as they are; a forward pass lets them overwrite masked ones."""
    for module in [*block.modules()]:
        if weight_norm(module) is not None:
            remove_weight_norm(module)
            block.mask = None


def _with_scale_64(block: Any) -> None:
    """With a scale that is no power of two, SLAYER makes 13 of a whole number of 13.999999."""
    neuron, scale = block.neuron, block.neuron.w_scale

    for module in block.modules():
        for attribute in {"_pre_hook_fx", "pre_hook_fx"} & vars(module).keys():
            hook = getattr(module, attribute) or _as_it_is
            for name in {"weight", "running_mean"} & {*module._parameters, *module._buffers}:
                value = getattr(module, name)
                value.data = torch.round(hook(value.data) * scale) / 64
            setattr(module, attribute, _as_it_is)
    if neuron._threshold is not None and neuron._threshold > 0:
        neuron._threshold = round(neuron._threshold * scale) / 64
    neuron.w_scale, neuron.s_scale = 64, 1 << 12


def _as_it_is(value: torch.Tensor) -> torch.Tensor:
    return value
