"""From a trained network of some framework to a NIR graph: one function per framework."""

from .nir import from_nir
from .norse import from_norse

__all__ = ["from_nir", "from_norse"]
