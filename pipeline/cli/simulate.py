"""`spikeship simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from ...hw_targets.network.arithmetic import MESSAGE_BITS
from ...hw_targets.network.network import Network
from ...hw_targets.netx.file import read_netx
from ...hw_targets.printed import table
from ...hw_targets.simulate.inputs import parse_record
from ...hw_targets.simulate.trace import Trace
from ...models.quality import Quality
from ..text import percent
from .options import NetArgument, load_array, new_file
from .screen import Output, fail, misused, say

if TYPE_CHECKING:
    from ..deploy.scored import Scored


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
            help="Time steps to run, without input after its last. Default: the input's, and the "
            "network's latency, by which its answers come later.",
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
        str | None,
        typer.Option(
            help="What to store, separated by commas: counts, spikes, u, v, residue; spikes.2 is layer "
            "2 alone. Default: spikes, and of a last layer that never spikes v.-1."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What shall be answered, in a .npy file: classes (sample,), or real targets (sample, "
            "outputs). Accuracy or error is printed."
        ),
    ] = None,
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
    from ...models.data.own import checked_labels
    from ..deploy.run import never_spikes, own_timing, run
    from ..deploy.scored import answer_of
    from .tables import overflow_lines

    new_file(out, "npz")
    network = read_netx(net, spike_exp=spike_exp)
    inputs = load_array(input_)
    if not inputs.size:
        fail(f"{input_} has shape {inputs.shape}: it holds no input.")
    if record is None:
        record = "spikes,v.-1" if never_spikes(network.populations[-1]) else "spikes"
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
    if steps is not None and inputs.ndim > 1 + len(network.input_shape):
        given = f"note: --time-steps {steps} leaves out the"
        if steps < inputs.shape[1]:
            say(f"{given} last {inputs.shape[1] - steps} input steps.")
        elif steps < inputs.shape[1] + network.latency:
            say(
                f"{given} answers to the last "
                f"{inputs.shape[1] + network.latency - steps} input steps, which come up to "
                f"{network.latency} steps later."
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
    truth = None if labels is None else checked_labels(load_array(labels), str(labels))
    scored = answer_of(network, trace, inputs)
    if truth is not None and scored is None:
        fail(
            "--labels: the output was not recorded; leave out --record, or add spikes and v.-1 to it."
        )
    quality = None if scored is None or truth is None else Quality.of(scored.scores, truth)
    trace.save(out)
    names = [p.name for p in network.populations]
    many = scored is not None and scored.scores.shape[1] > MOST
    result = {
        "out": out,
        "backend": backend,
        "digest": network.digest,
        "reset_interval": timing.reset_interval,
        "reset_offset": timing.reset_offset,
        "spikes": spike_totals(trace),
        "overflow": trace.overflow,
        "decode": None if scored is None else scored.decode,
        "scores": None if scored is None or many else scored.scores.tolist(),
        "classes": None if scored is None or scored.classes is None else scored.classes.tolist(),
        "quality": quality,
    }
    notes = overflow_lines(names, trace.overflow)
    views: list[Table | str] = [trace_table(network, trace)]
    if scored is not None:
        views.append(answers_table(scored, truth))
    if quality is not None:
        views.append(f"{quality.text} on {quality.samples} samples")
    return Output(result, *views, *notes, f"wrote {out}")


SHOWN, MOST = 10, 1000
"""Answers and outputs in a table; outputs whose scores are in the JSON."""


def answers_table(scored: Scored, truth: NDArray[Any] | None) -> Table:
    """The first answers of a run, and what they should be."""
    classes, rows = scored.classes, []
    for i, row in enumerate(scored.scores[:SHOWN]):
        cells = [str(i), _numbers(row)]
        cells += [] if classes is None else [str(classes[i])]
        cells += [] if truth is None else [_numbers(np.atleast_1d(truth[i]))]
        rows.append(cells)
    columns = ("sample", scored.decode, *(() if classes is None else ("class",)))
    columns += () if truth is None else ("label",)
    count = len(scored.scores)
    of = f"first {SHOWN} of {count:,} answers" if count > SHOWN else "answers"
    return table(f"{of}, over {scored.steps} input steps", columns, rows)


def _numbers(row: NDArray[Any]) -> str:
    text = ", ".join(f"{value:.4g}" for value in row[:SHOWN])
    return f"{text}, ..." if len(row) > SHOWN else text


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
