"""Do two runs of the same network agree, layer by layer, and why not?"""

from .diagnosis import Diagnosis
from .expected import Expected, compare_expected
from .verify import Agreement, Verification, compare, verify

__all__ = [
    "Agreement",
    "Diagnosis",
    "Expected",
    "Verification",
    "compare",
    "compare_expected",
    "verify",
]
