"""Energy of arithmetic and of on-chip memory at 45 nm and 0.9 V, in joules, by width and size.

Between published points, straight lines. Source: M. Horowitz, "Computing's energy problem (and what we
can do about it)", ISSCC 2014: integer additions and multiplications, and 64-bit reads of a cache.
Control, clocks and wires between units are in none of these figures.
"""

from __future__ import annotations

import math

import numpy as np

ADD_BITS = (8, 16, 32)
ADD_JOULES = (0.03e-12, 0.05e-12, 0.1e-12)
MULTIPLY_8_JOULES = 0.2e-12
WORD_BITS = 64
SRAM_BYTES = (8 << 10, 32 << 10, 1 << 20)
SRAM_JOULES = (10e-12, 20e-12, 100e-12)


def add(bits: int) -> float:
    """Joules of an integer addition of 8 to 32 bits; raises ValueError for others."""
    if not ADD_BITS[0] <= bits <= ADD_BITS[-1]:
        raise ValueError(
            f"an addition of {bits} bits; {ADD_BITS[0]} to {ADD_BITS[-1]} have a price."
        )
    return float(np.interp(bits, ADD_BITS, ADD_JOULES))


def multiply(bits: int, other: int) -> float:
    """Joules of an integer multiplication, by the product of its widths: 0.2 pJ * bits * other / 64.

    An array of one-bit adders grows so; at 32 x 32 bits it gives 3.2 pJ, the table says 3.1.
    """
    return MULTIPLY_8_JOULES * bits * other / 64


def sram(bits: float, size: float, *, whole_words: bool = False) -> float:
    """Joules of reading, or writing, `bits` of a memory of `size` bytes.

    Its share of a 64-bit access, as neighbours are used together; `whole_words`: accesses of its own.
    A memory below 8 KB costs what one of 8 KB costs, one above 1 MB is made of banks of 1 MB. Writes
    are priced as reads.
    """
    words = math.ceil(bits / WORD_BITS) if whole_words else bits / WORD_BITS
    return words * float(np.interp(size, SRAM_BYTES, SRAM_JOULES))
