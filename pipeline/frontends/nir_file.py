"""What a NIR file says, in any schema version, without asking whether it makes sense.

`nir.read` builds and types the nodes while it reads, and fails on files that are sound: grouped or
oblong convolutions, one number for the neurons of a layer, types that are missing. Here the fields
are set as they are; `check` derives the shapes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import nir
import numpy as np

from ..graph import PARAMETERS

Raw: TypeAlias = dict[str, Any]

VERSIONS = ("0", "1")
"""Major versions of the schema that are known (nir 0.1 to 1.0)."""
DEFAULTS: dict[str, Any] = {"v_reset": 0.0, "w_in": 1.0, "input_shape": None, "bias": 0.0}
"""Fields that older schema versions or other exporters leave out, and what they meant."""
_KINDS = {kind.__name__: kind for kind in PARAMETERS}


class NIRFileError(ValueError):
    """A file that is not there, or not NIR, or of a version that is not known."""


def read_raw(path: str | Path) -> Raw:
    """The root node of a NIR file as nested dictionaries: `type`, `nodes`, `edges`, `metadata`.

    Numbers are numpy scalars and arrays of the stored dtype, texts are str. Raises NIRFileError.
    """
    path = Path(path)
    if not path.is_file():
        raise NIRFileError(f"{path}: no such file.")
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("node"), h5py.Group) or "type" not in file["node"]:
                raise NIRFileError(f"{path}: an HDF5 file, but not NIR (it has no node/type).")
            version = plain(file["version"][()]) if "version" in file else "(none)"
            if not isinstance(version, str) or version.split(".")[0] not in VERSIONS:
                raise NIRFileError(
                    f"{path}: NIR schema version {version} is not known (known: "
                    f"{', '.join(f'{v}.x' for v in VERSIONS)}). Write the file with nir 1.0."
                )
            raw: Raw = plain(file["node"])
            return raw
    except OSError as error:
        raise NIRFileError(f"{path}: not an HDF5 file, which NIR files are ({error}).") from None


def plain(value: Any) -> Any:
    """Groups as dictionaries, datasets as their values, bytes as str, at any depth."""
    if isinstance(value, (h5py.Group, dict)):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, h5py.Dataset):
        return plain(value[()])
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
        return [plain(item) for item in value]
    return value


def graph_from(raw: Raw, problems: list[str]) -> tuple[nir.NIRGraph, set[str]]:
    """The graph that `read_raw` or `nir.NIRGraph.to_dict` described, parameters as float64.

    Missing and unknown fields are added to `problems`; the names of nodes that lack something are the
    second value. A node of a kind that does not exist is there, as an empty node of that name.
    """
    broken: set[str] = set()
    return _graph("", raw, problems, broken), broken


def _graph(prefix: str, raw: Raw, problems: list[str], broken: set[str]) -> nir.NIRGraph:
    nodes: dict[str, nir.NIRNode] = {}
    for what in ("nodes", "edges"):
        if what not in raw:
            problems.append(f"graph {prefix.rstrip('.') or '(root)'} has no {what}.")
    for key, node in raw.get("nodes", {}).items():
        name = f"{prefix}{key}"
        if node.get("type") == "NIRGraph":
            nodes[key] = _graph(f"{name}.", node, problems, broken)
        else:
            before = len(problems)
            nodes[key] = _node(name, node, problems)
            if len(problems) > before:
                broken.add(name)
    edges = [(str(plain(a)), str(plain(b))) for a, b in raw.get("edges", [])]
    return nir.NIRGraph(nodes, edges, metadata=plain(raw.get("metadata", {})), type_check=False)


def _node(name: str, raw: Raw, problems: list[str]) -> nir.NIRNode:
    text = raw.get("type", "node without type")
    kind = _KINDS.get(text) or type(text, (nir.NIRNode,), {})
    shape = raw.get("shape")
    node: Any = object.__new__(kind)  # the constructors would check, and wrongly
    node.input_type, node.output_type = {"input": shape}, {"output": shape}
    node.metadata = plain(raw.get("metadata", {}))
    if text not in _KINDS:
        return node
    shaped = ("input_type", "output_type", "metadata")
    fields = [f.name for f in dataclasses.fields(kind) if f.name not in shaped]
    for field in sorted(set(raw) - {*fields, *shaped, "type", "shape"}):
        problems.append(f"node {name} ({text}) has a field {field}, which NIR does not.")
    for field in fields:
        if field not in raw and (field not in DEFAULTS or kind is nir.Affine):
            problems.append(f"node {name} ({text}) has no {field}.")
        setattr(node, field, _value(kind, field, raw))
    return node


def _value(kind: type[nir.NIRNode], field: str, raw: Raw) -> Any:
    value = plain(raw.get(field, DEFAULTS.get(field)))
    if field not in PARAMETERS[kind]:
        return tuple(value.tolist()) if isinstance(value, np.ndarray) and value.ndim else value
    if hasattr(value, "detach"):  # Norse's exporter leaves torch's parameters in the graph
        value = value.detach().cpu().numpy()
    value = np.array(0.0 if value is None else value, np.float64)
    if field == "bias":
        outputs = np.shape(raw.get("weight", ()))[:1]
        return np.zeros(outputs) if value.ndim == 0 and not value else value
    return value
