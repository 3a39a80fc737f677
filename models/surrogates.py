"""How gradients pass a spike: surrogate derivatives, and the rules that attacks choose from.

The forward pass never depends on anything here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

Surrogate: TypeAlias = Callable[[Tensor], Tensor]
"""d spike / d x as a function of x = v / threshold - 1."""


class Pointwise(Protocol):
    """A gradient rule with a surrogate for every spiking layer and step, counted from 0.

    The surrogate is called once in each backward pass, with x (sample, *layer shape), which it must not
    change, and may depend on what it saw before. A layer is the same number in every pass: of the float
    network its place among the spiking layers, of the integer network the index of its population.
    Steps are those that a layer runs: the data's, but in integer networks whose layers wait for each
    other (`Twin.run_recipe`).
    """

    def at(self, layer: int, step: int) -> Surrogate: ...


Gradient: TypeAlias = Pointwise | Literal["rate", "activation"]
"""How the gradient passes spiking layers.

- a `Pointwise` rule: backpropagation through time with its surrogates;
- ``rate``: backpropagation through rates (BPTR), with I(t) the synaptic current:
  dL/dI(t) = [rate > 0] / threshold * mean over t' of dL/ds(t') (as in Ozdenizci and Legenstein 2024);
- ``activation``: the ReLU network with the spiking one's weights, forward too: max(0, I / threshold).
"""


@dataclass(frozen=True)
class Fixed:
    """One surrogate for all layers and steps: height * surrogate(sharpness * x)."""

    surrogate: Surrogate
    sharpness: float = 1.0
    height: float = 1.0

    def at(self, layer: int, step: int) -> Surrogate:
        if self.sharpness == self.height == 1:
            return self.surrogate
        return lambda x: self.height * self.surrogate(self.sharpness * x)


SURROGATES: Mapping[str, Surrogate] = MappingProxyType(
    {
        "superspike": lambda x: (1 + x.abs()).square_().reciprocal_(),
        "triangle": lambda x: (1 - x.abs()).clamp_(min=0),
        "arctan": lambda x: (1 + (math.pi * x).square_()).reciprocal_(),
        "rectangle": lambda x: (x.abs() < 0.5).to(x.dtype),
        "exponential": lambda x: x.abs().neg_().exp_(),
        "sigmoid": lambda x: 4 * torch.sigmoid(x) * torch.sigmoid(-x),
    }
)
"""d spike / d x where x = v / threshold - 1.

superspike 1 / (1 + |x|)^2 (Zenke and Ganguli 2018, as Norse has it), triangle max(0, 1 - |x|)
(Esser et al. 2016), arctan 1 / (1 + (pi x)^2) (Fang et al. 2021), rectangle [|x| < 1/2] (Wu et al. 2018),
exponential exp(-|x|) (Shrestha and Orchard 2018), sigmoid 4 s(x) s(-x) with s the logistic function.
"""

USUAL = Fixed(SURROGATES["superspike"])
"""What Norse networks are trained with, and attacked with where nothing else is said."""


def _unit_area(surrogate: str, width: float) -> Fixed:
    """surrogate(x / width) / width: its integral stays the same."""
    return Fixed(SURROGATES[surrogate], 1 / width, 1 / width)


MODES: Mapping[str, Gradient] = MappingProxyType(
    {
        **{f"triangle {w:g}": _unit_area("triangle", w) for w in (1, 2, 3, 0.5, 0.25)},
        **{
            f"damped exponential {g:g}": Fixed(SURROGATES["exponential"], g, 0.3)
            for g in (0.5, 1, 2)
        },
        **{f"exponential {g:g}": Fixed(SURROGATES["exponential"], g) for g in (0.5, 1, 2)},
        **{f"rectangle {w:g}": _unit_area("rectangle", w) for w in (0.25, 0.5, 1, 2, 4)},
        "straight-through": Fixed(torch.ones_like),
        "rate": "rate",
        "activation": "activation",
    }
)
"""The 19 gradients of the ensemble attack of Ozdenizci and Legenstein (2024), by name.

With x = v / threshold - 1: triangle w: max(0, w - |x|) / w^2; damped exponential g: 0.3 exp(-g |x|);
exponential g: exp(-g |x|); rectangle w: [|x| < w/2] / w; straight-through: 1; rate, activation: see
`Gradient`. They have v - threshold for x, at thresholds below 1; in units of the threshold, as here, a
width means the same for every layer and for integers.
"""

FEW_MODES: Mapping[str, Gradient] = MappingProxyType(
    {
        "triangle 1": MODES["triangle 1"],
        "sigmoid 4": Fixed(SURROGATES["sigmoid"], 4.0),
        "arctan 2": Fixed(SURROGATES["arctan"]),
        "rate": "rate",
    }
)
"""The 4 gradients of Liu et al. (2024), by name.

triangle 1: max(0, 1 - |x|); sigmoid a: a s(a x) s(-a x) with s the logistic function; arctan a:
a/2 / (1 + (pi/2 a x)^2); rate: see `Gradient` (their own code has another factor for it).
"""


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fires: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return fires.to(torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * ctx.surrogate(x), None, None


def spike(x: Tensor, fires: Tensor, surrogate: Surrogate) -> Tensor:
    """`fires` as 0 / 1 in float32, with the gradient `surrogate`(x)."""
    out: Tensor = _Spike.apply(x, fires, surrogate)  # type: ignore[no-untyped-call]
    return out


class _ThroughRates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, spikes: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(spikes.any(0), gain)
        ctx.dtype = currents.dtype
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        active, gain = ctx.saved_tensors
        mean = gradient.mean(0) * active * gain
        return mean.expand_as(gradient).to(ctx.dtype), None, None


def through_rates(currents: Tensor, spikes: Tensor, gain: Tensor) -> Tensor:
    """`spikes` (time, sample, *shape), with the gradient that ``rate`` has for `currents`.

    `gain`: d rate / d current of an active neuron, broadcasting to (sample, *shape).
    """
    out: Tensor = _ThroughRates.apply(  # type: ignore[no-untyped-call]
        currents, spikes.detach(), gain.detach()
    )
    return out
