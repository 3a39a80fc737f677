"""From a float NIR graph to the integers of a `Network`."""

from ...hw_targets.chips.chip import Violation
from .limits import QuantizationError
from .loss import LayerLoss, agree
from .precision import MixedPrecision, mixed_precision
from .quantize import Method, Quantized, quantize
from .rounding import RealLayer

__all__ = [
    "LayerLoss",
    "Method",
    "MixedPrecision",
    "QuantizationError",
    "Quantized",
    "RealLayer",
    "Violation",
    "agree",
    "mixed_precision",
    "quantize",
]
