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

    One wrap only, as Lava does it: 2^23 itself is kept, and |u| >= 3 * 2^23 stays out of range.
    """
    once = np.where(u > STATE_LIMIT, u - 2 * STATE_LIMIT, u)
    return np.where(once <= -STATE_LIMIT, u + 2 * STATE_LIMIT, once)


def clip_voltage(v: Integers) -> Integers:
    """v limited to -(2^23 - 1) .. 2^23 - 1."""
    return np.clip(v, -STATE_LIMIT + 1, STATE_LIMIT - 1)


def wrap24(x: Integers) -> Integers:
    """((x + 2^23) mod 2^24) - 2^23: what Lava's convolution does to its sums."""
    return ((x + STATE_LIMIT) % (2 * STATE_LIMIT)) - STATE_LIMIT


def wrap32(x: Integers) -> NDArray[np.int32]:
    """x modulo 2^32 as a signed 32-bit integer."""
    return x.astype(np.int64).astype(np.int32)


@dataclass(frozen=True)
class SynapseFormat:
    """How netx and Lava store a dense weight matrix: weight = mantissa >> shift."""

    mantissa: NDArray[np.int64]
    shift: int

    @property
    def weight(self) -> NDArray[np.int64]:
        """The weights Lava really applies to single binary spikes."""
        return self.mantissa >> self.shift


def synapse_format(weight: Integers) -> SynapseFormat:
    """The mantissas and the exponent that Lava's CPU backend uses for a dense weight matrix.

    netx scales the matrix up to fill 8 bits (`optimize_weight_bits`), Lava then clips it to 8 bits
    and truncates its lowest bits (`clip_weights`, `truncate_weights`). Within [-256, 254] the
    result equals the weights, except for a matrix without positive entry whose minimum is
    -2^m, where that minimum loses one unit of its granularity (-128 becomes -127), and one that
    holds zeros, nothing positive and odd values beyond -128, which Lava turns into zeros.

    `weight`: integers (out, in), within [-256, 254]. An all-zero matrix stays zero here;
    netx cannot load one.
    """
    low, high = int(weight.min()), int(weight.max())
    mantissa = weight.astype(np.int64)
    if low == high == 0:
        return SynapseFormat(mantissa, 0)
    mixed = low < 0 <= high
    if mixed:
        gain = min(127 / high if high else np.inf, 128 / -low)
    else:
        gain = 256 / -low if high < 0 else 255 / high
    shift = int(np.floor(np.log2(gain))) + mixed
    zeros = next((n for n in range(8, 0, -1) if not (mantissa % (1 << n)).any()), 0)
    bits = 8 - shift - (zeros - mixed)
    mantissa = mantissa << shift
    if low >= 0:
        drop, mantissa = 8 - bits, np.clip(mantissa, 0, 255)
    elif high <= 0:
        drop, mantissa = 8 - bits, np.clip(mantissa, -255, 0)
    else:
        drop, mantissa = 8 - bits + 1, np.clip(mantissa, -256, 255)
    if drop < 0:  # numpy shifts by a negative count to zero: Lava loses all such weights
        return SynapseFormat(np.zeros_like(mantissa), shift)
    sign = -1 if high <= 0 else 1  # Lava truncates magnitudes of inhibitory matrices
    mantissa = sign * (((sign * mantissa) >> drop) << drop)
    return SynapseFormat(mantissa, shift)
