"""The equations of `network.neurons` in torch: the same integers, for all neurons of a layer at once.

Every function makes the step of one kind: from the states before, the sums that arrive and the bias to
the messages, the states after, and what overflowed. Nothing here is approximate: products and shifted
sums are taken in 64 bits and brought back to 32 as the hardware does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...network import arithmetic
from ...network.network import Population
from ...network.neurons import (
    CubaLIF,
    Delta,
    IntArray,
    Integrator,
    Neuron,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from .order import inward, outward
from .products import INT32
from .synapses import wrap32

States: TypeAlias = Sequence[Tensor]


class After(NamedTuple):
    """What a step leaves: messages, int8 or int32 (sample, neuron), int32 states, overflows as `Step`."""

    messages: Tensor
    states: States
    u_wraps: Tensor | int = 0
    v_clips: Tensor | int = 0
    sum_wraps: Tensor | int = 0


StepOf: TypeAlias = Callable[[States, Sequence[Tensor], Tensor], After]
"""(states, sums, bias), int32 (sample, neuron), the bias broadcasting, to what a step leaves."""


def spread(parameter: Any, population: Population, device: torch.device) -> Tensor:
    """A parameter of each neuron, int32 (neurons,)."""
    array = np.asarray(parameter, np.int32)
    if array.ndim == 1:
        array = array.reshape(-1, *[1] * (len(population.shape) - 1))
    of_each = inward(np.broadcast_to(array, population.shape), population.shape)
    return torch.tensor(of_each, device=device)


def cuba_parameters(neuron: CubaLIF | Integrator) -> tuple[int | IntArray, ...]:
    """i_decay, v_decay and threshold."""
    if isinstance(neuron, Integrator):
        return 0, arithmetic.DECAY_ONE, arithmetic.NEVER
    return neuron.i_decay, neuron.v_decay, neuron.threshold


def _cuba(neuron: CubaLIF | Integrator, population: Population, device: torch.device) -> StepOf:
    i_decay, v_decay, threshold = (
        spread(parameter, population, device) for parameter in cuba_parameters(neuron)
    )
    keep_u, keep_v = (arithmetic.DECAY_ONE - decay.long() for decay in (i_decay, v_decay))
    level = threshold << arithmetic.STATE_SHIFT
    limit = arithmetic.STATE_LIMIT

    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        u, v = states
        exact_u = _decayed(u, keep_u) + (sums[0].long() << arithmetic.STATE_SHIFT)
        u = wrap32(exact_u)
        u = torch.where(u > limit, u - 2 * limit, u)
        u = torch.where(u <= -limit, u + 2 * limit, u)
        exact_v = _decayed(v, keep_v) + u + (bias << arithmetic.STATE_SHIFT)
        v = wrap32(exact_v).clamp(-limit + 1, limit - 1)
        fires = v > level
        clips = (v != exact_v).sum()
        return After(
            fires.to(torch.int8), (u, v.masked_fill(fires, 0)), (u != exact_u).sum(), clips
        )

    return step


def _decayed(state: Tensor, keep: Tensor | int) -> Tensor:
    """state * keep / 4096, rounded toward zero, int64."""
    return torch.div(state.long() * keep, arithmetic.DECAY_ONE, rounding_mode="trunc")


def _held(x: Tensor) -> tuple[Tensor, Tensor]:
    """x in 32 bits, and how many of it wrapped."""
    wrapped = wrap32(x)
    return wrapped, (wrapped != x).sum()


def _changes(states: States, act: Tensor, threshold: int, wraps: Tensor) -> After:
    """Send the change of act; `threshold`: already shifted; `wraps`: of act."""
    before, residue = states[-2:]
    change, more = _held(act.long() - before)
    d, most = _held(change.long() + residue)
    # |-2^31| is -2^31 in 32 bits, below every threshold
    sends = (d >= threshold) | ((d <= -threshold) & (d != -INT32))
    out = torch.where(sends, d, torch.zeros_like(d))
    messages = out >> arithmetic.STATE_SHIFT
    return After(messages, (act, d - out), wraps + more + most)


def _delta(neuron: Delta, population: Population, device: torch.device) -> StepOf:
    shift = neuron.spike_exp + arithmetic.STATE_SHIFT

    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        act, wraps = _held(sums[0].long() << shift)
        return _changes(states, act, neuron.threshold << shift, wraps)

    return step


def _sigma_delta(neuron: SigmaDelta, population: Population, device: torch.device) -> StepOf:
    shift = neuron.spike_exp + arithmetic.STATE_SHIFT

    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        sigma, wraps = _held(states[0].long() + sums[0])
        biased, more = _held(sigma.long() + (bias.long() << shift))
        after = _changes(states, biased.clamp(min=0), neuron.threshold << shift, wraps + more)
        return after._replace(states=(sigma, *after.states))

    return step


def _sigma(neuron: Sigma, population: Population, device: torch.device) -> StepOf:
    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        sigma, wraps = _held(states[0].long() + sums[0])
        return After(sigma, (sigma,), wraps)

    return step


def _resonate_fire(neuron: ResonateFire, population: Population, device: torch.device) -> StepOf:
    sin, cos = neuron.decays
    threshold = neuron.threshold << arithmetic.STATE_SHIFT
    limit = arithmetic.STATE_LIMIT

    def turned(state: Tensor, by: int) -> Tensor:
        return _decayed(state, by)

    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        re, before = states
        (into_re, re_wraps), (into_im, im_wraps) = (
            _held(a.long() << arithmetic.STATE_SHIFT) for a in sums
        )
        exact_re = turned(re, cos) - turned(before, sin) + into_re
        exact_im = turned(re, sin) + turned(before, cos) + into_im
        re, im = (x.clamp(-limit + 1, limit - 1) for x in (exact_re, exact_im))
        clips = (re != exact_re).sum() + (im != exact_im).sum()
        if neuron.kind == "RF_PHASE":
            fires = (re >= threshold) & (im >= 0) & (before < 0)
        else:
            fires = im >= threshold
            re, im = re.masked_fill(fires, 0), im.masked_fill(fires, threshold - 1)
        after = wrap32(re), wrap32(im)
        return After(fires.to(torch.int8), after, 0, clips, re_wraps + im_wraps)

    return step


def _by_its_class(neuron: Neuron, population: Population, device: torch.device) -> StepOf:
    """A kind that torch does not know: its own `step`, in numpy."""
    shape = population.shape

    def step(states: States, sums: Sequence[Tensor], bias: Tensor) -> After:
        def array(x: Tensor) -> IntArray:
            flat: IntArray = x.cpu().numpy()
            return outward(flat, shape)

        def tensor(x: Any, dtype: Any) -> Tensor:
            flat = np.ascontiguousarray(inward(np.asarray(x, dtype), shape))
            return torch.from_numpy(flat).to(device)

        held = dict(zip(population.states.values(), map(array, states), strict=True))
        after = neuron.step(held, [array(a) for a in sums], array(bias))
        return After(
            tensor(after.messages, np.int32 if neuron.graded else np.int8),
            [tensor(after.states[name], np.int32) for name in held],
            after.u_wraps,
            after.v_clips,
            after.sum_wraps,
        )

    return step


STEPS: Mapping[type[Neuron], Callable[[Any, Population, torch.device], StepOf]] = {
    CubaLIF: _cuba,
    Integrator: _cuba,
    Delta: _delta,
    SigmaDelta: _sigma_delta,
    Sigma: _sigma,
    ResonateFire: _resonate_fire,
}
"""The kinds that run in torch; all others run by their class, in numpy."""


def step_of(population: Population, device: torch.device) -> StepOf:
    """The step of a population's neurons."""
    neuron = population.neuron
    return STEPS.get(type(neuron), _by_its_class)(neuron, population, device)
