"""What every backend does before it runs: check the input, the reset schedule and `record`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network import arithmetic
from ..network.arithmetic import MESSAGE_LIMIT
from ..network.kind import STATES
from ..network.layers import Input
from ..network.network import Network
from ..network.neurons import IntArray, NetworkError, integers
from ..network.timing import AS_INPUT, Timing

QUANTITIES = ("spikes", *STATES)


@dataclass(frozen=True)
class Drive:
    """A checked input, in the one form every backend runs.

    `x`: messages (sample, time, *input shape), any integer type; empty in time where a bias drives
    the network. `bias`: None, or (sample, *input shape), the bias mantissas of Input neurons.
    Beyond the time of `x` the input is silent.
    """

    x: NDArray[Any]
    bias: IntArray | None
    steps: int
    largest: int
    """at least the size of every message; 1 where they all are 0 or 1"""


def prepare_input(network: Network, inputs: ArrayLike, timing: Timing = AS_INPUT) -> Drive:
    """Check an input for a network.

    `inputs`: integers (sample, time, *input shape), or (sample, *input shape) for a constant input,
    which needs steps. A constant input meets Input neurons of kind CubaLIF (`constant_is_bias`) as
    their bias mantissa; everywhere else it is held. `timing` says how many steps there are, and whether
    every non-zero message counts as one spike. Input neurons always see the payload, as in netx. Arrays
    of integers are not copied. Raises NetworkError.
    """
    steps, message_bits = timing.steps, timing.message_bits
    shape = network.input_shape
    array = np.asarray(inputs)
    constant = array.ndim == 1 + len(shape)
    if array.shape[-len(shape) :] != shape or array.ndim not in (1 + len(shape), 2 + len(shape)):
        raise NetworkError(
            f"input has shape {array.shape}; (sample, time, *{shape}) or, constant in time, "
            f"(sample, *{shape}) is needed, axes in C, H, W order."
        )
    if not constant and steps is None:
        steps = array.shape[1]
    if steps is None or steps < 1:
        raise NetworkError(
            f"steps = {steps}: a constant input needs a number of steps of 1 or more."
        )
    first = network.layers[0]
    neuron = first.neuron if isinstance(first, Input) else None
    if constant and neuron is not None and neuron.constant_is_bias:
        bias = integers(
            array,
            "input",
            arithmetic.BIAS_MIN,
            arithmetic.BIAS_MAX,
            "A constant input to Input neurons is their 13-bit bias mantissa.",
        )
        return Drive(np.zeros((len(array), 0, *shape), np.int8), bias, steps, 1)
    if neuron is not None:
        message_bits = None
    x, largest = _messages(array if constant else array[:, :steps], message_bits)
    if constant:
        x = np.broadcast_to(x[:, None], (len(x), steps, *shape))
    return Drive(x, None, steps, largest)


def _messages(array: NDArray[Any], message_bits: int | None) -> tuple[NDArray[Any], int]:
    width = min(1 << message_bits, MESSAGE_LIMIT) if message_bits else MESSAGE_LIMIT
    if array.dtype.kind == "b":
        return array.view(np.int8), 1
    whole = array.dtype.kind in "iu"
    low, high = _ends(array) if whole and array.size else (0, 0)
    if not whole or low <= -width or high >= width:
        array = integers(
            array,
            "input",
            -width + 1,
            width - 1,
            "Spikes are 0 / 1 or graded integers: encode real values on an integer grid first, and "
            "give enough message bits.",
        )
        low, high = array.min(initial=0), array.max(initial=0)
    if message_bits == 0 and (low < 0 or high > 1):
        return (array != 0).view(np.int8), 1
    return array, high if low >= 0 else max(high, -low, 2)


def _ends(array: NDArray[Any]) -> tuple[int, int]:
    """The smallest and the largest entry, or 0 and 1 of bytes which are nothing else: seen at once."""
    if array.itemsize == 1 and array.flags.c_contiguous:
        entries = array.reshape(-1).view(np.uint8)
        words = entries[: len(entries) // 8 * 8].view(np.uint64)
        rest = int(np.bitwise_or.reduce(entries[8 * len(words) :]))
        if not int(np.bitwise_or.reduce(words)) & ~0x0101010101010101 and rest <= 1:
            return 0, 1
    return int(array.min()), int(array.max())


@dataclass(frozen=True)
class Record:
    """What to keep of a run: populations by quantity, and whether to sum the output."""

    counts: bool
    spikes: frozenset[int]
    u: frozenset[int]
    v: frozenset[int]
    residue: frozenset[int]


def parse_record(record: str | Collection[str], network: Network) -> Record:
    """Read a `record` argument.

    "counts": the last population's messages, summed. "spikes", "u", "v", "residue": of every
    population that has it; with a number, "spikes.2" or "v.-1": of that population alone.
    Raises NetworkError.
    """
    populations = network.populations
    by_quantity: dict[str, set[int]] = {name: set() for name in QUANTITIES}
    counts = False
    for item in (record,) if isinstance(record, str) else record:
        name, _, number = item.partition(".")
        if item == "counts":
            counts = True
            continue
        try:
            chosen = [populations[int(number)]] if number else populations
        except (ValueError, IndexError):
            chosen = ()
        having = [p.index for p in chosen if name == "spikes" or name in p.states]
        if name not in by_quantity or not having:
            raise NetworkError(
                f'cannot record "{item}". Choose "counts", or {", ".join(QUANTITIES)}, of one '
                f'population as in "spikes.{len(populations) - 1}" (0 to {len(populations) - 1}), '
                f"where its neurons have it."
            )
        by_quantity[name].update(having)
    return Record(counts, **{name: frozenset(chosen) for name, chosen in by_quantity.items()})
