"""SLAYER networks to integers: equal to lava-dl's own files where those are right."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeship.hw_targets.netx import read_netx
from spikeship.pipeline.frontends import from_slayer

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated"),
]


class Blocks(torch.nn.Module):
    """A network as lava-dl's tutorials write them."""

    def __init__(self, blocks: list[torch.nn.Module]) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def block(kind: str, *args: Any, **options: Any) -> torch.nn.Module:
    """A SLAYER block by name, such as cuba.Dense."""
    from lava.lib.dl.slayer import block as blocks

    family, _, name = kind.partition(".")
    made: torch.nn.Module = getattr(getattr(blocks, family), name)(*args, **options)
    return made


def _learned(threshold: float) -> dict[str, Any]:
    return {"threshold": threshold, "current_decay": 0.5, "voltage_decay": 0.5}


# folder, checkpoint, file, layer sizes, threshold, weight norm
CHECKPOINTS = {
    "oxford": ("oxford", "network", (200, 256, 200), 0.1, False),
    "iris": ("iris/Trained", "network", (4, 24, 3), 1.75, True),
    "mnist_mlp": ("mnist_mlp", "trained_mnist_network", (784, 128, 64, 10), 1.0, False),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoints_equal_their_files(name: str, shared_data: Path) -> None:
    folder, stem, sizes, threshold, weight_norm = CHECKPOINTS[name]
    path = shared_data / "golden" / folder / stem
    model = Blocks(
        [
            block("cuba.Dense", _learned(threshold), into, out, weight_norm=weight_norm)
            for into, out in itertools.pairwise(sizes)
        ]
    )
    model.load_state_dict(torch.load(path.with_suffix(".pt"), map_location="cpu"))
    assert from_slayer(model) == read_netx(path.with_suffix(".net"))
