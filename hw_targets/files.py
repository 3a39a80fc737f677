"""Files: written whole or not at all, to where they were meant, and known by their digest.

A write goes to a temporary file beside the target, down to the disk, and then takes the target's place.
Symbolic links are followed, so that what they point to is written; devices and pipes get the bytes, and
stay what they are. What cannot be written is a `WriteError`, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CANNOT = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ENXIO,
}
"""What is no fault of what is written, but of where."""


class WriteError(OSError):
    """A file that cannot be written: its place is full, read-only, a folder, or somebody else's."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` on success, and is removed on failure.

    Folders on the way are made. Raises WriteError for a folder, a full or read-only place, and a file
    that may not be written.
    """
    path = Path(path)
    with _told(path):
        target = _target(path)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        name = path.name if target is None else target.name
        folder = None if target is None else target.parent
        handle, temporary_name = tempfile.mkstemp(dir=folder, prefix=f".{name[:200]}.")
        os.close(handle)
        temporary = Path(temporary_name)
        try:
            yield temporary
            if target is None:
                with temporary.open("rb") as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                return
            temporary.chmod(_mode(target))
            to_disk(temporary)
            temporary.replace(target)
            to_disk(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file, as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def claimed(path: str | Path, *, folder: bool = False) -> Iterator[None]:
    """Within the block no other process that asks can write a file; or into a folder, which is made.

    What is claimed of a file is its name: it need not be there, its folder must. Raises WriteError where
    another process has claimed it, or where nothing can be written.
    """
    path = Path(path)
    with _told(path):
        if folder:
            path.mkdir(parents=True, exist_ok=True)
        target = path / "folder" if folder else _target(path)
    if target is None or not target.parent.is_dir():
        yield
        return
    lock = target.parent / (".lock" if folder else f".{target.name[:200]}.lock")
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with _told(path):
        handle = os.open(lock, os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.fstat(handle).st_ino == os.stat(lock).st_ino
        except (BlockingIOError, FileNotFoundError):
            mine = False
        except OSError:  # a file system without locks
            mine = True
        if not mine:
            raise WriteError(
                f"{path}: another process is writing it. Wait until that one is done, or choose another "
                f"place."
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits. Raises FileNotFoundError."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _target(path: Path) -> Path | None:
    """The file whose place is taken: `path`, or what it links to. None: bytes go to what is there."""
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    if stat.S_ISDIR(kind):
        raise WriteError(f"{path}: a folder, where a file is to be written. Name a file in it.")
    opened_already = os.path.abspath(path).startswith(("/dev/", "/proc/"))  # such as /dev/stdout
    if not stat.S_ISREG(kind) or opened_already:
        return None
    if not os.access(path, os.W_OK):
        raise WriteError(f"{path}: may not be written. Change its permissions, or choose another.")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or of a new one; mkstemp's would be a surprise."""
    with suppress(OSError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def to_disk(path: Path) -> None:
    """Ask that a file, or the names in a folder, survive a power cut; not all systems can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    finally:
        os.close(handle)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        raise WriteError(
            f"{path}: cannot be written ({error.strerror}). What was there before is as it was; make "
            f"room, or choose another place."
        ) from error
