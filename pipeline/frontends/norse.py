"""Norse networks to NIR, read from the modules' own parameters.

Norse's own export loses the time step, the reset, the strength of synaptic currents and the shapes of
convolutions, and has no recurrence; here all of them are in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.module.snn import SNN, SNNCell, SNNRecurrent, SNNRecurrentCell
from numpy.typing import NDArray
from torch import nn

from ...models.networks import SpikingClassifier
from ..float.layers import DECAYS_LAST
from ..graph import NEURONS, READOUTS, Node, chain_graph
from ..parts import Kind, refused
from .norse_modules import CONVERSIONS, Shape, UnsupportedModuleError
from .norse_proof import prove, random_frames
from .norse_trace import is_container, leaf_modules, trace
from .place import Place

REASONS = {
    "Refrac": "Loihi-style neurons have no refractory period",
    "Ex": "its voltage grows exponentially near the threshold",
    "LSNN": "its threshold adapts",
    "Coba": "its synapses are conductances",
    "Correlation": "its weights change while it runs",
    "Izhikevich": "its voltage equation is quadratic",
    "LIFMC": "it has several compartments",
    "MaxPool": "a maximum of spikes is exact as an nn.MaxPool2d on (C, H, W)",
    "RecurrentSequential": "give a LIFRecurrentCell",
    "Encoder": "encode outside of the network",
}
"""Why modules whose names contain a text are not supported."""
PROOF_SAMPLES = 16
"""Real inputs on which the proof of an import is repeated."""


def supported() -> Iterator[Kind]:
    """The modules that are converted, and the names that are refused, with the reason."""
    yield from (Kind(module.__name__) for module in CONVERSIONS)
    yield from (Kind(f"*{text}*", remark=refused(why)) for text, why in REASONS.items())


def convert(
    model: nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None = None
) -> nir.NIRGraph:
    """`from_norse` in evaluation mode; its proof on random frames is repeated on the first of `frames`.

    `frames`: real ones, (sample, time, *input shape); what a `forward` does only with some values, such
    as clipping them, is seen here. Raises UnsupportedModuleError.
    """
    if input_shape is None:
        raise UnsupportedModuleError(
            "the shape of its input is not known. Give input_shape, (C, H, W), (C, L) or (N,)."
        )
    graph = from_norse(model.eval(), input_shape)
    if frames is not None:
        check_norse(model, graph, frames[:PROOF_SAMPLES])
    return graph


def from_norse(model: nn.Module, input_shape: Sequence[int]) -> nir.NIRGraph:
    r"""The NIR graph of a chain of torch layers and Norse cells, in evaluation mode.

    `model`: a `norse.SequentialState`, with further ones, `nn.Sequential` and `norse.Lift` in it, says
    the order of its layers itself. Any other class is run, and the order in which its own `forward`
    calls its layers is the chain: `forward(x, state) -> (out, state)` for one step, or `forward(x)`
    over a leading time axis that returns the last layer's outputs, their sum or their mean. A layer
    that is used at several places stands in the graph as often; functions that do what a layer does
    (F.linear, F.conv2d, F.batch_norm, F.max_pool2d, F.avg_pool2d) are layers; a skip connection around
    weights alone, W s + s, is part of them. `input_shape`: (C, H, W), (C, L) or (N,) of one frame.

    What is returned is proven (see `prove`): the model's own forward and the graph run on random frames,
    and every layer is compared.

    Supported: Linear, Conv1d and Conv2d (zero padding), BatchNorm1d and 2d (as the affine map of their
    running statistics), AvgPool2d, AdaptiveAvgPool2d (of whole parts), MaxPool2d of spikes (a depthwise
    convolution of ones and nir.Threshold, which takes one step more on the hardware), Flatten, Dropout
    and Identity (nothing), and these cells, of which one step on the input x is, with dt the step of
    the cell::

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
    shape = tuple(int(n) for n in input_shape)
    root = model.body if type(model) is SpikingClassifier else model
    over_time = _over_time(root)
    frames = random_frames(shape)
    names = {id(module): name for name, module in leaf_modules(model)}
    layers: list[tuple[str, nn.Module]]
    places: list[Place] | None = None
    if _says_its_order(root):
        layers = list(leaves(root))
        problems = _sequences_of_cells(root)
    else:
        places = trace(model, frames, over_time)
        layers, problems = [], []
        modules = dict(leaf_modules(model))
        for place in places:
            if place.flatten:
                layers.append((f"{place.name}.flatten", nn.Flatten()))
            layers.append((place.name, modules.get(place.name.split("#")[0], place.module)))
    lifted = {
        id(inner)
        for lift in model.modules()
        if isinstance(lift, norse.Lift)
        for inner in lift.modules()
    }
    graph = _converted(layers, shape, over_time, lifted, problems, places is not None)
    if places is None:
        places = trace(model, frames, over_time)
        theirs = [place.name.split("#")[0] for place in places]
        if theirs != [names[id(module)] for _, module in layers]:
            raise UnsupportedModuleError(
                f"forward calls the layers {', '.join(theirs)}, which is not the order in which the "
                f"containers hold them."
            )
    prove(graph, frames, places)
    return graph


def check_norse(model: nn.Module, graph: nir.NIRGraph, frames: NDArray[Any]) -> None:
    """The proof of `from_norse` again, on frames (sample, time, *input shape) of one's own."""
    inputs = torch.as_tensor(frames, dtype=torch.float64).transpose(0, 1)
    prove(graph, inputs, trace(model, inputs, _over_time(model)))


def run_norse(model: nn.Module, frames: NDArray[Any]) -> list[NDArray[np.float64]]:
    """What every layer of neurons gives when the model's own forward runs on `frames`, in float64.

    `frames`: (sample, time, *input shape); spikes, and a readout's voltages, are
    (sample, time, *layer shape). Raises UnsupportedModuleError where the layers are no chain.
    """
    inputs = torch.as_tensor(frames, dtype=torch.float64).transpose(0, 1)
    places = trace(model, inputs, _over_time(model))
    return [p.outputs.transpose(0, 1).numpy() for p in places if p.answers]


def _converted(
    layers: Sequence[tuple[str, nn.Module]],
    input_shape: Shape,
    over_time: bool,
    lifted: set[int],
    containers: list[str],
    traced: bool,
) -> nir.NIRGraph:
    """The graph of layers one after another; UnsupportedModuleError with all problems.

    `containers`: problems of what the layers are in. `traced`: the layers were seen at work.
    """
    problems: list[str] = []
    nodes: list[Node] = []
    loops: dict[str, list[Node]] = {}
    shape: Shape | None = input_shape
    steps: dict[str, float] = {}
    spikes = False
    for name, module in layers:
        kind = type(module)
        if hasattr(module, "dt"):
            steps[name] = float(module.dt)
        if kind not in CONVERSIONS:
            problems.append(f"module {name} {_not_supported(kind)}")
            shape = None  # what follows cannot be checked against it
            continue
        try:
            if not traced:
                _check_time_axis(module, over_time, id(module) in lifted)
            if kind is nn.MaxPool2d and not spikes and shape:
                raise UnsupportedModuleError(
                    "a maximum is exact only of spikes. Put it right behind spiking neurons, or train "
                    "with AvgPool2d."
                )
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
        last = converted[-1][1]
        if not isinstance(last, nir.Flatten):
            spikes = isinstance(last, NEURONS) and not isinstance(last, READOUTS)
        shape = tuple(int(n) for n in last.output_type["output"])
    problems += containers
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
        "update": DECAYS_LAST,
        "framework": f"norse {norse.__version__}" if hasattr(norse, "__version__") else "norse",
    }
    return chain_graph(nodes, tuple(int(n) for n in input_shape), metadata, loops)


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a (nested) sequential network in order, with their dotted names.

    A module at two places comes twice.
    """
    if type(module) not in (nn.Sequential, norse.SequentialState, norse.Lift):
        yield prefix or type(module).__name__, module
        return
    for name, child in module._modules.items():
        if child is not None:
            yield from leaves(child, f"{prefix}.{name}" if prefix else name)


def _says_its_order(model: nn.Module) -> bool:
    """Whether the layers are in sequential containers only, with no class of the user's around some."""
    return not any(is_container(module) for _, module in leaves(model))


def _over_time(model: nn.Module) -> bool:
    return any(isinstance(m, (SNN, SNNRecurrent, norse.Lift)) for m in model.modules())


def _sequences_of_cells(model: nn.Module) -> list[str]:
    """Containers that would take a cell's (spikes, state) for the next layer's input."""
    return [
        f"{f'module {name}' if name else 'the network'} is an nn.Sequential with cells in it, which "
        f"loses their states. Give a norse.SequentialState."
        for name, module in model.named_modules()
        if type(module) is nn.Sequential and any(hasattr(m, "dt") for m in module)
    ]


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
