"""What a network of stateful neurons does when it runs: its layers in order, if they form a chain.

For frameworks whose neurons keep their state themselves, or hand it to a `forward` of the user's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import torch
from torch import Tensor, nn

from ...models.functional import FunctionalLayers
from .norse_modules import Nodes, Shape, UnsupportedModuleError
from .place import Place

GAINS = (1.0, 1.0, 8.0, 64.0, 1024.0)
"""Factors of the random frames, one for each sample: strong inputs reach deep layers."""
STEPS = 8
WHOLE = 1 << 30
"""Places reached by a chain that is whole."""
CLOSE = 1e-12
"""How far sums and means over time, and voltages, may be off in float64, as a part of the largest."""
CONVENTIONS = (
    "forward(frames) over a leading time axis, or over the second one, forward(frame) for one step with "
    "the state in the neurons, and forward(frame) that repeats it for all steps; returning what the last "
    "layer gives in every step, its sum or its mean"
)


@dataclass(frozen=True)
class Neuron:
    """What a neuron of a framework becomes: nodes, and the map from it to itself, if it has one."""

    nodes: Nodes
    loop: nir.NIRNode | None = None


@dataclass(frozen=True)
class Framework:
    """What must be known of a framework to follow its networks.

    `package`: whose classes are its own. `is_neuron(module)`. `over_time(neuron)`: whether a call of it
    is all steps, (time, sample, ...). `voltage(neuron)`: after its last call, of all its steps.
    `never_resets(neuron)`: so that its voltage is a readout. `ready(network)`: makes a float64 copy
    start at rest and spike in float64.
    `neuron(module, shape, readout)`: its nodes; UnsupportedModuleError with the reason. `layer(module)`:
    the torch class whose layer a module is. `version`: for the metadata. `dt`: of the graph.
    """

    name: str
    package: str
    version: Callable[[], str]
    is_neuron: Callable[[nn.Module], bool]
    over_time: Callable[[Any], bool]
    voltage: Callable[[Any], Tensor]
    never_resets: Callable[[Any], bool]
    ready: Callable[[nn.Module], None]
    neuron: Callable[[Any, Shape, bool], Neuron]
    layer: Callable[[nn.Module], type]
    dt: float = 1.0


@dataclass(frozen=True, eq=False)
class Run:
    """A network at work: its layers, the frames that it got, and whether its answer is a voltage."""

    places: tuple[Place, ...]
    frames: Tensor
    readout: bool


class _BrokenError(UnsupportedModuleError):
    """No chain from some place on."""

    def __init__(self, reached: int, message: str) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    module: nn.Module
    x: Tensor
    out: Tensor
    voltage: Tensor | None


@dataclass(frozen=True)
class _Convention:
    """A way to call a network. `batch_first`: (sample, time, ...). `repeats`: it repeats one frame."""

    name: str
    run: Callable[[nn.Module, Tensor], Any]
    batch_first: bool = False
    repeats: bool = False


_CONVENTIONS = (
    _Convention("forward(frames), time first", lambda net, frames: net(frames)),
    _Convention(
        "forward(frames), samples first", lambda net, frames: net(frames.transpose(0, 1)), True
    ),
    _Convention("forward(frame)", lambda net, frames: _stacked([net(x) for x in frames])),
    _Convention("forward(frame), repeated", lambda net, frames: net(frames[0]), repeats=True),
)


def random_frames(shape: Sequence[int], steps: int = STEPS) -> Tensor:
    """Frames (time, sample, *shape), always the same: single spikes, and numbers of either sign."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(steps, len(GAINS), *shape, generator=generator, dtype=torch.float64) - 0.4
    frames[:, 0] = (frames[:, 0] > 0).double()
    return frames * torch.tensor(GAINS).double().reshape(-1, *(1,) * len(shape))


def trace(model: nn.Module, frames: Tensor, framework: Framework, *, real: bool = False) -> Run:
    """The layers of a model in the order in which its own forward calls them on `frames`.

    `frames`: float64 (time, sample, *input shape); where the network repeats one frame, it gets the
    first, which `real` frames must then be in all of its steps. A copy of the model runs, in float64 and
    evaluation mode. Raises UnsupportedModuleError where the calls are no chain, as none of the ways of
    calling it makes them one.
    """
    tried: list[str] = []
    furthest: _BrokenError | None = None
    for convention in _CONVENTIONS:
        net = float64_copy(model, framework)
        calls: list[_Call] = []
        try:
            results = _watched(net, frames, convention, framework, calls)
            return _run(calls, frames, results, convention, framework, real)
        except _BrokenError as error:
            if furthest is None or error.reached > furthest.reached:
                furthest = error
            tried.append(f"{convention.name}: {error}")
        except Exception as error:  # whatever a user's forward may raise
            tried.append(f"{convention.name}: {' '.join(str(error).split())[:300]}")
    if furthest is not None and furthest.reached:
        raise UnsupportedModuleError(str(furthest))
    raise UnsupportedModuleError(
        f"{type(model).__name__}.forward cannot be followed. Understood are {CONVENTIONS}; all in the "
        f"dtype of x. Tried on {tuple(frames.shape)} in float64: {'; '.join(tried)}."
    )


def _watched(
    net: nn.Module,
    frames: Tensor,
    convention: _Convention,
    framework: Framework,
    calls: list[_Call],
) -> list[Tensor]:
    """What a network returns, its calls of layers recorded."""

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, returned: Any) -> None:
            x = [*args, *kwargs.values()][0]
            out = returned[0] if isinstance(returned, tuple) else returned
            neuron = framework.is_neuron(module)
            v = framework.voltage(module).clone() if neuron else None
            calls.append(_Call(name, module, x.clone(), out.clone(), v))

        return hook

    def see(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        calls.append(_Call(f"F.{name}", module, x.clone(), out.clone(), None))

    functions = FunctionalLayers(see)
    for name, module in leaf_modules(net, framework):
        module.register_forward_pre_hook(functions.enter)
        module.register_forward_hook(functions.leave)
        module.register_forward_hook(record(name), with_kwargs=True)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), functions:
        torch.manual_seed(0)
        return list(_tensors(convention.run(net, frames)))


def leaf_modules(
    model: nn.Module, framework: Framework, prefix: str = ""
) -> Iterator[tuple[str, nn.Module]]:
    """The layers inside a model, each once: all but containers and users' classes that have children."""
    seen: set[int] = set()

    def inside(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
        own = type(module).__module__.split(".")[0] in ("torch", framework.package)
        container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        if framework.is_neuron(module) or not (container or (not own and [*module.children()])):
            if id(module) not in seen:
                seen.add(id(module))
                yield name or type(module).__name__, module
            return
        for key, child in module.named_children():
            yield from inside(child, f"{name}.{key}" if name else key)

    yield from inside(model, prefix)


def float64_copy(model: nn.Module, framework: Framework) -> nn.Module:
    """The model in float64 on the CPU, in evaluation mode and at rest."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for holder in (vars(module), module._buffers, vars(module).get("_memories", {})):
            for value in holder.values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    known[id(value)] = value.detach().clone()
    try:
        net = copy.deepcopy(model, known)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} cannot be copied, which the proof of the import needs ({error}). "
            f"Give a network that was not run, without objects that are not its own."
        ) from None
    net = net.cpu().double().eval()
    framework.ready(net)
    return net


def _tensors(returned: Any) -> Iterator[Tensor]:
    """All tensors in what a forward returned."""
    if isinstance(returned, Tensor):
        yield returned
    elif isinstance(returned, dict):
        yield from _tensors([*returned.values()])
    elif isinstance(returned, list | tuple):
        steps = [each for each in returned if isinstance(each, Tensor)]
        if len(steps) == len(returned) and len({each.shape for each in steps}) == 1:
            yield torch.stack(steps)  # a list of all steps
        for each in returned:
            yield from _tensors(each)


def _stacked(returned: Sequence[Any]) -> list[Tensor]:
    """The tensors of every step, over time."""
    steps = zip(*(list(_tensors(step)) for step in returned), strict=True)
    return [torch.stack(same) for same in steps]


def _run(
    calls: Sequence[_Call],
    frames: Tensor,
    results: Sequence[Tensor],
    convention: _Convention,
    framework: Framework,
    real: bool,
) -> Run:
    """The run as a chain. Raises _BrokenError."""
    if not calls:
        raise _BrokenError(0, "it calls no layer")
    if not any(framework.is_neuron(call.module) for call in calls):
        raise _BrokenError(0, f"it calls no neuron of {framework.name}")
    if convention.repeats:
        steps = _steps_inside(calls, framework)
        if real and not (
            len(frames) == steps and torch.equal(frames, frames[:1].expand_as(frames))
        ):
            raise _BrokenError(
                WHOLE,
                f"forward repeats one frame for {steps} steps; the inputs have {len(frames)}, or they "
                f"change. Give each frame {steps} times.",
            )
        frames = frames[:1].expand(steps, *frames.shape[1:])
    places = _places(calls, frames.shape[0], frames.shape[1], convention, framework)
    chained = _chain(places, frames)
    return Run(tuple(chained), frames, _is_readout(chained[-1], results, framework))


def _steps_inside(calls: Sequence[_Call], framework: Framework) -> int:
    """How many steps a network makes of one frame."""
    counts: dict[str, int] = {}
    for call in calls:
        if framework.is_neuron(call.module):
            if framework.over_time(call.module):
                return len(call.x)
            counts[call.name] = counts.get(call.name, 0) + 1
    return min(counts.values())


def _places(
    calls: Sequence[_Call], steps: int, samples: int, way: _Convention, framework: Framework
) -> list[Place]:
    """One place for each layer and each time it is called in a step, in the order of first calls."""
    groups: dict[str, list[tuple[int, _Call]]] = {}
    for index, call in enumerate(calls):
        groups.setdefault(call.name, []).append((index, call))
    places: list[tuple[int, Place]] = []
    for name, group in groups.items():
        module = group[0][1].module
        neuron = framework.is_neuron(module)
        alone = neuron and not framework.over_time(module)
        if len(group) % steps == 0 and len(group[0][1].x) == samples and not (neuron and not alone):
            several = len(group) // steps
            parts = [group[j::several] for j in range(several)]
        elif alone:
            raise _BrokenError(
                0,
                f"{name} is called {len(group)} times on {tuple(group[0][1].x.shape)}, not once a step",
            )
        else:
            parts = [[call] for call in group]
        for number, part in enumerate(parts, 1):
            own = name if number == 1 else f"{name}#{number}"
            places.append((part[0][0], _place(own, [c for _, c in part], steps, samples, way)))
    return [place for _, place in sorted(places, key=lambda item: item[0])]


def _place(name: str, part: Sequence[_Call], steps: int, samples: int, way: _Convention) -> Place:
    first = part[0]
    if len(part) == steps and len(first.x) == samples:
        v = None if first.voltage is None else torch.stack([c.voltage for c in part])  # type: ignore[misc]
        x, out = torch.stack([c.x for c in part]), torch.stack([c.out for c in part])
        return Place(name, first.module, x, out, v)

    def over_time(y: Tensor) -> Tensor:
        if way.batch_first and y.shape[:2] == (samples, steps):
            return y.transpose(0, 1)
        if way.batch_first and len(y) == samples * steps:
            return y.reshape(samples, steps, *y.shape[1:]).transpose(0, 1)
        if y.shape[:2] == (steps, samples):
            return y
        if len(y) == steps * samples:
            return y.reshape(steps, samples, *y.shape[1:])
        if way.repeats and len(y) == samples:  # computed once, before the steps
            return y.expand(steps, *y.shape)
        raise _BrokenError(0, f"{name} gets a tensor of shape {tuple(first.x.shape)}")

    v = None if first.voltage is None else over_time(first.voltage)
    return Place(name, first.module, over_time(first.x), over_time(first.out), v)


def _chain(places: Sequence[Place], frames: Tensor) -> list[Place]:
    """The places, if each gets what the one before gives."""
    out: list[Place] = []
    before, given = "the input", frames
    for place in places:
        flat = given.flatten(2) if given.ndim > 3 else given
        if place.inputs.shape == given.shape and torch.equal(place.inputs, given):
            out.append(place)
        elif place.inputs.shape == flat.shape and torch.equal(place.inputs, flat):
            out.append(replace(place, flatten=True))
        else:
            raise _BrokenError(
                len(out),
                f"between {before} and {place.name}, forward computes something by itself, or takes "
                f"another layer's output. Make it a module of its own, one of those supported, or leave "
                f"it out.",
            )
        before, given = place.name, place.outputs
    return out


def _is_readout(last: Place, results: Sequence[Tensor], framework: Framework) -> bool:
    """Whether the answer is the last neurons' voltage and not their spikes; neither is refused."""
    if not framework.is_neuron(last.module):
        return False  # the chain must end with neurons: `lower` says so
    voltage = last.voltage is not None and any(_gives(r, last.voltage) for r in results)
    spikes = any(_gives(r, last.outputs) for r in results)
    if framework.never_resets(last.module) and (voltage or not last.outputs.any()):
        return True
    if spikes:
        return False
    if voltage:
        raise _BrokenError(
            WHOLE,
            f"forward returns the voltage of {last.name}, which its own spikes reset; netx reads "
            f"voltages of neurons that never spike. Return its spikes, or let it never reset.",
        )
    raise _BrokenError(
        WHOLE,
        f"forward returns something else than what {last.name}, its last layer, gives in every step, and "
        f"than the sum or the mean of it over time. Return one of these.",
    )


def _gives(result: Tensor, outputs: Tensor) -> bool:
    """Whether a tensor is a layer's outputs (time, sample, ...), their sum, mean, or the last of them."""
    for form in (outputs, outputs.transpose(0, 1), outputs.sum(0), outputs.mean(0), outputs[-1]):
        if form.shape == result.shape and torch.allclose(form, result.to(form.dtype), CLOSE, CLOSE):
            return True
    return False
