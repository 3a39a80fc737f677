"""`Network`: a spiking network in the integers that Loihi-style hardware runs.

A chain of frozen layers in torch's axis order (C, H, W). Every number is checked when a layer
is made and never changed afterwards; `Network.digest` names the stored integers in every report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arithmetic

Shape: TypeAlias = tuple[int, ...]
IntArray: TypeAlias = NDArray[np.int32]


class NetworkError(ValueError):
    """A network or its input holds something that Loihi-style hardware or netx cannot hold."""


def integers(
    values: ArrayLike, what: str, low: int, high: int, fix: str, *, scalar: bool = False
) -> IntArray:
    """`values` as a read-only int32 array, or a NetworkError naming the first offending value.

    Refused: not a number, fractions, anything outside [low, high].
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise NetworkError(f"{what} has dtype {array.dtype}; integers are needed. {fix}")
    if scalar and array.size != 1:
        raise NetworkError(f"{what} has shape {array.shape}; a single integer is needed. {fix}")
    for bad, complaint in (
        (~np.isfinite(array), "is not a finite number"),
        (array != np.floor(array), "is not an integer"),
        ((array < low) | (array > high), f"is outside [{low}, {high}]"),
    ):
        if bad.any():
            where = np.unravel_index(int(bad.argmax()), array.shape)
            place = f"[{', '.join(map(str, where))}]" if array.ndim else ""
            others = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            raise NetworkError(f"{what}{place} = {array[where]} {complaint}{others}. {fix}")
    frozen = np.array(array, dtype=np.int32, order="C")
    frozen.flags.writeable = False
    return frozen


def _pair(values: int | Sequence[int] | IntArray, what: str, low: int) -> tuple[int, int]:
    fix = "Give one integer, or two in (y, x) order."
    array = integers(values, what, low, 127, fix + " (Lava's CPU backend stores it in 8 bits.)")
    if array.size not in (1, 2):
        raise NetworkError(f"{what} has {array.size} entries. {fix}")
    pair = array.ravel().tolist()
    return pair[0], pair[-1]


@dataclass(frozen=True, eq=False)
class CubaLIF:
    r"""Current-based leaky integrate-and-fire neurons, in netx `CUBA` (or the older `LOIHI`).

    With a the synaptic sum of the step and tz = rounding toward zero::

        u <- wrap(tz(u * (4096 - i_decay) / 4096) + (a << 6))
        v <- clip(tz(v * (4096 - v_decay) / 4096) + u + (bias << 6))
        spike = v > (threshold << 6), then v <- 0

    Parameters are integers: a scalar, one per channel (C,) of a convolution, or one per neuron.
    `i_decay`, `v_decay`: 0 (keep all) .. 4096 (forget all); time constant about 4096 / decay steps.
    `threshold`: 0 .. 131071 (17 bit). Source: Lava 0.10, `lava.proc.lif.models`. Real Loihi shows
    v = 128 in the step of a spike (a refractory count); Lava, and this package, show 0.
    """

    i_decay: int | IntArray
    v_decay: int | IntArray
    threshold: int | IntArray
    kind: Literal["CUBA", "LOIHI"] = "CUBA"

    def __post_init__(self) -> None:
        decays = "Decays are 12-bit fractions of 4096: round(4096 * dt / tau)."
        for name, high, fix in (
            ("i_decay", arithmetic.DECAY_ONE, decays),
            ("v_decay", arithmetic.DECAY_ONE, decays),
            (
                "threshold",
                arithmetic.THRESHOLD_MAX,
                "Thresholds are unsigned 17-bit mantissas: lower the scale of this layer's "
                "weights, bias and threshold together.",
            ),
        ):
            array = integers(getattr(self, name), name, 0, high, fix)
            value = int(array.item()) if array.size == 1 else array
            object.__setattr__(self, name, value)
        if self.kind not in ("CUBA", "LOIHI"):
            raise NetworkError(f"neuron kind {self.kind!r} is not supported; use CUBA or LOIHI.")


@dataclass(frozen=True, eq=False)
class Input:
    """The shape of the input and, optionally, neurons that turn it into spikes.

    Without `neuron` the input itself is the spikes (0 / 1, or graded integers). With `neuron` the
    input is the neurons' current: a constant input is their bias mantissa (13 bit).
    `weight` and `bias` are the transform `weight * x + bias` that lava-dl stores for whoever
    prepares the input; netx does not apply it, nor do we.
    """

    shape: Shape
    neuron: CubaLIF | None = None
    weight: int | None = None
    bias: int | None = None

    def __post_init__(self) -> None:
        fix = "Give (N,) or (C, H, W)."
        shape = integers(self.shape, "shape", 1, 1 << 24, fix)
        if shape.ndim != 1 or shape.size not in (1, 3):
            raise NetworkError(f"input shape {self.shape} has {shape.size} axes. {fix}")
        object.__setattr__(self, "shape", tuple(shape.tolist()))
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if value is not None:
                checked = integers(value, name, -(1 << 15), (1 << 15) - 1, "", scalar=True)
                object.__setattr__(self, name, int(checked.item()))


@dataclass(frozen=True, eq=False)
class Flatten:
    """(C, H, W) to (C * H * W,) in row-major order, as torch flattens."""


@dataclass(frozen=True, eq=False)
class Dense:
    """All-to-all synapses and their neurons: a = weight @ spikes, one step later.

    `weight`: integers (out, in) within [-256, 254]. `bias`: None or (out,), 13-bit mantissas added
    to v (not to u) in every step. `neuron`: None is netx's default, an integrator that never
    spikes (u adds up all input, v = u).
    """

    weight: IntArray
    bias: IntArray | None = None
    neuron: CubaLIF | None = None

    def __post_init__(self) -> None:
        _freeze_synapses(self, 2, "(out, in)")


@dataclass(frozen=True, eq=False)
class Conv:
    """Two-dimensional convolution (torch's correlation) and its neurons, one step later.

    `weight`: integers (out channels, in channels / groups, kernel y, kernel x) within [-256, 254];
    `stride`, `padding` (zeros), `dilation`: (y, x); `bias`: None, per channel (C,) or per neuron
    (C, H, W). Lava's CPU backend wraps the sums at 24 bit.
    """

    weight: IntArray
    bias: IntArray | None = None
    neuron: CubaLIF | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        _freeze_synapses(self, 4, "(out channels, in channels / groups, kernel y, kernel x)")
        for name, low in (("stride", 1), ("padding", 0), ("dilation", 1)):
            object.__setattr__(self, name, _pair(getattr(self, name), name, low))
        fix = "Lava's CPU keeps groups in 8 bits: split the layer, or use groups=1 with zeros."
        groups = int(integers(self.groups, "groups", 1, 127, fix, scalar=True).item())
        if self.weight.shape[0] % groups:
            raise NetworkError(
                f"groups = {groups} does not divide the {self.weight.shape[0]} output channels."
            )
        object.__setattr__(self, "groups", groups)
        if self.neuron is None:
            raise NetworkError("a Conv layer needs a neuron; netx has no default one for it.")


def _freeze_synapses(layer: Dense | Conv, ndim: int, axes: str) -> None:
    weight = integers(
        layer.weight,
        "weight",
        arithmetic.WEIGHT_MIN,
        arithmetic.WEIGHT_MAX,
        "netx holds 8-bit integer weights and Lava would clip, truncate or zero others: "
        "quantize again with a smaller scale.",
    )
    if weight.ndim != ndim or weight.size == 0:
        raise NetworkError(f"weight has shape {weight.shape}; {axes} is needed.")
    object.__setattr__(layer, "weight", weight)
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


Layer: TypeAlias = Input | Flatten | Dense | Conv
NeuronLayer: TypeAlias = Input | Dense | Conv


@dataclass(frozen=True)
class Recipe:
    """How to run a network again: what the netx format itself cannot hold.

    `steps`: input steps per sample. `levels`: a pixel x in [0, 1] is presented as the integer
    round(x * levels). `message_bits`: width of the graded input spikes, sign included (0: binary).
    `reset_interval`, `reset_offset`: as lava-dl's `netx.hdf5.Network` takes them; with offset 1,
    layer i forgets its state in the very step in which the first input step reaches it.
    `coding`, `sigma`: the input coding and its noise in pixel units; `seed`: of that noise.
    `decode`: "spike count" of the last layer, or its "mean voltage" or "last voltage" divided by
    `output_unit` (integers per 1.0 of the float network).
    """

    steps: int
    levels: int = 1
    message_bits: int = 0
    reset_interval: int | None = None
    reset_offset: int = 0
    coding: str = "direct"
    sigma: float = 0.0
    seed: int = 0
    decode: Literal["spike count", "mean voltage", "last voltage"] = "spike count"
    output_unit: float = 1.0
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        if self.steps < 1 or self.steps % 1:
            raise NetworkError(f"steps = {self.steps}; a whole number of 1 or more is needed.")


@dataclass(frozen=True)
class Population:
    """One layer of a network that holds neurons, with its place and shapes."""

    index: int
    """position among the populations: Lava's `net.layers[index]`, `spikes.{index}` of a trace"""
    name: str
    """such as `2:conv`: position in the file and type"""
    layer: NeuronLayer
    input_shape: Shape
    shape: Shape
    latency: int
    """steps until the first input step can move this layer (0 for Input neurons)"""

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers; `recipe` says how it is meant to be run. Equal when all integers are."""

    layers: tuple[Layer, ...]
    recipe: Recipe | None = None

    def __init__(self, layers: Sequence[Layer], recipe: Recipe | None = None) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "recipe", recipe)
        if not self.populations:
            raise NetworkError("the network has no layer with neurons.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network):
            return NotImplemented
        return self.digest == other.digest and self.recipe == other.recipe

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, in (C, H, W) order."""
        shape: Shape | None = None
        out = []
        for i, layer in enumerate(self.layers):
            where = f"layer {i} ({type(layer).__name__})"
            if isinstance(layer, Input) and i:
                raise NetworkError(f"{where}: an Input layer can only come first.")
            if shape is None:
                shape = _first_shape(layer, where)
            try:
                shape = _output_shape(layer, shape)
                for name, array in _per_neuron(layer):
                    if array.shape != shape and array.shape != shape[:1]:
                        raise NetworkError(
                            f"{name} has shape {array.shape}; one per channel or neuron, "
                            f"{shape[:1]} or {shape}, is needed."
                        )
            except NetworkError as error:
                raise NetworkError(f"{where}: {error}") from None
            out.append(shape)
        return tuple(out)

    @property
    def input_shape(self) -> Shape:
        """Shape of one input step."""
        return _first_shape(self.layers[0], "layer 0")

    @property
    def output_shape(self) -> Shape:
        """Shape of the last layer."""
        return self.shapes[-1]

    @cached_property
    def populations(self) -> tuple[Population, ...]:
        """The layers with neurons, numbered as Lava numbers `net.layers`."""
        out: list[Population] = []
        shapes = self.shapes
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Flatten) or (isinstance(layer, Input) and layer.neuron is None):
                continue
            before = shapes[i - 1] if i else self.input_shape
            latency = out[-1].latency + 1 if out else int(not isinstance(layer, Input))
            name = f"{i}:{type(layer).__name__.lower()}"
            out.append(Population(len(out), name, layer, before, shapes[i], latency))
        return tuple(out)

    @property
    def latency(self) -> int:
        """Steps from an input step to the output step that it first moves."""
        return self.populations[-1].latency

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every stored integer: layer types, parameter names, shapes and values."""
        sha = hashlib.sha256(b"spikeship network 1")
        for layer in self.layers:
            for name, value in _integers_of(layer):
                array = np.asarray(value, dtype="<i4")
                sha.update(f"{type(layer).__name__}.{name}{array.shape}".encode())
                sha.update(array.tobytes())
        return sha.hexdigest()

    def __repr__(self) -> str:
        chain = " -> ".join(
            f"{type(layer).__name__}{shape}"
            for layer, shape in zip(self.layers, self.shapes, strict=True)
        )
        return f"<Network {chain}, digest {self.digest[:12]}>"


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
        return (int(np.prod(shape)),)
    if isinstance(layer, Dense):
        out, into = layer.weight.shape
        if shape != (into,):
            fix = " Put a Flatten before it." if np.prod(shape) == into else ""
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
    for name, value in _integers_of(layer):
        vector = isinstance(value, np.ndarray) and value.ndim > 0
        if vector and name not in ("weight", "shape", "stride", "padding", "dilation"):
            yield name, value


def _integers_of(layer: Layer) -> Iterator[tuple[str, Any]]:
    """Every integer a layer stores, as (dotted name, value), in the order of its fields."""
    yield "layer", 0
    for part in fields(layer):
        value = getattr(layer, part.name)
        if isinstance(value, CubaLIF):
            yield "neuron", 0
            for inner in ("i_decay", "v_decay", "threshold"):
                yield f"neuron.{inner}", getattr(value, inner)
        elif value is not None:
            yield part.name, value
