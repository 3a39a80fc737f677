"""HIRE: training with input noise that is crafted between periods of the time steps, at no cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..hw_targets.network.coding import Coding
from . import encoding
from .crafting import project
from .networks import SpikingClassifier


def periods(
    net: SpikingClassifier,
    coding: Coding,
    scale: float,
    images: Tensor,
    labels: Tensor,
    draws: torch.Generator,
    *,
    number: int,
    epsilon: float,
    update: Callable[[Tensor], None],
) -> Tensor:
    """One pass over a batch's time steps in `number` periods; the mean of the periods' losses.

    After each period, `update` (backward pass and step of the optimizer) gets the cross-entropy of the
    outputs of that period's steps, and the next period sees the image with noise::

        x <- project(x + epsilon * sign(dL/dx)), within epsilon of the image and in [0, 1]

    The gradient is that of the same backward pass, membranes go on across periods without gradient, the
    coding's draw stays: as many forward and backward steps as plain training. Source: HIRE-SNN (Kundu
    et al., ICCV 2021); its training code is not public, so the step of epsilon, carried membranes and
    the loss from a period's own outputs (spike counts extrapolated to all steps) are our reading.
    """
    draw = draws.get_state()
    moved, state, losses = images, None, []
    for steps in torch.arange(coding.steps).tensor_split(number):
        draws.set_state(draw)
        x = moved.detach().requires_grad_()
        total = torch.zeros(())
        for frame in encoding.real(coding, x, draws)[steps[0] : steps[-1] + 1]:
            out, state = net.body(frame, state)
            total = total.to(out) + out
        per_step = coding.steps if net.readout == "spikes" else 1
        loss = functional.cross_entropy(scale * per_step * total / len(steps), labels)
        update(loss)
        assert x.grad is not None
        moved = project(moved + epsilon * x.grad.sign(), images, epsilon)
        state = _detached(state)
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def _detached(state: Any) -> Any:
    """Norse's nested state, of tensors, lists and named tuples, without its history."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, list):
        return [_detached(part) for part in state]
    if isinstance(state, tuple):
        return type(state)(*(_detached(part) for part in state))
    return state
