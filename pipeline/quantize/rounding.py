"""Real numbers to integers of few bits: to the nearest, or so that the errors of weights cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.arrays import Array
from ..float.cell import Cell

DAMPING = 0.01
"""Added to the diagonal of second moments, as a fraction of its mean."""
VECTORS = 1 << 15
"""Input vectors (patches of a convolution) that moments are taken of, at most."""
BLOCK = 64
"""Columns whose errors are carried to the later ones together."""


@dataclass(frozen=True)
class RealLayer:
    """One layer's numbers before rounding, in the integers' own units: where fine-tuning starts.

    The stored weights are `step` times whole numbers within [-2^(bits-1), 2^(bits-1) - 1], those of
    `recurrent` so with `recurrent_step` (None: `step`); bias and threshold are rounded to whole
    numbers, decays to whole parts of 4096. `bias`, `threshold` and `recurrent` are None where the
    layer has none (a readout has the largest threshold, fixed).
    """

    weight: Array
    bias: Array | None
    threshold: Array | None
    i_decay: Array
    v_decay: Array
    recurrent: Array | None = None
    bits: int = 8
    step: int = 2
    recurrent_step: int | None = None


def full_step(bits: int) -> int:
    """The step at which b-bit integers fill [-256, 256): 2^(9 - b)."""
    return 1 << (9 - bits)


def nearest(values: Array, bits: int) -> Array:
    """Whole numbers in [-2^(b-1), 2^(b-1) - 1]; what lies beyond saturates."""
    high = 1 << (bits - 1)
    whole: Array = np.clip(np.round(values), -high, high - 1)
    return whole


def saturates(values: Array, bits: int) -> NDArray[np.bool_]:
    """Which values lie half or more beyond the outermost integers."""
    high = 1 << (bits - 1)
    beyond: NDArray[np.bool_] = (values < -high - 0.5) | (values > high - 0.5)
    return beyond


@dataclass(frozen=True)
class Compensation:
    """What error-compensated rounding needs of the inputs of a layer (or group of channels).

    `order`: columns from the largest second moment down; `factor`: in that order the upper
    triangular U with (E[x x^T] + damping)^-1 = U^T U.
    """

    order: NDArray[np.int64]
    factor: Array

    @staticmethod
    def of(moment: Array) -> Compensation:
        """From the second moments E[x x^T] (in, in)."""
        order = np.argsort(-np.diag(moment), kind="stable")
        damped = moment[np.ix_(order, order)] + _ridge(moment, DAMPING)
        return Compensation(order, np.linalg.cholesky(np.linalg.inv(damped)).T)

    def round(self, values: Array, bits: int) -> Array:
        r"""Whole numbers for `values` (out, in), column after column, errors carried to the rest.

        Rounding column j by d moves the columns that are still free by -d U_jk / U_jj, which keeps
        E |(w - q) x|^2 smallest (the optimal brain surgeon with moments of the layer's input;
        Hassibi and Stork 1993, Frantar et al., GPTQ, 2022).
        """
        left, factor = np.array(values[:, self.order], float), self.factor
        out = np.empty_like(left)
        for start in range(0, left.shape[1], BLOCK):
            end = min(start + BLOCK, left.shape[1])
            errors = np.empty((len(left), end - start))
            for j in range(start, end):
                out[:, j] = nearest(left[:, j], bits)
                errors[:, j - start] = (left[:, j] - out[:, j]) / factor[j, j]
                left[:, j:end] -= np.outer(errors[:, j - start], factor[j, j:end])
            left[:, end:] -= errors @ factor[start:end, end:]
        back = np.empty_like(out)
        back[:, self.order] = out
        return back


def refit(weight: Array, exact: Array, real: Array, ridge: float) -> Array:
    """Weights whose sums over the `real` inputs come nearest to those of `weight` over `exact` ones.

    `exact`, `real`: (n, in), the float network's messages and those the layer really receives.
    w' = w + w E[(exact - real) real^T] (E[real real^T] + damping)^-1: a regression that goes back to
    w as `ridge`, a fraction of the mean moment, grows.
    """
    moment = real.T.astype(float) @ real / len(real)
    cross = (exact - real).T.astype(float) @ real / len(real)
    change: Array = weight @ np.linalg.solve(moment + _ridge(moment, ridge), cross.T).T
    return weight + change


def _ridge(moment: Array, fraction: float) -> Array:
    mean = float(np.diag(moment).mean()) or 1.0
    ridge: Array = fraction * mean * np.eye(len(moment))
    return ridge


def filtered(message: Array, i_decay: float, v_decay: float) -> Array:
    """Messages (sample, time, ...) as they add up in a membrane that never spikes, float32.

    u <- (1 - i_decay) u + x; v <- (1 - v_decay) v + u.
    """
    out = np.empty(message.shape, np.float32)
    u = np.zeros(message[:, 0].shape, np.float32)
    v = np.zeros_like(u)
    for t in range(message.shape[1]):
        u = (1 - i_decay) * u + message[:, t]
        v = (1 - v_decay) * v + u
        out[:, t] = v
    return out


def columns(cell: Cell, inputs: Array) -> Iterator[Array]:
    """What a row of weights sees of inputs (n, *shape): (vectors, columns), for every group.

    At most about `VECTORS` vectors, of inputs drawn at random (the same at each call).
    """
    moves = cell.geometry
    positions = 1 if moves is None else int(np.prod(cell.shape[1:]))
    if len(inputs) * positions > VECTORS:
        draws = np.random.default_rng(0).permutation(len(inputs))
        inputs = inputs[np.sort(draws[: -(-VECTORS // positions)])]
    if moves is None:
        yield inputs.reshape(len(inputs), -1)
        return
    for part in np.split(inputs, moves.groups, axis=1):
        patches = torch.nn.functional.unfold(
            torch.from_numpy(np.ascontiguousarray(part, np.float32)),
            cell.weight.shape[2:],
            dilation=moves.dilation,
            padding=moves.padding,
            stride=moves.stride,
        ).numpy()
        yield patches.transpose(0, 2, 1).reshape(-1, patches.shape[1])
