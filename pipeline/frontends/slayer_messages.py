"""What SLAYER's blocks send each other is on the chip: single spikes, or messages with fraction bits."""

from __future__ import annotations

from typing import Any

from ...hw_targets.network.layers import Input, Layer
from ...hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)

MESSAGE = 1 << 12
"""1.0 among sigma-delta neurons. CUBA neurons and resonators send 1, and take 1 for a spike."""


class Messages:
    """The unit of messages along a chain of blocks, checked where one block meets the next."""

    def __init__(self) -> None:
        self._unit: int | None = None
        self._sender = ""
        self._end = ""

    def into(self, name: str, block: Any, layer: Layer) -> int:
        """What 1.0 of a block's input is on the chip.

        NetworkError where the block before sends other messages than this one takes, or none.
        """
        neuron = getattr(layer, "neuron", None)
        if self._end and neuron is not None:
            raise NetworkError(
                f"{self._sender} gives {self._end}, which netx sends to no other layer. Let it be the "
                f"last block."
            )
        if neuron is None:
            return self._unit or 1
        takes = self._unit or 1
        if isinstance(layer, Input):
            takes = block.neuron.w_scale
        elif not isinstance(neuron, Sigma):
            takes = _one(neuron)
            self._check(takes)
        elif self._unit is None:
            takes = MESSAGE
        self._unit, self._sender = sends(layer, takes), name
        if isinstance(neuron, Sigma):
            self._end = "sums"
        elif isinstance(neuron, CubaLIF) and "Affine" in type(block).__name__:
            self._end = "voltages"
        return takes

    def _check(self, takes: int) -> None:
        if self._unit in (None, takes):
            return
        if takes == MESSAGE:
            raise NetworkError(
                f"its sigma-delta neurons take {MESSAGE} for 1.0 (12 fraction bits), and "
                f"{self._sender} sends a spike as 1: on the chip its input would be {MESSAGE} times too "
                f"small, and no weight of 8 bits makes up for that. Use sigma-delta blocks from the "
                f"input on, or none."
            )
        raise NetworkError(
            f"its neurons take a spike for 1, and {self._sender} sends sigma-delta messages, {MESSAGE} "
            f"for 1.0 (12 fraction bits): on the chip its input would be {MESSAGE} times too large, "
            f"and a threshold raised as much neither fits its 24-bit states nor lets its decays round "
            f"the same. Use sigma-delta blocks up to the output, or none."
        )


def sends(layer: Any, unit: int) -> int:
    """What 1.0 of a layer's output is on the chip; `unit`: of its input."""
    if isinstance(layer.neuron, Sigma):
        return 64 * unit
    return _one(layer.neuron)


def _one(neuron: object) -> int:
    """1.0 in the messages that neurons exchange with others of their kind."""
    if isinstance(neuron, SigmaDelta | Delta):
        return MESSAGE
    if isinstance(neuron, CubaLIF | ResonateFire):
        return 1
    raise NetworkError(f"what {type(neuron).__name__} neurons send for 1.0 is not known here.")
