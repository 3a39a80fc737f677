"""`Input`, `Flatten`, `Dense`, `Conv`: the layers of a network, checked integers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import arithmetic
from .neurons import (
    NEURONS,
    IntArray,
    NetworkError,
    Neuron,
    Stored,
    integers,
    stored_integers,
)

Shape: TypeAlias = tuple[int, ...]


def _pair(values: int | Sequence[int] | IntArray, what: str, low: int) -> tuple[int, int]:
    fix = "Give one integer, or two in (y, x) order."
    array = integers(values, what, low, 127, fix + " (Lava's CPU backend stores it in 8 bits.)")
    if array.size not in (1, 2):
        raise NetworkError(f"{what} has {array.size} entries. {fix}")
    pair = array.ravel().tolist()
    return pair[0], pair[-1]


@dataclass(frozen=True, eq=False)
class Input(Stored):
    """The shape of the input and, optionally, neurons that turn it into spikes.

    Without `neuron` the input itself is the spikes (0 / 1, or graded integers). With `neuron` the
    input is the neurons' current: a constant input is the bias mantissa (13 bit) of CubaLIF, and
    simply held for Delta.
    `weight` and `bias` are the transform `weight * x + bias` that lava-dl stores for whoever
    prepares the input; netx does not apply it, nor do we.
    """

    shape: Shape
    neuron: Neuron | None = None
    weight: int | None = None
    bias: int | None = None

    def __post_init__(self) -> None:
        fix = "Give (N,) or (C, H, W)."
        shape = integers(self.shape, "shape", 1, 1 << 24, fix)
        if shape.ndim != 1 or shape.size not in (1, 3):
            raise NetworkError(f"input shape {self.shape} has {shape.size} axes. {fix}")
        object.__setattr__(self, "shape", tuple(shape.tolist()))
        _check_neuron(self, "an")
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if value is not None:
                checked = integers(value, name, -(1 << 15), (1 << 15) - 1, "", scalar=True)
                object.__setattr__(self, name, int(checked.item()))


@dataclass(frozen=True, eq=False)
class Flatten(Stored):
    """(C, H, W) to (C * H * W,) in row-major order, as torch flattens."""


def _check_neuron(layer: Input | Dense | Conv, article: str) -> None:
    """Refuse neurons that do not say that they may be in such a layer."""
    name, neuron = type(layer).__name__, layer.neuron
    if neuron is not None and name not in getattr(neuron, "layers", ()):
        kinds = ", ".join(kind.__name__ for kind in NEURONS if name in kind.layers)
        raise NetworkError(
            f"{article} {name} layer cannot have {type(neuron).__name__} neurons in netx; possible: "
            f"{kinds}."
        )


@dataclass(frozen=True, eq=False)
class Dense(Stored):
    """All-to-all synapses and their neurons: a = weight @ spikes, one step later.

    `weight`: integers (out, in) within [-256, 254]. `bias`: None or (out,), 13-bit mantissas added
    to v (not to u) in every step. `neuron`: None is netx's default, an integrator that never
    spikes (u adds up all input, v = u).

    `recurrent`: None or integers (out, out): the layer's own messages arrive through them one step
    later (netx `dense_rec`). `delay`: None or 0 .. 62 further steps, one for all synapses, per
    output (out,), per input (in,) or per synapse (out, in); a vector of length out = in counts per
    output. `imaginary`: the weights of the imaginary part, needed by ResonateFire neurons
    (`weight` is then the real part) and by no others.
    """

    weight: IntArray
    bias: IntArray | None = None
    neuron: Neuron | None = None
    recurrent: IntArray | None = None
    delay: int | IntArray | None = None
    imaginary: IntArray | None = None

    def __post_init__(self) -> None:
        _freeze_synapses(self, 2, "(out, in)")
        _check_neuron(self, "a")
        out, into = self.weight.shape
        for name, shape in (("recurrent", (out, out)), ("imaginary", (out, into))):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _weights(value, name, shape))
        two_sums = self.neuron is not None and self.neuron.has_two_sums
        if two_sums != (self.imaginary is not None):
            kind = type(self.neuron).__name__ if two_sums else "ResonateFire"
            raise NetworkError(f"{kind} neurons, and only they, need imaginary weights.")
        if self.imaginary is not None and (self.bias is not None or self.recurrent is not None):
            raise NetworkError("a complex layer has no bias and no recurrence in netx; drop them.")
        if self.delay is not None:
            self._freeze_delay(out, into)

    def _freeze_delay(self, out: int, into: int) -> None:
        fix = (
            f"Loihi 2 and netx hold whole delays of 0 to {arithmetic.DELAY_MAX} steps: shorten it."
        )
        delay = integers(
            0 if self.delay is None else self.delay, "delay", 0, arithmetic.DELAY_MAX, fix
        )
        if delay.shape not in ((), (out,), (into,), (out, into)):
            raise NetworkError(
                f"delay has shape {delay.shape}; one for all, ({out},) per output, ({into},) per "
                f"input or ({out}, {into}) is needed."
            )
        if self.recurrent is not None:
            raise NetworkError(
                "delays of a recurrent layer are not supported: lava-dl scales such weights "
                "wrongly. Drop the delays."
            )
        if self.imaginary is not None:
            raise NetworkError("lava-dl ignores delays of complex layers. Drop the delays.")
        object.__setattr__(self, "delay", delay if delay.ndim else int(delay))

    @property
    def delays(self) -> IntArray | None:
        """The delay of every synapse, (out, in), or None."""
        if self.delay is None:
            return None
        delay = np.asarray(self.delay, np.int32)
        if delay.shape == (len(self.weight),):
            delay = delay[:, None]
        return np.broadcast_to(delay, self.weight.shape)


@dataclass(frozen=True, eq=False)
class Conv(Stored):
    """Two-dimensional convolution (torch's correlation) and its neurons, one step later.

    `weight`: integers (out channels, in channels / groups, kernel y, kernel x) within [-256, 254];
    `stride`, `padding` (zeros), `dilation`: (y, x); `bias`: None, per channel (C,) or per neuron
    (C, H, W). Lava's CPU backend wraps the sums at 24 bit, see `arithmetic.convolved`.
    """

    weight: IntArray
    bias: IntArray | None = None
    neuron: Neuron | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        _freeze_synapses(self, 4, "(out channels, in channels / groups, kernel y, kernel x)")
        for name, low in (("stride", 1), ("padding", 0), ("dilation", 1)):
            object.__setattr__(self, name, _pair(getattr(self, name), name, low))
        _pair(self.weight.shape[2:], "kernel size", 1)
        fix = "Lava's CPU keeps groups in 8 bits: split the layer, or use groups=1 with zeros."
        groups = int(integers(self.groups, "groups", 1, 127, fix, scalar=True).item())
        if self.weight.shape[0] % groups:
            raise NetworkError(
                f"groups = {groups} does not divide the {self.weight.shape[0]} output channels."
            )
        object.__setattr__(self, "groups", groups)
        if self.neuron is None:
            raise NetworkError("a Conv layer needs a neuron; netx has no default one for it.")
        _check_neuron(self, "a")


def _weights(values: ArrayLike, name: str, shape: Shape | None = None) -> IntArray:
    array = integers(
        values,
        name,
        arithmetic.WEIGHT_MIN,
        arithmetic.WEIGHT_MAX,
        "netx holds 8-bit integer weights and Lava would clip, truncate or zero others: "
        "quantize again with a smaller scale.",
    )
    if shape is not None and array.shape != shape:
        raise NetworkError(f"{name} has shape {array.shape}; {shape} is needed.")
    return array


def _freeze_synapses(layer: Dense | Conv, ndim: int, axes: str) -> None:
    weight = _weights(layer.weight, "weight")
    if weight.ndim != ndim or weight.size == 0:
        raise NetworkError(f"weight has shape {weight.shape}; {axes} is needed.")
    object.__setattr__(layer, "weight", weight)
    neuron = layer.neuron
    if layer.bias is not None and neuron is not None and not neuron.has_bias:
        raise NetworkError(f"{type(neuron).__name__} neurons have no bias in netx; drop it.")
    if layer.bias is not None:
        bias = integers(
            layer.bias if np.ndim(layer.bias) else np.full(len(weight), layer.bias),
            "bias",
            arithmetic.BIAS_MIN,
            arithmetic.BIAS_MAX,
            "A bias is a 13-bit mantissa: lower the scale of this layer's weights, bias and "
            "threshold together.",
        )
        object.__setattr__(layer, "bias", bias)


def weight_matrices(layer: Layer) -> tuple[IntArray, ...]:
    """All weights of a layer: those of its input, then recurrent and imaginary ones; none of Input.

    Shapes as in `Dense` and `Conv`.
    """
    if not isinstance(layer, Dense | Conv):
        return ()
    others = (layer.recurrent, layer.imaginary) if isinstance(layer, Dense) else ()
    return (layer.weight, *(matrix for matrix in others if matrix is not None))


Layer: TypeAlias = Input | Flatten | Dense | Conv
NeuronLayer: TypeAlias = Input | Dense | Conv


def _first_shape(layer: Layer, where: str) -> Shape:
    if isinstance(layer, Input):
        return layer.shape
    if isinstance(layer, Dense):
        return (int(layer.weight.shape[1]),)
    raise NetworkError(
        f"{where}: the input shape is unknown; start the network with Input((C, H, W))."
    )


def _output_shape(layer: Layer, shape: Shape) -> Shape:
    if isinstance(layer, Input):
        return layer.shape
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if isinstance(layer, Dense):
        out, into = layer.weight.shape
        if shape != (into,):
            fix = " Put a Flatten before it." if math.prod(shape) == into else ""
            raise NetworkError(
                f"weight {layer.weight.shape} expects {into} inputs, the layer before gives "
                f"shape {shape}.{fix}"
            )
        return (out,)
    if len(shape) != 3 or shape[0] != layer.weight.shape[1] * layer.groups:
        raise NetworkError(
            f"weight {layer.weight.shape} with groups {layer.groups} expects (C, H, W) with "
            f"C = {layer.weight.shape[1] * layer.groups}, the layer before gives shape {shape}."
        )
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            shape[1:],
            layer.padding,
            layer.dilation,
            layer.weight.shape[2:],
            layer.stride,
            strict=True,
        )
    ]
    if min(size) < 1:
        raise NetworkError(
            f"the dilated kernel of weight {layer.weight.shape} is larger than the padded input "
            f"of shape {shape}."
        )
    return (layer.weight.shape[0], *size)


def _per_neuron(layer: Layer) -> Iterator[tuple[str, IntArray]]:
    for name, value in stored_integers(layer):
        vector = isinstance(value, np.ndarray) and value.ndim > 0
        if vector and (name == "bias" or name.startswith("neuron.")):
            yield name, value
