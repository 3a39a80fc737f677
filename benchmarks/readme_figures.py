"""Writes the tables of figures in README.md and docs/limits.md from the committed JSON results.

Usage: python -m spikeship.benchmarks.readme_figures [--check]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .energy import report as energy_report
from .harness import NAMES, RESULTS

REPOSITORY = Path(__file__).parents[1]
ROBUSTNESS = ("digits", "mnist", "fashion_mnist")


def demo_rows(demo: dict[str, Any]) -> list[str]:
    """The table `spikeship demo` prints, from its JSON."""
    accuracy, checked, profile = demo["accuracy"], demo["verification"], demo["profile"]
    counts = next(iter(profile["counts"].values()))
    spikes, synops = (
        sum(layer[name] for layer in counts["layers"]) / counts["samples"]
        for name in ("spikes_out", "synops")
    )
    ann = profile["ann"]
    int8, fp32 = (e["joules"] * 1e9 for e in ann["energies"])
    snn = profile["prices"][0]["dynamic"]
    value, low, high = (snn[name] * 1e6 for name in ("joules", "low", "high"))
    agreement = ", ".join(f"{100 * a['equal']:.2f} %" for a in checked["to_float"])
    macs = f"{sum(layer['macs'] for layer in ann['work']['layers']):,} MACs"
    exact = all(a["first"] is None for a in checked["to_lava"])
    assert exact, "the committed demo does not agree with Lava"
    return [
        f"| ANN twin, int8 | {100 * ann['quantized_accuracy']:.2f} % | | {macs} | {int8:.3g} nJ "
        f"(arithmetic only) |",
        f"| ANN twin, float32 | {100 * accuracy['ann']:.2f} % | | {macs} | {fp32:.3g} nJ "
        f"(arithmetic only) |",
        f"| SNN, Norse float32 | {100 * accuracy['snn_float']:.2f} % | | | |",
        f"| SNN, integers | {100 * accuracy['snn_integer']:.2f} % | spikes as float: {agreement} | "
        f"{spikes:,.0f} spikes, {synops:,.0f} synops | {value:.3g} uJ [{low:.3g}, {high:.3g}] "
        f"({snn['scope']}) |",
        f"| SNN, Lava CPU backend | {100 * accuracy['lava']:.2f} % | every spike, u and v equal, "
        f"{checked['lava_samples']} images | | |",
    ]


def figure_rows(digits: dict[str, Any], mnist: dict[str, Any], mlp: dict[str, Any]) -> list[str]:
    """One row per benchmark."""
    rows = []
    for name, result in (("digits, MLP, 3 seeds (mean)", digits), ("MNIST, CNN", mnist)):
        first, second = (
            f"{100 * result[f'mean_{kind}_accuracy']:.2f} %" for kind in ("float", "integer")
        )
        rows.append(f"| {name} | {first} | {second} | `{result['command']}` |")
    command = mlp["command"].partition(" --steps")[0]
    for run in mlp["runs"]:
        published = f"{100 * run['published_accuracy']:.2f} % (published)"
        rows.append(
            f"| MNIST, published SLAYER MLP, {run['steps']} steps | {published} | "
            f"{100 * run['accuracy']:.2f} % | `{command} --steps {run['steps']}` |"
        )
    return rows


def exchange_rows(exchange: dict[str, Any]) -> list[str]:
    """One row per network of the NIR paper, two for the recurrent one."""
    lif, cnn, braille = (exchange[name] for name in ("lif", "cnn", "braille"))
    chip = lif["paper"]["against"]["lava_loihi_fixed"]["spike_mismatches"]
    assert not chip + lif["quantized"]["spike_mismatches"] + lif["float_mismatches"]["norse"]
    hidden = braille["integers_against_float"]
    recorded = braille["float_against_recorded"]
    assert recorded["snntorch"]["mismatches"] == 0

    def matched(result: dict[str, Any]) -> str:
        return f"{100 * result['matched']:.1f} %"

    return [
        "| one LIF neuron | as Norse, snnTorch, SpiNNaker2: every spike | as a Loihi 2 chip: every "
        "spike |",
        f"| N-MNIST CNN, written by sinabs, {cnn['samples']} samples | "
        f"{100 * cnn['float_accuracy']:.1f} % | {100 * cnn['ours']['accuracy']:.1f} % |",
        f"| recurrent Braille network, as published on lava-dl | as snnTorch: every spike | "
        f"{matched(recorded['lava'])} of the hidden spikes as float |",
        f"| the same here, 8 bits: naive; ours; with a scale per neuron and every neuron twice | "
        f"as snnTorch: every spike | {matched(hidden['naive: largest scale, biases on v']['hidden'])}; "
        f"{matched(hidden['ours, biases on v']['hidden'])}; "
        f"{matched(hidden['ours, and every source twice']['hidden'])} |",
    ]


def framework_rows(frameworks: dict[str, Any]) -> list[str]:
    """Norse against SLAYER."""
    rows = []
    for row in frameworks["summary"]:
        network = f"{NAMES[row['dataset']]}, MLP, {row['seeds']} seed{'s' * (row['seeds'] > 1)}"
        accuracies = (f"{100 * row[f'{kind}_accuracy']:.2f} %" for kind in ("float", "integer"))
        events = (f"{row[f'{what}_per_inference']:,.0f}" for what in ("spikes", "synops"))
        rows.append(
            f"| {network} | {NAMES[row['framework']]} | {' | '.join(accuracies)} | "
            f"{100 * row['equal_spikes']:.2f} % | {', '.join(events)} | "
            f"{row['time_over_norse']:.1f}x |"
        )
    return rows


def quantization_rows(quantization: dict[str, Any]) -> list[str]:
    """One row per network: accuracies of the methods, by bits."""
    cells = {(c["network"], c["bits"], c["method"]): c for c in quantization["summary"]}
    rows = []
    for network in dict.fromkeys(network for network, _, _ in cells):
        dataset, model = network.split()
        columns = [
            " / ".join(
                f"{100 * cells[network, bits, method]['integer_accuracy']:.1f}"
                for method in ("max", "search", "fine-tuned")
            )
            for bits in (8, 4, 3, 2)
        ]
        real = f"{100 * cells[network, 8, 'max']['float_accuracy']:.1f}"
        rows.append(f"| {NAMES[dataset]}, {model.upper()} | {real} | {' | '.join(columns)} |")
    return rows


SPEED_NAMES = {
    "mlp": "MLP 784-512-10",
    "nmnist": "N-MNIST conv net, 3 layers",
    "pilotnet": "PilotNet-shaped, 8 layers",
}


def speed_rows(speed: dict[str, Any]) -> list[str]:
    """How many times slower the others are, per sample and step, at 5 % spikes."""
    cells = {
        (c["network"], c["batch"]): c["contenders"] for c in speed["cells"] if c["rate"] == 0.05
    }
    rows = []
    for network, name in SPEED_NAMES.items():
        batch_1, batch_32 = cells[network, 1], cells[network, 32]
        recorded = batch_32["lava, all spikes"]["median"] / batch_32["engine, all spikes"]["median"]
        ratios = (
            batch_1["lava"]["times_engine"],
            batch_32["lava"]["times_engine"],
            recorded,
            batch_32["norse"]["times_engine"],
            batch_32["slayer"]["times_engine"],
        )
        shown = " | ".join(f"{_two_digits(ratio):,}x" for ratio in ratios)
        rows.append(f"| {name} | {shown} |")
    return rows


GPU_NAMES = {
    **SPEED_NAMES,
    "vgg11": "VGG-11 on 32x32 pixels, T = 4",
    "vgg16": "VGG-16, T = 4",
    "resnet18": "ResNet-18, T = 4",
}
GPU_BATCHES = (1, 32, 2048)


def gpu_rows(gpu: dict[str, Any]) -> list[str]:
    """Samples per second on the GPU, and how many times the engine on the same machine's processor."""
    rows = []
    for network, name in GPU_NAMES.items():
        cells = [gpu["cells"].get(f"speed {network} {batch}") for batch in GPU_BATCHES]
        rates = [
            [cell[side]["samples_per_second"] for side in ("torch", "engine")]
            for cell in cells
            if cell is not None
        ]
        shown = [f"{ours:,.0f} ({_two_digits(ours / theirs)}x)" for ours, theirs in rates]
        if shown:
            rows.append(f"| {name} | {' | '.join(shown)} |")
    return rows


NOT_MEASURED = "not measured"


def growth_rows(growth: dict[str, list[dict[str, Any]] | None], side: str) -> list[str]:
    """Milliseconds against each quantity, one row each: value and time."""
    rows = []
    for what, points in growth.items():
        shown = [f"{p['value']:,g}: {1e3 * p[side]:.3g}" for p in points or () if side in p]
        rows.append(f"| {what} | {'; '.join(shown) or NOT_MEASURED} |")
    return rows


def share_rows(speed: dict[str, Any]) -> list[str]:
    """Share of the machine's limit that the engine reaches, by network and batch, and what limits."""
    rows = []
    for network, name in SPEED_NAMES.items():
        cells = [
            next(
                c
                for c in speed["cells"]
                if (c["network"], c["rate"], c["batch"]) == (network, 0.05, batch)
            )
            for batch in (1, 32, 256)
        ]
        machine = [cell["machine"] for cell in cells]
        shown = " | ".join(f"{100 * m['share']:.0f} % ({m['limit']})" for m in machine)
        rows.append(f"| {name} | {shown} |")
    return rows


def gpu_sample_rows(gpu: dict[str, Any]) -> list[str]:
    """Milliseconds per sample on the GPU, by network and batch."""
    rows = []
    for network, name in GPU_NAMES.items():
        if network == "pilotnet":  # measured on CPUs alone
            continue
        cells = [gpu["cells"].get(f"speed {network} {batch}", {}) for batch in (1, 32, 256, 2048)]
        times = [1e3 / c["torch"]["samples_per_second"] if "torch" in c else None for c in cells]
        shown = " | ".join(NOT_MEASURED if time is None else f"{time:.3g}" for time in times)
        rows.append(f"| {name} | {shown} |")
    return rows


def update_rows(gpu: dict[str, Any]) -> list[str]:
    """Neuron updates alone, by the width of their arithmetic."""
    cells = gpu["cells"]
    cell = cells.get("speed of updates", cells.get("neuron updates", {}))
    return [
        f"| {width} | {cell[width]['neuron_updates_per_second']:.3g} | "
        f"{cell[width]['bytes_per_second']:.3g} |"
        if width in cell
        else f"| {width} | {NOT_MEASURED} | {NOT_MEASURED} |"
        for width in ("32 bits", "64 bits")
    ]


def robustness_rows(results: list[dict[str, Any]]) -> list[str]:
    """One row per claim: both accuracies and the verdict, by data set."""
    rows = []
    for claims in zip(*(result["claims"] for result in results), strict=True):
        text = claims[0]["claim"]
        shown = []
        for claim in claims:
            if claim["holds"] is None:
                shown.append("")
                continue
            figures = [f"{100 * claim['first']:.1f}"]
            if claim["second"] is not None:
                figures.append(f"{100 * claim['second']:.1f}")
            shown.append(f"{' / '.join(figures)}: {claim['holds']}")
        rows.append(f"| {text} | {' | '.join(shown)} |")
    return rows


ENERGY_NETWORKS = ("Poisson, T = 1", "Poisson, T = 2", "Poisson, T = 8", "direct, T = 1")


def energy_rows(results: list[dict[str, Any]]) -> list[str]:
    """Some networks of each data set: accuracies, spikes per synapse and break-even, energy on Loihi 1
    (dynamic; total) and 2 (dynamic), and over the ANN's on the same hardware; over one that skips zeros.
    """
    rows = []
    for result in results:
        by_label = {row["label"]: row for row in result["summary"]}
        for label in ENERGY_NETWORKS:
            row = by_label[label]
            levels = energy_report.LEVELS
            ann = row["ann_accuracy"][levels]
            skipping = row["ratio"][levels + energy_report.SKIPS][0]
            loihi1, loihi2 = (
                row["energy"].get(device, {})
                for device in ("loihi1-davies2018", "loihi2-derived-pilotnet")
            )
            shown = (
                f"{result['name']}, {label}",
                f"{100 * row['accuracy']:.1f} / {100 * ann:.1f} %",
                f"{row['spikes_per_synapse']:.2g}; {energy_report.numbers(row['break_even'][levels])}",
                "; ".join(
                    energy_report.joules(loihi1[part]) for part in ("dynamic", "total") if loihi1
                ),
                energy_report.joules(loihi2["dynamic"]),
                f"{energy_report.numbers(row['ratio'][levels])}; {skipping:.3g}",
            )
            rows.append(f"| {' | '.join(shown)} |")
    return rows


def _two_digits(ratio: float) -> int | float:
    rounded = float(f"{ratio:.2g}")
    return int(rounded) if rounded >= 10 else rounded


def load(name: str) -> dict[str, Any]:
    """A committed result."""
    data: dict[str, Any] = json.loads((REPOSITORY / RESULTS / f"{name}.json").read_text())
    return data


GROWTH = ("steps", "hidden neurons", "input spike rate", "batch", "threads")


def limits_updated(text: str) -> str:
    """docs/limits.md with all tables as the JSON has them."""
    speed, gpu = load("speed"), load("gpu")
    engine = {what: speed["growth"].get(what) for what in GROWTH}
    on_gpu = {
        what: gpu["cells"].get(f"growth {what}", {}).get("rows")
        for what in GROWTH
        if what != "threads"
    }
    tables = (
        ("| against | milliseconds |", growth_rows(engine, "seconds")),
        ("| share of the machine's limit |", share_rows(speed)),
        ("| against, on a GPU | milliseconds |", growth_rows(on_gpu, "torch")),
        ("| milliseconds per sample, on a GPU |", gpu_sample_rows(gpu)),
        ("| neuron updates alone |", update_rows(gpu)),
    )
    return filled(text, tables)


def updated(text: str) -> str:
    """README text with all tables as the JSON has them."""
    tables = (
        ("| network | accuracy |", demo_rows(load("demo"))),
        ("| network, 5 % spikes |", speed_rows(load("speed"))),
        ("| network, on the GPU |", gpu_rows(load("gpu"))),
        ("| NIR network |", exchange_rows(load("exchange"))),
        ("| network | framework |", framework_rows(load("frameworks"))),
        (
            "| claim (accuracies in %) |",
            robustness_rows([load(f"robustness_{name}") for name in ROBUSTNESS]),
        ),
        ("| network | float | 8 bits |", quantization_rows(load("quantization"))),
        ("| energy per inference |", energy_rows([load(f"energy_{name}") for name in ROBUSTNESS])),
        (
            "| network | float | integers | how |",
            figure_rows(load("accuracy_digits"), load("accuracy_mnist"), load("mnist_mlp")),
        ),
    )
    return filled(text, tables)


def filled(text: str, tables: Iterable[tuple[str, list[str]]]) -> str:
    """A text whose tables, each known by how its head begins, have these rows."""
    for head, rows in tables:
        pattern = rf"({re.escape(head)}.*\n\|[-|]+\|\n)(?:[|@].*\n)+"
        body = "\n".join(rows).replace("\\", r"\\")
        text, count = re.subn(pattern, rf"\g<1>{body}\n", text)
        assert count == 1, head
    return text


PAGES: dict[str, Callable[[str], str]] = {"README.md": updated, "docs/limits.md": limits_updated}


def main() -> None:
    """Rewrite the pages, or with --check say whether they are up to date."""
    for name, change in PAGES.items():
        path = REPOSITORY / name
        text = path.read_text()
        if "--check" in sys.argv[1:] and change(text) != text:
            sys.exit(f"{name} is not what the JSON says")
        path.write_text(change(text))


if __name__ == "__main__":
    main()
