"""From a float NIR graph to the integers of a `Network`."""

from ...hw_targets.violations import Violation
from .loss import LayerLoss, agree
from .network import Method, Quantized, quantize
from .precision import MixedPrecision, mixed_precision
from .rounding import RealLayer
from .units import QuantizationError

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
