"""Spiking network and ANN on one and the same hardware model: arithmetic and SRAM, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from ..hw_targets.counts import Counts
from ..hw_targets.energy import Energy
from ..hw_targets.network import Network
from ..models.quantized_ann import Work

SCOPE = "arithmetic and SRAM"


@dataclass(frozen=True)
class Opponent:
    """One ANN beside the spiking network, per inference.

    `name` such as "ANN, 8-bit activations"; `ratio`: energy of the spiking network over the
    ANN's (value, low, high), below 1 where spikes win; `break_even`: spikes per synapse and inference at
    which both need the same, likewise; 0 where the spiking network loses even without a spike; None where
    it sent none.
    """

    name: str
    activation_bits: int
    skips_zeros: bool
    energy: Energy
    ratio: tuple[float, float, float]
    break_even: tuple[float, float, float] | None


@dataclass(frozen=True)
class Fair:
    """A spiking network and its ANN in one model, per inference, joules.

    `spikes_per_synapse`: the actual one, synops / dense multiply-adds of one pass; over `steps` it is
    the mean rate, spikes per synapse and step. `assumptions`: sentences.
    """

    snn: Energy
    opponents: tuple[Opponent, ...]
    spikes_per_synapse: float
    steps: int
    weight_bits: int
    assumptions: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Mean spikes per synapse and step."""
        return self.spikes_per_synapse / self.steps


def fair(counts: Counts, network: Network, work: Work, steps: int | None = None) -> Fair:
    """`Fair` of a counted run of `network` and its ANN twin; `steps` None: those of the counts."""
    raise NotImplementedError
