"""`spikeship inspect` and `lower`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...hw_targets.chips.messages import PAYLOADS, message_problems, message_summary
from ...hw_targets.netx.file import read_netx, write_netx
from .options import NetArgument, new_file
from .screen import Output


def inspect(net: NetArgument) -> Output:
    """Show layers, integer ranges, recipe and digest of a netx file."""
    from .tables import network_table, recipe_lines

    network = read_netx(net)
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
        "target_problems": {target: message_problems(network, target) for target in PAYLOADS},
    }
    return Output(result, network_table(network), *lines)


def lower(
    net: NetArgument,
    out: Annotated[Path, typer.Option(help="The netx file to write.")],
) -> Output:
    """Turn SLAYER's pool layers into convolutions, so that lava-dl can load the file."""
    from .tables import network_table

    new_file(out)
    network = read_netx(net, lower_pooling=True)
    write_netx(network, out)
    result = {"file": net, "out": out, "digest": network.digest}
    return Output(result, network_table(network), f"wrote {out}")
