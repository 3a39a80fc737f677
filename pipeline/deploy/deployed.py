"""`Deployed`: a network ready for the chip, and all that is known of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.chips.messages import check_messages, message_summary
from ...hw_targets.files import atomic_path
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.netx.file import read_netx, write_netx
from ...hw_targets.printed import Printed, View

if TYPE_CHECKING:
    import nir

    from ...models.data.dataset import Dataset, Split
    from ...models.data.grid import Grid
    from ..quantize import LayerLoss


@dataclass(frozen=True, eq=False, repr=False)
class Deployed(Printed):
    """The integers of a network, how they are run, and the float network that they came from.

    `network`: the integers with their recipe, which says how inputs are encoded, how many steps are run
    and what the answer is read from; its `provenance` says where the network comes from. `float_graph`:
    the network in real numbers, or the `.nir` file that holds it; None where there is none, as of
    sigma-delta neurons. `losses`: what rounding cost, layer by layer, on the calibration data; empty
    for a network that was read from a file or trained as integers. `path`: the netx file that it was
    read from or written to. `grid`: how one's own data were rounded, and `data`: the data
    set that the integers were chosen on, where that was done here.

    `deploy` makes one, `load` reads one.
    """

    network: Network
    float_graph: nir.NIRGraph | Path | None = None
    losses: tuple[LayerLoss, ...] = ()
    path: Path | None = None
    grid: Grid | None = None
    data: Dataset | None = None

    @classmethod
    def load(cls, path: str | Path, graph: str | Path | None = None) -> Deployed:
        """Read a netx file, and the float network of `graph`, by default the `.nir` file beside it.

        Raises NetxError for a file that is not a network, FileNotFoundError.
        """
        path = Path(path)
        network = read_netx(path)
        beside = graph_file(network, path) if graph is None else Path(graph)
        if graph is not None and not beside.is_file():
            raise FileNotFoundError(f"{graph}: no such file.")
        return cls(network, beside if beside.is_file() else None, path=path)

    def save(self, path: str | Path, *, chip: str | None = None) -> Deployed:
        """Write the integers as netx and the float network beside them as `.nir`; neither on failure.

        `chip`: whose spikes must be able to carry the input and the layers' messages, see
        `check_messages`. Returns the same network with its new `path`. Files that were written like this
        are replaced; devices and pipes get the integers alone. A `.nir` of that name that came from
        elsewhere, or that is the very source of the network, is left alone: the float network is then
        called `.float.nir`. Raises FileExistsError where that name is taken as well, WriteError where
        nothing can be written, ValueError for a `path` that ends in `.nir`.
        """
        path = Path(path)
        if path.suffix == ".nir":
            raise ValueError(
                f"{path}: this name is for the float network. Call the netx file .net."
            )
        if chip is not None:
            check_messages(self.network, chip)
        graph = self.graph
        if graph is None or (path.exists() and not path.is_file()):
            write_netx(self.network, path)
            return replace(self, path=path)
        import nir

        network = _with_name_of_graph(self.network, path)
        graph = copy.copy(graph)
        graph.metadata = {"framework": "NIR", **graph.metadata}
        content = BytesIO()
        nir.write(content, graph)
        with atomic_path(graph_file(network, path)) as temporary:
            temporary.write_bytes(content.getbuffer())
            write_netx(network, path)
        return replace(self, network=network, path=path)

    @cached_property
    def graph(self) -> nir.NIRGraph | None:
        """The float network, read when it is first asked for; None where there is none."""
        if isinstance(self.float_graph, Path):
            from ..frontends import from_nir

            return from_nir(self.float_graph)
        return self.float_graph

    @property
    def recipe(self) -> Recipe:
        """How the network is run. Raises NetworkError for a file that does not say."""
        from .run import needed_recipe

        return needed_recipe(self.network)

    @property
    def digest(self) -> str:
        """SHA-256 over every stored integer."""
        return self.network.digest

    @property
    def name(self) -> str:
        """The file, or the first digits of the digest."""
        return str(self.path) if self.path is not None else f"network {self.digest[:12]}"

    def dataset(self, data: Any = None, data_root: str | Path | None = None) -> Dataset:
        """The data set that the network was made for, or `data`, whatever `load` takes.

        Raises NetworkError where neither is known, and where the file that the network was made for holds
        other data now; DatasetError where it cannot be loaded.
        """
        from ...models.data.load import load

        steps, notes = self.recipe.coding.steps, self.recipe.provenance
        if data is not None:
            return load(data, data_root, steps)
        if "dataset" not in notes:
            raise NetworkError(
                f"{self.name} does not say which data set it was made for: give --data."
            )
        dataset = load(notes["dataset"], data_root, steps)
        if dataset.digest != notes.get("dataset_sha256", dataset.digest):
            raise NetworkError(
                f"{dataset.name} holds other data than when {self.name} was made for it: give --data "
                f"{dataset.name} if these are meant."
            )
        return dataset

    def encoded(
        self, split: Split, samples: int | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """All (or the first `samples`) samples encoded as the recipe says, and their labels (sample,).

        Inputs are (sample, steps, *input shape).
        """
        from .run import encoded

        messages, labels = zip(*encoded(self.recipe, split, samples), strict=True)
        return np.concatenate(messages), np.concatenate(labels)

    def views(self) -> Sequence[View]:
        """The layers, what rounding them cost, how the network is run, and where it comes from."""
        from ..cli.tables import grid_lines, loss_tables, network_table, recipe_lines

        return [
            network_table(self.network),
            *loss_tables(self.losses),
            *grid_lines(self.grid),
            *recipe_lines(self.network.recipe),
            message_summary(self.network),
        ]


GRAPH_NAMES = (".nir", ".float.nir")
"""Endings of the float network's file, beside the netx file; the second where the first is taken."""


def graph_file(network: Network, path: Path) -> Path:
    """The file of the float network beside the netx file `path`, which need not exist."""
    provenance = {} if network.recipe is None else network.recipe.provenance
    return path.with_suffix(provenance.get("graph", GRAPH_NAMES[0]))


def _with_name_of_graph(network: Network, path: Path) -> Network:
    """The network, its recipe saying how the float network's file beside `path` ends, if not as usual."""
    recipe = network.recipe
    notes = {} if recipe is None else {k: v for k, v in recipe.provenance.items() if k != "graph"}
    source = Path(notes.get("model", "")).resolve()
    free = [
        ending
        for ending in GRAPH_NAMES[: 1 if recipe is None else None]
        if path.with_suffix(ending).resolve() != source and _is_ours(path.with_suffix(ending))
    ]
    if not free:
        raise FileExistsError(
            f"{path.with_suffix(GRAPH_NAMES[0])}: spikeship did not write it, or it is the source "
            f"itself. The float network cannot go there: give the netx file another name."
        )
    if recipe is None:
        return network
    if free[0] != GRAPH_NAMES[0]:
        notes["graph"] = free[0]
    return Network(network.layers, replace(recipe, provenance=notes))


def _is_ours(path: Path) -> bool:
    """Whether a file may be replaced: there is none, or a float network that `save` wrote."""
    from ..frontends.nir_file import NIRFileError, read_raw

    if not path.exists():
        return True
    try:
        return "framework" in read_raw(path).get("metadata", {})  # see `from_nir`
    except NIRFileError:
        return False
