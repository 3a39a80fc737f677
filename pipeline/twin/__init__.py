"""The differentiable twin of an integer network, and training through it."""

from ...models.surrogates import SURROGATES
from .tuning import FineTuned, Tuning, finetune
from .twin import Twin, TwinTrace

__all__ = ["SURROGATES", "FineTuned", "Tuning", "Twin", "TwinTrace", "finetune"]
