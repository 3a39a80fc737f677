"""Arrays of anybody's `.npy` and `.npz` files, whose headers are compared with their bytes first.

numpy takes the shape of a header at its word and allocates it, tells neither format from a zip archive
that begins alike, and raises whatever its parser meets. Here all of that is one `ArrayFileError`.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from .arrays import Array
from .hdf5 import limits, one_line

MAX_ARRAYS = 1000
"""Of one `.npz` file."""
_DAMAGE = (
    *(ValueError, TypeError, EOFError, KeyError, AttributeError, MemoryError, RuntimeError),
    *(SyntaxError, tokenize.TokenError, NotImplementedError, UnicodeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, OSError),  # seeking to what a damaged archive says
)


class ArrayFileError(ValueError):
    """A file that is no `.npy` or `.npz`, is damaged, or holds more than arrays of plain types."""


def read_npy(path: str | Path) -> Array:
    """The array of a `.npy` file. Raises FileNotFoundError, ArrayFileError without the file's name."""
    path = Path(path)
    with path.open("rb") as file:
        if file.read(4)[:2] == b"PK":
            raise ArrayFileError("several arrays, as .npz files have: give a .npy file with one")
        file.seek(0)
        return _array(file, path.stat().st_size)


def read_npz(path: str | Path, max_bytes: int | None = None) -> dict[str, Array]:
    """The arrays of a `.npz` file by name.

    `max_bytes`: what all of them may take; default: see `hdf5.reading`. Raises FileNotFoundError, and
    ArrayFileError without the file's name.
    """
    most = limits().max_bytes if max_bytes is None else max_bytes
    with Path(path).open("rb") as file:
        if file.read(4)[:2] != b"PK":
            raise ArrayFileError("no .npz file: it does not begin as one")
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise ArrayFileError(f"damaged: {one_line(error)}") from None
        with archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if len(entries) > MAX_ARRAYS:
                raise ArrayFileError(f"{len(entries)} arrays, more than {MAX_ARRAYS}")
            if size > most:
                raise ArrayFileError(
                    f"its arrays take {size} bytes, more than the limit of {most}; if you trust the "
                    f"file, give max_bytes={size} or more"
                )
            arrays: dict[str, Array] = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in arrays or name == entry.filename:
                    raise ArrayFileError(
                        f"its entry {entry.filename!r} is there twice, or no array"
                    )
                try:
                    with archive.open(entry) as part:
                        arrays[name] = _array(part, entry.file_size)
                except _DAMAGE as error:
                    raise ArrayFileError(f"{name}: {one_line(error)}") from None
            return arrays


def _array(file: IO[bytes], size: int) -> Array:
    """The array in a file of `size` bytes, once its header says no more than is there."""
    try:
        numpys: Any = np.lib.format
        version = numpys.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} of .npy is not known")
        first = version == (1, 0)
        read = numpys.read_array_header_1_0 if first else numpys.read_array_header_2_0
        shape, by_columns, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are code; arrays of numbers are read")
        count, start = math.prod(shape), file.tell()
        if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32:
            raise ValueError(f"its header says shape {shape}")
        if count * dtype.itemsize != size - start:
            raise ValueError(
                f"its header says {dtype} of shape {shape}, which is {count * dtype.itemsize} bytes, but "
                f"it has {size - start}"
            )
        content = file.read(count * dtype.itemsize)
        if len(content) != count * dtype.itemsize:
            raise ValueError("it ends early")
        flat: Array = np.frombuffer(bytearray(content), dtype, count)
        return flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)
    except _DAMAGE as error:
        raise ArrayFileError(one_line(error)) from None
