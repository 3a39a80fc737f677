"""`CHIPS`: the chips that ship. One of your own is a `Chip` that is given wherever chips are taken."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..network.neurons import NetworkError
from .chip import Chip
from .loihi1 import LOIHI1
from .loihi2 import LOIHI2

CHIPS: Mapping[str, Chip] = MappingProxyType({chip.id: chip for chip in (LOIHI1, LOIHI2)})


def chip_named(name: str) -> Chip:
    """A chip that ships. Raises NetworkError for other names."""
    if name not in CHIPS:
        raise NetworkError(f"no chip {name!r}; known: {', '.join(CHIPS)}.")
    return CHIPS[name]
