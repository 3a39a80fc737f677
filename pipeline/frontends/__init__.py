"""From a trained network of some framework to a NIR graph (SLAYER: to integers), and back."""

from .netx import from_netx
from .nir import from_nir
from .norse import from_norse
from .slayer import from_slayer
from .slayer_checkpoint import load_slayer

__all__ = ["from_netx", "from_nir", "from_norse", "from_slayer", "load_slayer"]
