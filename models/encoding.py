"""Input codings in two forms: real-valued for training, integers on a grid for the deployed network.

Both forms use the same draw: rounding the real one to the grid gives exactly the integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .settings import Coding

CODINGS: tuple[Coding, ...] = get_args(Coding)
_NOISY = ("rsc1", "rsc2")
_WIDTHS: dict[Coding, int] = {"poisson": 0, "signed_poisson": 2, "phase": 0, "events": 0}
"""Message bits of the codings that send single spikes, whose levels are 1."""
_REACH = 9.0
"""No draw of torch's normal numbers in float64 is beyond sqrt(2 * 53 * ln 2) = 8.6."""


@dataclass(frozen=True)
class Encoding:
    r"""How an image x in [0, 1] becomes `steps` input frames.

    x is first rounded to one of the grey levels g = round(x * grid), x_g = g / grid. Then frame t is

    - ``direct``: x_g in every step.
    - ``rsc1``: x_g + sigma * z, one z ~ N(0, I) per image, the same in every step.
    - ``rsc2``: x_g + sigma * z_t, a fresh z_t in every step.
    - ``poisson``: 1 with probability x_g, else 0, independently for each pixel and step.
    - ``signed_poisson``: sign(s) with probability abs(s), else 0, where s = 2 x_g - 1.
    - ``phase``: [g > theta_t] with thresholds that one random number per image moves together,
      theta_t = (base + phase + off_t) mod grid, phase uniform over the `grid` possible ones.
    - ``events``: the data are spikes already, (sample, steps, C, H, W) of 0 and 1, and frame t is
      their step t.

    The integer form is `levels` times the frame: graded spikes g + floor(sigma * z * levels + 1/2)
    where `levels` = `grid` (direct, rsc1, rsc2), single spikes where `levels` = 1 (all others).

    Averaged over the steps, the frames are x_g (signed_poisson: s) plus noise of variance sigma^2
    (rsc1), sigma^2 / steps (rsc2), x_g (1 - x_g) / steps (poisson), (abs(s) - s^2) / steps
    (signed_poisson): equal sigma is not equal smoothing.

    Gradients: the noise of rsc1 and rsc2 is additive, so d frame / d x = 1 along the draw
    (pathwise). Spikes of poisson and phase pass the gradient straight through, d spike / d x = 1
    (signed_poisson: 2), which is the derivative of their expectation. Rounding passes it too.

    Phase code: `base`, one whole number below `grid` per pixel, is `splitmix64` of the pixel's
    row-major index, seeded with `template`; step t has offset off_t = floor((t mod k) grid / k) with
    k = `offsets` distinct ones. Over all phases, each step has exactly g spikes, and one grey level
    of one pixel changes the frames of exactly k phases: what the exact certificate rests on.

    `sigma` is in pixel units, before any normalisation. `message_bits` is the width, sign included,
    of the graded spikes (0: single spikes); a draw that does not fit is an error. `grid`: 0 stands
    for `levels`. `Encoding.of` fills in levels and message bits.

    Sources: RSC-SNN, arXiv 2407.20099 (rsc1, rsc2: randomized smoothing coding); Sharmin et al.,
    arXiv 2003.10399 (signed Poisson, straight-through gradient); Levine and Feizi, ICML 2021, arXiv
    2103.10834 (thresholds with split noise, for phase). Integer forms and phase code in time: ours.
    """

    coding: Coding = "direct"
    steps: int = 8
    levels: int = 16
    sigma: float = 0.0
    message_bits: int = 8
    offsets: int = 1
    template: int = 0
    grid: int = 0

    def __post_init__(self) -> None:
        if self.coding not in CODINGS:
            raise ValueError(
                f"coding {self.coding!r} is unknown; choose from {', '.join(CODINGS)}."
            )
        if self.steps < 1 or self.levels < 1:
            raise ValueError(
                f"steps = {self.steps}, levels = {self.levels}; both must be 1 or more."
            )
        width = _WIDTHS.get(self.coding)
        if width is not None and (self.levels, self.message_bits) != (1, width):
            raise ValueError(
                f"{self.coding}: single spikes have levels = 1 and message_bits = {width}, not "
                f"{self.levels} and {self.message_bits}; Encoding.of(...) fills them in."
            )
        object.__setattr__(self, "grid", self.grid or self.levels)
        if self.grid < 1 or (self.grid != self.levels and self.coding in ("direct", *_NOISY)):
            raise ValueError(
                f"{self.coding}: grid = {self.grid}, levels = {self.levels}; grey levels are sent "
                f"as they are, so both are the same."
            )
        if (self.coding in _NOISY) != (self.sigma > 0):
            raise ValueError(
                f"coding {self.coding!r} with sigma = {self.sigma}: rsc1 and rsc2 need a sigma above "
                f"0, the others have none."
            )
        if self.coding != "phase" and (self.offsets, self.template) != (1, 0):
            raise ValueError(
                f"offsets = {self.offsets}, template = {self.template}: only phase has them."
            )
        if not 1 <= self.offsets <= min(self.steps, self.grid):
            raise ValueError(
                f"offsets = {self.offsets}; 1 to {min(self.steps, self.grid)} of them can differ in "
                f"{self.steps} steps and {self.grid} grey levels."
            )
        if not 0 <= self.template < 1 << 63:
            raise ValueError(f"template = {self.template}; give a seed of 0 to 2^63 - 1.")

    @classmethod
    def of(
        cls,
        coding: Coding,
        steps: int = 8,
        grid: int = 16,
        sigma: float = 0.0,
        *,
        offsets: int = 1,
        template: int = 0,
    ) -> Encoding:
        """A coding of images with `grid` grey levels, its messages as wide as its draws need.

        8 bits where these suffice for x in [0, 1].
        """
        width = _WIDTHS.get(coding)
        if width is not None:
            return cls(coding, steps, 1, sigma, width, offsets, template, grid)
        reach = math.ceil(grid * (1 + _REACH * sigma))
        bits = max(8, 1 + reach.bit_length())
        return cls(coding, steps, grid, sigma, bits, offsets, template)

    @property
    def stochastic(self) -> bool:
        """Whether two draws can differ."""
        return self.coding not in ("direct", "events")

    @property
    def binary(self) -> bool:
        """Whether all messages are 0 or 1."""
        return self.message_bits == 0

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """sigma * z, float64, shape (steps, *shape); `generator` makes the draw repeatable."""
        draws = {"rsc1": 1, "rsc2": self.steps}.get(self.coding, 0)
        if not draws:
            return torch.zeros((self.steps, *shape), dtype=torch.float64)
        z = torch.randn((draws, *shape), generator=generator, dtype=torch.float64)
        return (self.sigma * z).expand(self.steps, *shape)

    def greys(self, images: torch.Tensor) -> torch.Tensor:
        """The grey levels round(x * grid), whole numbers in float64, without gradient."""
        return torch.round(images.detach().double() * self.grid)

    def real(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Frames (steps, sample, C, H, W) in the dtype of `images` (sample, C, H, W).

        Differentiable as the class says.
        """
        if self.coding == "events":
            return self._events(images).transpose(0, 1).float()
        if self.coding in _WIDTHS:
            return self._spikes(images, self._drawn_thresholds(images, generator))
        on_grid = images + ((self.greys(images) / self.grid).to(images) - images).detach()
        noise = self.noise(tuple(images.shape), generator).to(images)
        return on_grid + noise

    def integers(self, images: torch.Tensor, generator: torch.Generator) -> NDArray[np.int32]:
        """Input spikes (sample, steps, C, H, W): frames in units of 1 / levels."""
        whole = self.messages(images.detach(), generator)
        return np.ascontiguousarray(whole.cpu().numpy().astype(np.int32))

    def messages(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """`integers` as a float64 tensor with the gradient of the real form: levels per 1.0."""
        if self.coding == "events":
            return self._events(images).double()
        if self.coding in _WIDTHS:
            return self.real(images.double(), generator).transpose(0, 1)
        exact = images.double() * self.levels
        grid = exact + (torch.round(exact) - exact).detach()
        noise = self.noise(tuple(images.shape), generator).to(grid)
        messages = grid + torch.floor(noise * self.levels + 0.5)
        limit = 2 ** (self.message_bits - 1)
        if bool((messages < -limit).any() or (messages >= limit).any()):
            raise ValueError(
                f"input messages reach {messages.min():g} .. {messages.max():g}; {self.message_bits} "
                f"bits hold {-limit} .. {limit - 1}. Lower levels or sigma, or give more message bits."
            )
        return messages.transpose(0, 1)

    def phase_messages(self, images: torch.Tensor, phase: int) -> NDArray[np.int8]:
        """The integers (sample, steps, C, H, W) of the phase code at one phase of 0 .. grid - 1."""
        if self.coding != "phase":
            raise ValueError(f"{self.coding} has no phases; only the phase code has.")
        if not 0 <= phase < self.grid:
            raise ValueError(f"phase = {phase}; a grid of {self.grid} has 0 .. {self.grid - 1}.")
        thresholds = self._phase_thresholds(images, torch.tensor([phase]))
        spikes = self._spikes(images.detach(), thresholds)
        return np.ascontiguousarray(spikes.transpose(0, 1).cpu().numpy().astype(np.int8))

    def _drawn_thresholds(self, images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        if self.coding == "phase":
            phases = torch.randint(self.grid, (len(images),), generator=draws)
            return self._phase_thresholds(images, phases)
        shape = (self.steps, *images.shape)
        uniform = torch.rand(shape, generator=draws, dtype=torch.float64)
        return torch.floor(uniform * self.grid).to(images.device)

    def _phase_thresholds(self, images: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        shape = tuple(images.shape[1:])
        hashed = splitmix64(self.template, math.prod(shape)) % np.uint64(self.grid)
        base = torch.from_numpy(hashed.astype(np.int64)).reshape(shape)
        offsets = torch.arange(self.steps) % self.offsets * self.grid // self.offsets
        moved = phases.reshape(-1, *(1 for _ in shape)) + base
        moved = moved + offsets.reshape(-1, *(1 for _ in moved.shape))
        thresholds: torch.Tensor = (moved % self.grid).to(images.device)
        return thresholds

    def _spikes(self, images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        """[g > threshold] or, signed, sign(2 g - grid) [abs(2 g - grid) > threshold], g the greys.

        Straight through: the gradient of the expectation. Greys beyond 0 .. grid are as the end.
        """
        greys, slope = self.greys(images), 1
        if self.coding == "signed_poisson":
            centred, slope = 2 * greys - self.grid, 2
            spikes = torch.sign(centred) * (centred.abs() > thresholds)
        else:
            spikes = greys > thresholds
        return spikes.to(images) + slope * (images - images.detach())

    def _events(self, spikes: torch.Tensor) -> torch.Tensor:
        if spikes.ndim != 5 or spikes.shape[1] != self.steps:
            raise ValueError(
                f"data of shape {tuple(spikes.shape)} are not events of {self.steps} steps; "
                f"(sample, {self.steps}, C, H, W) is needed."
            )
        return spikes


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


def generator(seed: int) -> torch.Generator:
    """A torch generator on the CPU, seeded: the same seed gives the same draws."""
    return torch.Generator().manual_seed(seed)
