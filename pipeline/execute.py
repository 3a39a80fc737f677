"""Float execution of a NIR graph: the yardstick for import and quantization."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .check import PARAMETERS, check
from .graph import NEURONS, READOUTS, chain, delay_steps, dynamics, input_shape, recurrence

Array: TypeAlias = NDArray[Any]
Surrogate: TypeAlias = Callable[[Tensor], Tensor]

GRID_GUARD = 1e-6
"""Part of a grid step by which rounding errors of parameters may not change a truncation."""


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
            if isinstance(layer, _Neuron):
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
    Metadata of a neuron (see `Dynamics`) choose the reset:

    - "zero": v <- v_reset after the spike;
    - "subtract": v <- v - (v_threshold - v_reset) after the spike;
    - "subtract" with reset_delay = 1: the next step's v is lowered by v_threshold - v_reset;
    - "zero" with reset_delay = 1, as snnTorch does it: for an IF or LIF without recurrence the same as
      without delay; else v = v_reset in the next step, whatever the input.

    `state_grid` = N: i and v - v_leak are whole multiples of 1/N; products with decays and gains
    are truncated toward zero, as SLAYER does with N = 4096.

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
        nodes, loops = chain(graph), recurrence(graph)
        self.input_shape = input_shape(graph)
        self.names = tuple(name for name, node in nodes if isinstance(node, NEURONS))
        self.steps = nn.ModuleList()
        for name, node in nodes:
            if isinstance(node, NEURONS):
                maps = [_LinearMap(inner) for _, inner in loops.get(name, [])]
                self.steps.append(_Neuron(node, maps, dt, surrogate))
            elif isinstance(node, nir.Delay):
                self.steps.append(_Delay(node, dt))
            else:
                self.steps.append(_LinearMap(node))
        self.to(dtype)

    def forward(self, frames: Tensor) -> Tensor:
        *_, (_, out, _) = self.layers(frames)
        return out

    def layers(self, frames: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """(layer, output, voltage before reset or output) of each node, (time, sample, *shape)."""
        if tuple(frames.shape[2:]) != self.input_shape:
            raise ValueError(
                f"frames have shape {tuple(frames.shape)}; (time, sample, "
                f"{', '.join(map(str, self.input_shape))}) is needed."
            )
        x = frames
        for layer in self.steps:
            x, voltage = layer(x) if isinstance(layer, _Neuron) else (layer(x),) * 2
            yield layer, x, voltage


class _LinearMap(nn.Module):
    """Affine, Linear, Scale, convolutions, pooling and Flatten, on (time, sample, *shape)."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node
        for field in PARAMETERS[type(node)]:
            setattr(self, field, nn.Parameter(_tensor(getattr(node, field))))

    def forward(self, x: Tensor) -> Tensor:
        y = self._apply_map(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def _apply_map(self, x: Tensor) -> Tensor:
        node = self.node
        if isinstance(node, (nir.Affine, nir.Linear)):
            return functional.linear(x, self.weight, getattr(self, "bias", None))
        if isinstance(node, nir.Scale):
            scaled: Tensor = x * self.scale
            return scaled
        if isinstance(node, (nir.Conv1d, nir.Conv2d)):
            convolve = functional.conv1d if isinstance(node, nir.Conv1d) else functional.conv2d
            padding = node.padding
            if padding == "same":  # the odd zero at the end; torch warns where it does the same
                spans = [
                    d * (k - 1) for d, k in zip(node.dilation, self.weight.shape[2:], strict=True)
                ]
                ends = [(span // 2, span - span // 2) for span in reversed(spans)]
                x, padding = functional.pad(x, [n for end in ends for n in end]), 0
            options = (node.stride, padding, node.dilation, node.groups)
            y: Tensor = convolve(x, self.weight, self.bias, *options)
            return y
        if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            (top, left), divisor = node.padding, 1 if isinstance(node, nir.SumPool2d) else None
            x = functional.pad(x, (left, left, top, top))
            return functional.avg_pool2d(x, node.kernel_size, node.stride, divisor_override=divisor)
        first, last = (n % (x.ndim - 1) + 1 for n in (int(node.start_dim), int(node.end_dim)))
        return x.flatten(first, last)


class _Delay(nn.Module):
    """y[t] = x[t - d], zero before, d per element."""

    steps: Tensor

    def __init__(self, node: nir.Delay, dt: float) -> None:
        super().__init__()
        self.register_buffer("steps", torch.as_tensor(delay_steps(node, dt)))

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(len(x), device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        source = time - self.steps
        return x.gather(0, source.clamp(min=0).expand(x.shape)) * (source >= 0)


class _Neuron(nn.Module):
    """One layer of neurons, with the linear maps from itself to itself."""

    def __init__(self, node: Any, loop: list[_LinearMap], dt: float, surrogate: Surrogate) -> None:
        super().__init__()
        self.node, self.dt, self.surrogate = node, dt, surrogate
        self.silent = isinstance(node, READOUTS)
        self.loop = nn.Sequential(*loop)
        self.dynamics = dynamics(node)
        for field in PARAMETERS[type(node)]:
            self.register_buffer(field, _tensor(getattr(node, field)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reset = (None, 0) if self.silent else (self.dynamics.reset, self.dynamics.reset_delay)
        plain = isinstance(self.node, (nir.LIF, nir.IF, nir.Threshold)) and not len(self.loop)
        if reset == ("zero", 1) and plain:
            reset = ("zero", 0)
        decay, gain, rest = self._membrane()
        threshold, bottom = self._levels()
        v = (bottom if isinstance(self.node, nir.IF) else rest).expand(x.shape[1:])
        i, z = torch.zeros_like(v), torch.zeros_like(v)
        spikes, voltage = [], []
        for now in x:
            if len(self.loop):
                now = now + self.loop(z[None])[0]
            if isinstance(self.node, (nir.CubaLIF, nir.CubaLI)):
                fresh = self.dt / self.tau_syn
                i = self._grid((1 - fresh) * i) + self._grid(fresh * self.w_in * now)
            else:
                i = now
            v = rest + self._grid(decay * (v - rest)) + self._grid(gain * i)
            if reset == ("subtract", 1):
                v = v - z.detach() * (threshold - bottom)
            elif reset == ("zero", 1):
                v = torch.where(z > 0, bottom, v)
            voltage.append(v)
            if self.silent:
                continue
            z = _Spike.apply(v - threshold, self.surrogate)  # type: ignore[no-untyped-call]
            spikes.append(z)
            if reset == ("zero", 0):
                v = torch.where(z > 0, bottom, v)
            elif reset == ("subtract", 0):
                v = v - z.detach() * (threshold - bottom)
        return torch.stack(voltage if self.silent else spikes), torch.stack(voltage)

    def _membrane(self) -> tuple[Tensor | float, Tensor | float, Tensor]:
        """(decay, gain, rest) of v <- rest + decay (v - rest) + gain i."""
        node = self.node
        if isinstance(node, nir.Threshold):
            return 0.0, 1.0, torch.zeros_like(self.threshold)
        if isinstance(node, (nir.IF, nir.I)):
            return 1.0, self.dt * self.r, torch.zeros_like(self.r)
        leak = self.dt / (self.tau if isinstance(node, (nir.LIF, nir.LI)) else self.tau_mem)
        return 1 - leak, leak * self.r, self.v_leak

    def _levels(self) -> tuple[Tensor, Tensor]:
        """(threshold, reset voltage); zeros for readouts."""
        if isinstance(self.node, nir.Threshold):
            return self.threshold, torch.zeros_like(self.threshold)
        if self.silent:
            return (torch.zeros_like(self.r),) * 2
        return self.v_threshold, self.v_reset

    def _grid(self, x: Tensor) -> Tensor:
        """x toward zero on the grid of the state, its derivative kept."""
        if self.dynamics.state_grid is None:
            return x
        n = self.dynamics.state_grid
        return x + (torch.trunc(x * n + torch.sign(x) * GRID_GUARD) / n - x).detach()


class _Spike(torch.autograd.Function):
    """1 where x > 0, else 0; its derivative is the surrogate's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate(x), None


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, np.float64))
