"""Files of `torch.save`: plain tensors, numbers and texts, read without running what they say.

Such a file is a zip archive with a pickle and one entry per storage. torch 2.3 runs archives of
TorchScript also with `weights_only=True`, takes sizes from the pickle that the entries do not have, and
does not look at checksums. Here entries, instructions, names and sizes are checked first, and tensors are
made of the bytes that are there. Anything else than plain data is an `ArchiveError`.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_ENTRIES = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+"
)
_SCRIPT = re.compile(r"constants\.pkl|code/.*|attributes\.pkl|model\.json")
_LARGEST_PICKLE = 1 << 26
"""Bytes; the tensors themselves are not in it."""
_MEMO = ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET")
_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", *_MEMO, "MEMOIZE"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
}
"""Of pickles: those that make plain data, and call what `_Reader.find_class` gives."""
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ArchiveError(ValueError):
    """A file that torch.save did not write, that is damaged, or that holds more than plain data."""


@dataclass(frozen=True)
class _Tensor:
    """What a pickle says of a tensor; a stand-in that has no methods to call."""

    storage: torch.Tensor
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(collections.OrderedDict[Any, Any]):
    """An OrderedDict; what a pickle sets as its attributes is left out."""

    def __setstate__(self, state: object) -> None:
        pass


def read_archive(path: str | Path) -> Any:
    """What `torch.save` wrote; tensors on the CPU, dictionaries as dict. Raises ArchiveError, OSError."""
    path = Path(path)
    with path.open("rb") as opened:
        try:
            with zipfile.ZipFile(opened) as file:
                entries = _entries(file, path)
                content = _Reader(file, entries).load()
                return _plain(content, {})
        except ArchiveError:
            raise
        except zipfile.BadZipFile as error:
            raise ArchiveError(f"no archive of torch.save, or a damaged one ({error})") from None
        except (
            Exception
        ) as error:  # zipfile and pickle raise nearly every kind where bytes are wrong
            raise ArchiveError(f"damaged ({type(error).__name__}: {error})") from None


def _entries(file: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by their names within the archive's folder, each whole."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in file.infolist():
        name = info.filename.partition("/")[2]
        if _SCRIPT.fullmatch(name):
            raise ArchiveError(
                "an archive of TorchScript, which is a program and is not run here. Save the state dict: "
                "torch.save(model.state_dict(), path)"
            )
        if not _ENTRIES.fullmatch(name) or name in entries:
            raise ArchiveError(
                f"it has an entry {info.filename!r}, which torch.save does not write"
            )
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ArchiveError(
                f"its entry {info.filename!r} is compressed, as torch.save writes none"
            )
        entries[name] = info
    if "data.pkl" not in entries:
        raise ArchiveError("no data.pkl in it: torch.save did not write it")
    if sum(info.file_size for info in entries.values()) > path.stat().st_size:
        raise ArchiveError("its entries are larger than the file")
    if damaged := file.testzip():
        raise ArchiveError(f"the checksum of {damaged} is wrong: it is damaged")
    if "byteorder" in entries and file.read(entries["byteorder"]) != sys.byteorder.encode():
        raise ArchiveError("its numbers have the byte order of another machine")
    if entries["data.pkl"].file_size > _LARGEST_PICKLE:
        raise ArchiveError(f"its data.pkl has more than {_LARGEST_PICKLE} bytes")
    return entries


class _Reader(pickle.Unpickler):
    """Runs the instructions of a pickle after they were looked through."""

    def __init__(self, file: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> None:
        content = file.read(entries["data.pkl"])
        _look_through(content)
        super().__init__(io.BytesIO(content))
        self.file, self.entries = file, entries
        self.storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        known: dict[str, Callable[..., Any] | torch.dtype] = {
            "collections.OrderedDict": _Dict,
            "torch.Size": _size,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": _parameter,
        }
        full = f"{module}.{name}"
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if full not in known:
            raise ArchiveError(
                f"it refers to {full}, where only tensors, numbers and texts are read. Save the state "
                f"dict: torch.save(model.state_dict(), path)"
            )
        return known[full]

    def persistent_load(self, pid: Any) -> torch.Tensor:
        what, dtype, key, _, count = pid
        if what != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int):
            raise ArchiveError("damaged: a storage of unknown kind")
        if key not in self.storages:
            entry = self.entries[f"data/{key}"]
            if entry.file_size != count * dtype.itemsize:
                raise ArchiveError(
                    f"damaged: storage {key} has {entry.file_size} bytes, not {count} {dtype}"
                )
            content = bytearray(self.file.read(entry))
            self.storages[key] = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
        storage = self.storages[key]
        if storage.dtype != dtype or len(storage) != count:
            raise ArchiveError(f"damaged: storage {key} is said to be of two kinds")
        return storage


def _look_through(content: bytes) -> None:
    for made, (instruction, argument, _) in enumerate(pickletools.genops(content)):
        if instruction.name not in _INSTRUCTIONS:
            raise ArchiveError(f"its pickle has the instruction {instruction.name}: no plain data")
        if instruction.name in _MEMO and int(argument or 0) > made:
            raise ArchiveError("damaged: its pickle skips places of its memo")


def _size(sizes: Any = ()) -> tuple[int, ...]:
    return _whole(sizes)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, torch.Tensor):
        raise ArchiveError("damaged: a tensor without a storage")
    (begin,), sizes, strides = _whole((offset,)), _whole(size), _whole(stride)
    if len(sizes) != len(strides):
        raise ArchiveError("damaged: a tensor with other strides than axes")
    reach = begin + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) + 1
    count = torch.Size(sizes).numel()
    if count > len(storage) or (count and reach > len(storage)):
        raise ArchiveError(
            f"a tensor of shape {sizes} lies in {len(storage)} stored numbers: it is damaged, or an "
            f"expanded one: save it with .contiguous()"
        )
    return _Tensor(storage, begin, sizes, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(n) is int and n >= 0 for n in values):
        raise ArchiveError("damaged: a tensor whose shape is no list of numbers")
    return values


def _plain(value: Any, made: dict[int, Any]) -> Any:
    """Stand-ins as tensors, dictionaries as dict, at any depth; what is there twice is made once."""
    if id(value) in made:
        return made[id(value)]
    plain: Any
    if isinstance(value, _Tensor):
        plain = value.storage.as_strided(value.size, value.stride, value.offset)
    elif isinstance(value, dict):
        plain = {key: _plain(item, made) for key, item in dict.items(value)}
    elif isinstance(value, (list, tuple, set)):
        plain = type(value)(_plain(item, made) for item in value)
    elif value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    else:
        raise ArchiveError(
            f"it holds a {type(value).__name__}; only tensors, numbers and texts are read"
        )
    made[id(value)] = plain
    return plain
