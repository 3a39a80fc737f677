"""Float execution of a NIR graph: the yardstick for import and quantization."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..graph import NEURONS, chain, check, input_shape, recurrence
from .layers import Delay, LinearMap, Neurons, Surrogate

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class FloatTrace:
    """Per neuron layer, in order, arrays (sample, time, *layer shape), no latency between layers.

    `spikes` (0 / 1; all 0 for a readout that never spikes) and `voltage` before the reset.
    """

    names: tuple[str, ...]
    spikes: tuple[Array, ...]
    voltage: tuple[Array, ...]


def superspike(x: Tensor) -> Tensor:
    """The derivative 1 / (1 + 100 |x|)^2 at x = v - v_threshold (Zenke & Ganguli 2018).

    The scale is that of Norse's default, which suits thresholds of order 1.
    """
    slope: Tensor = 1 / (1 + 100 * x.abs()) ** 2
    return slope


def execute(
    graph: nir.NIRGraph, frames: Array | Tensor, dtype: torch.dtype = torch.float64
) -> FloatTrace:
    """What every neuron layer does with frames (sample, time, *input shape); see `FloatNetwork`.

    Runs where `frames` is, on the CPU for numpy arrays. Raises GraphError.
    """
    network = FloatNetwork(graph, dtype)
    inputs = torch.as_tensor(frames).to(dtype).transpose(0, 1)
    network.to(inputs.device)
    spikes, voltage = [], []
    with torch.no_grad():
        for layer, out, v in network.layers(inputs):
            if isinstance(layer, Neurons):
                z = torch.zeros_like(out) if layer.silent else out
                spikes.append(z.to(torch.int8).transpose(0, 1).cpu().numpy())
                voltage.append(v.transpose(0, 1).cpu().numpy())
    return FloatTrace(network.names, tuple(spikes), tuple(voltage))


class FloatNetwork(nn.Module):
    r"""A NIR graph as a differentiable torch module, solved by Euler steps of `dt`.

    `forward`: frames (time, sample, *input shape) to what reaches the Output node, (time, sample,
    *output shape); from zero state each time. Spikes reach the next layer in the same step. One step::

        i <- (1 - dt/tau_syn) i + (dt/tau_syn) w_in x      CubaLIF and CubaLI; else i = x
        v <- v + dt/tau (v_leak - v + r i)                 IF and I: v <- v + dt r i
        z = v > v_threshold                                Threshold: v = x; readouts put out v

    with x the weighted input plus, in a recurrent layer, its linear maps of z of the step before (a
    bias among them acts from the first step on). At first i = 0, v = v_leak (IF: v_reset, I: 0).
    Metadata of a LIF, CubaLIF or IF (see `Dynamics`) choose the reset:

    - "zero": v <- v_reset after the spike;
    - "subtract": v <- v - (v_threshold - v_reset) after the spike;
    - "subtract" with reset_delay = 1: the next step's v is lowered by v_threshold - v_reset;
    - "zero" with reset_delay = 1, as snnTorch does it: for an IF or LIF without recurrence the same as
      without delay; else v = v_reset in the next step, whatever the input;
    - "subtract-at-once", snnTorch's "subtract" with its reset_delay=False: the update of v is lowered by
      d = v_threshold - v_reset where v was still above v_threshold (r = 1, else 0), and after the
      spikes z v <- v - (z - r) d;
    - "none": v goes on.

    `state_grid` = N: i and v - v_leak are whole multiples of 1/N; products with decays and gains
    are truncated toward zero, as SLAYER does with N = 4096.

    Where the graph's metadata say `update` = "current, voltage, current decay", as `from_norse` writes,
    IF, LIF, CubaLIF, LI and CubaLI compute this in Norse's order of operations: to the last bit.

    Weights and biases of linear maps are parameters, everything else buffers; spikes and resets are
    not differentiated, but for z, whose derivative is `surrogate` of v - v_threshold. Both
    float32 and float64 work, on any device. Raises GraphError.
    """

    def __init__(
        self,
        graph: nir.NIRGraph,
        dtype: torch.dtype = torch.float64,
        surrogate: Surrogate = superspike,
    ) -> None:
        super().__init__()
        graph = check(graph)
        dt = float(graph.metadata["dt"])
        update = graph.metadata.get("update")
        update = update.decode() if isinstance(update, bytes) else update
        nodes, loops = chain(graph), recurrence(graph)
        self.input_shape = input_shape(graph)
        self.names = tuple(name for name, node in nodes if isinstance(node, NEURONS))
        self.steps = nn.ModuleList()
        for name, node in nodes:
            if isinstance(node, NEURONS):
                maps = [LinearMap(inner) for _, inner in loops.get(name, [])]
                self.steps.append(Neurons(node, maps, dt, surrogate, update))
            elif isinstance(node, nir.Delay):
                self.steps.append(Delay(node, dt))
            else:
                self.steps.append(LinearMap(node))
        self.to(dtype)

    def forward(self, frames: Tensor) -> Tensor:
        out = frames
        for _, y, _ in self.layers(frames):
            out = y
        return out

    def layers(self, frames: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """(layer, output, voltage before reset or output) of each node, (time, sample, *shape).

        Raises ValueError for frames of another shape than (time, sample, *input shape).
        """
        if tuple(frames.shape[2:]) != self.input_shape:
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; (time, sample, "
                f"{', '.join(map(str, self.input_shape))}) is needed."
            )
        x = frames
        for layer in self.steps:
            x, voltage = layer(x) if isinstance(layer, Neurons) else (layer(x),) * 2
            yield layer, x, voltage
