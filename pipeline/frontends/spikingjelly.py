r"""SpikingJelly networks to NIR, read from the modules themselves: NIR does not say their soft resets.

One step of a neuron on the input x, r = v_reset or, with soft reset (v_reset = None), 0::

    IFNode                             v <- v + x                      nir.IF
    LIFNode, ParametricLIFNode         v <- v + (x - (v - r)) / tau    nir.LIF
    the same with decay_input=False    v <- v - (v - r) / tau + x      nir.LIF, its r tau times as large

spike where v >= v_threshold, which is v > the next smaller number in float64; then v <- v_reset, or with
soft reset v <- v - v_threshold. tau of a ParametricLIFNode is 1 / sigmoid(w). A last neuron that never
spikes (v_threshold infinite) is a readout, nir.LI or nir.I. Single-step and multi-step modes are the same
graph. Layers of `spikingjelly.activation_based.layer` are those of torch from which they are derived.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from ..parts import Kind, refused
from .norse_modules import Shape, UnsupportedModuleError
from .spiking_trace import Framework, Neuron

NEURONS = ("IFNode", "LIFNode", "ParametricLIFNode")
REASONS = {
    "Adapt": "its threshold or current adapts",
    "QIF": "its voltage equation is quadratic",
    "EIF": "its voltage grows exponentially near the threshold",
    "Izhikevich": "its voltage equation is quadratic",
    "KLIF": "its voltage is scaled and rectified before the threshold",
    "PSN": "it sees all steps at once",
    "GatedLIF": "its time constants are gated",
    "ILIF": "it sends several spikes in one step, which netx cannot",
}
"""Why neurons whose names contain a text are not supported."""
PACKAGE = "spikingjelly"


def supported() -> Iterator[Kind]:
    """The neurons that are converted, and the names that are refused, with the reason."""
    yield from (Kind(name) for name in NEURONS)
    yield from (Kind(f"*{text}*", remark=refused(why)) for text, why in REASONS.items())


def _classes(module: object) -> Iterator[type]:
    """The classes of the framework in a module's line."""
    return (kind for kind in type(module).__mro__ if kind.__module__.split(".")[0] == PACKAGE)


def _is_neuron(module: nn.Module) -> bool:
    return any(kind.__name__ in ("BaseNode", "SimpleBaseNode") for kind in _classes(module)) or (
        hasattr(module, "v_threshold") and any(_classes(module))
    )


def _neuron(module: Any, shape: Shape, readout: bool) -> Neuron:
    kind = type(module)
    if kind.__name__ not in NEURONS or kind.__module__.split(".")[0] != PACKAGE:
        known = f"known are {', '.join(NEURONS)}"
        reason = next((why for text, why in REASONS.items() if text in kind.__name__), known)
        raise UnsupportedModuleError(f"is not supported: {reason}.")
    threshold, soft = float(module.v_threshold), module.v_reset is None
    rest = 0.0 if soft else float(module.v_reset)
    if not readout and not np.isfinite(threshold):
        raise UnsupportedModuleError(
            "never spikes (v_threshold is not finite), but is not the last."
        )
    if not soft and rest >= threshold:
        raise UnsupportedModuleError(
            f"has v_reset = {rest:g}, not below v_threshold = {threshold:g}."
        )

    def full(value: float) -> Any:
        return np.full(shape, value)

    fields = {} if readout else {
        "v_threshold": full(np.nextafter(threshold, -np.inf)), "v_reset": full(rest),
    }  # fmt: skip
    node: nir.NIRNode
    if kind.__name__ == "IFNode":
        if readout and rest:
            raise UnsupportedModuleError(f"starts at v_reset = {rest:g}; a readout starts at 0.")
        node = (nir.I if readout else nir.IF)(r=full(1.0), **fields)
    else:
        tau = (
            float(module.tau) if hasattr(module, "tau") else 1 / float(module.w.double().sigmoid())
        )
        gain = full(1.0 if module.decay_input else tau)
        node = (nir.LI if readout else nir.LIF)(tau=full(tau), r=gain, v_leak=full(rest), **fields)
    if not readout:
        node.metadata = {"reset": "subtract" if soft else "zero", "reset_delay": 0}
    return Neuron((node,))


def _layer(module: nn.Module) -> type:
    """The torch class that a layer is derived from; Dropout, which is not, by its name."""
    kind = type(module)
    if kind.__module__.split(".")[0] != PACKAGE:
        return kind
    if kind.__name__ in ("Dropout", "Dropout2d"):
        return nn.Dropout
    return next((k for k in kind.__mro__ if k.__module__.startswith("torch.nn.modules.")), kind)


def _voltage(neuron: Any) -> Tensor:
    """After the reset, of all steps of the last call."""
    v = neuron.v_seq if neuron.step_mode == "m" and hasattr(neuron, "v_seq") else neuron.v
    return v if isinstance(v, Tensor) else torch.zeros(0)


def _ready(net: nn.Module) -> None:
    """At rest, on torch, keeping the voltages of all steps, which a readout gives."""
    module: Any
    for module in net.modules():
        if _is_neuron(module):
            if getattr(module, "step_mode", "s") == "m" and hasattr(module, "store_v_seq"):
                module.store_v_seq = True
            if getattr(module, "backend", "torch") != "torch":
                module.backend = "torch"
        if callable(getattr(module, "reset", None)) and any(_classes(module)):
            module.reset()


def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:  # from a folder, not installed
        return ""


SPIKINGJELLY = Framework(
    PACKAGE,
    PACKAGE,
    _version,
    _is_neuron,
    over_time=lambda neuron: getattr(neuron, "step_mode", "s") == "m",
    voltage=_voltage,
    never_resets=lambda neuron: neuron.v_threshold == float("inf"),
    ready=_ready,
    neuron=_neuron,
    layer=_layer,
)
