"""What a NIR file says, as plain dictionaries: any schema version, no shapes assumed.

`nir.read` builds the nodes while it reads and fails on files that are sound: on grouped or oblong
convolutions (its shape inference), on parameters that are one number for a layer, on missing types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

Raw: TypeAlias = dict[str, Any]

VERSIONS = ("0", "1")
"""Major versions of the schema that `read` knows (nir 0.1 to 1.0)."""


class NIRFileError(ValueError):
    """A file that is not there, or not NIR, or of a version that did not exist yet."""


def read(path: str | Path) -> Raw:
    """The root node of a NIR file: `type`, `nodes`, `edges`, `metadata`, nested.

    Numbers are numpy arrays of the stored dtype, texts are str, edges pairs of names. Raises
    NIRFileError.
    """
    path = Path(path)
    if not path.is_file():
        raise NIRFileError(f"{path}: no such file.")
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file or "type" not in file["node"]:
                raise NIRFileError(f"{path}: an HDF5 file, but not NIR (no node/type in it).")
            version = _value(file["version"]) if "version" in file else "(none)"
            if not isinstance(version, str) or version.split(".")[0] not in VERSIONS:
                raise NIRFileError(
                    f"{path}: NIR schema version {version} is unknown; known are "
                    f"{' and '.join(f'{v}.x' for v in VERSIONS)}. Write it again with nir 1.0."
                )
            return _group(file["node"])
    except OSError as error:
        raise NIRFileError(f"{path}: not an HDF5 file, as NIR files are ({error}).") from None


def _group(group: h5py.Group) -> Raw:
    return {
        name: _group(item) if isinstance(item, h5py.Group) else _value(item)
        for name, item in group.items()
    }


def _value(dataset: h5py.Dataset) -> Any:
    value = dataset[()]
    return plain(value)


def plain(value: Any) -> Any:
    """Bytes as str, also within arrays; everything else as it is."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        return [plain(v) for v in value]
    return value
