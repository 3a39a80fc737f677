"""SLAYER checkpoints into networks that never ran.

SLAYER gives some tensors their size in the first forward pass, and draws their values: delays, means
of norms, decays per channel, the spikes of recurrent blocks. Before, they hold one number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .slayer_run import is_block

_SIZED = ("delay.delay", "running_mean", "_decay", "delta.threshold", "neuron.bias", "spike_state")
"""Endings of the keys of such tensors; all but the last have an entry per channel."""


def load_slayer(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """`model.load_state_dict(state)`, strict, also where the SLAYER network has never run.

    Tensors that only a forward pass sizes take the size of the checkpoint's, and count as drawn: no
    pass replaces them by random ones.

    Raises RuntimeError as `load_state_dict` does, with all keys and shapes that differ.
    """
    blocks = {name: block for name, block in model.named_modules() if is_block(block)}
    for name, block in blocks.items():
        prefix = f"{name}." if name else ""
        _size(block, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    model.load_state_dict(state)


def _size(block: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Give a block's tensors of one number the size they have in its part of a checkpoint."""
    channels = getattr(_synapse(block), "out_channels", None)
    for key, own in block.state_dict().items():
        stored = state.get(key)
        if stored is None or own.numel() != 1 or not key.endswith(_SIZED):
            continue
        by_channel = 1 if key == "spike_state" else 0
        if channels is not None and tuple(stored.shape[by_channel:][:1]) != (channels,):
            continue  # it never ran either, or is another network: loading says so
        owner: Any = block.get_submodule(key.rpartition(".")[0])
        getattr(owner, key.rpartition(".")[2]).data = torch.zeros_like(stored, device=own.device)
        _drawn(block, owner, key, stored)


def _drawn(block: Any, owner: Any, key: str, stored: torch.Tensor) -> None:
    """Tell a module that its tensor `key` needs no first forward pass."""
    if key == "delay.delay":
        owner.init = True
    elif key == "neuron.bias":
        owner.bias_is_set = bool(stored.numel() > 1 or stored.any())
    elif key.endswith("_decay") and owner.shape is None:
        if type(_synapse(block)).__name__ == "Dense":
            owner.shape, owner.num_neurons = torch.Size([len(stored)]), len(stored)
        else:  # the shape is still unknown: what it will draw, between two equal bounds
            for end in ("min", "max"):
                setattr(owner, f"{key.removeprefix('neuron.')}_{end}", stored / owner.p_scale)


def _synapse(block: Any) -> Any:
    return getattr(block, "input_synapse", getattr(block, "synapse", None))
