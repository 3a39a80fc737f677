"""Delays of a chain, brought to where netx has them: into the synapses of a layer."""

from __future__ import annotations

import nir
import numpy as np

from ..graph import LINEAR, NEURONS, Chain, LoweringError, delay_steps, segments


def outer_delays(nodes: Chain, dt: float) -> Chain:
    """Between two neurons, delays stand before all linear maps or after all of them, merged to one.

    Two in a row add up, and a Scale, which acts element by element, lets them pass. A delay between
    two maps moves to the front: it must be the same for all elements, and the maps before it
    without bias, which it would hold back in the first steps. For the same reason a delay
    after the maps requires that they have no bias. Raises LoweringError.
    """
    out: Chain = []
    for segment in segments(nodes):
        maps = [(name, node) for name, node in segment if not isinstance(node, nir.Delay)]
        early: Chain = []
        late: Chain = []
        for i, (name, node) in enumerate(segment):
            if not isinstance(node, nir.Delay):
                continue
            before = [m for m in segment[:i] if isinstance(m[1], LINEAR)]
            inside = any(isinstance(m, LINEAR) for _, m in segment[i + 1 :])
            if before and inside and np.ptp(node.delay):
                raise LoweringError(
                    f"{name} lies between two linear maps and its delays differ. Put it before "
                    f"{before[0][0]} or behind the last one."
                )
            if biased := [n for n, m in before if np.any(m.bias)]:
                raise LoweringError(
                    f"{name} delays the bias of {', '.join(biased)} too, which no delay of spikes "
                    f"does. Put the Delay before it, or drop the bias."
                )
            (late if before and not inside else early).append((name, node))
        lead = int(bool(maps) and isinstance(maps[0][1], nir.Flatten))
        tail = len(maps) - int(bool(maps) and isinstance(maps[-1][1], NEURONS))
        out += [
            *maps[:lead],
            *_merged(early, maps[lead:], dt),
            *maps[lead:tail],
            *_merged(late, maps[tail:], dt),
            *maps[tail:],
        ]
    return out


def _merged(delays: Chain, following: Chain, dt: float) -> Chain:
    """One Delay for all, of the shape that the node behind it takes."""
    if not delays:
        return []
    name, last = (delays[-1][0], following[0][1] if following else delays[-1][1])
    shape = tuple(int(n) for n in last.input_type["input"])
    steps = np.zeros(shape, np.int64)
    for _, node in delays:
        own = delay_steps(node, dt)
        steps = steps + (own if own.shape == shape else own.flat[0])
    return [(name, nir.Delay(steps * dt))]
