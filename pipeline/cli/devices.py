"""`spikeship devices`."""

from __future__ import annotations

from typing import Annotated

import typer

from ...hw_targets.energy.device_files import load_device, shipped_devices
from .screen import Output


def devices(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Energy devices, by name or as .toml files. Default: all that are shipped.",
            metavar="DEVICE",
        ),
    ] = None,
) -> Output:
    """List energy devices: what each prices, and where every figure comes from."""
    from .devices_tables import device_tables, devices_tables

    chosen = [load_device(name) for name in names or shipped_devices()]
    views = devices_tables(chosen) if not names else [v for d in chosen for v in device_tables(d)]
    return Output({"devices": chosen}, *views)
