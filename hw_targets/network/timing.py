"""`Timing`: for how many steps a network runs, and when its neurons forget."""

from __future__ import annotations

from dataclasses import dataclass

from .arithmetic import MESSAGE_BITS
from .neurons import NetworkError


@dataclass(frozen=True)
class Timing:
    """How a run goes on in time, for every backend; as lava-dl's `netx.hdf5.Network` takes it.

    `steps`: of the run; None: those of the input. Beyond the input's time a network runs on with no
    input; fewer steps leave the rest of it out. A constant input needs them.

    `reset_interval` R and `reset_offset` r: population i forgets u and v before step t = 1, 2, ...
    when t = r + 1 + i (mod R); only CubaLIF neurons do. None: they never do. With r = 1, population i
    forgets in the very step in which the first input step reaches it.

    `message_bits`: 0: every non-zero input message counts as one spike, as in netx; None and every
    other width, up to 25 bits, sign included, keep the payload.

    Raises NetworkError for values that no backend could run.
    """

    steps: int | None = None
    reset_interval: int | None = None
    reset_offset: int = 0
    message_bits: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise NetworkError(f"steps = {self.steps}; give 1 or more, or none for the input's.")
        if self.reset_interval is not None and self.reset_interval < 1:
            raise NetworkError(f"reset_interval = {self.reset_interval}; give 1 or more, or none.")
        if self.reset_offset < 0:
            raise NetworkError(f"reset_offset = {self.reset_offset}; give 0 or more.")
        if self.message_bits is not None and self.message_bits not in range(MESSAGE_BITS + 1):
            raise NetworkError(
                f"message_bits = {self.message_bits}; give 0 for single spikes, up to {MESSAGE_BITS} "
                f"for graded ones (their payloads stay below 2^{MESSAGE_BITS - 1}), or none for that."
            )

    def forgets(self, population: int, step: int) -> bool:
        """Whether a population forgets before a step; steps count from 1."""
        interval = self.reset_interval
        return interval is not None and (step - 1 - self.reset_offset - population) % interval == 0


AS_INPUT = Timing()
"""Run as many steps as the input has, without resets, with the messages as they are."""
