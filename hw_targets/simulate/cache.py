"""Where numba keeps the compiled engine, also where neither the installation nor HOME can be written.

numba looks for a place beside the source and in the user's cache, and fails where there is none, as in
containers and on clusters. There it gets a folder among the temporary ones, which is the user's alone:
what lies in it is run.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path


class CacheWarning(UserWarning):
    """The compiled engine is kept in a temporary folder."""


def ensure_cache() -> Path | None:
    """Give numba a place for its cache where it would find none; returns that folder, else None.

    NUMBA_CACHE_DIR, where it is set, stays. Warns with `CacheWarning`.
    """
    if os.environ.get("NUMBA_CACHE_DIR") or any(map(_usable, _places())):
        return None
    folder = _own_folder()
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if (numba := sys.modules.get("numba")) is not None:  # it has read the environment before
        numba.config.CACHE_DIR = str(folder)
    warnings.warn(
        f"neither {_places()[0].parent} nor a cache of yours can be written: the compiled engine is kept "
        f"in {folder}. Set NUMBA_CACHE_DIR to a folder that stays, so that it is compiled only once.",
        CacheWarning,
        stacklevel=2,
    )
    return folder


def _places() -> list[Path]:
    """Where numba looks: beside the source, and in the user's cache."""
    places = [Path(__file__).parent / "__pycache__"]
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry, as containers have
        return places
    if sys.platform == "darwin":
        return [*places, home / "Library" / "Caches" / "numba"]
    if sys.platform == "win32":
        return [*places, Path(os.environ.get("LOCALAPPDATA", home)) / "numba"]
    return [*places, Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "numba"]


def _usable(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """A folder that nobody else can write, the same one every time if that can be."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"spikeship-numba-{owner}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="spikeship-numba-"))
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == owner and not state.st_mode & 0o022
    return folder if ours else Path(tempfile.mkdtemp(prefix="spikeship-numba-"))
