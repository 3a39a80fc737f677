"""What NIR files leave unsaid, framework by framework: the time step, the reset, how it solves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

Nodes = Mapping[str, Any]
SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)
"""Neurons that have a reset."""
SEVERAL = (
    "its neurons send several spikes in one step unless told otherwise ({setting}), which netx cannot. "
    "If yours send one, say how they are reset: reset='subtract' or 'zero', and reset_delay=0"
)
GAIN_TOLERANCE = 1e-3
"""How far the gain of a neuron's input may be off before the time step is doubted, of 1."""


@dataclass(frozen=True)
class Convention:
    """How a framework computes what its NIR files say.

    `dt`: the time step of its exporter, in the unit of the file's time constants, None where it has
    none. `reset`, `reset_delay`: of its neurons by default, see `from_nir`; None where netx cannot do
    what they do, for the reason in `refused`. `adjust(nodes, dt, problems)`: changes nodes, which are
    copies, so that Euler steps of `dt` compute what the framework does. `says`: all this in words.
    """

    dt: float | None
    reset: str | None
    reset_delay: int | None
    says: str
    refused: str = ""
    adjust: Callable[[Nodes, float, list[str]], None] = lambda nodes, dt, problems: None


def fires_at_threshold(nodes: Nodes, dt: float, problems: list[str]) -> None:
    """v >= threshold is v > the largest number (float64) below the threshold."""
    for node in nodes.values():
        if isinstance(node, SPIKING):
            node.v_threshold = np.nextafter(node.v_threshold, -np.inf)


def _norse(nodes: Nodes, dt: float, problems: list[str]) -> None:
    """Undoes `to_nir`: its dt (default 0.001) in every tau, the gain of currents and of IAF.

    A tau below the time step cannot be meant: then `to_nir` ran with its default dt and not with 1.
    """
    for node in nodes.values():
        for field in ("tau", "tau_mem", "tau_syn"):
            tau = getattr(node, field, None)
            if tau is not None and np.all(np.asarray(tau) < dt):
                setattr(node, field, tau / dt)
        if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            node.w_in = node.tau_syn / dt
        elif isinstance(node, nir.IF):
            node.r = np.full(np.shape(node.r), 1 / dt)


def _sinabs(nodes: Nodes, dt: float, problems: list[str]) -> None:
    """LIF, ExpLeak: v <- a v + (1 - a) x with a = exp(-dt/tau), spikes where v >= threshold."""
    for node in nodes.values():
        if isinstance(node, (nir.LIF, nir.LI)):
            node.tau = dt / -np.expm1(-dt / node.tau)
    fires_at_threshold(nodes, dt, problems)


def _rockpool(nodes: Nodes, dt: float, problems: list[str]) -> None:
    """LIFTorch: v <- a v + x with a = exp(-dt/tau); the file has r = a tau/dt."""
    for name, node in nodes.items():
        if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            problems.append(
                f"node {name}: how rockpool's neurons with synaptic currents are written is not known "
                f"here. Give the graph without framework, with all that it must say."
            )
        elif isinstance(node, (nir.LIF, nir.LI)):
            leak = -np.expm1(-dt / node.tau)
            gain: NDArray[Any] = node.r * dt / node.tau / (1 - leak)
            if np.abs(gain - 1).max() > GAIN_TOLERANCE:
                problems.append(
                    f"node {name}: rockpool writes r = exp(-dt/tau) tau/dt, but r is "
                    f"{np.max(node.r):.4g} at dt = {dt:.4g}. Give the dt of its modules."
                )
            node.tau, node.r = dt / leak, 1 / leak


CONVENTIONS: dict[str, Convention] = {
    "snntorch": Convention(
        1e-4, "subtract", 1,
        "dt 1e-4; the threshold is subtracted in the step after a spike (reset_mechanism='subtract')",
    ),
    "spikingjelly": Convention(
        1e-4, "zero", 0,
        "dt 1e-4; hard reset to v_reset; v = v_threshold fires",
        adjust=fires_at_threshold,
    ),
    "norse": Convention(
        1e-3, "zero", 0,
        "dt 1e-3; reset to v_reset; currents are not scaled by dt/tau_syn (LIFCell, LIFBoxCell, IAFCell)",
        adjust=_norse,
    ),
    "sinabs": Convention(
        1.0, None, None,
        "dt 1; decay exp(-1/tau); v = threshold fires; several spikes a step are refused",
        SEVERAL.format(setting="spike_fn=MultiSpike; SingleSpike sends one"),
        adjust=_sinabs,
    ),
    "rockpool": Convention(
        None, None, None,
        "decay exp(-dt/tau); several spikes a step are refused",
        SEVERAL.format(setting="max_spikes_per_dt"),
        adjust=_rockpool,
    ),
    "lava": Convention(None, "zero", 0, "reset to v_reset in the step of the spike"),
    "nengo": Convention(
        1e-3, "zero", 0, "dt 1e-3; reset to v_reset, without refractory time (tau_ref=0)"
    ),
}  # fmt: skip
"""By the name that `--from` takes. Where a network was not made with the defaults, `reset`, `reset_delay`
and `dt` say so beside it."""


def convention(framework: str) -> Convention:
    """The row of `CONVENTIONS`. Raises ValueError for an unknown name."""
    if framework not in CONVENTIONS:
        raise ValueError(f"framework = {framework!r}; known are {', '.join(CONVENTIONS)}.")
    return CONVENTIONS[framework]
