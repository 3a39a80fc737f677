"""`spikeship simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

from ...hw_targets.network.arithmetic import MESSAGE_BITS
from ...hw_targets.network.network import Network
from ...hw_targets.netx.file import read_netx
from ...hw_targets.printed import table
from ...hw_targets.simulate.inputs import parse_record
from ...hw_targets.simulate.trace import Trace
from ..text import percent
from .options import NetArgument, load_array
from .screen import Output, misused, say


def simulate(
    net: NetArgument,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Input integers in a .npy file: (sample, time, *input shape), axes C, H, W; or "
            "(sample, *input shape), constant in time (the bias mantissa of Input neurons).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Trace to write, .npz: spikes.{i}, u.{i}, v.{i} of layer i, (sample, time, *shape).",
        ),
    ],
    steps: Annotated[
        int | None,
        typer.Option(
            "--time-steps",
            "--steps",
            help="Time steps to run; none of input after its last. Default: the input's.",
            min=1,
        ),
    ] = None,
    reset_interval: Annotated[
        int | None,
        typer.Option(
            help="Steps from one reset of u and v to the next, as lava-dl's reset_interval; 0 is none. "
            "Default: the file's recipe, or none.",
            min=0,
        ),
    ] = None,
    reset_offset: Annotated[
        int | None,
        typer.Option(
            help="Steps by which resets come later, as lava-dl's reset_offset. Default: the file's "
            "recipe, or 0.",
            min=0,
        ),
    ] = None,
    message_bits: Annotated[
        int | None,
        typer.Option(
            help="Bits of an input message, sign included, as lava-dl's input_message_bits; 0 makes "
            "every non-zero input one spike. Default: the file's recipe, or inputs keep their value.",
            min=0,
            max=MESSAGE_BITS,
        ),
    ] = None,
    spike_exp: Annotated[
        int | None,
        typer.Option(
            help="Exponent of sigma-delta messages, as lava-dl's spike_exp. Default: the file's, or 6.",
            min=0,
        ),
    ] = None,
    record: Annotated[
        str,
        typer.Option(
            help="What to store, separated by commas: counts, spikes, u, v, residue; spikes.2 is layer "
            "2 alone."
        ),
    ] = "spikes",
    backend: Annotated[
        Literal["engine", "torch", "reference", "lava"],
        typer.Option(help="Simulator that runs the network; all give the same, bit for bit."),
    ] = "engine",
    device: Annotated[
        str | None,
        typer.Option(help="Where --backend torch runs: cpu, cuda, cuda:1. Default: cpu."),
    ] = None,
) -> Output:
    """Run a netx file on an input, bit for bit as Lava does."""
    from ..deploy.run import own_timing, run
    from .tables import overflow_lines

    network = read_netx(net, spike_exp=spike_exp)
    inputs = load_array(input_)
    wanted = tuple(part.strip() for part in record.split(","))
    parse_record(wanted, network)
    timing = own_timing(
        network,
        inputs,
        steps,
        reset_interval=reset_interval,
        reset_offset=reset_offset,
        message_bits=message_bits,
    )
    if steps is None and inputs.ndim == 1 + len(network.input_shape):
        misused(f"{input_} is constant in time (shape {inputs.shape}): give --time-steps.")
    if steps is not None and inputs.ndim > 1 + len(network.input_shape) and steps < inputs.shape[1]:
        say(
            f"note: --time-steps {steps} leaves out the last {inputs.shape[1] - steps} input steps."
        )
    trace = run(
        network,
        inputs,
        timing,
        backend=backend,
        record=wanted,
        file=net,
        device=device,
    )
    trace.save(out)
    names = [p.name for p in network.populations]
    result = {
        "out": out,
        "backend": backend,
        "digest": network.digest,
        "reset_interval": timing.reset_interval,
        "reset_offset": timing.reset_offset,
        "spikes": spike_totals(trace),
        "overflow": trace.overflow,
    }
    notes = overflow_lines(names, trace.overflow)
    return Output(result, trace_table(network, trace), *notes, f"wrote {out}")


def spike_totals(trace: Trace) -> list[int | None] | None:
    """Spikes (or non-zero messages) of each layer; None where they were not recorded."""
    if trace.spikes is None:
        return None
    return [
        int(np.count_nonzero(trace.spikes[i])) if i in trace.spikes.populations else None
        for i in range(len(trace.spikes))
    ]


def trace_table(network: Network, trace: Trace) -> Table:
    """Spikes per layer of one run."""
    totals = spike_totals(trace) or [None] * len(network.populations)
    rows = []
    for p, total in zip(network.populations, totals, strict=True):
        spikes, rate = "not recorded", ""
        if total is not None and trace.spikes is not None:
            spikes, rate = f"{total:,}", percent(total / max(trace.spikes[p.index].size, 1))
        rows.append((p.name, "x".join(map(str, p.shape)), spikes, rate))
    return table(f"run on {trace.backend}", ("layer", "shape", "spikes", "rate"), rows)
