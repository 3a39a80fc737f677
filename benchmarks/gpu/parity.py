"""Whether the torch backend gives the integers of the reference and of the engine on a device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate import engine, reference
from ...hw_targets.simulate.torch_engine import run as on_torch
from ...hw_targets.simulate.torch_engine import scan
from .._fuzz_checks import difference, everything, unlike_reference
from .._fuzz_networks import draw
from ..speed.networks import random_input
from .networks import Subject, network_of
from .setup import Setup


@contextmanager
def stepwise(on: bool) -> Iterator[None]:
    """Neurons updated by torch's own operations, step by step, instead of in one kernel."""
    before = scan.ON
    scan.ON = not on
    try:
        yield
    finally:
        scan.ON = before


def random_networks(setup: Setup, by_steps: bool) -> dict[str, Any]:
    """Random networks of every kind against the reference, as many as there is time for."""
    differ, start, seed = [], time.monotonic(), 0
    with stepwise(by_steps):
        while seed < setup.networks and time.monotonic() - start < setup.seconds:
            if what := unlike_reference(draw(seed), seed, setup.device):
                differ.append({"seed": seed, "says": what})
            seed += 1
    return {"networks": seed, "differ": differ, "seconds": time.monotonic() - start}


def larger(setup: Setup, subject: Subject) -> dict[str, Any]:
    """Every spike and state of a network as people use, against the engine."""
    network = network_of(subject, setup.device)
    steps = subject.input_steps
    x = random_input(network.input_shape, subject.rate, 4, steps)
    timing = Timing(steps + network.latency)
    record = everything(network)
    try:
        expected = engine.simulate(network, x, timing, record=record)
    except ImportError:  # the engine needs a numba that knows this numpy
        x = x[:1]
        expected = reference.simulate(network, x, timing, record=record)
    out = {}
    for by_steps in (False, True):
        with stepwise(by_steps):
            trace = on_torch.simulate(network, x, timing, record=record, device=setup.device)
        out["step by step" if by_steps else "one kernel"] = difference(network, trace, expected)
    assert expected.spikes is not None
    rates = [
        float((expected.spikes[p.index][:, p.latency : p.latency + steps]).mean())
        for p in network.populations
    ]
    return {"digest": network.digest, "differs": out, "rates": rates}
