"""Norse networks to NIR, read from the modules' own parameters.

Norse's own export loses the time step, the reset, the strength of synaptic currents and the shapes of
convolutions, and has no recurrence; here all of them are in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import nir
import norse.torch as norse
import torch
from norse.torch.module.snn import SNN, SNNCell, SNNRecurrent, SNNRecurrentCell
from torch import nn

from ..graph import Node, chain_graph
from .norse_modules import CONVERSIONS, Shape, UnsupportedModuleError

__all__ = ["UnsupportedModuleError", "answers", "from_norse", "leaves"]

REASONS = {
    "Refrac": "Loihi-style neurons have no refractory period",
    "Ex": "its voltage grows exponentially near the threshold",
    "LSNN": "its threshold adapts",
    "Coba": "its synapses are conductances",
    "Correlation": "its weights change while it runs",
    "Izhikevich": "its voltage equation is quadratic",
    "LIFMC": "it has several compartments",
    "MaxPool": "a maximum is no weighted sum of spikes; train with AvgPool2d",
    "RecurrentSequential": "give a LIFRecurrentCell",
    "Encoder": "encode outside of the network",
}
"""Why modules whose names contain a text are not supported."""


def from_norse(model: nn.Module, input_shape: Sequence[int]) -> nir.NIRGraph:
    r"""The NIR graph of a chain of torch layers and Norse cells, in evaluation mode.

    `model`: a `norse.SequentialState`, an `nn.Sequential`, any nesting of the two, or a
    `SpikingClassifier`. `input_shape`: (C, H, W), (C, L) or (N,) of one frame. Supported: Linear,
    Conv1d and Conv2d (zero padding), BatchNorm1d and 2d (as the affine map of their running
    statistics), AvgPool2d, Flatten, Dropout and Identity (nothing), and these cells, of which one
    step on the input x is, with dt the step of the cell::

        LIFBoxCell        nir.LIF      v <- v + dt/tau (v_leak - v + x)
        LIFCell           nir.CubaLIF  i <- i + x; v as above with i for x; i <- i (1 - dt/tau_syn)
        LIFRecurrentCell  nir.CubaLIF  the same with W x + R z[t-1] for x
        IAFCell           nir.IF       v <- v + x
        LIBoxCell         nir.LI       as LIFBoxCell without threshold
        LICell            nir.CubaLI   as LIFCell without threshold
        LILinearCell      nir.CubaLI   the same with W x for x

    spike z = v > v_th, then v <- v_reset, or with `reset_subtract` v <- v - v_th (metadata `reset`).
    LIF, LIFRecurrent, IAF and LI, which run such a cell over a leading time axis, are the same
    graph; layers beside them stand in `norse.Lift` (LConv2d, Linear and Flatten(2) need not).

    Discretization: NIR's equation tau_syn di/dt = -i + w_in x, solved by one Euler step whose
    result is used at once, is i <- (1 - dt/tau_syn) i + (dt/tau_syn) w_in x. Norse adds x first
    and decays the current after its use: the current that is used is i <- (1 - dt/tau_syn) i + x, the
    same with w_in = tau_syn/dt. IAFCell in the same way has r = 1/dt. Divide v - v_leak by dt/tau_mem,
    V = (v - v_leak) / (dt/tau_mem), and one step is V <- (1 - dt/tau_mem) V + i: Loihi's update with
    du = dt/tau_syn, dv = dt/tau_mem, unscaled weights and threshold (v_th - v_leak) / (dt/tau_mem).
    Recurrence is a cycle neuron -> Linear (R) -> neuron.

    Metadata of the graph: `dt` (seconds), `update` ("current, voltage, current decay"), `framework`.
    Raises UnsupportedModuleError.
    """
    nodes: list[Node] = []
    loops: dict[str, list[Node]] = {}
    shape: Shape | None = tuple(int(n) for n in input_shape)
    steps: dict[str, float] = {}
    problems: list[str] = []
    modules = list(leaves(model))
    lifted = {
        id(inner)
        for lift in model.modules()
        if isinstance(lift, norse.Lift)
        for inner in lift.modules()
    }
    over_time = bool(lifted) or any(isinstance(m, (SNN, SNNRecurrent)) for _, m in modules)
    for name, module in modules:
        kind = type(module)
        if hasattr(module, "dt"):
            steps[name] = float(module.dt)
        if kind not in CONVERSIONS:
            problems.append(f"module {name} {_not_supported(kind)}")
            shape = None  # what follows cannot be checked against it
            continue
        try:
            _check_time_axis(module, over_time, id(module) in lifted)
            converted = [
                (f"{name}:{type(node).__name__.lower()}", node)
                for node in (CONVERSIONS[kind](module, shape) if shape else ())
            ]
        except UnsupportedModuleError as error:
            problems.append(f"module {name} ({kind.__name__}): {error}")
            shape = None
            continue
        if not converted:
            continue
        if isinstance(module, (SNNRecurrentCell, SNNRecurrent)):
            _, recurrent = converted.pop()
            loops[converted[-1][0]] = [(f"{name}:recurrent", recurrent)]
        nodes += converted
        shape = tuple(int(n) for n in converted[-1][1].output_type["output"])
    if not steps:
        problems.append(
            "the network has no Norse neuron. Give the spiking network, not its ANN twin."
        )
    if len(set(steps.values())) > 1:
        problems.append(
            f"the cells have different time steps dt: {steps}. Give every cell the same dt."
        )
    if problems:
        supported = ", ".join(sorted(kind.__name__ for kind in CONVERSIONS))
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UnsupportedModuleError(
            f"the model has no exact image:\n{lines}\nSupported are {supported}."
        )
    metadata = {
        "dt": next(iter(steps.values())),
        "update": "current, voltage, current decay",
        "framework": f"norse {norse.__version__}" if hasattr(norse, "__version__") else "norse",
    }
    return chain_graph(nodes, tuple(int(n) for n in input_shape), metadata, loops)


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a (nested) sequential network in order, with their dotted names."""
    module = getattr(module, "body", module)
    containers = (nn.Sequential, norse.SequentialState, norse.Lift)
    if not isinstance(module, containers):
        yield prefix or type(module).__name__, module
        return
    for name, child in module.named_children():
        yield from leaves(child, f"{prefix}.{name}" if prefix else name)


def answers(model: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    """What the last layer of a model that `from_norse` accepts puts out in every step.

    `frames`: (time, sample, *input shape); the result is (time, sample, *output shape).
    """
    modules = [module for _, module in leaves(model)]
    if any(isinstance(module, (SNN, SNNRecurrent)) for module in modules):
        out: torch.Tensor = getattr(model, "body", model)(frames)[0]
        return out
    body, state, outputs = norse.SequentialState(*modules), None, []
    for frame in frames:
        out, state = body(frame, state)
        outputs.append(out)
    return torch.stack(outputs)


def _not_supported(kind: type) -> str:
    reason = next((f": {why}" for text, why in REASONS.items() if text in kind.__name__), "")
    return f"is a {kind.__name__}, which is not supported{reason}."


def _check_time_axis(module: nn.Module, over_time: bool, lifted: bool) -> None:
    """Refuses modules that would take the time axis for another one, or not get one."""
    stateful = hasattr(module, "dt")
    if lifted and stateful:
        raise UnsupportedModuleError("inside Lift its state is lost. Take it out.")
    if over_time and isinstance(module, (SNNCell, SNNRecurrentCell, norse.LILinearCell)):
        raise UnsupportedModuleError(
            "computes one step, but other modules run over the time axis. Use one kind, "
            "say LIF for LIFCell, throughout."
        )
    blind = (nn.Linear, nn.Flatten, nn.Dropout, nn.Identity, norse.LConv2d)
    if over_time and not (lifted or stateful or isinstance(module, blind)):
        raise UnsupportedModuleError("knows no time axis. Put it into norse.Lift.")
    first = 2 if over_time and not lifted else 1
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (first, -1):
        axes = "the time and batch axes" if first == 2 else "the batch axis"
        raise UnsupportedModuleError(f"only start_dim={first}, end_dim=-1 (all but {axes}).")
