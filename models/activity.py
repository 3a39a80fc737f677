"""A Norse network run layer by layer: its logits, currents and spikes, with any gradient rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import norse.torch as norse
import torch
from torch import Tensor, nn

from .networks import SpikingClassifier
from .surrogates import USUAL, Gradient, spike, through_rates


@dataclass(frozen=True)
class Activity:
    """What a network did. Of an ANN, `currents` are the inputs and `spikes` the outputs of its ReLUs.

    `logits` (sample, classes); `currents`, `spikes`: of each layer of spiking neurons, their input and
    output (steps, sample, *shape), steps being 1 for an ANN.
    """

    logits: Tensor
    currents: tuple[Tensor, ...]
    spikes: tuple[Tensor, ...]


def activity(
    net: nn.Module,
    inputs: Tensor,
    gradient: Gradient = USUAL,
    *,
    norms_over_steps: bool = False,
    products: torch.dtype = torch.float32,
) -> Activity:
    """Run a network of `networks.snn` or `networks.ann`, each layer over all steps at once.

    `inputs`: frames (steps, sample, *shape); of an ANN images (sample, *shape). The values are those of
    `net(inputs)` up to the rounding of float32 sums, batch norms in training included, which see one
    step after the other. `norms_over_steps`: these see all steps as one batch, to measure statistics
    that act in every step. `products`: the type in which convolutions and dense layers multiply; what
    they give, and all else, is float32. A reset passes no gradient. Raises ValueError where a layer is
    none that those networks have.
    """
    body = net.body if isinstance(net, SpikingClassifier) else net
    frames = inputs if isinstance(net, SpikingClassifier) else inputs[None]
    currents: list[Tensor] = []
    spikes: list[Tensor] = []
    x = frames
    for fed, out, fires in _layers(body.children(), frames, gradient, norms_over_steps, products):
        x = out
        if fires:
            currents.append(fed)
            spikes.append(out)
    by_count = isinstance(net, SpikingClassifier) and net.readout == "spikes"
    return Activity(x.sum(0) if by_count else x.mean(0), tuple(currents), tuple(spikes))


def passed_on(layers: Iterable[nn.Module], frames: Tensor) -> Tensor:
    """What the last of `layers` gives for frames (steps, sample, *shape), norms over all steps at once.

    Without gradients no more than two layers are in memory at a time.
    """
    x = frames
    for _, out, _ in _layers(layers, frames, USUAL, True, torch.float32):
        x = out
    return x


def _layers(
    layers: Iterable[nn.Module],
    x: Tensor,
    gradient: Gradient,
    norms_over_steps: bool,
    products: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """What each layer is fed and gives, and whether it is one of neurons that fire, or ReLUs."""
    firing = 0
    for layer in layers:
        fed, fires = x, isinstance(layer, norse.LIFBoxCell | norse.IAFCell | nn.ReLU)
        if isinstance(layer, norse.LIFBoxCell | norse.IAFCell):
            x = _neurons(layer, x, gradient, firing)
        elif isinstance(layer, norse.LIBoxCell):
            x = _integrators(layer, x)
        elif isinstance(layer, nn.ReLU):
            x = layer(x)
        elif _is_trained_norm(layer) and not norms_over_steps:
            x = torch.stack([layer(step) for step in x])
        elif type(layer).__module__.startswith("torch.nn."):
            x = _applied(layer, x, products)
        else:
            raise ValueError(
                f"a {type(layer).__name__} cannot be run layer by layer; networks of Linear, Conv2d, "
                f"norms and pooling with LIFBoxCell, IAFCell and LIBoxCell can."
            )
        firing += fires
        yield fed, x, fires


def _applied(layer: nn.Module, x: Tensor, products: torch.dtype) -> Tensor:
    """A layer without state on all steps at once."""
    rows = x.flatten(0, 1)
    if products == torch.float32 or not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        out: Tensor = layer(rows)
    else:
        with torch.autocast(x.device.type, products):
            out = layer(rows).to(x.dtype)
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _is_trained_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.training


def _neurons(cell: nn.Module, currents: Tensor, gradient: Gradient, layer: int) -> Tensor:
    """Spikes (steps, sample, *shape) of LIFBoxCell or IAFCell neurons; Norse's arithmetic."""
    p = cell.p
    threshold = p.v_th.to(currents)
    if gradient == "activation":
        return torch.relu(currents / threshold)
    leaky = isinstance(cell, norse.LIFBoxCell)
    rule = USUAL if gradient == "rate" else gradient
    with torch.set_grad_enabled(torch.is_grad_enabled() and gradient != "rate"):
        v = (p.v_leak if leaky else p.v_reset).detach().to(currents)
        sent = []
        for step, current in enumerate(currents):
            v = v + cell.dt * p.tau_mem_inv * (current + p.v_leak - v) if leaky else v + current
            above = v - threshold
            z = spike(above / threshold.detach(), above > 0, rule.at(layer, step)).to(currents)
            sent.append(z)
            fired = z.detach()
            v = (1 - fired) * v + fired * p.v_reset.detach()
        spikes = torch.stack(sent)
    return through_rates(currents, spikes, 1 / threshold) if gradient == "rate" else spikes


def _integrators(cell: nn.Module, currents: Tensor) -> Tensor:
    """Voltages (steps, sample, *shape) of LIBoxCell readouts."""
    p = cell.p
    v = p.v_leak.detach().to(currents)
    voltages = []
    for current in currents:
        v = v + cell.dt * p.tau_mem_inv * ((p.v_leak - v) + current)
        voltages.append(v)
    return torch.stack(voltages)
