"""The commands about hardware and energy: `spikeship profile`, `map`, `devices`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..hw_targets.energy import load_device, shipped_devices
from ..hw_targets.loihi2 import loihi2
from ..hw_targets.mapper import CHIPS, map_network
from ..hw_targets.netx import read_netx
from . import records
from .console import DataRoot, Json, dataset_of, errors, fail, say, show

if TYPE_CHECKING:
    import nir

NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]
ChipOption = Annotated[Literal["loihi1", "loihi2"], typer.Option(help="The chip to map on.")]


def add_commands(app: typer.Typer) -> None:
    """Hang the commands of this file into the command line."""
    for command in (profile, map_, devices):
        app.command(command.__name__.rstrip("_"))(command)


def profile(
    net: NetArgument,
    ann: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the ANN twin (`train --ann`), to show both sides."),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="By name or .toml file, see `devices`; repeatable. Default: what can carry the network."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the ANN on this machine: time, and energy if it can."
        ),
    ] = False,
    window: Annotated[
        float, typer.Option(help="Seconds of one measurement; five are taken.", min=0.1)
    ] = 5.0,
    step_time: Annotated[
        float | None,
        typer.Option(help="Microseconds of a time step, in place of the device's model."),
    ] = None,
    allow_mixed_scope: Annotated[
        bool,
        typer.Option(
            "--allow-mixed-scope", help="Print ratios of energies of different scopes too."
        ),
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Every dataflow and assumption of the comparison with the ANN."
        ),
    ] = False,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    samples: Annotated[int | None, typer.Option(help="Test samples. Default: all.", min=1)] = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """What an inference costs: counts, energy on chips, time, and the ANN beside it, all sourced."""
    with errors():
        from ..models import training
        from .checklist import checklist
        from .measure import baselines
        from .profile import CALIBRATION, graph_accuracy
        from .profile import profile as run
        from .profile_views import profile_views
        from .run import needed_recipe

        if step_time is not None and step_time <= 0:
            fail(f"--step-time {step_time}: microseconds above 0 are needed.")
        network = read_netx(net)
        dataset = dataset_of(net, needed_recipe(network), data, data_root)
        twin = None if ann is None else training.load(ann)
        if twin is not None and twin.settings.spiking:
            fail(f"{ann} is a spiking network; give the checkpoint of an ANN (`train --ann`).")
        if measure and twin is None:
            fail("--measure measures the ANN: give its checkpoint with --ann.")
        graph, right = _graph_beside(net), None
        if graph is not None:
            right = graph_accuracy(graph, needed_recipe(network), dataset.test, samples)
        result = run(
            network,
            dataset,
            device,
            samples=samples,
            ann=twin,
            measure=partial(
                baselines,
                window_s=window,
                calibration=dataset.train.images[:CALIBRATION],
                progress=say,
            )
            if measure
            else None,
            float_accuracy=right,
            step_seconds=None if step_time is None else step_time * 1e-6,
            allow_mixed_scope=allow_mixed_scope,
            progress=not json_,
        )
        points = checklist(result)
        show(
            json_,
            {"file": net, "profile": result, "checklist": points, **records.environment()},
            *profile_views(result, details=details),
        )


def _graph_beside(net: Path) -> nir.NIRGraph | None:
    from .frontends import from_nir

    path = net.with_suffix(".nir")
    return from_nir(path) if path.is_file() else None


def map_(
    net: NetArgument,
    chip: ChipOption = "loihi2",
    chips: Annotated[
        int | None, typer.Option(help="Status 1 where it does not fit on so many chips.", min=1)
    ] = None,
    delay_field: Annotated[
        int | None,
        typer.Option(help="loihi2: delay bits kept in every synapse of dense layers. Default: 6."),
    ] = None,
    packet: Annotated[
        int | None,
        typer.Option(help="loihi2: bits in which lists of synapses grow, 48 or 64. Default: 64."),
    ] = None,
    cores_per_chip: Annotated[
        int | None, typer.Option(help="loihi2: cores that can be used. Default: 120.")
    ] = None,
    json_: Json = False,
) -> None:
    """Which cores of a chip hold which neurons, what fills them, and everything that does not fit.

    Status 1 where a limit is violated.
    """
    with errors():
        from .mapping_views import CHIPS_SHOWN, mapping_tables

        options = {"delay_field": delay_field, "packet": packet, "cores": cores_per_chip}
        given = {name: value for name, value in options.items() if value is not None}
        if chip == "loihi1" and given:
            fail("--delay-field, --packet and --cores-per-chip are of loihi2: leave them out.")
        target = loihi2(**given) if chip == "loihi2" else CHIPS[chip]
        mapping = map_network(read_netx(net), target)
        ok = mapping.fits(chips or mapping.chips)
        show(
            json_,
            {
                "file": net,
                "cores": mapping.cores,
                "chips": mapping.chips,
                "ok": ok,
                "fits": {n: mapping.fits(n) for n in CHIPS_SHOWN},
                "mapping": mapping,
                **records.environment(),
            },
            *mapping_tables(mapping),
        )
        if not ok:
            raise typer.Exit(1)


def devices(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names or .toml files. Default: all shipped.", metavar="[DEVICE]..."),
    ] = None,
    json_: Json = False,
) -> None:
    """Energy devices: what each prices, and where every figure comes from."""
    with errors():
        from .device_views import device_tables, devices_tables

        chosen = [load_device(name) for name in names or shipped_devices()]
        views = (
            devices_tables(chosen) if not names else [v for d in chosen for v in device_tables(d)]
        )
        show(json_, {"devices": chosen, **records.environment()}, *views)
