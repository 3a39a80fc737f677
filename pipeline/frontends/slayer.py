"""SLAYER (lava-dl) networks to integers, read from what their blocks compute with in training.

SLAYER trains on the integers of the chip: weights pass a block's quantization hook, decays are
rounded, thresholds are whole multiples of 1 / scale. A network of its blocks is a `Network` already,
and nothing is quantized here. The modules are only read: lava-dl's own way to a file, `export_hdf5`,
removes their weight norm. Where that file is right, `from_slayer(model) == read_netx(file)`; where it
is not, `DIFFERENCES` says what is done here instead.

Blocks are recognized by the names of their classes, so that this file needs no lava-dl.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer, Shape
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF, Delta, IntArray, NetworkError, Sigma, SigmaDelta
from ...hw_targets.netx.pool import lowered_pool
from ...models.slayer import SlayerClassifier
from .slayer_messages import Messages
from .slayer_neurons import decays, find, neurons, synapses, weight_norm, whole
from .slayer_order import Link, chain
from .slayer_proof import Piece, prove


@dataclass(frozen=True)
class Difference:
    """Where lava-dl's export is not what SLAYER trained, or is not there at all."""

    name: str
    lava_dl: str
    here: str


DIFFERENCES = (
    Difference(
        "weight exponent",
        "WgtScaleBatchNorm is written as neuron/weight_exp, which netx ignores",
        "folded into weights and bias where that is exact (whole numbers; for CUBA neurons also a "
        "current decay of 0 or 4096), else refused",
    ),
    Difference(
        "one mean",
        "a norm that was never trained writes one bias, which is none per neuron",
        "spread over the channels",
    ),
    Difference(
        "recurrent norm",
        "written as bias, while training feeds it back into the current",
        "refused, unless the current decay is 4096 and both are the same",
    ),
    Difference("affine norm", "the bias is not written", "it is the bias"),
    Difference("set_bias", "not written", "it is the bias; refused where not a multiple of 1/64"),
    Difference(
        "affine threshold",
        "vThMant = 2^18 - 1, beyond 17 bits",
        "2^17 - 1, the largest there is: v never spikes below 2^23 - 64",
    ),
    Difference(
        "affine current",
        "without dynamics no neuron is written: netx adds all input up",
        "decays of 4096: v is the current of the step, as in training",
    ),
    Difference(
        "conv delay",
        "written, and ignored by netx",
        "delays of the inputs of the next dense layer; refused where none follows",
    ),
    Difference(
        "delay and bias",
        "netx delays a layer's inputs and SLAYER its outputs: not the same with a bias",
        "as above",
    ),
    Difference(
        "weight norm",
        "the weights of affine and output blocks are those of the last forward pass",
        "computed from the parameters",
    ),
    Difference("mask", "applied in the next forward pass only", "applied"),
    Difference(
        "scale",
        "with a scale that is no power of two, rounding makes 28 of a threshold of 29, 13.999999 of "
        "a weight of 14 (netx reads 13)",
        "the nearest integer",
    ),
    Difference(
        "sigma-delta scale",
        "a scale other than 64 is written, and multiplies all messages by scale / 64",
        "refused",
    ),
    Difference("complex norm", "norms of resonators are not written", "refused"),
    Difference("dense over channels", "dense blocks over (C, H, W) crash", "Flatten and Dense"),
    Difference("pool", "written, and netx cannot build it", "its exact depthwise convolution"),
    Difference(
        "mixed messages",
        "sigma-delta and other blocks in one network are written, though one sends 4096 for 1.0 and "
        "the others 1",
        "refused, but for sums (a sigma-delta output block) of spikes, which are multiples of 1/64",
    ),
    Difference("no forward pass", "crashes: shapes are known after one only", "not needed"),
)
"""Every row is a row of tests. Refused by both, as by `read_netx`: graded spikes, activations other
than ReLU, cumulative error, adaptive neurons, average, time decimation, KWTA, transposed convolution,
unpooling, complex convolution, resonators per channel, delays of recurrent or complex layers,
recurrent weight norm (SLAYER itself never renews those weights).

Training and chip differ further in what no file could hold: SLAYER's CPU compares v >= threshold
instead of > for thresholds from 64.0 on and cannot run convolutions with decays per channel, its
states neither wrap nor saturate, a learned sigma-delta threshold is truncated to 1/64, and RF decays
come out of Lava one smaller at times (see `ResonateFire.decays`)."""


def from_slayer(model: nn.Module, input_shape: Sequence[int] | None = None) -> Network:
    """The integers with which a SLAYER network computes in evaluation mode.

    `model`: one SLAYER (or bootstrap) block, or any module whose forward pass, (sample, *input shape,
    time) to the last block's output (or a tuple that starts with it, or its sum or mean over time),
    runs blocks one after another; lists of modules without a forward pass run in their order. A copy
    of it is run to find that order (see `slayer_order`), and each block's layers are proven to answer
    as the block does, message by message (see `slayer_proof`). `nn.Identity` and dropout count for
    nothing. `input_shape`: (N,) or (C, H, W) of one step, needed where the network starts with a
    convolution, a pool or flatten and has no input block that has run.

    Blocks: input, flatten, dense, conv, pool (where it is a depthwise convolution), affine,
    recurrent, sigma-delta output; neurons: CUBA, sigma-delta, RF and RF-Izhikevich (dense only), with
    weight norm, masks, any quantization hook that gives integers / scale, MeanOnlyBatchNorm (a bias),
    WgtScaleBatchNorm, axonal delays, decays per channel. `delay_shift` is the chip's latency of one
    step; a bias works in every layer from the first step on, one step before the first data (run
    SLAYER with one blank frame first for the same spikes). Spikes are 1 on the chip; 1.0 in a message
    of sigma-delta neurons is 4096, in their input block's input 64, in a sum of messages 2^18 (of
    spikes 64).

    Raises NetworkError that lists every block that cannot be converted, or tells where the forward
    pass is no chain. UnprovenWarning: a block could not be compared with its layers.
    """
    if type(model) is SlayerClassifier:  # its forward encodes and counts, as the recipe says
        model = model.blocks
    shape = None if input_shape is None else tuple(int(n) for n in input_shape)
    links, fault = chain(model, shape)
    made = _Made((links[0].shape if links else None) or shape)
    for link in links:
        made.add(link)
    if made.waiting is not None:
        made.problems.append(
            "the last layer delays its outputs after a bias or a convolution: netx can only delay "
            "what enters a dense layer. Train it without delay, and read it later."
        )
    problems = made.problems
    if not problems:
        network = _network(made.layers, input_shape)
        problems = [fault] if fault else _unlike(made.pieces)
    if problems:
        raise NetworkError("\n".join([f"{len(problems)} problem(s) with the network:", *problems]))
    return network


class _Made:
    """What was made of the blocks so far, and what was not possible."""

    def __init__(self, shape: Shape | None) -> None:
        self.layers: list[Layer] = []
        self.pieces: list[Piece] = []
        self.problems: list[str] = []
        self.waiting: IntArray | None = None
        """delays of outputs that the next dense layer can make"""
        self._shape = shape
        self._messages = Messages()
        self._used: set[int] = set()

    def add(self, link: Link) -> None:
        block, before = link.block, self.waiting
        try:
            if id(block) in self._used:
                _check_twice(block)
            self._used.add(id(block))
            made, self.waiting = _delayed(_layers(block, self._shape), block, before)
            unit = self._messages.into(str(link), block, made[-1])
            for layer in made:
                self.layers.append(layer)
                self._shape = _shape_after(layer, self._shape)
        except NetworkError as error:
            self.problems.append(f"{link}: {error}")
            self._shape = self.waiting = None
            return
        if link.copy is not None and getattr(made[-1], "neuron", None) is not None:
            delays = (before, _own_delay(block), self.waiting)
            self.pieces.append(Piece(str(link), link.copy, made, link.shape, unit, *delays))


def _network(layers: list[Layer], input_shape: Sequence[int] | None) -> Network:
    if layers and isinstance(layers[0], Conv | Flatten):
        layers = [Input(_needed(input_shape)), *layers]
    network = Network(layers)
    if input_shape is not None and network.input_shape != tuple(input_shape):
        raise NetworkError(
            f"input_shape {tuple(input_shape)} was given, but the network has "
            f"{network.input_shape}. Leave it out."
        )
    return network


def _check_twice(block: Any) -> None:
    """A block at two places is two layers of the same weights, if no state goes from one to the other."""
    if getattr(getattr(block, "neuron", None), "persistent_state", False):
        raise NetworkError(
            "it is used at two places and keeps its state from one call to the next "
            "(persistent_state, as all recurrent blocks): in the second it would go on from where the "
            "first ended, which two layers of a chip do not. Use two blocks."
        )


def _unlike(pieces: list[Piece]) -> list[str]:
    """What the proof of each block says against it."""
    problems = []
    for piece in pieces:
        try:
            prove(piece)
        except NetworkError as error:
            problems.append(f"{piece.name}: {error}")
    return problems


def _needed(shape: Sequence[int] | None) -> Shape:
    if shape is None:
        raise NetworkError("the shape of its input is not known. Give input_shape, (C, H, W).")
    return tuple(shape)


def _shape_after(layer: Layer, shape: Shape | None) -> Shape | None:
    if isinstance(layer, Input):
        return layer.shape
    if isinstance(layer, Dense):
        return (len(layer.weight),)
    if isinstance(layer, Flatten):
        return None if shape is None else (math.prod(shape),)
    return None if shape is None else Network([Input(shape), layer]).output_shape


# -- blocks ------------------------------------------------------------------------------------


def _layers(block: nn.Module, shape: Shape | None) -> list[Layer]:
    convert = find(BLOCKS, block, "block")
    home = type(block).forward.__module__
    if not home.startswith("lava.lib.dl."):
        raise NetworkError(f"its forward is from {home}, not SLAYER's. Use the block as it is.")
    return convert(block, shape)


def _input(block: Any, shape: Shape | None) -> list[Layer]:
    neuron = None if block.neuron is None else neurons(block)
    if isinstance(neuron, SigmaDelta):
        neuron = Delta(neuron.threshold)
    if getattr(block.neuron, "norm", None) is not None:
        raise NetworkError("netx has no bias, and so no norm, in its input layer. Drop the norm.")
    shape = _needed(block.shape or shape)
    if neuron is None:  # then SLAYER does not apply the transform either
        return [Input(shape)]
    weight, bias = (
        None if value is None else whole(block.pre_hook_fx(value), block.neuron.w_scale, name)
        for name, value in (("weight", block.weight), ("bias", block.bias))
    )
    return [Input(shape, neuron, weight, bias)]  # type: ignore[arg-type]


def _flatten(block: Any, shape: Shape | None) -> list[Layer]:
    return [Flatten()]


def _dense(block: Any, shape: Shape | None) -> list[Layer]:
    neuron, synapse = neurons(block), block.synapse
    if synapse.complex:
        (real, imaginary), _ = synapses(block, neuron, synapse.real, synapse.imag)
        return _over(shape, real, neuron=neuron, imaginary=_matrix(imaginary))
    (weight,), bias = synapses(block, neuron, synapse)
    return _over(shape, weight, bias=bias, neuron=neuron)


def _affine(block: Any, shape: Shape | None, *, runs: bool) -> list[Layer]:
    """`runs`: whether the block ever runs its neurons (bootstrap's never do)."""
    full, runs = arithmetic.DECAY_ONE, runs and block.dynamics
    i_decay, v_decay = decays(block.neuron) if runs else (full, full)
    neuron = CubaLIF(i_decay, v_decay, arithmetic.THRESHOLD_MAX)
    (weight,), bias = synapses(block, neuron, block.synapse, normed=runs)
    return _over(shape, weight, bias=bias, neuron=neuron)


def _output(block: Any, shape: Shape | None) -> list[Layer]:
    neurons(block)
    (weight,), _ = synapses(block, Sigma(), block.synapse, normed=False)
    return _over(shape, weight, neuron=Sigma())


def _conv(block: Any, shape: Shape | None) -> list[Layer]:
    neuron = neurons(block)
    (weight,), bias = synapses(block, neuron, block.synapse)
    options = _spatial(block.synapse)
    return [Conv(weight[..., 0], bias, neuron, **options, groups=block.synapse.groups)]


def _pool(block: Any, shape: Shape | None) -> list[Layer]:
    neuron = neurons(block)
    (weight,), _ = synapses(block, neuron, block.synapse)
    return [lowered_pool(weight[..., 0], neuron, _needed(shape), **_spatial(block.synapse))]


def _recurrent(block: Any, shape: Shape | None) -> list[Layer]:
    neuron = neurons(block)
    if weight_norm(block.recurrent_synapse):
        raise NetworkError(
            "SLAYER never renews normed recurrent weights: it computes with those drawn at first, "
            "which no checkpoint holds. Train without weight_norm."
        )
    (weight, recurrent), bias = synapses(
        block, neuron, block.input_synapse, block.recurrent_synapse
    )
    if bias is not None and bias.any() and set(decays(block.neuron)[0]) != {arithmetic.DECAY_ONE}:
        raise NetworkError(
            "SLAYER's recurrent blocks run step by step and keep the current after the norm, so "
            "that its bias decays with the current; the chip adds a bias to the voltage. Drop the "
            "norm, or use a current decay of 1."
        )
    return _over(shape, weight, bias=bias, neuron=neuron, recurrent=_matrix(recurrent))


def _over(shape: Shape | None, weight: IntArray, **options: Any) -> list[Layer]:
    """The Dense layer of a weight (out, C, H, W, 1), after a Flatten where its input has axes."""
    layer = Dense(_matrix(weight), **options)
    window = weight.shape[1:4]
    if window[1:] == (1, 1) and (shape is None or len(shape) == 1):
        return [layer]
    if _needed(shape) != window:
        raise NetworkError(
            f"its weights are over (C, H, W) = {window}, the block before gives {shape}. Put a "
            f"flatten block before it."
        )
    return [Flatten(), layer]


def _matrix(weight: IntArray) -> IntArray:
    return weight.reshape(len(weight), -1)


def _spatial(synapse: Any) -> dict[str, Any]:
    return {name: getattr(synapse, name)[:-1] for name in ("stride", "padding", "dilation")}


def _delayed(
    layers: list[Layer], block: Any, waiting: IntArray | None
) -> tuple[list[Layer], IntArray | None]:
    """`layers` with the delays of their block, and the delays left to the next dense layer.

    SLAYER delays outputs, netx the inputs of dense layers. For one without bias that is the same;
    otherwise the next layer's inputs are delayed. `waiting`: those of the block before, per channel.
    """
    *before, last = layers
    if isinstance(last, Flatten | Input):
        return layers, waiting
    own = _own_delay(block)
    if waiting is not None and not isinstance(last, Dense):
        raise NetworkError(
            "the block before delays its outputs after a bias or a convolution; netx can only "
            "delay what enters a dense layer. Train that one without delay."
        )
    if not isinstance(last, Dense):
        return layers, own
    biased = last.bias is not None and last.bias.any()
    of_outputs = None if biased else own
    delay = of_outputs
    if waiting is not None:
        per_input = np.repeat(waiting, last.weight.shape[1] // len(waiting))
        delay = per_input + np.zeros((len(last.weight), 1), np.int32)
        delay += 0 if of_outputs is None else of_outputs[:, None]
    plain = last.recurrent is None and last.imaginary is None
    if delay is None and own is None and plain and getattr(block, "delay", None) is not None:
        delay = np.zeros(len(last.weight), np.int32)  # written by lava-dl: Lava sums as with delays
    if delay is not None:
        last = replace(last, delay=delay)
    return [*before, last], own if biased else None


def _own_delay(block: Any) -> IntArray | None:
    """Whole steps per output channel, or None where there are none."""
    delay = getattr(block, "delay", None)
    if delay is None:
        return None
    if not delay.init:
        raise NetworkError("its delays are drawn in its first forward pass. Run one step first.")
    steps: IntArray = delay.delay.detach().cpu().clamp(0, delay.max_delay).floor().int().numpy()
    return steps if steps.any() else None


BLOCKS: dict[str, Callable[[Any, Shape | None], list[Layer]] | str] = {
    "block.base.AbstractInput": _input,
    "block.base.AbstractFlatten": _flatten,
    "block.base.AbstractDense": _dense,
    "block.base.AbstractConv": _conv,
    "block.base.AbstractPool": _pool,
    "block.base.AbstractAffine": partial(_affine, runs=True),
    "lava.lib.dl.bootstrap.block.cuba.Affine": partial(_affine, runs=False),
    "block.base.AbstractRecurrent": _recurrent,
    "block.sigma_delta.Output": _output,
    "block.base.AbstractConvT": "netx cannot build it. Write the transposed convolution as dense.",
    "block.base.AbstractUnpool": "netx cannot build it. Repeat the values in the next weights.",
    "block.base.AbstractAverage": "netx cannot build it. Take the mean of the outputs after the run.",
    "block.base.AbstractTimeDecimation": "the chip has one time step. Bin the input beforehand.",
    "block.base.AbstractKWTA": "lava-dl cannot write it. Use a recurrent block.",
}
