"""Rewritings of NIR graphs that change no spike: down to alternating synapses and neurons."""

from .passes import lower
from .widen import bias_channel, copies

__all__ = ["bias_channel", "copies", "lower"]
