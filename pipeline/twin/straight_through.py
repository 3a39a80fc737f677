"""The arithmetic of `hw_targets.arithmetic` in torch: exact values, gradients passed straight through.

Tensors carry whole numbers in floating point. A rounding, wrap or clip has the value that the
hardware computes and the gradient of the identity; a spike has a surrogate gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...hw_targets.network import arithmetic
from ...models.surrogates import Surrogate

_ONE = arithmetic.DECAY_ONE
_SCALE = 1 << arithmetic.STATE_SHIFT
_LIMIT = arithmetic.STATE_LIMIT


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, through: Tensor) -> Tensor:
        ctx.dtype = through.dtype
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient.to(ctx.dtype)


def straight(value: Tensor, through: Tensor) -> Tensor:
    """`value`, exactly, with the gradient of `through` (of the same shape)."""
    out: Tensor = _Straight.apply(value.detach(), through)  # type: ignore[no-untyped-call]
    return out


def wrap(x: Tensor, bits: int) -> Tensor:
    """((x + 2^(bits-1)) mod 2^bits) - 2^(bits-1); x float64 and whole, |x| < 2^53."""
    half = float(1 << (bits - 1))
    return straight(torch.remainder(x + half, 2 * half) - half, x)


def wrap_current(u: Tensor) -> Tensor:
    """`arithmetic.wrap_current` of values that already are 32-bit integers."""
    once = torch.where(u > _LIMIT, u - 2 * _LIMIT, u)
    return straight(torch.where(once <= -_LIMIT, u + 2 * _LIMIT, once), u)


def floor(x: Tensor) -> Tensor:
    """The largest whole number that is not above x."""
    return straight(x.floor(), x)


def truncate(x: Tensor) -> Tensor:
    """x rounded toward zero."""
    return straight(x.trunc(), x)


def clip(x: Tensor) -> Tensor:
    """`arithmetic.clip_voltage`."""
    return straight(x.clamp(-_LIMIT + 1, _LIMIT - 1), x)


class _HeldProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dtype = x.dtype
        sums = torch.nn.functional.linear(x[0].to(weight), weight)
        return sums.expand(len(x), *sums.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return torch.matmul(gradient, weight).to(ctx.dtype), None


def held_product(x: Tensor, weight: Tensor) -> Tensor:
    """`linear(x, weight)` of messages (time, sample, in) that are the same in every step: taken once.

    The gradient is that of the product in every step, bit for bit. `weight`, without gradient, has the
    type of the product.
    """
    out: Tensor = _HeldProduct.apply(x, weight)  # type: ignore[no-untyped-call]
    return out


class _CubaStep(torch.autograd.Function):
    """One step of `CubaLIF`, see `cuba_step`; forward and backward in few passes over memory."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        u: Tensor | None,
        v: Tensor | None,
        bias: Tensor | None,
        threshold: Tensor,
        i_decay: Tensor,
        v_decay: Tensor,
        scale: Tensor,
        surrogate: Surrogate,
        wraps: bool,
        small: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.float32 if small and a.dtype == torch.float32 else torch.float64
        # tensors of one element, not scalars: they make the products float64
        new_u = a * a.new_full((1,), _SCALE, dtype=dtype)
        if u is not None:
            new_u += (u * ((_ONE - i_decay) / _ONE).to(dtype)).trunc_()
        if wraps:
            new_u = wrap_current(wrap(new_u, 32))
        new_v = new_u.clone()
        if v is not None:
            new_v += (v * ((_ONE - v_decay) / _ONE).to(dtype)).trunc_()
        if bias is not None:
            new_v.add_(bias.to(dtype), alpha=_SCALE)
        if wraps:
            new_v = wrap(new_v, 32)
        new_v.clamp_(-_LIMIT + 1, _LIMIT - 1)
        above = torch.sub(new_v, threshold.to(dtype), alpha=_SCALE)
        fires = above > 0
        x = above.div_(scale.to(dtype)).to(torch.float32)
        ctx.save_for_backward(x, fires, scale, i_decay, v_decay, u, v)
        ctx.surrogate = surrogate
        ctx.shapes = None if bias is None else bias.shape, threshold.shape
        v_out = new_v.masked_fill_(fires, 0)
        if wraps:
            return fires.to(torch.float32), new_u, v_out.to(torch.float32)
        return fires.to(torch.float32), new_u.to(torch.float32), v_out.to(torch.float32)

    @staticmethod
    def backward(
        ctx: Any, g_spike: Tensor | None, g_u: Tensor | None, g_v: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, fires, scale, i_decay, v_decay, u, v = ctx.saved_tensors
        scale32 = scale.to(torch.float32)
        by_spike = ctx.surrogate(x) / scale32
        if g_spike is not None:
            by_spike.mul_(g_spike)
        total = by_spike if g_v is None else g_v.masked_fill(fires, 0).add_(by_spike)
        current = total if g_u is None else g_u + total
        grads: list[Tensor | None] = [None] * 11
        need = ctx.needs_input_grad
        if need[0]:
            grads[0] = current * _SCALE
        if need[1]:
            grads[1] = current * ((_ONE - i_decay) / _ONE).to(torch.float32)
        if need[2]:
            grads[2] = total * ((_ONE - v_decay) / _ONE).to(torch.float32)
        if need[3]:
            grads[3] = total.sum_to_size(ctx.shapes[0]).mul_(_SCALE)
        if need[4]:
            grads[4] = by_spike.sum_to_size(ctx.shapes[1]) * -_SCALE
        if need[5] and u is not None:
            grads[5] = (current * u).sum_to_size(i_decay.shape) / -_ONE
        if need[6] and v is not None:
            grads[6] = (total * v).sum_to_size(v_decay.shape) / -_ONE
        return tuple(grads)


def fits_float32(i_decay: Tensor, v_decay: Tensor, scale: Tensor) -> bool:
    """Whether a `cuba_step` in which nothing wraps has the same bits in float32 as in float64.

    It does where what u and v keep is 0 or a power of two, whose products with 24 bits are exact in
    float32, and `scale` is exact there. |u| is below 2^23; the sum for v is exact below 2^24, and beyond
    it is clipped whatever its last bits; and a quotient of numbers of 24 bits, rounded to 53 bits and
    then to 24, is the one rounded to 24 at once (Figueroa 1995).
    """
    kept = [(_ONE - decay.detach()) / _ONE for decay in (i_decay, v_decay)]
    powers = all(bool(((k == 0) | (torch.frexp(k).mantissa == 0.5)).all()) for k in kept)
    return powers and bool((scale.float().double() == scale).all())


def cuba_step(
    a: Tensor,
    u: Tensor | None,
    v: Tensor | None,
    bias: Tensor | None,
    threshold: Tensor,
    i_decay: Tensor,
    v_decay: Tensor,
    scale: Tensor,
    surrogate: Surrogate,
    wraps: bool,
    small: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""One step of `hw_targets.neurons.CubaLIF`: (spikes float32, u, v after the reset).

    `a` (sample, *shape): synaptic sums, float32 or float64; `u`, `v`: states before, None where they
    are 0; parameters float64 with at least one axis, broadcasting to `a`. `wraps`: whether u could
    leave +-2^23; without it u is float32 (v always is: 24 bits are exact). `small`: `fits_float32` holds
    and nothing wraps, so that sums in float32 are computed on in float32, to the same bits.

    Backward, with x = (v - (threshold << 6)) / scale before the reset: d spike / d v =
    surrogate(x) / scale; a reset cuts the gradient of v and has none itself; truncation, wrap and
    clip pass it. A sum has 64 times the gradient of u, and so on.
    """
    out: tuple[Tensor, Tensor, Tensor] = _CubaStep.apply(  # type: ignore[no-untyped-call]
        a, u, v, bias, threshold, i_decay, v_decay, scale, surrogate, wraps, small
    )
    return out
