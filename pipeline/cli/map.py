"""`spikeship map`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from ...hw_targets.chips.loihi2 import loihi2
from ...hw_targets.chips.mapper import map_network
from ...hw_targets.chips.table import CHIPS, chip_named
from ...hw_targets.netx.file import read_netx
from .options import DataOptions, NetArgument
from .screen import Output, bars, misused

NO_DATA = DataOptions()
ChipOption = Annotated[str, typer.Option(help=f"Chip to map on: {', '.join(CHIPS)}.")]


def map_(
    net: NetArgument,
    chip: ChipOption = "loihi2",
    chips: Annotated[
        int | None,
        typer.Option(help="Chips that there are; status 1 where the network needs more.", min=1),
    ] = None,
    delay_field: Annotated[
        int | None,
        typer.Option(
            help="Delay bits that loihi2 keeps in every synapse of dense layers. Default: 6."
        ),
    ] = None,
    packet: Annotated[
        int | None,
        typer.Option(help="Bits by which lists of synapses grow on loihi2, 48 or 64. Default: 64."),
    ] = None,
    cores_per_chip: Annotated[
        int | None, typer.Option(help="Cores of a loihi2 chip that can be used. Default: 120.")
    ] = None,
    data: DataOptions = NO_DATA,
    samples: Annotated[
        int | None,
        typer.Option(
            help="How many samples of --data or --input are run, from the first on. Default: all.",
            min=1,
        ),
    ] = None,
) -> Output:
    """Place a network on the cores of a chip: what fills them, and everything that does not fit.

    With --data or --input it is run, and what each core has to do is counted. Status 1 where a limit is
    violated.
    """
    from ...hw_targets.chips.messages import message_problems
    from ...hw_targets.chips.views import CHIPS_SHOWN, load_table, mapping_tables

    options = {"delay_field": delay_field, "packet": packet, "cores": cores_per_chip}
    given = {name: value for name, value in options.items() if value is not None}
    if chip != "loihi2" and given:
        misused(
            "--delay-field, --packet and --cores-per-chip are for --chip loihi2: leave them out."
        )
    judged = data.says_more or data.data is not None
    if samples is not None and not judged:
        misused("--samples are those of --data or --input: give one of them.")
    target = loihi2(**given) if chip == "loihi2" else chip_named(chip)
    mapping = map_network(read_netx(net), target)
    loads: list[Table | str] = []
    counts = None
    if judged:
        from ..deploy.deployed import Deployed
        from ..energy.profile import run_on

        task = data.of(Deployed.load(net))
        ran = run_on(task.deployed, task.data.test, target, (), samples, progress=bars())
        counts = ran.evaluation.counts
        loads = [load_table(mapping, counts)]
        loads += [
            f"violation: {p}" for p in message_problems(task.deployed.network, target.payload)
        ]
    ok = mapping.fits(chips or mapping.chips) and len(loads) < 2
    return Output(
        {
            "file": net,
            "cores": mapping.cores,
            "chips": mapping.chips,
            "ok": ok,
            "fits": {n: mapping.fits(n) for n in CHIPS_SHOWN},
            "mapping": mapping,
            "counts": counts,
        },
        *mapping_tables(mapping),
        *loads,
        ok=ok,
    )
