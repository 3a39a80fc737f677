"""Results as JSON, with what produced them: versions, machine, network digest."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..hw_targets.files import atomic_path

PACKAGES = (
    "spikeship",
    "numpy",
    "scipy",
    "h5py",
    "torch",
    "norse",
    "nir",
    "lightning",
    "lava-nc",
    "lava-dl",
)


def environment() -> dict[str, Any]:
    """Python, machine (with the GPU that torch sees) and package versions (None: not installed)."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        **_gpu(),
        "versions": versions,
    }


def _gpu() -> dict[str, str]:
    torch = sys.modules.get("torch")  # what never loaded it used no GPU
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def plain(value: Any) -> Any:
    """Dataclasses, arrays, paths and mappings as what JSON holds.

    Fields with the metadata {"json": False} are left out; those with a name there are called so.
    """
    if is_dataclass(value) and not isinstance(value, type):
        names = {f.name: f.metadata.get("json", f.name) for f in fields(value)}
        return {name: plain(getattr(value, its)) for its, name in names.items() if name}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def dumps(value: Any) -> str:
    """JSON text, indented by 1; NaN and infinities are refused."""
    return json.dumps(plain(value), indent=1, allow_nan=False)


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(dumps(value) + "\n")
