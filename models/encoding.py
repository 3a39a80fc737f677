"""The draws of a `Coding`: real-valued for training, integers on a grid for the deployed network.

Both forms use the same draw: rounding the real one to the grid gives exactly the integers. A coding
that is not known is refused (NetworkError).

Numbers are drawn on the device of the generator: on the CPU in float64, on a GPU in float32, which is
fast there and fine enough for training and gradients. Draws that judge or certify come from the CPU,
whatever device computes: they are then the same numbers everywhere, and as precise as certificates need.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..hw_targets.network.coding import Coding, check_known

_THRESHOLDS = ("poisson", "signed_poisson", "phase")
"""The codings that compare grey levels with thresholds."""
_TIMED = ("sequence", "given", "events")
"""The codings of data that have time: frame t is made of their step t."""
_HELD = ("direct", "rsc1")
"""The codings of which every frame is the same."""


def real(coding: Coding, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Frames (steps, sample, *shape) in the dtype of `images` (sample, *shape); of events float32.

    Data with time are (sample, steps, *shape). Differentiable as `Coding` says.
    """
    _check(coding, images)
    if coding.name == "events":
        return images.transpose(0, 1).float()
    if coding.name in _THRESHOLDS:
        return _spikes(coding, images, _drawn_thresholds(coding, images, generator))
    on_grid = images + ((greys(coding, images) / coding.grid).to(images) - images).detach()
    if coding.name in _TIMED:
        return on_grid.transpose(0, 1)
    drawn = _noise(coding, images, generator)
    frames = on_grid[None] if drawn is None else on_grid + drawn.to(images)
    return frames.expand(coding.steps, *images.shape)


def integers(coding: Coding, images: torch.Tensor, generator: torch.Generator) -> NDArray[np.int32]:
    """Input spikes (sample, steps, *shape): frames in units of 1 / levels.

    `images`: (sample, *shape), or with time (sample, steps, *shape). Raises ValueError where a draw does
    not fit into the message bits, and where the coding has no such numbers, which it would clip.
    """
    low, high = (float(end) for end in torch.aminmax(images)) if images.numel() else (0.0, 0.0)
    if coding.name in (*_THRESHOLDS, "events") and (low < 0 or high > 1):
        raise ValueError(
            f"data reach {low:g} .. {high:g}; the coding {coding.name} is for numbers within 0 .. 1: "
            f"scale them, or use direct."
        )
    whole = messages(coding, images.detach(), generator)
    return np.ascontiguousarray(whole.cpu().numpy().astype(np.int32))


def messages(coding: Coding, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """`integers` as a float64 tensor with the gradient of the real form: levels per 1.0.

    Shapes and errors as there.
    """
    whole = unlimited(coding, images, generator)
    if coding.name in (*_THRESHOLDS, "events") or not whole.numel():
        return whole
    limit = 2 ** (coding.message_bits - 1) if coding.message_bits else 2
    least = -limit if coding.message_bits else 0
    held = coding.name in _HELD  # every step is the same
    low, high = torch.stack(torch.aminmax((whole[:, :1] if held else whole).detach())).tolist()
    if low < least or high >= limit:
        raise ValueError(
            f"input messages reach {low:g} .. {high:g}; {coding.message_bits} "
            f"bits hold {least} .. {limit - 1}. Lower levels or sigma, or give more message bits."
        )
    return whole


def unlimited(coding: Coding, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """`messages` (sample, steps, *shape), also where a draw does not fit into the message bits."""
    _check(coding, images)
    if coding.name == "events":
        return images.double()
    if coding.name in _THRESHOLDS:
        return real(coding, images.double(), generator).transpose(0, 1)
    exact = images.double() * coding.levels
    grid = exact + (torch.round(exact) - exact).detach()
    if coding.name in _TIMED:
        return grid
    drawn = _noise(coding, images, generator)
    whole = grid[None]
    if drawn is not None:
        whole = grid + torch.floor(drawn.to(grid) * coding.levels + 0.5)
    return whole.expand(coding.steps, *images.shape).transpose(0, 1)


def phase_messages(coding: Coding, images: torch.Tensor, phase: int) -> NDArray[np.int8]:
    """The integers (sample, steps, C, H, W) of the phase code at one phase of 0 .. grid - 1.

    Raises ValueError for another phase or coding.
    """
    if coding.name != "phase":
        raise ValueError(f"{coding.name} has no phases; only the phase code has.")
    if not 0 <= phase < coding.grid:
        raise ValueError(f"phase = {phase}; a grid of {coding.grid} has 0 .. {coding.grid - 1}.")
    thresholds = _phase_thresholds(coding, images, torch.tensor([phase]))
    spikes = _spikes(coding, images.detach(), thresholds)
    return np.ascontiguousarray(spikes.transpose(0, 1).cpu().numpy().astype(np.int8))


def _noise(coding: Coding, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    """sigma * z, (1 or steps, *images.shape): as many steps as are drawn; None where nothing is."""
    draws = {"rsc1": 1, "rsc2": coding.steps}.get(coding.name)
    if draws is None:
        return None
    device, dtype = generator.device, _drawn_in(generator)
    z = torch.randn((draws, *images.shape), generator=generator, dtype=dtype, device=device)
    return (coding.sigma * z).to(images.device)


def _drawn_in(generator: torch.Generator) -> torch.dtype:
    """The type that numbers are drawn in."""
    return torch.float64 if generator.device.type == "cpu" else torch.float32


def greys(coding: Coding, images: torch.Tensor) -> torch.Tensor:
    """The grey levels round(x * grid), whole numbers in float64, without gradient."""
    return torch.round(images.detach().double() * coding.grid)


def _drawn_thresholds(coding: Coding, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    if coding.name == "phase":
        phases = torch.randint(coding.grid, (len(images),), generator=draws, device=draws.device)
        return _phase_thresholds(coding, images, phases)
    shape, dtype = (coding.steps, *images.shape), _drawn_in(draws)
    uniform = torch.rand(shape, generator=draws, dtype=dtype, device=draws.device)
    return torch.floor(uniform * coding.grid).to(images.device)


def _phase_thresholds(coding: Coding, images: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    shape = tuple(images.shape[1:])
    hashed = splitmix64(coding.template, math.prod(shape)) % np.uint64(coding.grid)
    device = images.device
    base = torch.from_numpy(hashed.astype(np.int64)).reshape(shape).to(device)
    steps = torch.arange(coding.steps, device=device)
    offsets = steps % coding.offsets * coding.grid // coding.offsets
    moved = phases.to(device).reshape(-1, *(1 for _ in shape)) + base
    moved = moved + offsets.reshape(-1, *(1 for _ in moved.shape))
    thresholds: torch.Tensor = moved % coding.grid
    return thresholds


def _spikes(coding: Coding, images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """[g > threshold] or, signed, sign(2 g - grid) [abs(2 g - grid) > threshold], g the greys.

    Straight through: the gradient of the expectation. Greys beyond 0 .. grid are as the end.
    """
    levels, slope = greys(coding, images), 1
    if coding.name == "signed_poisson":
        centred, slope = 2 * levels - coding.grid, 2
        spikes = torch.sign(centred) * (centred.abs() > thresholds)
    else:
        spikes = levels > thresholds
    return spikes.to(images) + slope * (images - images.detach())


def _check(coding: Coding, data: torch.Tensor) -> None:
    """Refuse a coding that cannot be drawn, and data without the time that it needs."""
    if coding.name not in _TIMED:
        check_known(coding.name)
    elif data.ndim < 3 or data.shape[1] != coding.steps:
        what = "events" if coding.name == "events" else "sequences"
        raise ValueError(
            f"data of shape {tuple(data.shape)} are not {what} of {coding.steps} steps; "
            f"(sample, {coding.steps}, {'C, H, W' if data.ndim > 3 else '*shape'}) is needed."
        )


def splitmix64(seed: int, count: int) -> NDArray[np.uint64]:
    """The first `count` numbers of the generator SplitMix64, (count,), for a seed below 2^64.

    Number i, from 0, all modulo 2^64::

        z = seed + (i + 1) * 0x9E3779B97F4A7C15
        z = (z xor (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z xor (z >> 27)) * 0x94D049BB133111EB
        z xor (z >> 31)

    Whole numbers only, so that no version of any library changes them. Source: Steele, Lea and
    Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    index = np.arange(1, count + 1, dtype=np.uint64)
    z = np.full(count, seed, np.uint64) + index * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return numbers


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator, seeded: the same seed gives the same draws, others on another kind of device."""
    return torch.Generator(device).manual_seed(seed)
