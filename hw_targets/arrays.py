"""Names of array types that many files share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

Array = NDArray[np.signedinteger[Any]]
