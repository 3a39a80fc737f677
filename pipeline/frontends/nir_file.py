"""What a NIR file says, in any schema version, without asking whether it makes sense.

`nir.read` builds and types the nodes while it reads, and fails on files that are sound: grouped or
oblong convolutions, one number for the neurons of a layer, types that are missing. Here the fields
are set as they are; `check` derives the shapes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import nir
import numpy as np

from ...hw_targets.hdf5 import Group, Hdf5Error, Unread, read_hdf5
from ..graph import PARAMETERS, GraphError

Raw: TypeAlias = dict[str, Any]

VERSIONS = ("0", "1")
"""Major versions of the schema that are known (nir 0.1 to 1.0)."""
DEFAULTS: dict[str, Any] = {"v_reset": 0.0, "w_in": 1.0, "input_shape": None, "bias": 0.0}
"""Fields that older schema versions or other exporters leave out, and what they meant."""
MAX_NODES = 10_000
"""Of one graph; edges between them are read in one go, whose number is limited by the file's size."""
_KINDS = {kind.__name__: kind for kind in PARAMETERS}


class NIRFileError(ValueError):
    """A file that is not there, or not NIR, or of a version that is not known."""


def read_raw(path: str | Path) -> Raw:
    """The root node of a NIR file as nested dictionaries: `type`, `nodes`, `edges`, `metadata`.

    Numbers are numpy scalars and arrays of the stored dtype, texts are str. Raises NIRFileError.
    """
    path = Path(path)
    try:
        file = read_hdf5(path)
    except FileNotFoundError as error:
        raise NIRFileError(str(error)) from None
    except Hdf5Error as error:
        raise NIRFileError(
            f"{path}: not an HDF5 file, which NIR files are, or damaged: {error}."
        ) from None
    root = file.get("node")
    if not isinstance(root, Group) or "type" not in root:
        raise NIRFileError(f"{path}: an HDF5 file, but not NIR (it has no node/type).")
    version = file.get("version")
    if not isinstance(version, str) or version.split(".")[0] not in VERSIONS:
        said = "(none)" if version is None else version
        raise NIRFileError(
            f"{path}: NIR schema version {said} is not known (known: "
            f"{', '.join(f'{v}.x' for v in VERSIONS)}). Write the file with nir 1.0."
        )
    return _values(root, str(path), "node")


def _values(group: Group, path: str, where: str) -> Raw:
    """A group as a dictionary. Metadata that nobody can read are left out; other fields raise."""
    values: Raw = {}
    for name, member in group.members.items():
        inner = f"{where}/{name}"
        if isinstance(member, Group):
            values[name] = _values(member, path, inner)
        elif not isinstance(member, Unread):
            values[name] = member[()] if isinstance(member, np.ndarray) else member
        elif "/metadata/" not in inner:
            raise NIRFileError(f"{path}: {inner} {member.why}. Write the file again.")
    return values


def plain(value: Any) -> Any:
    """Bytes as str, arrays of text as lists, at any depth."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
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
    name = prefix.rstrip(".") or "(root)"
    for what in ("nodes", "edges"):
        if what not in raw:
            problems.append(f"graph {name} has no {what}.")
    for key, node in _mapping(raw, "nodes", name).items():
        inner = f"{prefix}{key}"
        if not isinstance(node, dict):
            raise GraphError([f"node {inner} is {type(node).__name__}, where a node is needed."])
        if node.get("type") == "NIRGraph":
            nodes[key] = _graph(f"{inner}.", node, problems, broken)
        else:
            before = len(problems)
            nodes[key] = _node(inner, node, problems)
            if len(problems) > before:
                broken.add(inner)
        if len(nodes) > MAX_NODES:
            raise GraphError([f"graph {name} has more than {MAX_NODES} nodes."])
    metadata = plain(_mapping(raw, "metadata", name))
    return nir.NIRGraph(nodes, _edges(raw, name), metadata=metadata, type_check=False)


def _edges(raw: Raw, name: str) -> list[tuple[str, str]]:
    edges = raw.get("edges", [])
    if isinstance(edges, np.ndarray) and not edges.size:
        return []
    try:
        pairs = [(plain(a), plain(b)) for a, b in edges]
    except (TypeError, ValueError):
        pairs = [(None, None)]
    for pair in pairs:
        if not all(isinstance(end, (str, int, float)) for end in pair):
            raise GraphError([f"graph {name}: edges are pairs of names of nodes; found others."])
    return [(str(a), str(b)) for a, b in pairs]


def _mapping(raw: Raw, what: str, name: str) -> Raw:
    value = raw.get(what, {})
    if not isinstance(value, Mapping):
        raise GraphError([f"graph {name}: {what} is {type(value).__name__}, no group."])
    return dict(value)


def _node(name: str, raw: Raw, problems: list[str]) -> nir.NIRNode:
    text = plain(raw.get("type", "node without type"))
    if not isinstance(text, str):
        raise GraphError([f"node {name}: its type is {text!r}, no text."])
    kind = _KINDS.get(text) or type(text, (nir.NIRNode,), {})
    shape = raw.get("shape")
    node: Any = object.__new__(kind)  # the constructors would check, and wrongly
    node.input_type, node.output_type = {"input": shape}, {"output": shape}
    node.metadata = plain(_mapping(raw, "metadata", name))
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
