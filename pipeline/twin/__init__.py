"""The differentiable twin of an integer network, and training through it."""

from .network import Twin, TwinTrace
from .straight_through import SURROGATES
from .tuning import FineTuned, Tuning, finetune

__all__ = ["SURROGATES", "FineTuned", "Tuning", "Twin", "TwinTrace", "finetune"]
