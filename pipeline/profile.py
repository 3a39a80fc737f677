"""Spikes, synaptic operations and estimated energy per inference, beside the ANN twin."""

from __future__ import annotations

from dataclasses import dataclass

from ..hw_targets.counts import Counts
from ..hw_targets.energy import Energy, estimate, estimate_macs, load_device
from ..hw_targets.network import Network
from .run import Evaluation

OBSERVED_RATIO = (0.86, 1.39)
"""Such an estimate over the core-dynamic energy measured on hardware, for the two networks where both
are public (Loihi 1: LSNN; Loihi 2: PilotNet). It describes; it does not predict a third."""
ANN_DEVICES = ("cmos45-horowitz-int8", "cmos45-horowitz-fp32")


@dataclass(frozen=True)
class Profile:
    """One network on one data set: accuracy, counts and energy per inference, in joules.

    `counts` are totals over `counts.samples`. `energy`: one estimate per device; `ann_energy`: of the
    ANN twin's multiply-adds. Their scopes differ (core dynamic, arithmetic only), so they are shown
    side by side and never divided by each other.
    """

    digest: str
    accuracy: float
    counts: Counts
    energy: tuple[Energy, ...]
    ann_macs: int | None
    ann_energy: tuple[Energy, ...]

    @property
    def spikes_per_synapse(self) -> float:
        """synops / dense multiply-adds of one pass: below 1, spikes save operations."""
        return self.counts.total("synops") * self.counts.steps / self.counts.total("dense_ops")


def profile(
    network: Network,
    evaluation: Evaluation,
    devices: tuple[str, ...] = ("loihi1-davies2018",),
    ann_macs: int | None = None,
) -> Profile:
    """Price an evaluated network. `devices`: names or paths, see `load_device`."""
    counts = evaluation.counts
    energies = tuple(estimate(counts, load_device(d)) / counts.samples for d in devices)
    ann = ANN_DEVICES if ann_macs is not None else ()
    return Profile(
        network.digest,
        evaluation.accuracy,
        counts,
        energies,
        ann_macs,
        tuple(estimate_macs(ann_macs or 0, load_device(d)) for d in ann),
    )
