"""One Euler step of a NIR neuron, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class UnknownNeuronError(ValueError):
    """A layer that has no equation here."""


@dataclass(frozen=True, eq=False)
class Euler:
    r"""One step of `dt` of a NIR neuron, all arrays of the neuron's shape::

        u <- (1 - i_decay) u + jump x
        v <- rest + (1 - leak) (v - rest) + gain u

    Neurons whose current has no time constant have i_decay = jump = 1, those without leak have leak 0.
    """

    leak: Array
    gain: Array
    rest: Array
    i_decay: Array
    jump: Array


def euler(name: str, node: nir.NIRNode, dt: float) -> Euler:
    """The step of IF, I, LIF, LI, CubaLIF and CubaLI neurons; of IF, `rest` is v_reset.

    Raises UnknownNeuronError, with the layer's `name`, for any other node.
    """
    if isinstance(node, (nir.IF, nir.I)):
        none = np.zeros(np.shape(node.r))
        rest = node.v_reset if isinstance(node, nir.IF) else none
        return Euler(none, dt * node.r, rest, none + 1, none + 1)
    if isinstance(node, (nir.LIF, nir.LI)):
        leak = dt / node.tau
        whole = np.ones(np.shape(leak))
        return Euler(leak, leak * node.r, node.v_leak, whole, whole)
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        leak, i_decay = dt / node.tau_mem, dt / node.tau_syn
        jump = np.broadcast_to(i_decay * node.w_in, np.shape(leak))
        return Euler(leak, leak * node.r, node.v_leak, i_decay, jump)
    raise UnknownNeuronError(f"{name}: {type(node).__name__} neurons are not modelled.")
