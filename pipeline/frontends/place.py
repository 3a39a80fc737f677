"""A layer of a torch network where it is used."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Place:
    """A layer where `forward` calls it; tensors are (time, sample, *shape).

    `name`: the module's, or the function's that does the same (F.max_pool2d), with `#2` where it is
    called for the second time in a step. `voltage`: of neurons that show it; of
    Norse's cells, which run step by step, after the reset. `flatten`: `forward` flattens what reaches it.
    """

    name: str
    module: nn.Module
    inputs: Tensor
    outputs: Tensor
    voltage: Tensor | None = None
    flatten: bool = False

    @property
    def answers(self) -> bool:
        """Whether it is a layer of neurons in the graph: cells, and maxima of spikes."""
        return hasattr(self.module, "dt") or isinstance(self.module, nn.MaxPool2d)
