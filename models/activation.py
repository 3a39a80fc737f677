"""Activation functions of ANNs, told apart by what they do: ReLU, clipping, clip-floor steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

FAR = 1e4
"""Where a function that does not saturate is still its argument."""
CLOSE = 1e-5
"""How far a function may be off, as a part of its ceiling: float32 arithmetic."""


class Activation(nn.Module):
    """x to min(max(x, 0), ceiling), in `levels` equal steps where there are some.

    With L levels, ceiling c and shift s: c / L * clip(floor(x L / c + s), 0, L), which is the
    quantization-clip-floor-shift of Bu et al. (ICLR 2022) for s = 1/2. No ceiling: ReLU.
    """

    def __init__(
        self, ceiling: float | None = None, levels: int | None = None, shift: float = 0.0
    ) -> None:
        super().__init__()
        self.ceiling, self.levels, self.shift = ceiling, levels, shift

    def forward(self, x: Tensor) -> Tensor:
        if self.ceiling is None:
            return torch.relu(x)
        if self.levels is None:
            return x.clamp(0, self.ceiling)
        step = self.ceiling / self.levels
        return torch.floor(x / step + self.shift).clamp(0, self.levels) * step

    def extra_repr(self) -> str:
        return f"ceiling={self.ceiling}, levels={self.levels}, shift={self.shift:g}"


def is_elementwise(function: Callable[[Tensor], Tensor]) -> bool:
    """Whether it does the same to every number of an image, and nothing else."""
    x = torch.linspace(-2, 2, 96, dtype=torch.float64).reshape(2, 3, 4, 4)
    try:
        y, turned = function(x), function(x.flip(0, 1, 2, 3))
        if y.shape != x.shape:
            return False
        return torch.allclose(y.flip(0, 1, 2, 3), turned, rtol=0, atol=1e-12)
    except Exception:  # whatever an unknown module may raise
        return False


def activation_of(function: Callable[[Tensor], Tensor]) -> Activation | None:
    """The `Activation` that an elementwise function is; None where it is none."""
    with torch.no_grad():
        ends = function(torch.tensor([-FAR, 0.0, FAR], dtype=torch.float64).reshape(1, 3, 1, 1))
        low, zero, top = ends.flatten().tolist()
        if low != 0 or zero != 0 or not top > 0:
            return None
        if abs(top - FAR) < CLOSE * FAR:
            made = Activation()
            x = torch.logspace(-3, 4, 701, dtype=torch.float64)
            return made if _agree(function, made, torch.cat([-x, x]), FAR) else None
        x = torch.linspace(-0.5 * top, 1.5 * top, 40_000, dtype=torch.float64)
        clipped = Activation(top)
        if _agree(function, clipped, x, top):
            return clipped
        y = _on(function, x)
        values = torch.unique((y / (CLOSE * top)).round())
        levels = len(values) - 1
        if not 1 <= levels <= 4096:
            return None
        first = float(x[(y > top / (2 * levels)).nonzero()[0]])
        shift = round((1 - first * levels / top) * 64) / 64
        stepped = Activation(top, levels, shift)
        # a step may be off by one point of the grid, where both sides round
        apart = (_on(function, x) - stepped(x)).abs() > CLOSE * top
        return stepped if int(apart.sum()) <= 2 * levels else None


def _on(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x.reshape(1, 1, 1, -1)).flatten()


def _agree(function: Callable[[Tensor], Tensor], made: Activation, x: Tensor, scale: float) -> bool:
    return bool(((_on(function, x) - made(x)).abs() <= CLOSE * scale).all())
