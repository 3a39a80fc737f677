"""One NIR node at a time: from the numbers of a file to a node that knows its shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ..graph import conv2d
from .nir_file import Raw

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

_NEURONS: dict[str, tuple[str, ...]] = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}
_WINDOW = ("stride", "padding", "dilation", "groups")
FIELDS: dict[str, tuple[str, ...]] = {
    **_NEURONS,
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("weight", *_WINDOW, "bias", "input_shape"),
    "Conv2d": ("weight", *_WINDOW, "bias", "input_shape"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("start_dim", "end_dim", "input_type"),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
}
DEFAULTS: dict[str, Any] = {"v_reset": 0.0, "w_in": 1.0, "input_shape": None, "input_type": None}
"""What older schema versions leave out."""
AXES = {"Affine": 1, "Linear": 1, "Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}
"""Axes of the input, without samples, where the kind of node fixes them."""


class NodeError(ValueError):
    """What is wrong with a node, without its name."""


def ints(values: Any) -> Shape:
    return tuple(int(n) for n in np.atleast_1d(values))


def _input(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Input({"input": np.array(shape)})


def _output(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    said = () if p["shape"] is None else ints(p["shape"])
    if said and [n for n in said if n > 1] != [n for n in shape if n > 1]:
        raise NodeError(f"is declared with shape {said}, but gets {shape}.")
    return nir.Output({"output": np.array(shape)})


def _spread(p: Raw, field: str, shape: Shape) -> Array:
    """A parameter of one value, or per neuron, or per channel as (C, 1, 1), for every neuron."""
    value = p[field]
    if value.size == 1:
        return np.full(shape, value.reshape(-1)[0])
    if value.ndim != len(shape) or any(
        n not in (1, m) for n, m in zip(value.shape, shape, strict=True)
    ):
        raise NodeError(f"{field} has shape {value.shape}, the layer {shape}.")
    return np.broadcast_to(value, shape).copy()


def _neuron(kind: type[nir.NIRNode]) -> Callable[[Raw, Shape, float], nir.NIRNode]:
    def build(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
        values = {field: _spread(p, field, shape) for field in _NEURONS[kind.__name__]}
        for field, value in values.items():
            if field.startswith("tau") and value.min() < dt * (1 - 1e-6):
                raise NodeError(
                    f"{field} = {value.min():g} is shorter than dt = {dt:g}, so a step would overshoot. "
                    f"Give dt in the unit of tau (norse.to_nir writes tau times its own argument dt: "
                    f"export with dt=1)."
                )
        return kind(**values)

    return build


def _threshold(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    one, zero = np.ones(shape), np.zeros(shape)
    threshold = _spread(p, "threshold", shape)
    return nir.LIF(dt * one, one, zero, threshold, zero.copy())


def _affine(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    weight = p["weight"]
    if weight.ndim != 2:
        raise NodeError(f"weight has {weight.ndim} axes; 2 (out, in) are supported.")
    if shape != weight.shape[1:]:
        raise NodeError(f"takes {weight.shape[1]} inputs, gets shape {shape}.")
    if "bias" not in p:
        node = nir.Linear(weight)
        node.output_type = {"output": np.array(weight.shape[:1])}
        return node
    if p["bias"].size != len(weight):
        raise NodeError(f"bias has {p['bias'].size} values for {len(weight)} outputs.")
    return nir.Affine(weight, p["bias"].reshape(-1))


def _scale(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Scale(_spread(p, "scale", shape))


def _delay(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    return nir.Delay(_spread(p, "delay", shape))


def _conv(axes: int) -> Callable[[Raw, Shape, float], nir.NIRNode]:
    def build(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
        weight, groups = p["weight"], int(p["groups"])
        if weight.ndim != axes + 2 or groups < 1 or len(weight) % groups:
            raise NodeError(f"weight has shape {weight.shape} in {groups} groups.")
        channels = weight.shape[1] * groups
        if len(shape) != axes + 1 or shape[0] != channels:
            raise NodeError(f"takes {channels} channels on {axes} axes, gets shape {shape}.")
        stride, dilation = (_each(p, field, axes) for field in ("stride", "dilation"))
        padding = _padding(p, weight.shape[2:], stride, dilation)
        bias = np.zeros(len(weight)) if p["bias"] is None else p["bias"].reshape(-1)
        if bias.size != len(weight):
            raise NodeError(f"bias has {bias.size} values for {len(weight)} channels.")
        if axes == 2:
            height, width = shape[1:]
            node: Any = conv2d((height, width), weight, bias, stride, padding, dilation, groups)
        else:
            node = nir.Conv1d(shape[1], weight, stride[0], padding[0], dilation[0], groups, bias)
            node.input_type = {"input": np.array(shape)}
        if min(ints(node.output_type["output"])) < 1:
            raise NodeError(f"its kernel {weight.shape[2:]} is larger than the input {shape}.")
        return node

    return build


def _each(p: Raw, field: str, axes: int) -> Shape:
    values = ints(p[field])
    if len(values) not in (1, axes):
        raise NodeError(f"{field} has {len(values)} values for {axes} axes.")
    return values * axes if len(values) == 1 else values


def _padding(p: Raw, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """Numbers for 'valid' and 'same'."""
    if not isinstance(p["padding"], str):
        return _each(p, "padding", len(kernel))
    if p["padding"] == "valid":
        return (0,) * len(kernel)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if p["padding"] != "same" or any(span % 2 for span in spans) or max(stride) > 1:
        raise NodeError(
            f"padding {p['padding']!r}; only 'valid', numbers, or 'same' with odd kernels and stride 1."
        )
    return tuple(span // 2 for span in spans)


def _pool(
    kind: type[nir.SumPool2d] | type[nir.AvgPool2d],
) -> Callable[[Raw, Shape, float], nir.NIRNode]:
    def build(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
        if len(shape) != 3:
            raise NodeError(f"takes (C, H, W), gets shape {shape}.")
        kernel, stride, padding = (
            np.array(_each(p, field, 2)) for field in ("kernel_size", "stride", "padding")
        )
        size = (np.array(shape[1:]) + 2 * padding - kernel) // stride + 1
        if size.min() < 1:
            raise NodeError(f"its window {tuple(kernel)} is larger than the input {shape}.")
        node = kind(kernel, stride, padding)
        node.input_type = {"input": np.array(shape)}
        node.output_type = {"output": np.array([shape[0], *size])}
        return node

    return build


def _flatten(p: Raw, shape: Shape, dt: float) -> nir.NIRNode:
    start, end = (int(p[field]) % len(shape) for field in ("start_dim", "end_dim"))
    if any(n > 1 for n in (*shape[:start], *shape[end + 1 :])):
        raise NodeError(
            f"flattens axes {start} to {end} of {shape}; only all axes are supported. NIR counts "
            f"them without samples: start_dim=0, end_dim=-1."
        )
    return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)


BUILD: dict[str, Callable[[Raw, Shape, float], nir.NIRNode]] = {
    **{kind: _neuron(getattr(nir, kind)) for kind in _NEURONS},
    "Input": _input,
    "Output": _output,
    "Affine": _affine,
    "Linear": _affine,
    "Scale": _scale,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "SumPool2d": _pool(nir.SumPool2d),
    "AvgPool2d": _pool(nir.AvgPool2d),
    "Flatten": _flatten,
    "Delay": _delay,
    "Threshold": _threshold,
}
