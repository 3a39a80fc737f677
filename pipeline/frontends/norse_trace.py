"""What a Norse network does when it runs: the calls of its layers, and whether they form a chain."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import norse.torch as norse
import torch
from torch import Tensor, nn

from ...models.functional import FunctionalLayers, See
from .norse_modules import UnsupportedModuleError
from .norse_skip import with_skip
from .place import Place

Key: TypeAlias = tuple[str, tuple[int, ...]]

CONVENTIONS = (
    "forward(x, state) -> (out, state) for one step, or forward(x) over a leading time axis, "
    "returning the last layer's output of every step, its sum or its mean"
)


@dataclass(frozen=True, eq=False)
class _Call:
    name: str
    module: nn.Module
    x: Tensor
    given: Any
    out: Tensor
    left: Any


def is_container(module: nn.Module) -> bool:
    """Whether a module's children are its layers: lists of modules, and classes of users."""
    pure = (nn.Sequential, nn.ModuleList, nn.ModuleDict, norse.SequentialState, norse.Lift)
    foreign = type(module).__module__.split(".")[0] not in ("torch", "norse")
    return type(module) in pure or (foreign and next(module.children(), None) is not None)


def leaf_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers inside a model, each once, in the order in which they were added."""
    if not is_container(model):
        yield prefix or type(model).__name__, model
        return
    seen: set[int] = set()
    for name, child in model.named_children():
        for leaf in leaf_modules(child, f"{prefix}.{name}" if prefix else name):
            if id(leaf[1]) not in seen:
                seen.add(id(leaf[1]))
                yield leaf


def trace(model: nn.Module, frames: Tensor, over_time: bool) -> list[Place]:
    """The layers of a model in the order in which its own forward calls them on `frames`.

    `frames`: float64 (time, sample, *input shape). A copy of the model runs, in float64 and evaluation
    mode; torch's random numbers are left as they were. Raises UnsupportedModuleError where the calls
    are no chain: where something happens between two layers, to the input, to the output, or to a
    cell's state. `over_time`: the cells themselves run over the time axis.
    """
    places, result = called(model, frames, over_time)
    return _chain(places, frames, result)


def called(model: nn.Module, frames: Tensor, over_time: bool) -> tuple[list[Place], Tensor]:
    """The layers that forward calls, and what it returns, without asking how they are connected.

    Raises UnsupportedModuleError where no way of calling the model works.
    """
    tried: list[str] = []
    for name, convention in _conventions(model, over_time):
        net = _float64_copy(model)
        calls: list[_Call] = []
        functions = FunctionalLayers(_function_recorder(calls))
        for leaf, module in leaf_modules(net):
            module.register_forward_pre_hook(functions.enter)
            module.register_forward_hook(functions.leave)
            module.register_forward_hook(_recorder(leaf, calls), with_kwargs=True)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), functions:
                torch.manual_seed(0)
                result = convention(net, frames)
            places = _places(calls, frames.shape[0], frames.shape[1])
        except UnsupportedModuleError:
            raise
        except Exception as error:  # whatever a user's forward may raise
            tried.append(f"{name}: {' '.join(str(error).split())[:300]}")
            continue
        if places and places[0].inputs.numel() == frames.numel():
            return places, result
        tried.append(
            f"{name}: {places[0].name} gets {tuple(places[0].inputs.shape)} of {tuple(frames.shape)}"
            if places
            else f"{name}: it calls no layer"
        )
    raise UnsupportedModuleError(
        f"{type(model).__name__}.forward cannot be followed. Understood are {CONVENTIONS}, all in the "
        f"dtype of x. Tried on {tuple(frames.shape)} in float64: {'; '.join(tried)}."
    )


def _conventions(
    model: nn.Module, over_time: bool
) -> list[tuple[str, Callable[[nn.Module, Tensor], Tensor]]]:
    whole = ("forward(frames)", lambda net, frames: _output(net(frames)))
    stateful = ("forward(frame, state)", _with_state)
    single = (
        "forward(frame)",
        lambda net, frames: torch.stack([_output(net(frame)) for frame in frames]),
    )
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    arguments = [p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
    if over_time:
        return [whole]
    return [stateful, whole, single] if len(arguments) > 1 else [whole, single]


def _with_state(net: nn.Module, frames: Tensor) -> Tensor:
    state, out = None, []
    for frame in frames:
        y, state = net(frame, state)
        out.append(_output(y))
    return torch.stack(out)


def _output(returned: Any) -> Tensor:
    """`out` of (out, state), or the last of a list of layers' outputs (`return_hidden`)."""
    value = returned[0] if isinstance(returned, tuple) else returned
    out: Tensor = value[-1] if isinstance(value, (list, tuple)) else value
    return out


def _float64_copy(model: nn.Module) -> nn.Module:
    """The model in float64 on the CPU, with all tensors that it holds, registered or not."""
    kept = [v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor)]
    made = {id(v): v.detach().clone() for v in kept if not v.is_leaf}
    try:
        net = copy.deepcopy(model, made)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModuleError(
            f"{type(model).__name__} cannot be copied, which the proof of the import needs ({error}). "
            f"Give a network that was not run, without objects that are not its own."
        ) from None
    net = net.cpu().double().eval()
    for module in net.modules():
        for name, value in vars(module).items():
            if not name.startswith("_"):
                object.__setattr__(module, name, _double(value))
    return net


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().double() if value.is_floating_point() else value.cpu()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_double, value))
    return value


def _recorder(name: str, calls: list[_Call]) -> Callable[..., None]:
    def record(module: nn.Module, args: Any, kwargs: Any, returned: Any) -> None:
        given = [*args, *kwargs.values()]
        out, left = returned if isinstance(returned, tuple) else (returned, None)
        state = given[1] if len(given) > 1 else None
        calls.append(_Call(name, module, given[0].clone(), _kept(state), out.clone(), _kept(left)))

    return record


def _function_recorder(calls: list[_Call]) -> See:
    def see(name: str, module: nn.Module, x: Tensor, out: Tensor) -> None:
        calls.append(_Call(f"F.{name}", module, x.clone(), None, out.clone(), None))

    return see


def _kept(state: Any) -> Any:
    """A state as it is now."""
    if isinstance(state, Tensor):
        return state.clone()
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*map(_kept, state))
    return state


def _places(calls: Sequence[_Call], steps: int, samples: int) -> list[Place]:
    """One place for each layer and each time it is called in a step, in the order of first calls."""
    groups: list[tuple[int, list[_Call]]] = []
    single: list[int] = []
    for index, call in enumerate(calls):
        if call.x.shape[:2] == (steps, samples) or len(call.x) == steps * samples:
            groups.append((index, [call]))
        elif len(call.x) == samples:
            single.append(index)
        else:
            raise ValueError(f"{call.name} gets a tensor of shape {tuple(call.x.shape)}")
    keys: list[Key] = [(calls[i].name, tuple(calls[i].x.shape)) for i in single]
    for group in _steps(keys, steps):
        groups.append((single[group[0]], [calls[single[i]] for i in group]))
    count: dict[str, int] = {}
    places = []
    for _, group_calls in sorted(groups, key=lambda item: item[0]):
        name = group_calls[0].name
        count[name] = count.get(name, 0) + 1
        name = name if count[name] == 1 else f"{name}#{count[name]}"
        places.append(_place(name, group_calls, (steps, samples), calls))
    return places


def _steps(keys: Sequence[Key], steps: int) -> list[list[int]]:
    """Which of a sequence of calls are the same layer step after step.

    The whole sequence is `steps` times the same, or it consists of such parts.
    """
    out: list[list[int]] = []
    start = 0
    while start < len(keys):
        left = len(keys) - start
        for period in (left // steps, *range(1, left // steps)):
            block = list(keys[start : start + period])
            if period and list(keys[start : start + period * steps]) == block * steps:
                out += [[start + j + t * period for t in range(steps)] for j in range(period)]
                start += period * steps
                break
        else:
            raise ValueError(
                f"{keys[start][0]} and the layers after it are not called alike in every step"
            )
    return out


def _place(name: str, group: list[_Call], axes: tuple[int, int], calls: Sequence[_Call]) -> Place:
    module = group[0].module
    if len(group) == 1:
        (call,) = group
        if call.x.shape[:2] == axes:
            return Place(name, module, call.x, call.out)
        x, out = (y.reshape(*axes, *y.shape[1:]) for y in (call.x, call.out))
        return Place(name, module, x, out)
    if hasattr(module, "dt"):
        _check_states(name, group, calls)
    voltages = [call.left.v for call in group if hasattr(call.left, "v")]
    return Place(
        name,
        module,
        torch.stack([call.x for call in group]),
        torch.stack([call.out for call in group]),
        torch.stack(voltages) if voltages else None,
    )


def _check_states(name: str, group: Sequence[_Call], calls: Sequence[_Call]) -> None:
    """A cell starts from its own initial state and is given back what it left one step before."""
    expected = [_initial(group[0]), *(call.left for call in group[:-1])]
    for step, (call, state) in enumerate(zip(group, expected, strict=True)):
        if (call.given is None and step == 0) or _same(call.given, state):
            continue
        if call.given is None:
            fault = "forgets its state after every step. Hand it on"
        elif any(_same(call.given, other.left) for other in calls):
            fault = (
                "gives it a state that was left at another place or time; on the hardware, every layer "
                "has its own. Keep one state for each place"
            )
        elif step == 0:
            fault = "starts it from a state of its own; netx starts from rest. Start from None"
        else:
            fault = "changes its state between two steps. Hand it on as it is"
        raise UnsupportedModuleError(f"module {name}: forward {fault}.")


def _initial(call: _Call) -> Any:
    """The state with which a cell starts by itself, where it says it."""
    return getattr(call.module, "state_fallback", lambda _: None)(call.x)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.ndim * b.ndim == 0:  # one number for all neurons
            return bool((a == b).all())
        return torch.equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) > 0 and all(map(_same, a, b))
    return False


def _chain(places: Sequence[Place], frames: Tensor, result: Tensor) -> list[Place]:
    """The places, if each gets what the one before gives, and forward returns what the last gives."""
    out: list[Place] = []
    earlier: list[tuple[str, Tensor]] = [("the input", frames)]
    for place in places:
        before, given = earlier[-1]
        flat = given.flatten(2)
        if place.inputs.shape == given.shape and torch.equal(place.inputs, given):
            out.append(place)
        elif (
            given.ndim > 3 and place.inputs.shape == flat.shape and torch.equal(place.inputs, flat)
        ):
            out.append(replace(place, flatten=True))
        elif (skip := with_skip(out, place.inputs)) is not None:
            count, merged = skip
            out[-count:] = [merged, place]
        else:
            raise UnsupportedModuleError(
                f"between {before} and {place.name}, forward computes something by itself"
                f"{_guess(place.inputs, earlier)}. Make it a module of its own, one of those supported, "
                f"or leave it out."
            )
        earlier.append((place.name, place.outputs))
    _check_result(result, *earlier[-1])
    return out


def _check_result(result: Tensor, name: str, last: Tensor) -> None:
    if result.shape == last.shape and torch.equal(result, last):
        return
    for over_time in (last.sum(0), last.mean(0)):
        if result.shape == over_time.shape and torch.allclose(result, over_time, 1e-12, 1e-12):
            return
    raise UnsupportedModuleError(
        f"forward returns something else than what {name}, its last layer, gives in every step, and "
        f"than the sum or the mean of it over time. Return one of these."
    )


def _guess(got: Tensor, earlier: Sequence[tuple[str, Tensor]]) -> str:
    """What an operation between two layers looks like, in words; nothing if it is unknown."""
    given = earlier[-1][1]
    for name, other in earlier[:-1]:
        if other.shape == got.shape and torch.equal(other, got):
            return f" (it takes what {name} gives: a branch)"
        if other.shape == given.shape == got.shape and torch.allclose(given + other, got):
            return f" (it adds what {name} gives: a skip connection)"
    if got.numel() == given.numel():
        if torch.equal(given.relu().flatten(), got.flatten()):
            return " (F.relu)"
        if not torch.equal(given.flatten(), got.flatten()):
            return " (the values change: a normalization, say, or an activation)"
        return f" (another shape: {tuple(given.shape[2:])} becomes {tuple(got.shape[2:])})"
    return f" ({tuple(given.shape[2:])} becomes {tuple(got.shape[2:])})"
