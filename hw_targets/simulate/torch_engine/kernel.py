"""The scan of a layer over time as one Triton kernel: the equations of `neurons`, states in registers.

A program takes a block of (sample, neuron) pairs through all steps: in a step it reads a sum and writes a
message, and what is recorded. Overflows and active neurons are counted on the way. Only `scan` imports
this file, where there is Triton, and checks it against `neurons` before use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

_jit: Callable[..., Any] = triton.jit  # untyped
_unspecialized: Callable[..., Any] = (
    triton.jit(  # one program for all networks, whatever their numbers
        do_not_specialize=[
            "size",
            "bias_size",
            "steps",
            "forgets",
            "interval",
            "active_from",
            "active_to",
            "threshold",
            "shift",
            "sin",
            "cos",
            "times",
            "first_times",
        ]
    )
)

CUBA, DELTA, SIGMA_DELTA, SIGMA, RF_PHASE, RF_IZHIKEVICH = range(6)
_CUBA = tl.constexpr(0)
_DELTA = tl.constexpr(1)
_SIGMA_DELTA = tl.constexpr(2)
_SIGMA = tl.constexpr(3)
_RF_PHASE = tl.constexpr(4)
_SHIFT = tl.constexpr(6)
_LIMIT = tl.constexpr(1 << 23)
_LOWEST = tl.constexpr(-(1 << 31))


@_jit
def _decayed(state, keep):  # type: ignore[no-untyped-def]
    """state * keep / 4096, rounded toward zero, in the type of the two."""
    product = state * keep
    return (product + tl.where(product < 0, 4095, 0)) >> 12


@_jit
def _clipped(x):  # type: ignore[no-untyped-def]
    """`arithmetic.clip_voltage`."""
    return tl.minimum(tl.maximum(x, 1 - _LIMIT), _LIMIT - 1)


@_jit
def _count(total, more):  # type: ignore[no-untyped-def]
    """Add all of `more` to a number in memory."""
    number = tl.sum(more.to(tl.int64), 0)
    tl.atomic_add(total, number, mask=number > 0)


@_unspecialized
def scan(  # type: ignore[no-untyped-def]
    sums,
    sums_imaginary,
    first,
    first_imaginary,
    messages,
    trace_u,
    trace_v,
    trace_residue,
    state_x,
    state_y,
    state_z,
    keep_u,
    keep_v,
    level,
    bias,
    active,
    overflow,
    elements,
    size,
    bias_size,
    steps,
    stride,
    forgets,
    interval,
    active_from,
    active_to,
    threshold,
    shift,
    sin,
    cos,
    times,
    first_times,
    KIND: tl.constexpr,
    SMALL: tl.constexpr,
    DIRECT: tl.constexpr,
    U: tl.constexpr,
    V: tl.constexpr,
    RESIDUE: tl.constexpr,
    ACTIVE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All steps of a layer. Tensors are (step, sample, neuron), `stride` the way from step to step of the
    sums; states (sample, neuron), x y z in the order of the kind, are changed in place.

    `first`: the sums of step 0; those of step k are sums[k - 1], but with DIRECT sums[k]. All are to be
    multiplied by `first_times` and `times`. Before step `forgets`, and again every `interval` steps,
    states are 0. Steps active_from .. active_to - 1 count for `active`, (neurons,). `overflow`: as
    `Overflow`. SMALL: all products stay within 32 bits.
    """
    e = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = e < elements
    neuron = e % size
    x = tl.load(state_x + e, mask=inside, other=0)
    zero = x * 0
    y, z = zero, zero
    if KIND != _SIGMA:
        y = tl.load(state_y + e, mask=inside, other=0)
    if KIND == _SIGMA_DELTA:
        z = tl.load(state_z + e, mask=inside, other=0)
    keep_x, keep_y, fires_above = zero, zero, zero
    if KIND == _CUBA:
        keep_x = tl.load(keep_u + neuron, mask=inside, other=0)
        keep_y = tl.load(keep_v + neuron, mask=inside, other=0)
        fires_above = tl.load(level + neuron, mask=inside, other=0)
    b = tl.load(bias + e % bias_size, mask=inside, other=0) << shift
    u_wraps, v_clips, sum_wraps, busy_steps = zero, zero, zero, zero
    next_a, next_c = zero, zero
    if not DIRECT:
        next_a = tl.load(first + e, mask=inside, other=0).to(tl.int32) * first_times
        if KIND >= _RF_PHASE:
            next_c = tl.load(first_imaginary + e, mask=inside, other=0).to(tl.int32) * first_times
    at, out = e, e
    for k in range(steps):
        a, c = next_a, next_c
        next_a = tl.load(sums + at, mask=inside, other=0).to(tl.int32) * times
        if KIND >= _RF_PHASE:
            next_c = tl.load(sums_imaginary + at, mask=inside, other=0).to(tl.int32) * times
        if DIRECT:
            a, c = next_a, next_c
        if (k >= forgets) & ((k - forgets) % interval == 0):
            x, y, z = zero, zero, zero
        if KIND == _CUBA:
            if SMALL:
                x = _decayed(x, keep_x) + (a << _SHIFT)
                v = _decayed(y, keep_y) + x + b
            else:
                exact_u = _decayed(x.to(tl.int64), keep_x.to(tl.int64)) + (a.to(tl.int64) << _SHIFT)
                x = exact_u.to(tl.int32)
                x = tl.where(x > _LIMIT, x - 2 * _LIMIT, x)
                x = tl.where(x <= -_LIMIT, x + 2 * _LIMIT, x)
                u_wraps += (x.to(tl.int64) != exact_u).to(tl.int32)
                exact_v = _decayed(y.to(tl.int64), keep_y.to(tl.int64)) + x.to(tl.int64) + b
                v = _clipped(exact_v.to(tl.int32))
                v_clips += (v.to(tl.int64) != exact_v).to(tl.int32)
            fires = v > fires_above
            y = tl.where(fires, 0, v)
            message = fires.to(tl.int32)
            u, v, residue = x, y, zero
        elif KIND >= _RF_PHASE:
            into_re, into_im = a << _SHIFT, c << _SHIFT
            sum_wraps += ((into_re >> _SHIFT) != a).to(tl.int32)
            sum_wraps += ((into_im >> _SHIFT) != c).to(tl.int32)
            x64, y64 = x.to(tl.int64), y.to(tl.int64)
            exact_re = _decayed(x64, cos) - _decayed(y64, sin) + into_re
            exact_im = _decayed(x64, sin) + _decayed(y64, cos) + into_im
            re, im = _clipped(exact_re), _clipped(exact_im)
            v_clips += (re != exact_re).to(tl.int32) + (im != exact_im).to(tl.int32)
            if KIND == _RF_PHASE:
                fires = (re >= threshold) & (im >= 0) & (y < 0)
            else:
                fires = im >= threshold
                re = tl.where(fires, 0, re)
                im = tl.where(fires, threshold - 1, im)
            x, y = re.to(tl.int32), im.to(tl.int32)
            message = fires.to(tl.int32)
            u, v, residue = x, y, zero
        elif KIND == _SIGMA:
            exact = x.to(tl.int64) + a
            x = exact.to(tl.int32)
            u_wraps += (x.to(tl.int64) != exact).to(tl.int32)
            message = x
            u, v, residue = x, zero, zero
        else:
            if KIND == _DELTA:  # states: act, residue
                before, kept = x, y
                exact = a.to(tl.int64) << shift
                act = exact.to(tl.int32)
                u_wraps += (act.to(tl.int64) != exact).to(tl.int32)
            else:  # sigma, act, residue
                before, kept = y, z
                exact = x.to(tl.int64) + a
                x = exact.to(tl.int32)
                u_wraps += (x.to(tl.int64) != exact).to(tl.int32)
                exact = x.to(tl.int64) + b
                act = exact.to(tl.int32)
                u_wraps += (act.to(tl.int64) != exact).to(tl.int32)
                act = tl.maximum(act, 0)
            exact = act.to(tl.int64) - before
            change = exact.to(tl.int32)
            u_wraps += (change.to(tl.int64) != exact).to(tl.int32)
            exact = change.to(tl.int64) + kept
            d = exact.to(tl.int32)
            u_wraps += (d.to(tl.int64) != exact).to(tl.int32)
            sends = (d >= threshold) | ((d <= -threshold) & (d != _LOWEST))
            sent = tl.where(sends, d, 0)
            message = sent >> _SHIFT
            residue = d - sent
            if KIND == _DELTA:
                x, y = act, residue
            else:
                y, z = act, residue
            u, v = x, act
        tl.store(messages + out, message, mask=inside)
        if U:
            tl.store(trace_u + out, u, mask=inside)
        if V:
            tl.store(trace_v + out, v, mask=inside)
        if RESIDUE:
            tl.store(trace_residue + out, residue, mask=inside)
        if ACTIVE:
            busy = (message != 0) | (x != 0) | (y != 0) | (z != 0)
            busy_steps += (busy & (k >= active_from) & (k < active_to)).to(tl.int32)
        at += stride
        out += elements
    tl.store(state_x + e, x, mask=inside)
    if KIND != _SIGMA:
        tl.store(state_y + e, y, mask=inside)
    if KIND == _SIGMA_DELTA:
        tl.store(state_z + e, z, mask=inside)
    if ACTIVE:
        tl.atomic_add(active + neuron, busy_steps.to(tl.int64), mask=inside)
    if (KIND != _CUBA) | (not SMALL):
        _count(overflow, tl.where(inside, u_wraps, 0))
        _count(overflow + 1, tl.where(inside, v_clips, 0))
        _count(overflow + 2, tl.where(inside, sum_wraps, 0))
