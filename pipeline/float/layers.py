"""The layers of a `FloatNetwork`, each run on (time, sample, *shape) at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graph import (
    LINEAR,
    NEURONS,
    PARAMETERS,
    READOUTS,
    Dynamics,
    UnknownNodeError,
    delay_steps,
    dynamics,
)

Surrogate: TypeAlias = Callable[[Tensor], Tensor]

DECAYS_LAST = "current, voltage, current decay"
"""`update` in the metadata of graphs whose framework computes a step in this order, as Norse does."""
LAST_BITS = 1e-14
"""What dividing by 1/x instead of multiplying by x may change, of 1."""
GRID_GUARD = 1e-6
"""Part of a grid step by which rounding errors of parameters may not change a truncation."""


class LinearMap(nn.Module):
    """Affine, Linear, Scale, convolutions, pooling and Flatten, on (time, sample, *shape)."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        if not isinstance(node, (*LINEAR, nir.Scale, nir.Flatten)):
            raise UnknownNodeError(node, "linear map")
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
        if isinstance(node, nir.Flatten):
            first, last = (n % (x.ndim - 1) + 1 for n in (int(node.start_dim), int(node.end_dim)))
            return x.flatten(first, last)
        raise UnknownNodeError(node, "linear map")


class Delay(nn.Module):
    """y[t] = x[t - d], zero before, d per element."""

    steps: Tensor

    def __init__(self, node: nir.Delay, dt: float) -> None:
        super().__init__()
        self.register_buffer("steps", torch.as_tensor(delay_steps(node, dt)))

    def forward(self, x: Tensor) -> Tensor:
        time = torch.arange(len(x), device=x.device).reshape(-1, *(1,) * (x.ndim - 1))
        source = time - self.steps
        return x.gather(0, source.clamp(min=0).expand(x.shape)) * (source >= 0)


class Neurons(nn.Module):
    """One layer of neurons, with the linear maps from itself to itself."""

    def __init__(
        self,
        node: Any,
        loop: list[LinearMap],
        dt: float,
        surrogate: Surrogate,
        update: str | None = None,
    ) -> None:
        super().__init__()
        self.node, self.dt, self.surrogate = node, dt, surrogate
        if not isinstance(node, NEURONS):
            raise UnknownNodeError(node, "neuron")
        self.silent = isinstance(node, READOUTS)
        self.loop = nn.Sequential(*loop)
        self.dynamics = Dynamics() if isinstance(node, nir.Threshold) else dynamics(node)
        for field in PARAMETERS[type(node)]:
            self.register_buffer(field, _tensor(getattr(node, field)))
        timed = isinstance(node, (nir.IF, nir.LIF, nir.LI, nir.CubaLIF, nir.CubaLI))
        self.decays_last = timed and update == DECAYS_LAST and self.dynamics.state_grid is None
        if self.decays_last:
            for fraction, gain in _fractions(node, dt).items():
                self.register_buffer(fraction, gain)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reset = (None, 0) if self.silent else (self.dynamics.reset, self.dynamics.reset_delay)
        plain = isinstance(self.node, (nir.LIF, nir.IF)) and not len(self.loop)
        if reset == ("zero", 1) and plain:
            reset = ("zero", 0)
        decay, gain, rest = self._membrane()
        threshold, bottom = self._levels()
        v = (bottom if isinstance(self.node, nir.IF) else rest).expand(x.shape[1:])
        i, z, above = (torch.zeros_like(v) for _ in range(3))
        at_once = reset == ("subtract-at-once", 0)
        spikes, voltage = [], []
        for now in x:
            feedback = self.loop(z[None])[0] if len(self.loop) else None
            if self.decays_last:
                v, i = self._decay_last(now, feedback, v, i)
            else:
                now = now if feedback is None else now + feedback
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
            elif at_once:
                v = v - above * (threshold - bottom)
            voltage.append(v)
            if self.silent:
                continue
            z = _Spike.apply(v - threshold, self.surrogate)  # type: ignore[no-untyped-call]
            spikes.append(z)
            if reset == ("zero", 0):
                v = torch.where(z > 0, bottom, v)
            elif reset == ("subtract", 0):
                v = v - z.detach() * (threshold - bottom)
            elif at_once:
                v = v - (z.detach() - above) * (threshold - bottom)
                above = (v > threshold).to(v.dtype).detach()
        return torch.stack(voltage if self.silent else spikes), torch.stack(voltage)

    def _decay_last(
        self, now: Tensor, feedback: Tensor | None, v: Tensor, i: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A step in Norse's order of operations, to the last bit: i decays after its use."""
        node = self.node
        if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            i = i + self.gain * now
            if feedback is not None:
                i = i + self.gain * feedback
            return v + self.mem * ((self.v_leak - v) + self.r * i), i - self.syn * i
        now = now if feedback is None else now + feedback
        if isinstance(node, nir.IF):
            return v + self.gain * now, i
        if isinstance(node, nir.LI):
            return v + self.mem * ((self.v_leak - v) + self.r * now), i
        if isinstance(node, nir.LIF):
            return v + self.mem * ((self.r * now + self.v_leak) - v), i
        raise UnknownNodeError(node, "neuron of Norse")

    def _membrane(self) -> tuple[Tensor | float, Tensor | float, Tensor]:
        """(decay, gain, rest) of v <- rest + decay (v - rest) + gain i."""
        node = self.node
        if isinstance(node, nir.Threshold):
            return 0.0, 1.0, torch.zeros_like(self.threshold)
        if isinstance(node, (nir.IF, nir.I)):
            return 1.0, self.dt * self.r, torch.zeros_like(self.r)
        if isinstance(node, (nir.LIF, nir.LI)):
            leak = self.dt / self.tau
        elif isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            leak = self.dt / self.tau_mem
        else:
            raise UnknownNodeError(node, "neuron")
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
        if x.dtype != torch.float64:
            raise ValueError(f"a state_grid is exact in float64 only, not in {x.dtype}.")
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


def _fractions(node: Any, dt: float) -> dict[str, Tensor]:
    """`mem` = dt/tau (of the voltage), `syn` = dt/tau_syn, `gain` of the input.

    Metadata may hold the rates 1/tau as the framework has them: dividing by tau loses last bits. They
    count only where they are the rates of the node's own time constants. A gain that is 1 but for
    its last bits is 1.
    """
    fractions = {}
    fields = {"tau": "mem", "tau_mem": "mem", "tau_syn": "syn"}
    for field, name in fields.items():
        if (tau := getattr(node, field, None)) is None:
            continue
        tau = np.asarray(tau, float)
        fraction = dt / tau
        rate = np.asarray((node.metadata or {}).get(f"{name}_rate", np.nan), float)
        if rate.size in (1, tau.size):
            exact = dt * np.broadcast_to(
                rate if rate.size == 1 else rate.reshape(tau.shape), tau.shape
            )
            fraction = np.where(abs(exact / fraction - 1) < LAST_BITS, exact, fraction)
        fractions[name] = fraction
    if isinstance(node, nir.IF):
        fractions["gain"] = dt * np.asarray(node.r, float)
    elif "syn" in fractions:
        fractions["gain"] = fractions["syn"] * np.asarray(node.w_in, float)
    if "gain" in fractions:
        fractions["gain"] = np.where(abs(fractions["gain"] - 1) < LAST_BITS, 1.0, fractions["gain"])
    return {name: _tensor(values) for name, values in fractions.items()}


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, np.float64))
