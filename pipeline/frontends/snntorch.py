r"""snnTorch networks to NIR, read from the modules themselves: its export loses resets, and often fails.

One step of a neuron on the input x, with z' its spikes of the step before and d = threshold::

    Leaky      v <- beta v + x                              nir.LIF (nir.IF where beta is 1)
    Synaptic   i <- alpha i + x; v <- beta v + i            nir.CubaLIF
    RLeaky, RSynaptic: x + R z' for x, R a Linear or V      the same, with a loop

alpha and beta clamped to [0, 1]; z = v > d. Resets, in the metadata as `FloatNetwork` has them::

    reset_mechanism   reset_delay=True             reset_delay=False
    "subtract"        "subtract", reset_delay 1    "subtract-at-once"
    "zero"            "zero", reset_delay 1        "zero"
    "none"            "none"; of a last layer whose voltage forward returns, nir.LI or nir.CubaLI

`graded_spikes_factor` is a nir.Scale behind the neurons. Refused by name: inhibition, state_quant, a
spike function other than v > threshold, RSynaptic with reset_delay=False (snnTorch 1.0 drops its result),
convolutional recurrence, and all other neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
import snntorch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..parts import Kind, refused
from .norse_modules import Shape, UnsupportedModuleError
from .spiking_trace import Framework, Neuron

NEURONS = ("Leaky", "Synaptic", "RLeaky", "RSynaptic")
REASONS = {
    "Alpha": "its voltage is the difference of two currents and not integrated, which no neuron of netx "
    "has; train with Synaptic",
    "Lapicque": "train with Leaky, or give it: Leaky(beta=1 - time_step / (R C)), the weights before it "
    "times time_step / C, is the same neuron",
    "SLSTM": "it is a gated recurrent cell",
    "SConv2dLSTM": "it is a gated recurrent cell",
}
"""Why neurons are not supported."""
NEVER = 1e-30
"""A leak of a voltage that does not leak: 1 - 1e-30 = 1 in float64."""
DT = 1.0


def supported() -> Iterator[Kind]:
    """The neurons that are converted, and those that are refused, with the reason."""
    yield from (Kind(name) for name in NEURONS)
    yield from (Kind(name, remark=refused(why)) for name, why in REASONS.items())


def _neuron(module: Any, shape: Shape, readout: bool) -> Neuron:
    kind = type(module).__name__
    if type(module) not in [getattr(snntorch, name) for name in NEURONS]:
        reason = REASONS.get(kind, f"known are {', '.join(NEURONS)}")
        raise UnsupportedModuleError(f"is not supported: {reason}.")
    recurrent = hasattr(module, "recurrent")
    faults = list(_faults(module, kind, readout and recurrent))
    threshold = _spread(module.threshold, shape)
    reset = module.reset_mechanism
    delayed = bool(module.reset_delay)
    if reset == "zero" and (threshold < 0).any():
        faults.append("a threshold below 0, which v = 0 after a reset is above")
    if faults:
        raise UnsupportedModuleError(f"no image of {'; '.join(faults)}.")
    fields: dict[str, NDArray[np.float64]] = {"v_leak": np.zeros(shape)}
    if not readout:
        fields |= {"v_threshold": threshold, "v_reset": np.zeros(shape)}
    beta = _spread(module.beta.clamp(0, 1), shape)
    tau = DT / np.maximum(1 - beta, NEVER)
    node: nir.NIRNode
    if hasattr(module, "alpha"):
        syn = DT / np.maximum(1 - _spread(module.alpha.clamp(0, 1), shape), NEVER)
        made = nir.CubaLI if readout else nir.CubaLIF
        node = made(tau_syn=syn, tau_mem=tau, r=tau / DT, w_in=syn / DT, **fields)
    elif (beta == 1).all() and not readout:
        del fields["v_leak"]
        node = nir.IF(r=np.full(shape, 1 / DT), **fields)
    else:
        node = (nir.LI if readout else nir.LIF)(tau=tau, r=tau / DT, **fields)
    if not readout:
        node.metadata = {
            "reset": "subtract-at-once" if reset == "subtract" and not delayed else reset,
            "reset_delay": int(delayed and reset != "none"),
        }
    factor = float(module.graded_spikes_factor)
    graded = () if factor == 1 or readout else (nir.Scale(np.full(shape, factor)),)
    return Neuron((node, *graded), _loop(module, shape) if recurrent else None)


def _faults(module: Any, kind: str, feeds_back: bool) -> Iterator[str]:
    if module.inhibition:
        yield (
            "inhibition, by which only the neuron of the largest voltage spikes; train with "
            "inhibition=False"
        )
    if module.state_quant:
        yield "state_quant: train without, and let `bits` choose the integers"
    probe = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0])
    if module.spike_grad(probe).tolist() != (probe > 0).double().tolist():
        yield "a spike_grad whose forward is not v > threshold"
    if module.graded_spikes_factor.numel() != 1 or float(module.graded_spikes_factor) == 0:
        yield "a graded_spikes_factor that is not one number other than 0"
    if kind == "RSynaptic" and not module.reset_delay and module.reset_mechanism != "none":
        yield "RSynaptic with reset_delay=False, whose result snnTorch drops; train with reset_delay=True"
    if isinstance(getattr(module, "recurrent", None), nn.Conv2d):
        yield "convolutional recurrence; netx has recurrence in dense layers"
    if feeds_back:
        yield "a voltage as the answer of neurons that feed their spikes back; return the spikes"


def _loop(module: Any, shape: Shape) -> nir.NIRNode:
    if not module.all_to_all:
        return nir.Scale(_spread(module.recurrent.V, shape))
    linear = module.recurrent
    weight = linear.weight.detach().cpu().double().numpy()
    if linear.bias is None:
        return nir.Linear(weight)
    return nir.Affine(weight, linear.bias.detach().cpu().double().numpy())


def _spread(values: Tensor, shape: Shape) -> NDArray[np.float64]:
    """As torch broadcasts it over (sample, *shape)."""
    array = values.detach().cpu().double().numpy()
    if array.ndim > len(shape) and array.shape[0] == 1:
        array = array[0]
    try:
        return np.broadcast_to(array, shape).copy()
    except ValueError:
        raise UnsupportedModuleError(
            f"has parameters of shape {array.shape}; its layer is {shape}."
        ) from None


def _ready(net: nn.Module) -> None:
    """At rest; spikes in the dtype of the voltage, which snnTorch gives in float32."""
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            for name in ("mem", "syn", "spk", "syn_exc", "syn_inh"):
                if name in module._buffers:
                    module._buffers[name] = torch.zeros(0, dtype=torch.float64)
            if callable(getattr(module, "spike_grad", None)):
                module.spike_grad = _in_dtype(module.spike_grad)


def _in_dtype(spike: Any) -> Any:
    return lambda x: spike(x).to(x.dtype)


SNNTORCH = Framework(
    "snntorch",
    "snntorch",
    lambda: str(snntorch.__version__) if hasattr(snntorch, "__version__") else "",
    lambda module: isinstance(module, snntorch.SpikingNeuron),
    over_time=lambda neuron: False,
    voltage=lambda neuron: neuron.mem if hasattr(neuron, "mem") else torch.zeros(0),
    never_resets=lambda neuron: neuron.reset_mechanism == "none",
    ready=_ready,
    neuron=_neuron,
    layer=type,
    dt=DT,
)
