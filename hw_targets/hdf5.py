"""HDF5 files of anybody: read whole into plain Python, or refused in words. `read_hdf5`.

An HDF5 file can name other files, refer to itself, and promise arrays that it does not hold; and a few
flipped bits are enough for libhdf5 to crash, or to loop where no interrupt reaches it. So:

- Only what lies in the file is read: hard links to groups and data sets. Soft and external links,
  external raw storage and virtual data sets are refused, as are groups that hold themselves and filters
  other than HDF5's own compression.
- What is declared is compared with the size of the file and with `max_bytes` before anything is
  allocated. There are limits on depth, number of objects and attributes.
- With `safe=True`, libhdf5 runs in a process of its own, with limits of time and memory: its end is an
  error message here. What comes back from there is checked again.

What is neither numbers nor text becomes `Unread`, an error only for whoever needs it.

This file imports nothing of the package: the other process runs it as a script, with h5py and numpy.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 32
"""Bytes that the arrays and texts of a file may have together, unless somebody says more."""
MAX_SECONDS = 60.0
"""How long the other process may take, and a second more for every 10 MB of the file."""
EXPANSION = 1100
"""How many times its size a file can hold: deflate's best is 1032."""
MAX_OBJECTS = 100_000
"""Groups and data sets of a file."""
MAX_DEPTH = 64
MAX_ATTRIBUTES = 1000
"""Of one group."""
_SPARE = 1 << 16
"""Bytes that any file may hold: small arrays need no storage where all is one fill value."""
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_NUMBERS = re.compile(r"[<>|][biuf][1248]")


class Hdf5Error(ValueError):
    """A file that is not HDF5, is damaged, or asks for more than its reader grants."""


@dataclass(frozen=True)
class Limits:
    """What a file may ask for. `safe`: libhdf5 runs in a process of its own."""

    safe: bool = False
    max_bytes: int = MAX_BYTES
    seconds: float = MAX_SECONDS


_USUAL = Limits()
_LIMITS: ContextVar[Limits] = ContextVar("hdf5_limits", default=_USUAL)


@contextmanager
def reading(*, safe: bool | None = None, max_bytes: int | None = None) -> Iterator[None]:
    """Within the block files are read like this, wherever `safe` and `max_bytes` are not given.

    Of this thread or task only. The command line reads with `safe=True`.
    """
    now = _LIMITS.set(_limits(safe, max_bytes))
    try:
        yield
    finally:
        _LIMITS.reset(now)


def limits() -> Limits:
    """The limits that hold where none are given, see `reading`."""
    return _LIMITS.get()


def _limits(safe: bool | None, max_bytes: int | None) -> Limits:
    given = {"safe": safe, "max_bytes": max_bytes}
    if max_bytes is not None and max_bytes < 1:
        raise ValueError(f"max_bytes = {max_bytes}; give 1 or more.")
    return replace(_LIMITS.get(), **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Unread:
    """A data set or attribute that is neither numbers nor text; `why` says so."""

    why: str


@dataclass(frozen=True)
class Group:
    """A group: its members by name, in the order of their names, and its attributes.

    A member is a `Group`, an array of numbers, a text, a list of texts (of lists, for more axes), or
    `Unread`. Paths such as "weight/real" lead to members of members.
    """

    members: dict[str, Member] = field(default_factory=dict)
    attrs: dict[str, Member] = field(default_factory=dict)

    def get(self, path: str) -> Member | None:
        """The member of that path, None where there is none."""
        name, _, rest = path.partition("/")
        member = self.members.get(name)
        if not rest:
            return member
        return member.get(rest) if isinstance(member, Group) else None

    def group(self, name: str) -> Group:
        """The member of that name; Hdf5Error where it is no group."""
        member = self.members.get(name)
        if not isinstance(member, Group):
            raise Hdf5Error(f"{name!r} is {'missing' if member is None else 'no group'}.")
        return member

    def __contains__(self, path: str) -> bool:
        return self.get(path) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


Text: TypeAlias = "str | list[Any]"
Member: TypeAlias = "Group | NDArray[Any] | Text | Unread"


def read_hdf5(path: str | Path, *, safe: bool | None = None, max_bytes: int | None = None) -> Group:
    """The root group of an HDF5 file, with all that is in it.

    `safe`: let a process of its own call libhdf5, which may crash or loop on a file that is damaged or
    made to harm; costs the start of Python, numpy and h5py. `max_bytes`: what arrays and texts may take
    together. Both default to what `reading` says, else to False and `MAX_BYTES`.

    Raises FileNotFoundError, and Hdf5Error that does not name the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    granted = _limits(safe, max_bytes)
    return _from_child(path, granted) if granted.safe else _Reader(path, granted.max_bytes).root()


# -- in the process that calls libhdf5 ---------------------------------------------------------


class _Reader:
    """Reads one file; counts what was read of it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.max_bytes = max_bytes
        self.taken = 0
        self.objects = 0
        self.groups: set[Any] = set()

    def root(self) -> Group:
        try:
            with h5py.File(self.path, "r") as file:
                return self._group(file, "/", 0)
        except Hdf5Error:
            raise
        except OSError as error:
            raise Hdf5Error(f"not a readable HDF5 file ({one_line(error)})") from None
        except MemoryError:
            raise Hdf5Error("it asks for more memory than there is") from None
        except Exception as error:  # h5py raises nearly every kind where a structure is broken
            raise Hdf5Error(f"damaged HDF5 ({type(error).__name__}: {one_line(error)})") from None

    def _group(self, group: h5py.Group, where: str, depth: int) -> Group:
        if depth > MAX_DEPTH:
            raise Hdf5Error(f"its groups are nested more than {MAX_DEPTH} deep")
        info = h5py.h5o.get_info(group.id)
        if (info.fileno, info.addr) in self.groups:
            raise Hdf5Error(f"{where} is a second name of a group that was read before: a loop")
        self.groups.add((info.fileno, info.addr))
        count = group.id.get_num_objs()
        if self.objects + count > MAX_OBJECTS:
            raise Hdf5Error(f"more than {MAX_OBJECTS} groups and data sets")
        self.objects += count
        members = {}
        for name in group:
            path = f"{where.rstrip('/')}/{name}"
            kind = group.id.links.get_info(name.encode("utf8", "surrogateescape")).type
            if kind != h5py.h5l.TYPE_HARD:
                what = {h5py.h5l.TYPE_SOFT: "a soft", h5py.h5l.TYPE_EXTERNAL: "an external"}
                raise Hdf5Error(
                    f"{path} is {what.get(kind, 'an unknown')} link; only what lies in the file itself "
                    f"is read"
                )
            members[name] = self._member(group, name, path, depth)
        return Group(members, self._attributes(group, where))

    def _member(self, group: h5py.Group, name: str, where: str, depth: int) -> Member:
        item = group[name]
        if isinstance(item, h5py.Group):
            return self._group(item, where, depth + 1)
        if isinstance(item, h5py.Dataset):
            return self._dataset(item, where)
        return Unread(f"is a {type(item).__name__.lower()}")

    def _dataset(self, data: h5py.Dataset, where: str) -> Member:
        layout = data.id.get_create_plist()
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            raise Hdf5Error(f"{where} is a virtual data set, which lies in other files")
        if layout.get_external_count():
            raise Hdf5Error(f"{where} lies in another file (external storage)")
        if unreadable := _unreadable(data.id.get_type(), data.id.get_space()):
            return Unread(unreadable)
        filters = [layout.get_filter(i)[0] for i in range(layout.get_nfilters())]
        if other := [number for number in filters if number not in _FILTERS]:
            raise Hdf5Error(
                f"{where} has filter {other[0]}; only {', '.join(_FILTERS.values())} are read"
            )
        chunks = layout.get_chunk() if layout.get_layout() == h5py.h5d.CHUNKED else ()
        width = data.id.get_type().get_size()
        if chunks:
            self._check(math.prod(chunks) * width, f"a chunk of {where}")
        self._take(math.prod(data.shape) * width, where)
        info = h5py.check_string_dtype(data.dtype)
        if info is None:
            return np.asarray(data[()])
        return self._texts(data, where, info.length is None)

    def _texts(self, data: h5py.Dataset, where: str, variable: bool) -> Member:
        """Text, row by row: each of the strings of variable length may be as long as the file."""
        rows = 1
        if data.ndim and data.shape[0]:
            wide = max(1, math.prod(data.shape[1:])) * max(1, self.size)
            rows = max(1, min(4096, self.max_bytes // wide)) if variable else len(data)
            parts: list[Any] = []
            for start in range(0, len(data), rows):
                part = data[start : start + rows].tolist()
                if variable:
                    self._take(sum(map(len, _flat(part))), where)
                parts += part
            value: Any = parts
        else:
            value = data[()] if data.shape == () else []
            if variable and isinstance(value, bytes):
                self._take(len(value), where)
        return _decoded(value)

    def _attributes(self, group: h5py.Group, where: str) -> dict[str, Member]:
        count = h5py.h5a.get_num_attrs(group.id)
        if count > MAX_ATTRIBUTES:
            raise Hdf5Error(f"{where} has {count} attributes, more than {MAX_ATTRIBUTES}")
        values: dict[str, Member] = {}
        for name in sorted(group.attrs):
            attribute = group.attrs.get_id(name)
            kind = attribute.get_type()
            unreadable = _unreadable(kind, attribute.get_space())
            if unreadable:
                values[name] = Unread(unreadable)
                continue
            self._take(math.prod(attribute.shape) * kind.get_size(), f"attribute {name} of {where}")
            value = group.attrs[name]
            texts = isinstance(value, (str, bytes)) or np.asarray(value).dtype.kind in "OSU"
            if texts:
                plain = value if isinstance(value, (str, bytes)) else np.asarray(value).tolist()
                self._take(sum(map(len, _flat(plain))), f"attribute {name} of {where}")
                values[name] = _decoded(plain)
            else:
                values[name] = np.asarray(value)
        return values

    def _take(self, size: int, where: str) -> None:
        self.taken += size
        self._check(self.taken, where)

    def _check(self, size: int, where: str) -> None:
        if size > EXPANSION * self.size + _SPARE:
            raise Hdf5Error(
                f"{where} would be {size} bytes, which a file of {self.size} bytes cannot hold"
            )
        if size > self.max_bytes:
            raise Hdf5Error(
                f"with {where} its arrays take {size} bytes, more than the limit of {self.max_bytes}; "
                f"if you trust the file, give max_bytes={size} or more"
            )


def _unreadable(kind: h5py.h5t.TypeID, space: h5py.h5s.SpaceID) -> str:
    """Why a data set is neither numbers nor text; empty where it is."""
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return "is empty"
    if isinstance(kind, h5py.h5t.TypeStringID):
        return ""
    if isinstance(kind, (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeEnumID)):
        if _NUMBERS.fullmatch(kind.dtype.str):
            return ""
        return f"has dtype {kind.dtype}; numbers of 1 to 8 bytes are needed"
    return f"has dtype {kind.dtype}; numbers are needed"


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _decoded(value: Any) -> Member:
    try:
        return _text(value)
    except UnicodeDecodeError as error:
        return Unread(f"is not text in UTF-8 ({one_line(error)})")


def _text(value: Any) -> Text:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return value.decode("utf8") if isinstance(value, bytes) else str(value)


def one_line(error: BaseException) -> str:
    """What an error of a library says, on one line of 300 characters at most."""
    return " ".join(str(error).split())[:300] or type(error).__name__


# -- between the two ---------------------------------------------------------------------------


def _packed(member: Member, arrays: list[NDArray[Any]]) -> Any:
    """A member as JSON; its arrays are appended, in order."""
    if isinstance(member, Group):
        return {
            "members": {name: _packed(item, arrays) for name, item in member.members.items()},
            "attrs": {name: _packed(item, arrays) for name, item in member.attrs.items()},
        }
    if isinstance(member, Unread):
        return {"unread": member.why}
    if isinstance(member, np.ndarray):
        arrays.append(np.ascontiguousarray(member).reshape(member.shape))
        return {"dtype": member.dtype.str, "shape": member.shape}
    return {"text": member}


class _Unpacking:
    """What `_packed` said, checked: whoever wrote it was talked into it by a file."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.at = content, 0

    def member(self, said: dict[str, Any]) -> Member:
        if "members" in said:
            return Group(
                {str(name): self.member(item) for name, item in said["members"].items()},
                {str(name): self.member(item) for name, item in said["attrs"].items()},
            )
        if "unread" in said:
            return Unread(str(said["unread"]))
        if "text" in said:
            return _text(said["text"])
        if not _NUMBERS.fullmatch(said["dtype"]):
            raise ValueError(f"dtype {said['dtype']}")
        dtype, shape = np.dtype(said["dtype"]), tuple(int(n) for n in said["shape"])
        count = math.prod(shape)
        start, self.at = self.at, self.at + count * dtype.itemsize
        if min(shape, default=0) < 0 or self.at > len(self.content):
            raise ValueError(f"shape {shape}")
        return np.frombuffer(self.content[start : self.at], dtype, count).reshape(shape)


_HEAD = 42
"""Bytes before all else: how long the JSON is, and how long the arrays are."""


def _serve(path: str, max_bytes: int, seconds: float, out: BinaryIO) -> None:
    """Read a file and write what is in it to a pipe: lengths, JSON, arrays."""
    _restrict(max_bytes, seconds)
    arrays: list[NDArray[Any]] = []
    try:
        said = json.dumps(_packed(_Reader(Path(path), max_bytes).root(), arrays))
    except Hdf5Error as error:
        said = json.dumps({"error": str(error)})
    except MemoryError:
        said = json.dumps({"error": "it asks for more memory than there is"})
    out.write(f"{len(said):20d} {sum(array.nbytes for array in arrays):20d}\n".encode())
    out.write(said.encode())
    for array in arrays:
        out.write(array.data if array.size else b"")
    out.flush()


def _restrict(max_bytes: int, seconds: float) -> None:
    """No more memory and time than a sound file needs, also where nobody waits any longer."""
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    spare = pages * resource.getpagesize() + (1 << 28)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 1),
        *(((resource.RLIMIT_AS, spare + 3 * max_bytes),) if pages else ()),
    ):
        _, hard = resource.getrlimit(what)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(what, (limit, hard))


_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "runpy.run_path(sys.argv[2], run_name='__main__')"
)


def _from_child(path: Path, granted: Limits) -> Group:
    """What another process reads in the file; what becomes of that process becomes an error."""
    seconds = granted.seconds + path.stat().st_size / 1e7
    words = [json.dumps(sys.path), __file__, os.path.abspath(path), str(granted.max_bytes)]
    command = [sys.executable, "-I", "-S", "-c", _START, *words, str(seconds)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    assert process.stdout is not None
    try:
        said, content = _received(process.stdout, granted.max_bytes)
    except (ValueError, MemoryError, RecursionError):
        said = None
    finally:
        timer.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
    if late.is_set():
        raise Hdf5Error(f"libhdf5 was not done with it after {seconds:.0f} s: it is damaged")
    if said is None:
        raise Hdf5Error(f"libhdf5 {_end(process.returncode)} while it was read: it is damaged")
    if "error" in said:
        raise Hdf5Error(str(said["error"]))
    try:
        root = _Unpacking(content).member(said)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Hdf5Error(f"libhdf5 was misled by it ({one_line(error)}): it is damaged") from None
    if not isinstance(root, Group):
        raise Hdf5Error("libhdf5 was misled by it: it is damaged")
    return root


def _received(pipe: IO[bytes], max_bytes: int) -> tuple[dict[str, Any], memoryview]:
    head = pipe.read(_HEAD)
    said, size = (int(part) for part in head.split())
    if not 0 < said <= 8 * max_bytes + (1 << 26) or not 0 <= size <= max_bytes:
        raise ValueError("lengths")
    text = json.loads(pipe.read(said))
    content = bytearray(size)
    at, view = 0, memoryview(content)
    while at < size and (got := pipe.readinto(view[at:])):  # type: ignore[attr-defined]
        at += got
    if at < size or not isinstance(text, dict):
        raise ValueError("it ended early")
    return text, view


def _end(status: int) -> str:
    if status == -signal.SIGKILL:  # ours, after it closed the pipe
        return "ended"
    try:
        return f"crashed ({signal.Signals(-status).name})" if status < 0 else "ended"
    except ValueError:
        return "crashed"


if __name__ == "__main__":
    _serve(sys.argv[3], int(sys.argv[4]), float(sys.argv[5]), sys.stdout.buffer)
