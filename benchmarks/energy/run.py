"""What an inference costs: spiking networks on Loihi 1 and 2, estimated, beside their ANN twin, measured.

Usage: python -m spikeship.benchmarks.energy digits
       python -m spikeship.benchmarks.energy mnist --data-root ROOT
       python -m spikeship.benchmarks.energy fashion_mnist --data-root ROOT
       ... --no-measure     without the ANN on this machine's CPU and GPU (minutes)

MLPs of one hidden layer, Poisson coded (single spikes: Loihi 1 and 2) and directly coded (graded spikes:
Loihi 2), over the number of steps T. The answer is the mean voltage of the last layer, which never
spikes; what reading it costs is not modelled. Each network is trained, quantized to 8 bits, placed on
cores, run bit for bit on the test set and counted. The counts are priced with every device for that
chip, and with one model of arithmetic and SRAM for the spiking network and the ANN alike. Every network
is trained once, every cell measured once, and kept in the work folder: an interrupted run goes on.
Prints tables; writes JSON and a picture (extra `plot`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ...hw_targets.chips.mapper import map_network
from ...hw_targets.counts.counts import CoreCounts, Counts, LayerCounts
from ...hw_targets.energy.device import Device
from ...hw_targets.energy.device_files import load_device, shipped_devices
from ...hw_targets.energy.interval import Interval
from ...hw_targets.energy.price import Price, estimate_macs
from ...models import quantized_ann, training
from ...models.data.load import load
from ...models.settings import Settings
from ...pipeline import records
from ...pipeline.deploy.deploy import deploy
from ...pipeline.deploy.run import float_accuracy
from ...pipeline.energy.fair import Fair, fair
from ...pipeline.energy.measure import baselines
from ...pipeline.energy.profile import run_on
from ..harness import NAMES, RESULTS, SEEDS, Seeded, command, finish
from . import report
from .plots import plot

_MLP = Settings.of(readout="voltage", coding="direct", levels=16, epochs=30)
_LARGER = replace(_MLP, epochs=4, batch=128, learning_rate=5e-3)
BASE = {
    "digits": _MLP,
    "mnist": replace(_LARGER, dataset="mnist"),
    "fashion_mnist": replace(_LARGER, dataset="fashion_mnist"),
}
POISSON_LEVELS = {"digits": 16, "mnist": 255, "fashion_mnist": 255}
STEPS = (1, 2, 4, 8, 16)
CHIPS = ("loihi1", "loihi2")
BITS = 8
"""Bits of every weight, the spiking networks' and the quantized ANN's."""
CALIBRATION = 128
"""Training images on which scales are chosen, of the spiking networks and of the quantized ANN."""


@dataclass(frozen=True)
class Bench(Seeded):
    """One data set and seed: what all its networks share."""

    @property
    def base(self) -> Settings:
        return replace(BASE[self.data.name], seed=self.seed)

    @property
    def networks(self) -> dict[str, Settings]:
        """The spiking ones, by name."""
        poisson = self.base.changed(coding="poisson", levels=POISSON_LEVELS[self.data.name])
        return {
            f"{name}, T = {steps}": settings.changed(steps=steps)
            for steps in STEPS
            for name, settings in (("Poisson", poisson), ("direct", self.base))
        }

    @cached_property
    def ann(self) -> training.Classifier:
        return self.trained(replace(self.base, spiking=False), "ANN")

    @cached_property
    def work(self) -> quantized_ann.Work:
        return quantized_ann.work(self.ann, self.data.test.images)

    def row(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell of this name, with name and seed."""
        return {"label": name, "seed": self.seed, **self.cell(name, measure)}


# -- the spiking networks -------------------------------------------------------------------------


def spiking(bench: Bench, name: str) -> dict[str, Any]:
    """Train, quantize, place, run, count and price one network."""
    settings = bench.networks[name]
    net = bench.trained(settings, name)
    path = bench.net_folder(name) / "integers.net"
    made = deploy(net, bench.data, calibration=CALIBRATION, seed=bench.seed)
    deployed = made.save(path)
    network = deployed.network
    real = float_accuracy(net.net, deployed.recipe, bench.data.test)
    chips: dict[str, dict[str, Any]] = {}
    for chip in CHIPS:
        mapping = map_network(network, chip)
        chips[chip] = {"violations": [f"{v.where}: {v.what}" for v in mapping.violations]}
        if not mapping.violations:
            on_chip = run_on(deployed, bench.data.test, chip, _of(chip))
            counts, accuracy = on_chip.evaluation.counts, on_chip.evaluation.accuracy
            chips[chip] |= {
                "cores": {layer.name: layer.cores for layer in mapping.layers},
                "chips": counts.chips,
                "tiles": counts.tiles,
                "counts": _totals(counts),
                "prices": {d.id: _price(on_chip.price(d)) for d in _of(chip)},
            }
    return {
        "coding": settings.coding.name,
        "steps": settings.coding.steps,
        "digest": network.digest,
        "float_accuracy": real,
        "accuracy": accuracy,
        "chips": chips,
        "fair": _fair(fair(counts, network, bench.work)),
    }


def _of(chip: str) -> list[Device]:
    return [device for device in map(load_device, shipped_devices()) if device.chip == chip]


def _totals(counts: Counts) -> dict[str, Any]:
    """Every counter, summed over samples, steps and cores; peaks: the most of one core in one step."""
    names = [
        field
        for part in (LayerCounts, CoreCounts)
        for field in part.__dataclass_fields__
        if field not in ("name", "population") and not field.endswith("_max")
    ]
    peaks = ("spikes_out_max", "synops_max", "messages_in_max")
    return {
        "samples": counts.samples,
        "steps": counts.steps,
        "input_messages": counts.input_messages,
        **{name: counts.total(name) for name in dict.fromkeys(names)},
        **{name: max(getattr(core, name) for core in counts.cores) for name in peaks},
    }


def _price(of: Price) -> dict[str, Any]:
    """Per inference; value, low and high."""

    def ends(interval: Interval | None) -> list[float] | None:
        return None if interval is None else list(interval.ends)

    return {
        "dynamic": ends(of.dynamic.interval),
        "terms": of.dynamic.terms,
        "static_used_cores": ends(of.static_used_cores),
        "static_whole_chip": ends(of.static_whole_chip),
        "overhead": ends(of.overhead),
        "total": None if of.total is None else ends(of.total.interval),
        "total_scope": None if of.total is None else of.total.scope,
        "seconds": ends(of.seconds),
        "latency": ends(of.latency),
        "edp": ends(of.edp),
        "shares": of.shares,
        "unpriced": [f"{u.name}: {u.reason}" for u in of.unpriced],
    }


def _fair(of: Fair) -> dict[str, Any]:
    opponents = [
        {
            "name": opponent.name,
            "activation_bits": opponent.activation_bits,
            "skips_zeros": opponent.skips_zeros,
            "energy": list(opponent.energy.interval.ends),
            "ratio": list(opponent.ratio.ends),
            "break_even": None if opponent.break_even is None else list(opponent.break_even.ends),
        }
        for opponent in of.opponents
    ]
    return {
        "snn": list(of.snn.interval.ends),
        "spikes_per_synapse": of.spikes_per_synapse,
        "opponents": opponents,
    }


# -- their ANN twin -------------------------------------------------------------------------------


def twin(bench: Bench) -> dict[str, Any]:
    """The ANN: accuracy by bits of its activations, work, estimates for processors."""
    bits = {BITS, *(quantized_ann.activation_bits_for(steps) for steps in STEPS)}
    images = bench.data.train.images[:CALIBRATION]

    def accuracy(activation_bits: int) -> float:
        rounded = quantized_ann.quantize(bench.ann, images, BITS, activation_bits)
        return training.accuracy(rounded, bench.data.test)

    macs, neurons = bench.work.macs, sum(layer.outputs for layer in bench.work.layers)
    prices = {}
    for device in map(load_device, shipped_devices()):
        counters = {cost.counter for cost in device.costs}
        if counters and counters <= {"macs", "neurons"}:
            energy = estimate_macs(macs, device, neurons)
            kind = {"scope": energy.scope, "lower_bound": energy.lower_bound}
            prices[device.id] = {"energy": list(energy.interval.ends), **kind}
    return {
        "accuracy": training.accuracy(bench.ann, bench.data.test),
        "accuracy_by_activation_bits": {str(b): accuracy(b) for b in sorted(bits)},
        "macs": macs,
        "nonzero_macs": bench.work.nonzero_macs,
        "weight_bytes": bench.work.weight_bytes(BITS),
        "prices": prices,
    }


def measured(bench: Bench) -> dict[str, Any]:
    """The ANN on the processors of this machine."""
    images = bench.data.train.images[:CALIBRATION]
    rows = baselines(bench.ann, bench.data.test, calibration=images, progress=print)
    return {"baselines": rows, **records.environment()}


def main(
    data: Annotated[str, typer.Argument(help=", ".join(BASE))],
    data_root: Annotated[Path | None, typer.Option()] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Default: digits 3, others 1.")] = None,
    measure: Annotated[bool, typer.Option(help="The ANN on this machine.")] = True,
    work: Annotated[Path, typer.Option(help="Networks and cells.")] = Path("runs/energy"),
    out: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Measure, print, write JSON and picture."""
    if data not in BASE:
        raise typer.BadParameter(f"{data} is unknown; choose from {', '.join(BASE)}.")
    dataset = load(data, data_root)
    benches = [
        Bench(dataset, seed, work / f"{data}-{seed}") for seed in range(seeds or SEEDS[data])
    ]
    rows = [
        bench.row(name, partial(spiking, bench, name))
        for bench in benches
        for name in bench.networks
    ]
    twins = [bench.row("ANN", partial(twin, bench)) for bench in benches]
    result = {
        "command": command(
            "energy",
            data,
            data_root=data_root,
            seeds=None if seeds == SEEDS[data] else seeds,
            no_measure=not measure,
        ),
        "data": data,
        "name": NAMES[data],
        "test_images": len(dataset.test),
        "settings": BASE[data].options(),
        "summary": report.summary(rows, twins),
        "rows": rows,
        "twins": twins,
        "measured": benches[0].row("ANN, measured", partial(measured, benches[0]))
        if measure
        else None,
    }
    path = out or RESULTS / f"energy_{data}.json"
    finish(result, path, report.tables(result), width=200, work=work)
    plot(result, path.with_suffix(".png"))
    print(f"wrote {path.with_suffix('.png')}")
