"""Names of array types and shapes that many files share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Whole: TypeAlias = NDArray[np.signedinteger[Any]]
Integers: TypeAlias = NDArray[np.int64]
