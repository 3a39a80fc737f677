"""Float execution of a lowered NIR chain: the yardstick for import and quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from .graph import NEURONS, READOUTS, Chain, chain

Array = NDArray[Any]


@dataclass(frozen=True)
class FloatTrace:
    """Per neuron layer, in order, arrays (sample, time, *layer shape), no latency between layers.

    `spikes` (0 / 1; all 0 for a readout that never spikes) and `voltage` before the reset.
    """

    names: tuple[str, ...]
    spikes: tuple[Array, ...]
    voltage: tuple[Array, ...]


def execute(graph: nir.NIRGraph, frames: Array, dtype: torch.dtype = torch.float64) -> FloatTrace:
    """Run a chain of NIR nodes on frames (sample, time, *input shape) with Euler steps of `dt`.

    `dt` comes from the graph's metadata. Every neuron uses the current of the same step and decays
    it afterwards (Norse's order); spikes reach the next layer in the same step.
    """
    if "dt" not in graph.metadata:
        raise ValueError("the graph's metadata has no dt; set graph.metadata['dt'] in seconds.")
    dt = float(graph.metadata["dt"])
    nodes: Chain = chain(graph)
    state: dict[str, Any] = {}
    names = [name for name, node in nodes if isinstance(node, NEURONS)]
    spikes: dict[str, list[Array]] = {name: [] for name in names}
    voltage: dict[str, list[Array]] = {name: [] for name in names}
    with torch.no_grad():
        for t in range(frames.shape[1]):
            x = torch.as_tensor(np.ascontiguousarray(frames[:, t])).to(dtype)
            for name, node in nodes:
                if not isinstance(node, NEURONS):
                    x = _linear(node, x)
                    continue
                x, v = _neuron(node, x, state.setdefault(name, {}), dt)
                spikes[name].append(x.to(torch.int8).numpy())
                voltage[name].append(v.numpy())
    return FloatTrace(
        tuple(names),
        tuple(np.stack(spikes[name], axis=1) for name in names),
        tuple(np.stack(voltage[name], axis=1) for name in names),
    )


def _linear(node: nir.NIRNode, x: torch.Tensor) -> torch.Tensor:
    functional = torch.nn.functional
    if isinstance(node, nir.Affine):
        return functional.linear(x, _like(node.weight, x), _like(node.bias, x))
    if isinstance(node, nir.Linear):
        return functional.linear(x, _like(node.weight, x))
    if isinstance(node, nir.Conv2d):
        return functional.conv2d(
            x,
            _like(node.weight, x),
            _like(node.bias, x),
            _pair(node.stride),
            _pair(node.padding),
            _pair(node.dilation),
            node.groups,
        )
    if isinstance(node, nir.AvgPool2d):
        sizes = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
        return functional.avg_pool2d(x, sizes[0], sizes[1], sizes[2])
    if isinstance(node, nir.Flatten):
        return x.flatten(1)
    raise ValueError(f"{type(node).__name__} has no float execution.")


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(n) for n in values)
    return first, second


def _neuron(
    node: Any, x: torch.Tensor, state: dict[str, torch.Tensor], dt: float
) -> tuple[torch.Tensor, torch.Tensor]:
    r = _like(node.r, x)
    leaky = not isinstance(node, nir.IF)
    rest = _like(node.v_leak if leaky else node.v_reset, x)
    v = state.get("v", rest)
    current = x
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        decay = dt / _like(node.tau_syn, x)
        current = state.get("i", torch.zeros_like(x)) + decay * _like(node.w_in, x) * x
        state["i"] = current - decay * current
    if leaky:
        tau = node.tau if isinstance(node, (nir.LIF, nir.LI)) else node.tau_mem
        v = v + dt / _like(tau, x) * (r * current + rest - v)
    else:
        v = v + dt * r * current
    if isinstance(node, READOUTS):
        state["v"] = v
        return torch.zeros_like(v), v
    fired = v > _like(node.v_threshold, x)
    state["v"] = torch.where(fired, _like(node.v_reset, x), v)
    return fired.to(x.dtype), v


def _like(array: Array, x: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(array).to(x)
