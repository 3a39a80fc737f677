"""Resets that netx does not have, where they can be had exactly."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ..graph import NEURONS, READOUTS, Chain, LoweringError, Node, UnknownNodeError, dynamics

Array: TypeAlias = NDArray[Any]
Loops: TypeAlias = dict[str, Node]


def resets_to_zero(
    nodes: Chain, loops: Loops, dt: float, approximate: bool = False
) -> tuple[Chain, Loops]:
    """Every reset becomes v <- v_reset in the step of the spike, where that is the same network:

    - by subtraction, or none at all, of neurons without memory (tau = dt): v forgets the reset before
      it is used;
    - by subtraction one step later, LIF without memory: v = v_leak + r x - (v_threshold - v_reset) z
      of the step before, which is recurrence with the weights -(v_threshold - v_reset) / r;
      so for a CubaLIF whose current has no memory either, / (r w_in);
    - to zero one step later, LIF and IF without recurrence: v is set before its next update.

    Anything else raises LoweringError, or, with `approximate`, is reset at once all the same.
    """
    out, problems = [], []
    loops = dict(loops)
    for name, node in nodes:
        says = dynamics(node)
        kind = (says.reset, says.reset_delay)
        if not isinstance(node, NEURONS) or isinstance(node, READOUTS) or kind == ("zero", 0):
            out.append((name, node))
            continue
        gain = _instant_gain(node, dt)
        exact = {
            ("subtract", 0): _forgets_voltage(node, dt),
            ("none", 0): _forgets_voltage(node, dt),
            ("subtract-at-once", 0): False,
            ("subtract", 1): gain is not None and gain.ndim == 1 and says.state_grid is None,
            ("zero", 1): not isinstance(node, nir.CubaLIF) and name not in loops,
        }[kind]
        if exact and kind == ("subtract", 1):
            weight = -np.diag((node.v_threshold - node.v_reset) / gain)
            own = nir.Affine(weight, np.zeros(len(weight)))
            inner_name, inner = loops.get(name, (f"{name}.reset", own))
            if name in loops:
                own = nir.Affine(inner.weight + weight, inner.bias)
            loops[name] = (inner_name, own)
        if not exact and not approximate:
            when = ", one step after the spike" if says.reset_delay else ""
            problems.append(f"{name} (reset {says.reset!r}{when})")
        out.append((name, _reset_at_once(node)))
    if problems:
        raise LoweringError(
            f"netx resets v to a fixed value in the step of the spike, so there is no exact image of "
            f"{'; '.join(problems)}. Train with that reset, or allow approximate_reset, which resets to "
            f"v_reset at once."
        )
    return out, loops


def _forgets_voltage(node: Any, dt: float) -> bool:
    """Whether v keeps nothing from one step to the next."""
    if isinstance(node, nir.IF):
        return False
    if isinstance(node, (nir.LIF, nir.CubaLIF)):
        return bool(np.all((node.tau if isinstance(node, nir.LIF) else node.tau_mem) == dt))
    raise UnknownNodeError(node, "neuron with a reset")


def _instant_gain(node: Any, dt: float) -> Array | None:
    """v - v_leak per unit of input in the same step, where no state is kept; else None."""
    if not _forgets_voltage(node, dt):
        return None
    if isinstance(node, nir.LIF):
        return np.asarray(node.r)
    assert isinstance(node, nir.CubaLIF)
    return np.asarray(node.r * node.w_in) if np.all(node.tau_syn == dt) else None


def _reset_at_once(node: Any) -> Any:
    node = copy.copy(node)
    rest = {k: v for k, v in node.metadata.items() if k not in ("reset", "reset_delay")}
    node.metadata = rest
    return node
