"""Do two runs of the same network agree, layer by layer, and why not?"""

from .diagnosis import Diagnosis
from .verify import Agreement, Verification, compare, verify

__all__ = ["Agreement", "Diagnosis", "Verification", "compare", "verify"]
