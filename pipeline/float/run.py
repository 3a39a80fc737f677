"""A cell on messages, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.network import arithmetic
from .cell import ONE, Cell

Array = NDArray[Any]
LIMIT = float(arithmetic.STATE_LIMIT / ONE)
WIDE = float(2**31 / ONE)
GUARD = 1e-6
"""Part of a grid step by which rounding errors of real numbers may not change a truncation."""


def run_cell(cell: Cell, messages: Array, own: Array | None = None) -> tuple[Array, Array]:
    """Spikes (int8) and voltages before the reset, (sample, time, *shape).

    `messages`: (sample, time, *input shape), as they reach the synapses. `own`: the layer's spikes
    that recurrent weights see, in place of those it would send itself. Steps before `start` are 0.
    """
    samples, steps = messages.shape[:2]
    spikes = np.zeros((samples, steps, *cell.shape), np.int8)
    voltage = np.zeros(spikes.shape)
    sums = _sums(cell, messages)
    u, v = np.zeros((2, samples, *cell.shape))
    before, above = np.zeros((2, samples, *cell.shape), bool)
    at_once = cell.reset == "subtract-at-once"
    to = np.asarray(cell.reset_to, float)
    level = np.where(np.isfinite(cell.threshold), cell.threshold, 0.0)
    threshold = cell.threshold - cell.tie * np.abs(level)
    u_grid, v_grid = cell.grid or (None, None)
    synaptic = bool(np.any(cell.i_decay != 1))
    for t in range(cell.start, steps):
        if t in cell.forget:
            u[:], v[:] = 0.0, 0.0
        a = sums[:, t]
        if cell.recurrent is not None and t > cell.start:
            back = spikes[:, t - 1] if own is None else own[:, t - 1]
            again = back.reshape(samples, -1) @ cell.recurrent.T
            a = a + (np.floor(again) if cell.floored else again)
        a = a + cell.charge
        u = _cut(u * (1 - cell.i_decay), u_grid) + (_cut(a, u_grid) if synaptic else a)
        if cell.limited:
            u = _wrapped(u, WIDE)
            u = np.where(u > LIMIT, u - 2 * LIMIT, np.where(u <= -LIMIT, u + 2 * LIMIT, u))
        v = _cut(v * (1 - cell.v_decay), v_grid) + _cut(u + cell.bias, v_grid)
        if cell.reset_delay:
            v = np.where(before, to, v) if cell.reset == "zero" else v - before * (level - to)
        elif at_once:
            v = v - above * (level - to)
        if cell.limited:
            v = np.clip(_wrapped(v, WIDE), -LIMIT + 1 / ONE, LIMIT - 1 / ONE)
        fired = v > threshold
        spikes[:, t], voltage[:, t] = fired, v
        if cell.reset_delay:
            before = fired
        elif cell.reset == "zero":
            v = np.where(fired, to, v)
        elif cell.reset == "subtract":
            v = np.where(fired, v - (level - to), v)
        elif at_once:
            v = v - (fired.astype(float) - above) * (level - to)
            above = v > threshold
    return spikes, voltage


def _wrapped(x: Array, limit: float) -> Array:
    out: Array = (x + limit) % (2 * limit) - limit
    return out


def _cut(x: Array, grid: Array | None) -> Array:
    """x toward zero on multiples of 1 / grid; rounding errors of products do not count."""
    if grid is None:
        return x
    parts = x * grid
    whole: Array = np.trunc(parts + np.sign(parts) * GUARD) / grid
    return whole


def _sums(cell: Cell, messages: Array) -> NDArray[np.float64]:
    """W x of every step, (sample, time, *shape), float64."""
    samples, steps = messages.shape[:2]
    messages = messages[:, cell.start :]
    x = messages.reshape(samples * messages.shape[1], *messages.shape[2:]).astype(float)
    if cell.geometry is not None:
        g = cell.geometry
        with torch.no_grad():
            out = torch.nn.functional.conv2d(
                torch.from_numpy(x),
                torch.from_numpy(np.ascontiguousarray(cell.weight)),
                None,
                g.stride,
                g.padding,
                g.dilation,
                g.groups,
            ).numpy()
        parts = [(0, out)]
    else:
        x = x.reshape(len(x), cell.weight.shape[1])
        if cell.delay is None:
            parts = [(0, x @ cell.weight.T)]
        else:
            delay = np.broadcast_to(cell.delay, cell.weight.shape)
            parts = [(int(d), x @ np.where(delay == d, cell.weight, 0).T) for d in np.unique(delay)]
    if cell.floored:
        parts = [(d, np.floor(part)) for d, part in parts]
    if cell.limited and cell.geometry is not None:
        parts = [(d, arithmetic.convolved(part)) for d, part in parts]
    sums = np.zeros((samples, steps, *cell.shape))
    for delay_, part in parts:
        late = delay_ + cell.shift
        from_step, to_step = max(cell.start + late, cell.start), min(steps + late, steps)
        sent = part.reshape(samples, steps - cell.start, *cell.shape)
        count = to_step - from_step
        if count > 0:
            first = from_step - cell.start - late
            sums[:, from_step:to_step] += sent[:, first : first + count]
    return sums
