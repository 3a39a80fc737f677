"""Do two runs of the same network agree, layer by layer, and where do they part?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ..hw_targets import lava_cpu
from ..hw_targets.inputs import QUANTITIES
from ..hw_targets.network import Network
from ..hw_targets.netx import read_netx, write_netx
from .execute import execute
from .graph import READOUTS, chain
from .lower import lower
from .quantize import agree
from .run import needed_recipe, records_for, run_recipe, scores

Array = NDArray[Any]


@dataclass(frozen=True)
class Divergence:
    """The first place where two runs differ: earliest step, then sample, then neuron."""

    sample: int
    step: int
    neuron: tuple[int, ...]
    first: int
    second: int


@dataclass(frozen=True)
class Agreement:
    """How far one recorded quantity of one layer agrees between two runs.

    `equal`: fraction of equal entries over (sample, step, neuron). `matched`: for spikes,
    2 |both| / (|one| + |other|), which a silent layer does not flatter.
    """

    layer: str
    quantity: str
    equal: float
    matched: float | None
    first: Divergence | None

    @property
    def exact(self) -> bool:
        return self.first is None


def compare(layer: str, quantity: str, a: Array, b: Array) -> Agreement:
    """Compare two arrays (sample, time, *layer shape) entry by entry, with `==`."""
    if a.shape != b.shape:
        raise ValueError(f"{layer} {quantity}: shapes {a.shape} and {b.shape} cannot be compared.")
    different = a != b
    equal, matched = agree(a, b)
    first = None
    if different.any():
        by_step = np.moveaxis(different, 1, 0)
        step, sample, *neuron = (int(i) for i in np.argwhere(by_step)[0])
        place = (sample, step, *neuron)
        first = Divergence(sample, step, tuple(neuron), int(a[place]), int(b[place]))
    return Agreement(layer, quantity, equal, matched if quantity == "spikes" else None, first)


@dataclass(frozen=True)
class Verification:
    """Float against integers, integers against Lava, and the file against itself.

    `to_float` has the layers that spike; `same_answers` is the fraction of samples for which the float
    network and the integers give the same answer (None without a float network).
    `lava_skipped` says why there is no Lava column where there is none.
    """

    digest: str
    samples: int
    to_float: tuple[Agreement, ...] | None
    same_answers: float | None
    to_lava: tuple[Agreement, ...] | None
    lava_samples: int
    lava_skipped: str | None
    reread: bool
    tolerance: float

    @property
    def ok(self) -> bool:
        """Lava and the file agree exactly; float spikes agree within the tolerance."""
        close = all(a.equal >= 1 - self.tolerance for a in self.to_float or ())
        return self.reread and close and all(a.exact for a in self.to_lava or ())


def verify(
    network: Network,
    messages: NDArray[np.int32],
    graph: nir.NIRGraph | None = None,
    *,
    lava_samples: int = 3,
    tolerance: float = 0.05,
) -> Verification:
    """Check an integer network on encoded inputs (sample, steps, *input shape).

    - float (the NIR `graph`) against the integers: every layer's spikes, aligned for the one step
      of latency per layer;
    - the integers against Lava's CPU backend on the first `lava_samples`: every spike and state;
    - written to a file and read again: the same digest.
    """
    recipe = needed_recipe(network)
    names = [p.name for p in network.populations]
    to_float, same_answers = None, None
    if graph is not None:
        trace = run_recipe(network, messages, record=records_for(recipe))
        assert trace.spikes is not None
        lowered = lower(graph)
        exact = execute(lowered, messages / recipe.levels)
        pairs = list(zip(names, exact.spikes, trace.spikes, strict=True))
        answers = exact.spikes[-1].sum(axis=1)
        if isinstance(chain(lowered)[-1][1], READOUTS):
            pairs.pop()
            voltage = exact.voltage[-1]
            last = recipe.decode == "last voltage"
            answers = voltage[:, -1] if last else voltage.mean(axis=1)
        to_float = tuple(compare(name, "spikes", a, b) for name, a, b in pairs)
        answers = answers.reshape(len(answers), -1).argmax(axis=1)
        same_answers = float(np.mean(answers == scores(network, trace).argmax(axis=1)))
    skipped = lava_cpu.why_unavailable() if lava_samples else "not asked for"
    to_lava = None
    if skipped is None:
        some = messages[:lava_samples]
        every = [
            (p, quantity)
            for quantity in QUANTITIES
            for p in network.populations
            if quantity == "spikes" or quantity in p.states
        ]
        record = [f"{quantity}.{p.index}" for p, quantity in every]
        ours = run_recipe(network, some, record=record)
        lavas = run_recipe(network, some, target="lava", record=record)
        to_lava = tuple(
            compare(
                p.name,
                quantity,
                getattr(ours, quantity)[p.index],
                getattr(lavas, quantity)[p.index],
            )
            for p, quantity in every
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        write_netx(network, path)
        reread = read_netx(path) == network
    return Verification(
        network.digest,
        len(messages),
        to_float,
        same_answers,
        to_lava,
        min(lava_samples, len(messages)) if to_lava else 0,
        skipped,
        reread,
        tolerance,
    )
