"""`spikeship verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ...hw_targets.printed import table
from ..text import percent
from .options import DataOptions, NetArgument, load_array
from .screen import Output, fail, misused, say

if TYPE_CHECKING:
    import torch

    from ..verify import Agreement, Verification


def _module(model: str | None, checkpoint: Path | None) -> torch.nn.Module | None:
    """The network that `verify` is given."""
    if model is None:
        if checkpoint is not None:
            misused("--checkpoint goes with --model module:function.")
        return None
    from ..frontends import frontend_of
    from ..frontends.load import load_source

    network, _ = load_source(model, checkpoint)
    if frontend_of(network).answers is None:
        fail(
            f"--model {model}: its own forward cannot be followed (Norse, snnTorch, SpikingJelly)."
        )
    module: torch.nn.Module = network
    return module


def verify(
    net: NetArgument,
    data: DataOptions,
    graph: Annotated[
        Path | None,
        typer.Option(help="The float network as .nir. Default: the one beside the .net file."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The Norse, snnTorch or SpikingJelly network that was exported, to run its own forward "
            "too: module:function, whose code is run, or a checkpoint of `spikeship train`."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Torch state dict to load into what --model module:function returns."),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            help="What the original framework recorded of the last layer on these inputs, as .npy: "
            "spikes (sample, time, *shape), their counts (sample, *shape), a readout's voltages, or the "
            "classes that it answered (sample,)."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Test samples compared with the float network.", min=1)
    ] = 200,
    lava_samples: Annotated[
        int,
        typer.Option(help="How many of these samples run on Lava, too; 0 leaves Lava out.", min=0),
    ] = 3,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Fraction of a layer's spikes that may differ between float and integers.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.05,
) -> Output:
    """Compare float network, rounded numbers, integers, simulators, Lava and the file, layer by layer.

    With --model, your module's own forward is compared as well; without it, the float network is the
    one that `spikeship export` wrote. Each layer that differs gets its likely cause. Status 1 where
    spikes of float network and integers differ by more than --tolerance, or anything else at all; with
    --expect also where the float network is not what was recorded.
    """
    from ..deploy.deployed import Deployed, graph_file
    from ..verify import verify as verify_network

    deployed = Deployed.load(net, graph)
    if deployed.float_graph is None:
        beside = graph_file(deployed.network, net)
        say(f"no float graph {beside}: comparing with Lava only.")
    task = data.of(deployed)
    result = verify_network(
        task.deployed,
        task.data,
        module=_module(model, checkpoint),
        expect=None if expect is None else load_array(expect),
        samples=samples,
        lava_samples=lava_samples,
        tolerance=tolerance,
    )
    return Output(
        {"file": net, "ok": result.ok, "verdict": result.verdict, "result": result},
        *verification_tables(result),
        ok=result.ok,
    )


def agreement_table(title: str, agreements: Sequence[Agreement]) -> Table:
    """Agreement per layer, with the first divergence."""
    rows = []
    for a in agreements:
        matched = "" if a.matched is None else percent(a.matched)
        rows.append((a.layer, a.quantity, percent(a.equal), matched, divergence(a)))
    columns = ("layer", "quantity", "equal", "spikes matched", "first divergence")
    return table(title, columns, rows)


def divergence(a: Agreement) -> str:
    """Where two runs part first, and what both sides have there."""
    if a.first is None:
        return "none"
    f = a.first
    text = f"sample {f.sample}, step {f.step}, neuron {f.neuron}: {f.first} / {f.second}"
    if f.first_membrane is None or f.second_membrane is None:
        return text
    first, second = (
        f"v {m.voltage:.6g} of {m.threshold:.6g}" for m in (f.first_membrane, f.second_membrane)
    )
    return f"{text} ({first} / {second})"


def verification_tables(result: Verification) -> list[Table | str]:
    """Everything `verify` found: the spikes of neighbouring sides, answers, exact checks, verdicts."""
    columns = {
        "module / float": result.to_module,
        "float / quantized": result.to_quantized,
        "quantized / integers": result.from_quantized,
        "float / integers": result.to_float,
    }
    shown = {name: {a.layer: a for a in side} for name, side in columns.items() if side}
    rows = []
    for layer in result.layers:
        cells = [
            percent(side[layer.layer].equal) if layer.layer in side else "readout"
            for side in shown.values()
        ]
        to_float = shown.get("float / integers", {}).get(layer.layer)
        matched = "" if to_float is None or to_float.matched is None else percent(to_float.matched)
        rows.append((layer.layer, layer.source or "", *cells, matched))
    out: list[Table | str] = []
    if shown:
        title = f"equal spikes, {result.samples} samples"
        out.append(table(title, ("layer", "float node", *shown, "spikes matched"), rows))
    if result.quantized_skipped is not None:
        out.append(f"no rounded numbers with real states: {result.quantized_skipped}")
    if result.same_answers is not None:
        out.append(f"same answer as the float network: {percent(result.same_answers)}")
    if result.same_module_answers is not None:
        out.append(f"same answer as the module itself: {percent(result.same_module_answers)}")
    if result.expected is not None:
        out += result.expected.lines()
    if result.values_apart is not None:
        out.append(f"answers apart from the float network's: {percent(result.values_apart)} (rms)")
    if result.module_apart is not None:
        out.append(f"answers apart from the module's: {percent(result.module_apart)} (rms)")
    if result.errors:
        parts = [
            f"{e.side} {e.error:.4g} ({e.delta:+.2g}; {e.samples} samples)" for e in result.errors
        ]
        out.append(f"rms error: {', '.join(parts)}")
    if result.accuracy:
        parts = [
            f"{a.side} {percent(a.accuracy)} ({100 * a.delta:+.2f}; {a.samples} samples)"
            for a in result.accuracy
        ]
        out.append(f"accuracy: {', '.join(parts)}")
    for name, agreements, samples in (
        ("reference simulator", result.to_reference, result.reference_samples),
        ("Lava CPU backend", result.to_lava, result.lava_samples),
    ):
        if agreements is None:
            out.append(f"Lava: {result.lava_skipped}")
        elif all(a.exact for a in agreements):
            out.append(f"simulator / {name}, {samples} samples: every spike and state equal")
        else:
            out.append(agreement_table(f"simulator / {name}, {samples} samples", agreements))
    out.append(f"file read again: {'same digest' if result.reread else 'DIFFERENT'}")
    return [*out, *verdicts(result), result.verdict]


def verdicts(result: Verification) -> list[str]:
    """One line per layer that differs: by how much, where first, the likely cause, what to do."""
    agreements = {a.layer: a for a in result.to_float or result.from_quantized or ()}
    lines = []
    for d in result.diagnoses:
        a = agreements[d.layer]
        why = f" ({d.detail})" if d.detail else ""
        lines.append(
            f"{d.layer}: {percent(1 - a.equal)} of spikes differ, first at {divergence(a)}. "
            f"Likely cause: {d.cause}{why}, which explains {100 * d.explained:.0f} % of "
            f"{d.mismatches if d.cause == 'inherited' else d.own} mismatches looked at. To do: "
            f"{d.advice}."
        )
    return lines
