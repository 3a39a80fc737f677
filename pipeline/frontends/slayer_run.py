"""Running SLAYER networks and blocks: on the CPU, from rest, and in a copy, so that nothing changes."""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
from typing import Any

import torch
from torch import nn


def is_block(module: nn.Module) -> bool:
    """Whether it is a SLAYER or bootstrap block, or a subclass of one."""
    return any(
        c.__module__.startswith(("lava.lib.dl.slayer.block.", "lava.lib.dl.bootstrap.block."))
        for c in type(module).__mro__
    )


def detached_copy(model: nn.Module) -> nn.Module:
    """A deep copy on the CPU in evaluation mode, without the states of earlier runs.

    Weight norm and states leave tensors within a graph in the modules, which `deepcopy` refuses.
    `delay_shift` is off: it is the latency of the chip, and moves all spikes by one step.
    """
    memo: dict[int, Any] = {}
    for part in model.modules():
        for value in (*vars(part).values(), *part._buffers.values()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(model, memo).cpu().eval()
    module: Any
    for module in twin.modules():
        if hasattr(module, "delay_shift"):
            module.delay_shift = False
        if hasattr(module, "current_decay"):
            module.register_forward_pre_hook(_spread)
    forget(twin)
    return twin


def _spread(neuron: Any, args: tuple[torch.Tensor]) -> None:
    """Decays per channel of a convolution get its axes: SLAYER's CPU cannot run them otherwise."""
    decays = [neuron.current_decay, neuron.voltage_decay]
    if args[0].dim() == 5 and max(len(decay) for decay in decays) > 1:
        neuron.shape = args[0].shape[1:-1]
        for decay in decays:
            decay.data = decay.data.reshape(-1, 1, 1)


def forget(model: nn.Module) -> None:
    """Drop the states that SLAYER keeps from one call to the next."""
    for module in model.modules():
        if any(c.__module__.startswith("lava.lib.dl.") for c in type(module).__mro__):
            for name in module._buffers:
                if name.endswith("_state"):
                    setattr(module, name, torch.zeros(1))


def run(module: nn.Module, x: Any) -> Any:
    """The forward pass; that of a list of modules is one after another."""
    if type(module) is nn.Sequential or type(module).forward is nn.Module.forward:
        blocks = getattr(module, "blocks", None)
        inner = [blocks] if isinstance(blocks, nn.Module) else [*module._modules.values()]
        for child in filter(None, inner):
            x = run(child, x)
            x = x[0] if isinstance(x, tuple) else x
        return x
    parameters = [*inspect.signature(module.forward).parameters.values()]
    if [p.name for p in parameters[1:] if p.default is p.empty] == ["mode"]:
        return module(x, itertools.repeat(spiking()))  # as lava-dl's bootstrap tutorials
    return module(x)


def run_block(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a block answers from rest to x (sample, *shape, time)."""
    forget(block)
    out = block(x, mode=spiking()) if is_bootstrap(block) else block(x)
    first: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return first


def is_bootstrap(block: nn.Module) -> bool:
    """Then it runs as an ANN unless it is told to spike."""
    return any(c.__module__.startswith("lava.lib.dl.bootstrap") for c in type(block).__mro__)


def spiking() -> Any:
    """The mode in which bootstrap blocks spike."""
    return importlib.import_module("lava.lib.dl.bootstrap").Mode.SNN
