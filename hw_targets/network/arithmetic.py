"""The integer primitives of Loihi-style hardware as Lava's CPU backend computes them.

Pure functions, each with its formula. The authority is Lava 0.10 (`lava.proc.lif`,
`lava.proc.dense`, `lava.proc.conv`, `lava.utils.weightutils`) and lava-dl 0.6
(`lava.lib.dl.netx`); tests compare every function here with that code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.signedinteger[Any]]

DECAY_ONE = 4096
"""A decay of 4096 / 4096 forgets everything in one step (12-bit decays)."""
STATE_SHIFT = 6
"""Synaptic sums, biases and thresholds enter the 24-bit state shifted left by this many bits."""
STATE_LIMIT = 1 << 23
"""u wraps beyond +-2^23, v is clipped to +-(2^23 - 1)."""
WEIGHT_MIN, WEIGHT_MAX = -256, 254
"""Weights that netx and Lava carry unchanged (8-bit mantissa, mixed sign)."""
BIAS_MIN, BIAS_MAX = -4096, 4095
"""13-bit signed bias mantissa (Loihi 2; netx fixes its exponent at 6)."""
THRESHOLD_MAX = (1 << 17) - 1
"""17-bit unsigned threshold mantissa."""
DELAY_MAX = 62
"""netx keeps a ring of 63 steps per neuron: a delay of 62 arrives 63 steps later."""
MESSAGE_LIMIT = 1 << 24
"""Payloads of graded spikes stay below this magnitude (Loihi 2; Lava's ports)."""
MESSAGE_BITS = 25
"""What they take, sign included."""
NEVER = 1 << 17
"""Threshold of netx's default neuron: 2^23 after the shift, above the clip of v, so never reached.
No file can hold it (18 bit); it only stands for a layer stored without neuron."""


def decay(state: Integers, by: int | Integers) -> Integers:
    """Decayed state: sign(x) * floor(|x| * (4096 - by) / 4096), that is, rounded toward zero.

    `state` int32 in any shape; `by` is iDecay or vDecay, an integer in 0..4096 that broadcasts.
    The product is taken in int64. Source: `AbstractPyLifModelFixed.subthr_dynamics`.
    """
    product = state.astype(np.int64) * (DECAY_ONE - np.asarray(by, np.int64))
    rounded: Integers = (np.sign(product) * (np.abs(product) >> 12)).astype(np.int32)
    return rounded


def wrap_current(u: Integers) -> Integers:
    """u - 2^24 where u > 2^23, u + 2^24 where u <= -2^23, else u.

    In any shape. One wrap only, as Lava does it: 2^23 itself is kept, and |u| >= 3 * 2^23 stays out of
    range.
    """
    once = np.where(u > STATE_LIMIT, u - 2 * STATE_LIMIT, u)
    return np.where(once <= -STATE_LIMIT, u + 2 * STATE_LIMIT, once)


def clip_voltage(v: Integers) -> Integers:
    """v, in any shape, limited to -(2^23 - 1) .. 2^23 - 1."""
    return np.clip(v, -STATE_LIMIT + 1, STATE_LIMIT - 1)


def wrap24(x: Integers) -> Integers:
    """((x + 2^23) mod 2^24) - 2^23, in any shape: what Lava's convolution does to its sums."""
    return ((x + STATE_LIMIT) % (2 * STATE_LIMIT)) - STATE_LIMIT


def convolved(x: Integers) -> Integers:
    """What a convolution of Lava makes of its sums x: `wrap24`, or 0 for those beyond 32 bits.

    In any shape. Lava takes sums in float64 and casts them to int32; C leaves beyond 32 bits open what
    comes out. On x86 it is -2^31, which wraps to 0. Source: `lava.proc.conv.utils.conv`, `signed_clamp`.
    """
    return wrap24(np.where((x >= -(1 << 31)) & (x < 1 << 31), x, 0))


def wrap32(x: Integers) -> NDArray[np.int32]:
    """x, in any shape, modulo 2^32 as a signed 32-bit integer."""
    return x.astype(np.int64).astype(np.int32)


@dataclass(frozen=True)
class SynapseFormat:
    """How netx and Lava store a dense weight matrix: sums of mantissas are shifted by `shift`.

    `mantissa`: (out, in).
    """

    mantissa: NDArray[np.int64]
    shift: int

    @property
    def weight(self) -> NDArray[np.int64]:
        """The weights (out, in) Lava really applies to single binary spikes, rounded down."""
        if self.shift < 0:
            return self.mantissa << -self.shift
        return self.mantissa >> self.shift

    @property
    def whole(self) -> bool:
        """Whether every weight is a whole number, so that sums can be taken of weights.

        Lava can leave halves in one of the two matrices of a recurrent layer, see
        `synapse_formats`.
        """
        return self.shift <= 0 or not (self.mantissa & ((1 << self.shift) - 1)).any()


def synapse_format(weight: Integers) -> SynapseFormat:
    """The mantissas and the exponent that Lava's CPU backend uses for a dense weight matrix.

    netx scales the matrix up to fill 8 bits (`optimize_weight_bits`), Lava then clips it to 8 bits
    and truncates its lowest bits (`clip_weights`, `truncate_weights`). Within [-256, 254] the
    result equals the weights, except for a matrix without positive entry whose minimum is
    -2^m, where that minimum loses one unit of its granularity (-128 becomes -127), and one that
    holds zeros, nothing positive and odd values beyond -128, which Lava turns into zeros. Beyond
    that range, matrices of mixed sign are clipped to it and others become zero (255 alone is kept).

    `weight`: integers (out, in). An all-zero matrix stays zero here; netx cannot load one.
    """
    return synapse_formats(weight)[0]


def synapse_formats(*parts: Integers) -> tuple[SynapseFormat, ...]:
    """`synapse_format` of matrices (out, in) that share one scaling: the two of a recurrent layer.

    netx scales them side by side; Lava then clips and truncates each by its own signs.
    """
    low, high = min(int(w.min()) for w in parts), max(int(w.max()) for w in parts)
    mantissas = [w.astype(np.int64) for w in parts]
    if low == high == 0:
        return tuple(SynapseFormat(m, 0) for m in mantissas)
    if (high > WEIGHT_MAX and low < 0) or (low < WEIGHT_MIN and high > 0):
        mantissas = [np.clip(m, WEIGHT_MIN, WEIGHT_MAX) for m in mantissas]
        low, high = max(low, WEIGHT_MIN), min(high, WEIGHT_MAX)
    mixed = low < 0 <= high
    if mixed:
        gain = min(127 / high if high else np.inf, 128 / -low)
    else:
        gain = 256 / -low if high < 0 else 255 / high
    shift = int(np.floor(np.log2(gain))) + mixed
    used = 1 << 8  # the bits that any weight uses: all are multiples of its lowest one, 256 at most
    for m in mantissas:
        used |= int(np.bitwise_or.reduce(m, axis=None))
    zeros = (used & -used).bit_length() - 1
    bits = 8 - shift - (zeros - mixed)
    if shift < 0:  # numpy shifts by a negative count to zero: Lava loses all such weights
        return tuple(SynapseFormat(np.zeros_like(m), shift) for m in mantissas)
    return tuple(SynapseFormat(_load(m << shift, bits), shift) for m in mantissas)


def _load(mantissa: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """What Lava's synapse keeps of the mantissas it is given (clip, then truncate)."""
    if mantissa.min() >= 0:
        drop, mantissa = 8 - bits, np.clip(mantissa, 0, 255)
    elif mantissa.max() <= 0:
        drop, mantissa = 8 - bits, np.clip(mantissa, -255, 0)
    else:
        drop, mantissa = 8 - bits + 1, np.clip(mantissa, -256, 255)
    if drop < 0:
        return np.zeros_like(mantissa)
    sign = -1 if mantissa.max() <= 0 else 1  # Lava truncates magnitudes of inhibitory matrices
    return sign * (((sign * mantissa) >> drop) << drop)


def resonator_decays(sin_decay: int, cos_decay: int) -> tuple[int, int]:
    """The (sin, cos) decays that Lava runs for the ones stored in a netx file.

    netx turns them into a decay and a period in float64, and Lava's process back into integers,
    truncating: with s = sin / 4096, c = cos / 4096, alpha = 1 - sqrt(s^2 + c^2) and
    period = 1 / (atan2(s, c) / 2 / pi), they become
    int(4096 * ((1 - alpha) * sin(2 pi / period))) and the same with cos. About two of five pairs
    lose one this way. Source: `slayer.neuron.rf.neuron_params`, `lava.proc.rf.process`.
    """
    s, c = np.float64(sin_decay / 4096), np.float64(cos_decay / 4096)
    alpha = 1 - np.sqrt(s**2 + c**2)
    period = 1 / (np.arctan2(s, c) / 2 / np.pi)
    sin = (1 - alpha) * np.sin(np.pi * 2 * 1 / period)
    cos = (1 - alpha) * np.cos(np.pi * 2 * 1 / period)
    return int(np.int32(sin * 4096)), int(np.int32(cos * 4096))
