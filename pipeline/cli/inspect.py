"""`spikeship inspect` and `lower`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...hw_targets.chips.messages import PAYLOADS, message_problems, message_summary
from ...hw_targets.network.network import Network
from ...hw_targets.netx.file import read_netx, write_netx
from .options import NetArgument, new_file, shape_of
from .screen import Output


@dataclass(frozen=True)
class PartOptions:
    """Which layers of a netx file are read."""

    num_layers: Annotated[
        int | None, typer.Option(help="Layers of the file to keep, from the first on.", min=1)
    ] = None
    skip_layers: Annotated[
        int, typer.Option(help="How many of these to leave out at the start.", min=0)
    ] = 0
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one input step, such as 2,34,34, of a file that starts with a convolution."
        ),
    ] = None

    def read(self, net: Path, *, lower_pooling: bool = False) -> Network:
        """The layers that are asked for; a part of a file has no recipe."""
        return read_netx(
            net,
            shape_of(self.input_shape, "--input-shape"),
            num_layers=self.num_layers,
            skip_layers=self.skip_layers,
            lower_pooling=lower_pooling,
        )


def inspect(net: NetArgument, part: PartOptions) -> Output:
    """Show layers, integer ranges, recipe and digest of a netx file, or of a part of its layers."""
    from .tables import network_table, recipe_lines

    network = part.read(net)
    lines = [*recipe_lines(network.recipe), message_summary(network)]
    result = {
        "file": net,
        "digest": network.digest,
        "input_shape": network.input_shape,
        "latency": network.latency,
        "layers": [
            {"name": p.name, "shape": p.shape, "neurons": p.size} for p in network.populations
        ],
        "recipe": network.recipe.attributes() if network.recipe else None,
        "recipe_digest": network.recipe.digest if network.recipe else None,
        "chip_problems": {chip: message_problems(network, chip) for chip in PAYLOADS},
    }
    return Output(result, network_table(network), *lines)


def lower(
    net: NetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The netx file to write.")],
    part: PartOptions,
) -> Output:
    """Write a netx file, or a part of its layers, such that lava-dl can load it.

    SLAYER's pool layers become convolutions, recurrent layers of its early versions get today's name.
    """
    from .tables import network_table

    new_file(out, "netx")
    network = part.read(net, lower_pooling=True)
    write_netx(network, out)
    result = {"file": net, "out": out, "digest": network.digest}
    return Output(result, network_table(network), f"wrote {out}")
