"""Is a NIR graph a network that can be run? All problems at once, by node name."""

from __future__ import annotations

import copy
import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import nir
import numpy as np

from .chains import RESETS, dynamics
from .topology import (
    NEURONS,
    READOUTS,
    Edge,
    GraphError,
    UnknownNodeError,
    find_loops,
    flatten_subgraphs,
    forward_edges,
    structure,
)

Shape: TypeAlias = tuple[int, ...]

DELAY_TOLERANCE = 1e-6
"""A delay may differ from whole steps by this fraction of a step."""

PARAMETERS: dict[type[nir.NIRNode], tuple[str, ...]] = {
    nir.Input: (),
    nir.Output: (),
    nir.Affine: ("weight", "bias"),
    nir.Linear: ("weight",),
    nir.Scale: ("scale",),
    nir.Conv1d: ("weight", "bias"),
    nir.Conv2d: ("weight", "bias"),
    nir.SumPool2d: (),
    nir.AvgPool2d: (),
    nir.Flatten: (),
    nir.Delay: ("delay",),
    nir.Threshold: ("threshold",),
    nir.I: ("r",),
    nir.LI: ("tau", "r", "v_leak"),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}
"""The supported kinds of nodes: every primitive of NIR 1.0, with its array parameters."""
MAX_NEURONS = 1 << 24
"""Of one layer; each has some parameters of 8 bytes, also where one number stands for all."""
LARGEST = 1 << 31
"""Strides, paddings and dilations are smaller."""
_ELEMENTWISE = (nir.Scale, nir.Delay, *NEURONS)


def check(graph: nir.NIRGraph) -> nir.NIRGraph:
    """The graph without subgraphs, every node with its true shapes; or GraphError with all problems.

    Problems are: a graph that is no chain (branches, joins, cycles that are not recurrence, nodes off
    the way, none or several inputs or outputs), kinds of nodes that do not exist in NIR 1.0, no time
    step `dt` > 0 in the metadata, parameters that are not finite or have the wrong shape, time
    constants that are not positive, delays that are negative or no whole steps, unknown resets, and
    shapes that do not follow from one another.

    In the returned copy, shapes are derived from the Input node on (nir 1.0.8 gets those of grouped
    convolutions and of kernels that are not square wrong); one number given for all neurons
    of a layer is spread over it; parameters are float64; strides, paddings (unless "same"), dilations
    and pooling windows are tuples of int. The nodes given are not changed.
    """
    problems: list[str] = []
    nodes, edges = flatten_subgraphs(graph, problems)
    known = set(nodes)
    for a, b in edges:
        if missing := {a, b} - known:
            problems.append(f"edge {a} -> {b}: there is no node {', '.join(sorted(missing))}.")
    for edge in [edge for edge, times in Counter(edges).items() if times > 1]:
        problems.append(f"edge {edge[0]} -> {edge[1]} is given twice.")
    edges = [e for e in dict.fromkeys(edges) if known.issuperset(e)]
    dt = _time_step(graph.metadata, problems)
    supported = ", ".join(kind.__name__ for kind in PARAMETERS)
    for name, node in nodes.items():
        if isinstance(node, nir.NIRGraph):
            continue  # one that could not be dissolved, and was named
        if type(node) not in PARAMETERS:
            problems.append(
                f"node {name} is a {type(node).__name__}, which is not supported (supported: "
                f"{supported})."
            )
        else:
            problems += [f"node {name}: {text}" for text in _parameter_problems(node, dt)]
    structure(nodes, edges, problems)
    nodes = {name: _copy(node) for name, node in nodes.items()}
    _spread_shapes(nodes, edges, problems)
    if problems:
        raise GraphError(problems)
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata), type_check=False)


def _copy(node: nir.NIRNode) -> nir.NIRNode:
    node = copy.copy(node)
    for field in PARAMETERS.get(type(node), ()):
        array = np.asarray(getattr(node, field))
        setattr(node, field, np.asarray(array, float) if array.dtype.kind in "fiub" else array)
    return node


def _time_step(metadata: Mapping[str, Any], problems: list[str]) -> float | None:
    if "dt" not in metadata:
        problems.append(
            "the graph's metadata has no dt; set graph.metadata['dt'], the time step in seconds."
        )
        return None
    try:
        dt = float(np.asarray(metadata["dt"]).item())
    except (TypeError, ValueError):
        dt = np.nan
    if not (np.isfinite(dt) and dt > 0):
        problems.append(
            f"dt is {metadata['dt']!r}, but the time step is a positive number of seconds."
        )
        return None
    return dt


def _parameter_problems(node: Any, dt: float | None) -> list[str]:
    faults = []
    sizes: dict[str, Shape] = {}
    for field in PARAMETERS[type(node)]:
        array = np.asarray(getattr(node, field))
        sizes[field] = array.shape
        if array.dtype.kind not in "fiub":
            faults.append(f"{field} is of type {array.dtype}, not of numbers.")
        elif not array.size:
            faults.append(f"{field} is empty, of shape {array.shape}.")
        elif not np.isfinite(array).all():
            bad = np.count_nonzero(~np.isfinite(array))
            faults.append(f"{bad} of {array.size} values of {field} are NaN or infinite.")
        elif field.startswith("tau") and (array <= 0).any():
            faults.append(f"{field} is {array.min():.4g}; time constants are positive.")
        elif field == "delay" and array.size:
            if array.min() < 0:
                faults.append(f"a delay of {array.min():.4g} s is negative.")
            elif dt is not None:
                off = np.abs(array / dt - np.rint(array / dt))
                if off.max() > DELAY_TOLERANCE:
                    worst = array.flat[int(off.argmax())]
                    faults.append(
                        f"a delay of {worst:.6g} s is {worst / dt:.4g} steps of dt = {dt:.6g} s; "
                        f"delays are whole steps."
                    )
    if isinstance(node, _ELEMENTWISE) and len({s for s in sizes.values() if np.prod(s) != 1}) > 1:
        texts = ", ".join(f"{field} {shape}" for field, shape in sizes.items())
        faults.append(f"its parameters have different shapes: {texts}.")
    if isinstance(node, (nir.Affine, nir.Linear)) and len(sizes["weight"]) != 2:
        faults.append(f"weight has shape {sizes['weight']}, not (out, in).")
    for kind, axes in ((nir.Conv1d, 3), (nir.Conv2d, 4)):
        if isinstance(node, kind) and len(sizes["weight"]) != axes:
            faults.append(f"weight has shape {sizes['weight']}; it needs {axes} axes.")
    if "bias" in sizes and sizes["weight"] and sizes["bias"] != sizes["weight"][:1]:
        faults.append(
            f"bias has shape {sizes['bias']}, but there are {sizes['weight'][0]} outputs."
        )
    if isinstance(node, NEURONS) and not isinstance(node, READOUTS):
        try:
            says = dynamics(node)
        except ValueError as error:
            return [*faults, f"{error}"]
        if says.reset not in RESETS:
            faults.append(f"reset is {says.reset!r}; known are {', '.join(map(repr, RESETS))}.")
        if says.reset_delay not in (0, 1):
            faults.append(f"reset_delay is {says.reset_delay}; known are 0 and 1.")
        elif says.reset_delay and says.reset in ("subtract-at-once", "none"):
            faults.append(f"reset is {says.reset!r}, which has no reset_delay; it is 1.")
        if says.state_grid is not None and says.state_grid < 1:
            faults.append(f"state_grid is {says.state_grid}; it is a positive whole number.")
    return faults


def _spread_shapes(nodes: dict[str, nir.NIRNode], edges: list[Edge], problems: list[str]) -> None:
    """Set the types of all nodes, from the inputs on; where two disagree, go on with the second."""
    loops = find_loops(nodes, edges)
    onward = forward_edges(edges, loops)
    shapes: dict[str, Shape | None] = {}
    for name, node in nodes.items():
        if isinstance(node, nir.Input):
            shapes[name] = _declared(name, node.input_type["input"], problems)
    following: dict[str, list[str]] = {}
    for a, b in onward:
        following.setdefault(a, []).append(b)
    todo = deque(shapes)
    while todo:
        name = todo.popleft()
        shape = shapes[name]
        path = loops.get(name, [])
        for before, after in zip((name, *path), (*path, name), strict=True) if path else ():
            shapes[after] = _pass(nodes, before, after, shapes[before], problems)
        shapes[name] = shape
        for after in [b for b in following.get(name, ()) if b not in shapes]:
            shapes[after] = _pass(nodes, name, after, shape, problems)
            todo.append(after)


def _declared(name: str, declared: Any, problems: list[str]) -> Shape | None:
    """The shape of an Input node; None, and a problem, where there is none that can be."""
    if declared is None:
        problems.append(f"input {name} has no shape.")
        return None
    try:
        shape = tuple(int(n) for n in declared)
    except (TypeError, ValueError, OverflowError):
        shape = (0,)
    if min(shape, default=0) < 1 or math.prod(shape) > MAX_NEURONS:
        problems.append(
            f"input {name} has shape {declared}; sizes are whole numbers from 1 on, together at most "
            f"{MAX_NEURONS}."
        )
        return None
    return shape


def _pass(
    nodes: dict[str, Any], before: str, after: str, shape: Shape | None, problems: list[str]
) -> Shape | None:
    """The output shape of node `after`, fed with `shape`; its types are set."""
    node = nodes[after]
    if shape is None or type(node) not in PARAMETERS:
        return None
    try:
        result = _output_shape(node, shape)
        if math.prod(result) > MAX_NEURONS:
            raise ValueError(f"has shape {result}; at most {MAX_NEURONS} neurons are read.")
    except ValueError as error:
        problems.append(f"{before} -> {after}: {after} ({type(node).__name__}) {error}")
        known = isinstance(node, (nir.Affine, nir.Linear)) and node.weight.ndim == 2
        return (len(node.weight),) if known else None
    node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(result)}
    return result


def _output_shape(node: Any, shape: Shape) -> Shape:
    if isinstance(node, (nir.Affine, nir.Linear)):
        if node.weight.ndim != 2:
            raise ValueError(f"has a weight of shape {node.weight.shape}, not (out, in).")
        if shape != node.weight.shape[1:]:
            raise ValueError(
                f"expects {node.weight.shape[-1]} inputs, got shape {shape}. "
                f"{'Put a Flatten before it.' if len(shape) > 1 else ''}".rstrip()
            )
        return (len(node.weight),)
    if isinstance(node, _ELEMENTWISE):
        return _elementwise_shape(node, shape)
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _convolution_shape(node, shape)
    if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
        if len(shape) != 3:
            raise ValueError(f"expects (C, H, W), got shape {shape}.")
        for field in ("kernel_size", "stride", "padding"):
            setattr(node, field, pair(getattr(node, field)))
        return (shape[0], *_windows(shape[1:], node.kernel_size, node.stride, node.padding, (1, 1)))
    if isinstance(node, nir.Flatten):
        first = _number("start_dim", node.start_dim, -len(shape)) % len(shape)
        last = _number("end_dim", node.end_dim, -len(shape)) % len(shape)
        middle = int(np.prod(shape[first : last + 1]))
        return (*shape[:first], middle, *shape[last + 1 :])
    if isinstance(node, nir.Output):
        declared = node.output_type["output"]
        axes = [int(n) for n in ([] if declared is None else declared) if n != 1]
        if axes and axes != [n for n in shape if n != 1]:  # exporters add samples, or leave (1,)
            raise ValueError(
                f"is declared with shape {tuple(map(int, declared))}, but gets {shape}."
            )
        return shape
    if isinstance(node, nir.Input):
        return shape
    raise UnknownNodeError(node, "node whose output has a shape")


def _elementwise_shape(node: Any, shape: Shape) -> Shape:
    for field in PARAMETERS[type(node)]:
        array = np.asarray(getattr(node, field))
        extra = array.ndim - len(shape)
        if array.size == 1:
            setattr(node, field, np.full(shape, array.item()))
        elif (
            extra > 0 and array.shape == (1,) * extra + shape
        ):  # exporters leave the axis of a sample
            setattr(node, field, array.reshape(shape))
        elif array.shape != shape:
            raise ValueError(f"has {field} of shape {array.shape}, got shape {shape}.")
    return shape


def _convolution_shape(node: nir.Conv1d | nir.Conv2d, shape: Shape) -> Shape:
    axes, kernel = node.weight.ndim - 2, node.weight.shape[2:]
    groups = _number("groups", node.groups)
    if len(shape) != axes + 1 or shape[0] != node.weight.shape[1] * groups:
        raise ValueError(
            f"expects {node.weight.shape[1] * groups} channels of {axes} axes, got shape {shape}."
        )
    if len(node.weight) % groups:
        raise ValueError(f"has {len(node.weight)} outputs, which {groups} groups do not divide.")
    for field in ("stride", "dilation"):
        setattr(node, field, _whole(getattr(node, field), axes))
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    node.padding = (0,) * axes if padding == "valid" else padding
    node.groups = groups
    node.input_shape = shape[1] if axes == 1 else shape[1:]
    if padding == "same":
        if set(node.stride) != {1}:
            raise ValueError(f"has padding 'same' with stride {node.stride}; give numbers.")
        return (len(node.weight), *shape[1:])
    node.padding = _whole(node.padding, axes)
    size = _windows(shape[1:], kernel, node.stride, node.padding, node.dilation)
    return (len(node.weight), *size)


def _windows(size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    if min(*stride, *dilation, *kernel) < 1 or min(padding) < 0:
        raise ValueError(
            f"has windows of {tuple(kernel)}, stride {stride}, dilation {dilation} and padding "
            f"{padding}; all are 1 or more, padding 0 or more."
        )
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1:
        raise ValueError(f"has windows of {tuple(kernel)}, which do not fit into {tuple(size)}.")
    return out


def _whole(values: Any, axes: int) -> Shape:
    """One number for all axes, or one each, as a tuple of int. Raises ValueError."""
    numbers = np.ravel(values)
    if numbers.dtype.kind not in "fiub" or len(numbers) not in (1, axes):
        raise ValueError(
            f"has {values!r} where a whole number for all axes, or {axes}, are needed."
        )
    return tuple(_number("an axis", n, -LARGEST) for n in np.broadcast_to(numbers, axes))


def _number(name: str, value: Any, smallest: int = 1) -> int:
    """A whole number, not below `smallest`. Raises ValueError."""
    number = np.asarray(value)
    if (
        number.size != 1
        or number.dtype.kind not in "fiub"
        or not -LARGEST <= number.item() <= LARGEST
    ):
        raise ValueError(f"has {name} = {value!r}; it is a whole number.")
    if number.item() % 1 or number.item() < smallest:
        raise ValueError(f"has {name} = {number.item()}; it is a whole number from {smallest} on.")
    return int(number.item())


def pair(values: Any) -> Shape:
    """One number for both axes, or two, as a tuple of int."""
    return _whole(values, 2)
