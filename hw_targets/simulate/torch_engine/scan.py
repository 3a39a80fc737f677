"""The neurons of a layer on a GPU, all steps in one kernel, where that can be had and is proven right."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...network import arithmetic
from ...network.kind import STATES
from ...network.layers import Dense, Input
from ...network.network import Network, Population
from ...network.neurons import (
    CubaLIF,
    Delta,
    Integrator,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from ...network.timing import Timing
from .neurons import STEPS, cuba_parameters, spread
from .products import Sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton's kernels run on the CPU, in Python."""
ON = True
"""Whether scans are done in the kernel at all; else step by step, which gives the same."""
BLOCKS = (128, 512)
"""Elements of a program: of few ones, so that all multiprocessors have some, and of many."""
MANY = 1 << 18
SMALL_STATE = (1 << 19) - 1
"""Times a decay of at most 4096, this is still within 32 bits."""


class Steps(NamedTuple):
    """Which steps of a block forget, and which count for active neurons.

    `forgets`: the first step before which states are 0, and again every `interval`; beyond the block:
    none. `active`: first and end.
    """

    forgets: int
    interval: int
    active: tuple[int, int]


class Scan:
    """The kernel with the parameters of a population."""

    def __init__(self, population: Population, device: torch.device) -> None:
        from . import kernel

        neuron: Any = population.neuron
        self._size = population.size
        self._cuba = isinstance(neuron, CubaLIF | Integrator)
        self._numbers = {"threshold": 0, "shift": arithmetic.STATE_SHIFT, "sin": 0, "cos": 0}
        nothing = torch.zeros(1, dtype=torch.int32, device=device)
        self._nothing = nothing
        self._vectors = [nothing, nothing, nothing]
        self._slowest = (0, 0)
        if isinstance(neuron, CubaLIF | Integrator):
            self._kind = kernel.CUBA
            i_decay, v_decay, threshold = (
                spread(parameter, population, device) for parameter in cuba_parameters(neuron)
            )
            self._slowest = (int(i_decay.min()), int(v_decay.min()))
            keeps = [arithmetic.DECAY_ONE - decay for decay in (i_decay, v_decay)]
            self._vectors = [*keeps, threshold << arithmetic.STATE_SHIFT]
        elif isinstance(neuron, ResonateFire):
            phase = neuron.kind == "RF_PHASE"
            self._kind = kernel.RF_PHASE if phase else kernel.RF_IZHIKEVICH
            self._numbers |= dict(zip(("sin", "cos"), neuron.decays, strict=True))
            self._numbers["threshold"] = neuron.threshold << arithmetic.STATE_SHIFT
        elif isinstance(neuron, Sigma):
            self._kind = kernel.SIGMA
        else:
            self._kind = kernel.DELTA if isinstance(neuron, Delta) else kernel.SIGMA_DELTA
            shift = neuron.spike_exp + arithmetic.STATE_SHIFT
            self._numbers |= {"shift": shift, "threshold": neuron.threshold << shift}

    def small(self, reach: int, largest_bias: int) -> bool:
        """Whether u and v of CUBA neurons stay so small that products are within 32 bits.

        `reach`: of the sums. |u| grows until it loses in a step what a sum can add, and so does |v|.
        """
        if not self._cuba or 0 in self._slowest:
            return False
        one, shift = arithmetic.DECAY_ONE, arithmetic.STATE_SHIFT
        u = (reach << shift) * one / self._slowest[0]
        return (u + (largest_bias << shift)) * one / self._slowest[1] <= SMALL_STATE

    def __call__(
        self,
        states: Sequence[Tensor],
        sums: Sequence[Sums],
        first: Sequence[Sums] | None,
        bias: Tensor,
        messages: Tensor,
        traces: Mapping[str, Tensor],
        active: Tensor | None,
        overflow: Tensor,
        steps: Steps,
        *,
        small: bool,
    ) -> None:
        """Fill in messages and traces, (step, sample, neuron); change states and counts in place.

        `first`: what arrives in the first step; then sums[k - 1] does in step k. None: sums[k] does.
        `small`: see there.
        """
        from . import kernel

        nothing, elements = self._nothing, states[0].numel()
        if not elements:
            return
        block = BLOCKS[elements >= MANY]
        if len(sums) > 1:  # two that have to lie in memory alike
            sums = [Sums(part.whole().contiguous()) for part in sums]
            first = first and [Sums(part.whole().contiguous()) for part in first]
        begin = sums if first is None else first
        kernel.scan[(-(-elements // block),)](
            sums[0].values,
            sums[-1].values,
            begin[0].values,
            begin[-1].values,
            messages,
            *(traces.get(name, nothing) for name in STATES),
            *states,
            *[nothing] * (3 - len(states)),
            *self._vectors,
            bias,
            nothing if active is None else active,
            overflow,
            elements,
            self._size,
            bias.numel(),
            len(sums[0].values),
            sums[0].values.stride(0),
            steps.forgets,
            steps.interval,
            *steps.active,
            *self._numbers.values(),
            sums[0].times,
            begin[0].times,
            KIND=self._kind,
            SMALL=small,
            DIRECT=first is None,
            **{name.upper(): name in traces for name in STATES},
            ACTIVE=active is not None,
            BLOCK=block,
        )


def scan_of(population: Population, device: torch.device) -> Scan | None:
    """The kernel for a population; None where there is none, see `why_not`."""
    if not (device.type == "cuda" or INTERPRETED) or type(population.neuron) not in STEPS:
        return None
    reason = why_not(device)
    if reason is not None:
        warnings.warn(
            f"{device}: neurons are updated step by step, {reason}", RuntimeWarning, stacklevel=2
        )
        return None
    return Scan(population, device)


@cache
def why_not(device: torch.device) -> str | None:
    """Why the kernel cannot be used on a device; None where it can, and gives what `neurons` gives."""
    try:
        for network in _examples():
            if not _is_right(network, device):
                return f"as the kernel is wrong there, for {network.populations[0].neuron}"
    except Exception as error:  # whatever a missing or failing compiler raises
        return f"as Triton does not work there: {type(error).__name__}: {error}"
    return None


def _examples() -> list[Network]:
    """Layers of each kind of neurons."""
    rng = np.random.default_rng(0)
    weight, imaginary = rng.integers(-256, 254, (2, 7, 5))
    bias, decays, thresholds = np.array(
        [
            [-4096, 4095, 0, 1, -1, 90, -300],
            [0, 1, 90, 4096, 7, 8, 9],
            [0, 9, 131071, 0, 9, 131071, 3],
        ],
        np.int32,
    )
    resonators = [ResonateFire(800, 3900, 600, kind) for kind in ("RF_PHASE", "RF_IZHIKEVICH")]
    return [
        Network([Dense(weight, bias, CubaLIF(4000, 4096, 90))]),
        Network([Dense(weight, bias, CubaLIF(2048, decays, thresholds))]),
        Network([Dense(weight, bias)]),
        Network([Input((7,), Delta(3))]),
        Network([Dense(weight, bias, SigmaDelta(40, 2))]),
        Network([Dense(weight, None, Sigma())]),
        *(Network([Dense(weight, None, r, imaginary=imaginary)]) for r in resonators),
    ]


def _is_right(network: Network, device: torch.device) -> bool:
    """Whether the kernel gives what `neurons` gives, for messages small and large."""
    from .layer import Layer, Running, Wanted

    rng = np.random.default_rng(1)
    (population,) = network.populations
    wanted, steps, samples = Wanted(tuple(population.states), (2, 8), 1 << 20), 9, 40
    for largest in (1, 300, (1 << 24) - 1):
        shape = (steps, samples, *population.input_shape)
        drawn = rng.integers(-largest if largest > 1 else 0, largest, shape, endpoint=True)
        x = torch.tensor(drawn, dtype=torch.int8 if largest == 1 else torch.int32, device=device)
        both = []
        for kernel in (None, Scan(population, device)):
            layer = Layer(population, network.input_shape, device)
            layer.__dict__["scan"] = kernel
            running = Running(layer, samples, None, Timing(None, 5, 1), largest == 1)
            blocks = [
                running.advance(x, start, largest, wanted, last=start > 0) for start in (0, steps)
            ]
            tensors = [t for b in blocks for t in (b.messages, *b.states.values())]
            both.append([*tensors, running.overflow, running.active])
        if not all(map(torch.equal, *both)):
            return False
    return True
