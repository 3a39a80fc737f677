"""Other kinds of neurons against Lava: sigma-delta and resonate-and-fire networks of integers.

The networks of the other cells are current-based LIF; these have random weights, too, and a threshold at
which some messages in a hundred are sent. Sigma-delta gets a signal that changes slowly, resonators get
single spikes. SLAYER and Norse have no counterpart that computes the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.network.layers import Conv, Dense, Flatten, Input
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import Delta, IntArray, ResonateFire, Sigma, SigmaDelta
from ...hw_targets.simulate import engine, reference
from .lava import Lava, lava_process
from .networks import random_input

STEPS = 64
GRADED_BITS = 24


@dataclass(frozen=True)
class Kind:
    """A network of one kind, and its input (sample, step, *shape) for a number of samples."""

    name: str
    network: Callable[[], Network]
    signal: bool
    """whether it takes a slowly changing signal, else spikes"""

    def inputs(self, network: Network, samples: int) -> NDArray[Any]:
        """The same random input every time."""
        shape = network.input_shape
        if not self.signal:
            return random_input(shape, 0.05, samples, STEPS)
        steps = np.random.default_rng(1).integers(-3, 4, (samples, STEPS, *shape))
        return steps.cumsum(axis=1).astype(np.int32)


def _weights(rng: np.random.Generator, *shape: int) -> IntArray:
    return 2 * rng.integers(-8, 9, shape).astype(np.int32)


def _sigma_delta_mlp() -> Network:
    rng = np.random.default_rng(0)
    hidden = Dense(_weights(rng, 512, 784), None, SigmaDelta(_FEW, 0))
    return Network(
        [
            Input((784,), Delta(8, 0)),
            hidden,
            Dense(_weights(rng, 10, 512), None, Sigma()),
        ]
    )


def _sigma_delta_conv() -> Network:
    rng = np.random.default_rng(0)
    first = Conv(_weights(rng, 16, 2, 5, 5), None, SigmaDelta(_FEW, 0), (2, 2), (1, 1))
    second = Conv(_weights(rng, 32, 16, 3, 3), None, SigmaDelta(_FEW, 0), (2, 2), (1, 1))
    return Network(
        [
            Input((2, 34, 34), Delta(8, 0)),
            first,
            second,
            Flatten(),
            Dense(_weights(rng, 10, 2048), None, Sigma()),
        ]
    )


def _resonators(kind: Any) -> Network:
    rng = np.random.default_rng(0)
    neuron = ResonateFire(1200, 3700, 150, kind)
    sizes = (784, 512, 10)
    return Network(
        [
            Dense(
                _weights(rng, out, into),
                None,
                neuron,
                imaginary=_weights(rng, out, into),
            )
            for into, out in pairwise(sizes)
        ]
    )


_FEW = 800
"""A threshold that few changes of the sums pass in a step."""
KINDS = {
    kind.name: kind
    for kind in (
        Kind("sigma-delta, 784-512-10", _sigma_delta_mlp, signal=True),
        Kind("sigma-delta, N-MNIST conv net", _sigma_delta_conv, signal=True),
        Kind("resonators (phase), 784-512-10", lambda: _resonators("RF_PHASE"), signal=False),
        Kind(
            "resonators (Izhikevich), 784-512-10",
            lambda: _resonators("RF_IZHIKEVICH"),
            signal=False,
        ),
    )
}


def measure(kind: Kind, batches: tuple[int, ...], repeats: int, *, lava: bool) -> dict[str, Any]:
    """Seconds per sample and step of engine, reference and Lava, which take turns, by batch."""
    network = kind.network()
    checked = kind.inputs(network, 2)[:, :16]
    mine = engine.simulate(network, checked, record="spikes")
    theirs = reference.simulate(network, checked, record="spikes")
    assert mine.spikes is not None
    assert theirs.spikes is not None
    if not all(map(np.array_equal, mine.spikes, theirs.spikes)):
        raise RuntimeError(f"{kind.name}: engine and reference differ.")
    with _lava(kind, network, run=lava) as process:
        return {
            "kind": kind.name,
            "digest": network.digest,
            "sent": [float((sent != 0).mean()) for sent in mine.spikes],
            "cells": [_cell(kind, network, batch, repeats, process) for batch in batches],
        }


@contextmanager
def _lava(kind: Kind, network: Network, *, run: bool) -> Iterator[Lava | None]:
    if not run:
        yield None
        return
    bits = GRADED_BITS if kind.signal else 0
    (x,) = kind.inputs(network, 1)
    with lava_process(network, x, "output", message_bits=bits) as process:
        yield process


def _cell(
    kind: Kind, network: Network, batch: int, repeats: int, lava: Lava | None
) -> dict[str, Any]:
    x = kind.inputs(network, batch)

    def per_step(simulate: Callable[..., Any], steps: int) -> float:
        part = np.ascontiguousarray(x[:, :steps])
        start = time.perf_counter()
        simulate(network, part)
        return (time.perf_counter() - start) / (batch * steps)

    turns: dict[str, Callable[[], float]] = {
        "engine": lambda: median(per_step(engine.simulate, STEPS) for _ in range(5)),
        "reference": lambda: per_step(reference.simulate, 8),
    }
    if lava is not None:
        turns["lava"] = lava.measure
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(1 + repeats):
        for name, call in turns.items():
            value = call()
            if turn:  # the first is for warming up
                seconds[name].append(value)
    ours = median(seconds["engine"])
    return {
        "batch": batch,
        "contenders": {
            name: {
                "seconds_per_sample_step": of,
                "median": median(of),
                "times_engine": median(of) / ours,
            }
            for name, of in seconds.items()
        },
    }
