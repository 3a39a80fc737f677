"""In which order a SLAYER network runs its blocks: found by running it, not by reading its attributes.

A copy of the network runs once on random numbers, and each block with neurons answers with random
numbers of its own, so that nothing depends on who happens to be silent. The network is a chain if what
it returns is what some block gave (or its sum or mean over time, which is a way to read it out), that
block got exactly what another one gave, and so on to the network's input. Calls beside the chain, which
the answer does not need, are no part of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...hw_targets.network.layers import Shape
from ...hw_targets.network.neurons import NetworkError
from .slayer_run import detached_copy, forget, is_block, is_bootstrap, run, spiking

SAMPLES, STEPS = 3, 8
"""Steps of the run; a mean over 8 of what it sends is exact."""


@dataclass(frozen=True)
class Link:
    """A block in its place in the chain."""

    name: str
    """as in the state_dict"""
    block: nn.Module
    copy: nn.Module | None = None
    """that has run; None where the network could not be run"""
    shape: Shape = ()
    """of its input, where it has run"""

    def __str__(self) -> str:
        return label(self.name, self.block)


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a block in the forward pass of a copy."""

    name: str
    block: nn.Module
    given: torch.Tensor
    gave: torch.Tensor

    def __str__(self) -> str:
        return label(self.name, self.block)


def label(name: str, block: nn.Module) -> str:
    """What messages call a block: its name and class."""
    return f"{name or 'model'} ({type(block).__name__})"


def members(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What a network is made of, as registered: SLAYER's modules, and all others without children."""
    inner = [(key, child) for key, child in module._modules.items() if child is not None]
    if not inner and isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return
    if not inner or type(module).__module__.startswith("lava.lib.dl.") or is_block(module):
        yield name, module
        return
    for key, child in inner:
        yield from members(child, f"{name}.{key}" if name else key)


def chain(model: nn.Module, shape: Shape | None) -> tuple[list[Link], str]:
    """The blocks of a network in the order in which its forward pass runs them, and what forbids it.

    `shape`: of one step of input; without it, that of the first block if this says it. Where the
    network cannot be run, its blocks as they are registered, for what there is to say of each.
    NetworkError where its forward pass is no chain of its blocks.
    """
    registered = [
        Link(name, module)
        for name, module in members(model)
        if not isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d | nn.Dropout3d)
    ]
    shape = shape or input_shape(registered)
    if shape is None:
        return registered, "the shape of its input is not known. Give input_shape, (C, H, W)."
    try:
        twin = detached_copy(model)
    except Exception as error:  # whatever the network's own attributes raise
        raise NetworkError(
            f"a copy of the network is to be run, and it cannot be copied: {error}"
        ) from error
    try:
        calls = _calls(twin, shape)
    except _NotRunError as error:
        return registered, str(error)
    modules = dict(model.named_modules())
    return [Link(c.name, modules[c.name], c.block, tuple(c.given.shape[1:-1])) for c in calls], ""


def input_shape(links: list[Link]) -> Shape | None:
    """The shape of a network's input, where its first block says it."""
    for link in links:
        block: Any = link.block
        if getattr(block, "input_shape", None) is not None:  # an input block that has run
            return tuple(block.input_shape)
        synapse = getattr(block, "input_synapse", getattr(block, "synapse", None))
        if synapse is not None:
            kernel = tuple(getattr(synapse, "kernel_size", ()))
            dense = "Dense" in type(synapse).__name__ and kernel in ((), (1, 1, 1))
            return (synapse.in_channels,) if dense else None
        if not hasattr(block, "input_shape"):
            return None
    return None


class _NotRunError(NetworkError):
    """The forward pass itself failed."""


def _calls(model: nn.Module, shape: Shape) -> list[Call]:
    """What a `detached_copy` runs on an input (sample, *shape, time), one after another."""
    watch = _Watch()
    handles = []
    for name, module in _once(members(model)):
        handles += watch.hooks(name, module)
    x = torch.randint(-3, 8, (SAMPLES, *shape, STEPS), generator=watch.generator)
    x = x.to(next(model.parameters(), torch.zeros(0)).dtype)
    forget(model)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answer = run(model, x.clone())
    except Exception as error:  # whatever the network's own code raises
        raise _NotRunError(
            f"its forward pass fails on an input of shape {tuple(x.shape)}, (sample, *input shape, "
            f"time): {type(error).__name__}: {error}. Is that its input_shape?"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        forget(model)
    return _path(watch.calls, x, answer)


def _once(found: Iterator[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()
    for name, module in found:
        if id(module) not in seen:
            seen.add(id(module))
            yield name, module


@dataclass
class _Watch:
    """What each module was given and gave; blocks with neurons give random numbers instead."""

    calls: list[Call] = field(default_factory=list)
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def hooks(self, name: str, module: nn.Module) -> list[Any]:
        given: list[Any] = []

        def before(module: nn.Module, args: Any, options: dict[str, Any]) -> Any:
            x = args[0] if args else next(iter(options.values()), None)
            given.append(x.clone() if isinstance(x, torch.Tensor) else None)  # may change in place
            return (args[:1], {**options, "mode": spiking()}) if is_bootstrap(module) else None

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            took = given.pop()
            if took is None or not isinstance(first, torch.Tensor):
                return None  # a measure, or a loss
            if is_block(module) and getattr(module, "neuron", None) is not None:
                first = self._random(module, first)
            self.calls.append(Call(name, module, took, first.clone()))
            return (first, *output[1:]) if isinstance(output, tuple) else first

        return [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]

    def _random(self, block: Any, like: torch.Tensor) -> torch.Tensor:
        """Such messages as a block may send: single spikes, or graded ones and voltages."""
        graded = getattr(block.neuron, "graded_spike", False) or "Affine" in type(block).__name__
        low, high = (-64, 65) if graded else (0, 2)
        made = torch.randint(low, high, like.shape, generator=self.generator).to(like.dtype)
        return made / 64 if graded else made


def _counts_for_nothing(call: Call) -> bool:
    """Identity, dropout in evaluation mode, and all else that returns what it is given."""
    return not is_block(call.block) and torch.equal(call.given, call.gave)


def _path(calls: list[Call], x: torch.Tensor, answer: Any) -> list[Call]:
    """The calls on the way from the network's input to what it returns; its answer needs no others."""
    calls = [call for call in calls if not _counts_for_nothing(call)]
    returned = [*_tensors(answer)]
    last = next((c for c in reversed(calls) if returned and _reads(returned[0], c.gave)), None)
    if last is None:
        raise NetworkError(
            f"its forward pass returns {_origin(returned[0], calls, x) if returned else 'no tensor'}, "
            f"not the output of a block as it is, nor that summed or averaged over time. {_FIX}"
        )
    path = [last]
    while True:
        earlier = calls[: next(i for i, call in enumerate(calls) if call is path[0])]
        before = next((c for c in reversed(earlier) if torch.equal(c.gave, path[0].given)), None)
        if before is None and torch.equal(path[0].given, x):
            break
        if before is None:
            raise NetworkError(
                f"{path[0]} gets {_origin(path[0].given, earlier, x)}, neither the network's input nor "
                f"the output of one block as it is. netx holds a chain of layers. {_FIX}"
            )
        path.insert(0, before)
    for call in calls:
        beside = all(call is not other for other in path)
        if beside and any(_reads(tensor, call.gave) for tensor in returned[1:]):
            raise NetworkError(
                f"its forward pass returns the output of {call} beside that of {last}. netx holds a "
                f"chain of layers. Return one of them."
            )
    return path


def _tensors(answer: Any) -> Iterator[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        yield answer
    elif isinstance(answer, tuple | list):
        for part in answer:
            yield from _tensors(part)


def _reads(value: torch.Tensor, sent: torch.Tensor) -> bool:
    """Whether it is what a block sent, or that summed or averaged over time."""
    return any(torch.equal(value, read) for read in (sent, sent.sum(-1), sent.mean(-1)))


_FIX = "Do that outside of the network, or write it as SLAYER blocks in a row."


def _origin(value: torch.Tensor, calls: list[Call], x: torch.Tensor) -> str:
    """Where a tensor comes from, as far as it shows."""
    known = [("the network's input", x), *((f"the output of {c}", c.gave) for c in calls)]
    for name, tensor in known:
        if torch.equal(value, tensor):
            return name
        if value.dim() and len(value) == len(tensor) and value.numel() == tensor.numel():
            flat = tensor.reshape(len(tensor), -1, tensor.shape[-1])
            if torch.equal(value.reshape(flat.shape), flat):
                return f"{name} in another shape (a Flatten block does that)"
    for (a, one), (b, other) in itertools.combinations(known, 2):
        if one.shape == other.shape == value.shape and torch.equal(value, one + other):
            return f"the sum of {a} and {b} (a skip connection)"
    return "something that forward computes itself"
