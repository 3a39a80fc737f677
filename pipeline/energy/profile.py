"""What an inference costs: the spiking network on chips, its ANN twin beside it, each figure sourced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.chips.chip import Chip
from ...hw_targets.chips.mapper import Mapping as ChipMapping
from ...hw_targets.chips.mapper import map_network
from ...hw_targets.chips.messages import message_problems
from ...hw_targets.chips.table import CHIPS
from ...hw_targets.counts.counts import Counts
from ...hw_targets.counts.placement import layer_per_core
from ...hw_targets.energy.device import Device, DeviceError
from ...hw_targets.energy.device_files import load_device
from ...hw_targets.energy.energy import Energy, ScopeError, ratio
from ...hw_targets.energy.interval import Interval
from ...hw_targets.energy.price import Price, estimate_macs, price
from ...hw_targets.energy.step_time import inference_seconds
from ...hw_targets.energy.step_time import step_seconds as step_times
from ...hw_targets.network.bits import connection_sparsity, footprint_bytes
from ...hw_targets.network.network import Network
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.printed import Printed, View
from ...hw_targets.simulate.trace import Activity, Overflow
from ...models.quality import Quality
from ..deploy.deployed import Deployed
from ..deploy.run import Evaluation, encoded, evaluate
from ..text import answers_text

if TYPE_CHECKING:
    import nir

    from ...models.ann import AnyAnn
    from ...models.data.dataset import Dataset, Split
    from ...models.quantized_ann import Work
    from .fair import Fair
    from .measure import Baseline


ANN_DEVICES = ("cmos45-horowitz-int8", "cmos45-horowitz-fp32")
CALIBRATION = 500
"""Training images that a quantized ANN's ranges are chosen on; as many test images show its zeros."""
NONE = "none"
"""In place of the scope of an energy that is not known."""
LAYERS = "layers"
"""In place of a chip's name: each layer one core."""
SHIPPED = tuple(CHIPS.values())
"""What networks are priced on where no other chips are given."""


@dataclass(frozen=True)
class AnnTwin:
    """The ANN of the same task, per inference.

    `accuracy`: float32; `quantized_accuracy`: weights of `weight_bits`, as the spiking network has, and
    activations of 8; `few_bits_accuracy`: activations of `few_bits` = ceil(log2(T + 1)), for as many
    levels as spike counts have; of regression all are None, and `errors` has the three rms errors.
    `energies`: its multiply-adds on arithmetic and processor devices.
    `fair`: both networks in one model. `baselines`: measured on this machine, if asked for.
    """

    accuracy: float | None
    weight_bits: int
    quantized_accuracy: float | None
    few_bits: int
    few_bits_accuracy: float | None
    work: Work
    devices: tuple[Device, ...]
    energies: tuple[Energy, ...]
    fair: Fair
    baselines: tuple[Baseline, ...] = ()
    errors: tuple[float, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """How good the three are, in words: in float32, with 8-bit activations, with `few_bits`."""
        if self.errors:
            return tuple(answers_text(None, error) for error in self.errors)
        accuracies = (self.accuracy, self.quantized_accuracy, self.few_bits_accuracy)
        return tuple(answers_text(accuracy) for accuracy in accuracies)


@dataclass(frozen=True)
class Comparison:
    """Energy of the spiking network over the ANN's; `value` None where `refused` says why not."""

    snn: str
    ann: str
    snn_scope: str
    ann_scope: str
    value: Interval | None
    refused: str = ""

    @property
    def mixed(self) -> bool:
        """Whether the scopes differ: a part over a whole, taken only if asked for."""
        return self.snn_scope != self.ann_scope


@dataclass(frozen=True, repr=False)
class Profile(Printed):
    """One network on one data set; energies in joules per inference.

    `accuracy`, `float_accuracy`: of integers and float network; of regression instead `error` and
    `float_error`, see `Quality`; all are None where there are no labels.
    `counts` (over all samples) and `mappings` by chip, "layers" where each layer is one core. `prices`
    follow `devices`. `step_seconds`: the time of a step that was given, else None: the devices' own.
    `connection_sparsity`, `footprint_bytes`: see `hw_targets.network.bits`.
    """

    digest: str
    data: str
    accuracy: float | None
    float_accuracy: float | None
    overflow: tuple[Overflow, ...]
    counts: Mapping[str, Counts]
    mappings: Mapping[str, ChipMapping]
    devices: tuple[Device, ...]
    prices: tuple[Price, ...]
    step_seconds: float | None
    latency_steps: int
    connection_sparsity: float
    footprint_bytes: int
    ann: AnnTwin | None
    comparisons: tuple[Comparison, ...]
    error: float | None = None
    float_error: float | None = None

    @property
    def steps(self) -> int:
        return self.first_counts.steps

    @property
    def first_counts(self) -> Counts:
        """`Counts` on the first chip; what layers count is the same on all."""
        return next(iter(self.counts.values()))

    def counts_for(self, device: Device) -> Counts:
        """What the prices of a device are of."""
        return self.counts[device.chip or LAYERS]

    def views(self) -> Sequence[View]:
        """Accuracies, counts, energies, ratios, and what is not modelled."""
        from ..cli.profile import profile_views

        return profile_views(self)


def default_devices(network: Network, chips: Collection[Chip] = SHIPPED) -> tuple[str | Path, ...]:
    """The devices of the chips that carry the network's messages; where none does, those of all."""
    carry = [chip for chip in chips if not message_problems(network, chip.payload)]
    return tuple(chip.device for chip in carry or chips if chip.device is not None)


def check_carries(network: Network, device: Device, chips: Collection[Chip] = SHIPPED) -> None:
    """Raise DeviceError where a device's chip cannot carry the network's messages."""
    payloads = {chip.id: chip.payload for chip in chips}
    if device.chip and (problems := message_problems(network, payloads[device.chip])):
        raise DeviceError(
            f"{device.id}: {device.name} cannot carry this network: {' '.join(problems)} Or leave the "
            f"device out."
        )


def profile(
    deployed: Deployed,
    data: Dataset,
    devices: Sequence[str | Path] | None = None,
    *,
    chips: Collection[Chip] = SHIPPED,
    samples: int | None = None,
    ann: AnyAnn | None = None,
    measure: Callable[[AnyAnn, Split], tuple[Baseline, ...]] | None = None,
    float_accuracy: float | None = None,
    step_seconds: float | None = None,
    allow_mixed_scope: bool = False,
    progress: bool = False,
) -> Profile:
    """Count (the first `samples` of) the test data in the engine, and price it.

    `devices`: names or paths (None: `default_devices`); neuromorphic ones price the network, on the
    cores that the mapper gives it, others the ANN. `chips`: what devices may be of, in place of those
    that ship. `measure`: measures the ANN, see `measure.baselines`. `float_accuracy`: of the float
    network, on all those samples; None: measured on `deployed.graph`, if there is one. `step_seconds`:
    time of a step in place of what devices say. Raises DeviceError for a device whose chip cannot carry
    the network's messages.
    """
    network = deployed.network
    chosen = [load_device(d, chips) for d in devices or default_devices(network, chips)]
    spiking, others = _sides(network, chosen, chips, ann is not None)
    known = {chip.id: chip for chip in chips}
    runs = {
        name: run_on(
            deployed, data.test, known.get(name, LAYERS), spiking, samples, progress=progress
        )
        for name in dict.fromkeys(d.chip or LAYERS for d in spiking) or {LAYERS: None}
    }
    counts = {chip: run.evaluation.counts for chip, run in runs.items()}
    evaluation = next(iter(runs.values())).evaluation
    prices = [runs[device.chip or LAYERS].price(device, step_seconds) for device in spiking]
    twin = None
    if ann is not None:
        same = data.test if samples is None else data.test.first(samples)
        twin = _twin(network, evaluation.counts, ann, data.train, same, others)
        if measure is not None:
            twin = replace(twin, baselines=measure(ann, same))
    floating = Quality(0, float_accuracy)
    if float_accuracy is None and deployed.graph is not None:
        floating = graph_quality(deployed.graph, deployed.recipe, data.test, samples)
    return Profile(
        network.digest,
        data.name,
        evaluation.accuracy,
        floating.accuracy,
        evaluation.overflow,
        counts,
        {chip: run.mapping for chip, run in runs.items() if run.mapping is not None},
        tuple(spiking),
        tuple(prices),
        step_seconds,
        network.latency,
        connection_sparsity(network),
        footprint_bytes(network),
        twin,
        () if twin is None else tuple(_comparisons(prices, twin, allow_mixed_scope)),
        evaluation.quality.error,
        floating.error,
    )


def graph_quality(
    graph: nir.NIRGraph, recipe: Recipe, split: Split, samples: int | None = None
) -> Quality:
    """How good the float network's answers are, on the very inputs that the integers get."""
    from ..verify.sides import float_layers, float_side

    layers, scores, labels = float_layers(graph), [], []
    for messages, truth in encoded(recipe, split, samples):
        scores.append(float_side(graph, layers, messages, recipe).scores)
        labels.append(truth)
    return Quality.of(np.concatenate(scores), np.concatenate(labels))


def _sides(
    network: Network, devices: Sequence[Device], chips: Collection[Chip], ann: bool
) -> tuple[list[Device], list[Device]]:
    """Devices of the spiking network, and of the ANN."""
    spiking = [d for d in devices if d.kind == "neuromorphic"]
    others = [d for d in devices if d.kind != "neuromorphic"]
    for device in spiking:
        check_carries(network, device, chips)
    if others and not ann:
        raise DeviceError(f"{others[0].id} prices an ANN: give its checkpoint with --ann.")
    return spiking, others or [load_device(d) for d in ANN_DEVICES]


@dataclass(frozen=True)
class OnChip:
    """A network on one chip; `seconds`: mean time of an inference by device, None: unknown."""

    network: Network
    evaluation: Evaluation
    mapping: ChipMapping | None
    seconds: Mapping[str, Interval | None]

    def price(self, device: Device, step_seconds: float | None = None) -> Price:
        """`Price` of an inference where one follows the other without gap; an answer takes the network's
        latency longer. `step_seconds`: time of a step in place of what the device says."""
        counts = self.evaluation.counts
        seconds = self.seconds[device.id]
        if step_seconds is not None:
            seconds = Interval.exact(step_seconds * counts.steps)
        longer = (counts.steps + self.network.latency) / counts.steps
        return price(counts, device, seconds, None if seconds is None else seconds * longer)


def run_on(
    deployed: Deployed,
    split: Split,
    chip: Chip | str,
    devices: Sequence[Device],
    samples: int | None = None,
    *,
    progress: bool = False,
) -> OnChip:
    """Map on `chip` ("layers": each layer one core), run and count (the first `samples` of) a data set.

    Steps are timed with those of `devices` that are of this chip.
    """
    network = deployed.network
    mapping = None if chip == LAYERS else map_network(network, chip)
    placement = layer_per_core(network) if mapping is None else mapping.placement
    name = chip.id if isinstance(chip, Chip) else chip
    devices_on_chip = [d for d in devices if (d.chip or LAYERS) == name]
    by_device: dict[str, list[NDArray[np.float64]]] = {d.id: [] for d in devices_on_chip}

    def observe(activity: Activity) -> None:
        for device in devices_on_chip:
            times = step_times(activity, placement, device)
            if times is not None:
                by_device[device.id].append(times)

    evaluation = evaluate(
        deployed, split, samples, placement=placement, observe=observe, progress=progress
    )
    seconds = {
        name: inference_seconds(np.concatenate(times, axis=1)) if times else None
        for name, times in by_device.items()
    }
    return OnChip(deployed.network, evaluation, mapping, seconds)


def _twin(
    network: Network,
    counts: Counts,
    ann: AnyAnn,
    train: Split,
    test: Split,
    devices: Sequence[Device],
) -> AnnTwin:
    from ...models import quantized_ann, training
    from .fair import fair

    seen = train.images[:CALIBRATION]
    work = quantized_ann.work(ann, test.images[:CALIBRATION])
    both = fair(counts, network, work)
    few = quantized_ann.activation_bits_for(counts.steps)
    rounded = [quantized_ann.quantize(ann, seen, both.weight_bits, bits) for bits in (8, few)]
    qualities = [training.quality(net, test) for net in (ann, *rounded)]
    accuracies = [quality.accuracy for quality in qualities]
    neurons = sum(layer.outputs for layer in work.layers)
    return AnnTwin(
        accuracies[0],
        both.weight_bits,
        accuracies[1],
        few,
        accuracies[2],
        work,
        tuple(devices),
        tuple(estimate_macs(work.macs, device, neurons) for device in devices),
        both,
        errors=tuple(quality.error for quality in qualities if quality.error is not None),
    )


def _comparisons(
    prices: Sequence[Price], twin: AnnTwin, allow_mixed_scope: bool
) -> Iterator[Comparison]:
    """Each of the network's energies over each of the ANN's, where their scopes allow it."""
    theirs: list[tuple[str, Energy | None]] = [(energy.device, energy) for energy in twin.energies]
    theirs += [(_row(row), _measured(row)) for row in twin.baselines]
    for priced in prices:
        for name, other in theirs:
            mine = priced.total or priced.dynamic
            scopes = mine.scope, NONE if other is None else other.scope
            try:
                value = ratio(
                    mine, other, allow_mixed_scope=allow_mixed_scope, allow_lower_bound=True
                )
            except ScopeError as error:
                yield Comparison(priced.device, name, *scopes, None, str(error))
            else:
                yield Comparison(priced.device, name, *scopes, value)


def _row(row: Baseline) -> str:
    batch = "" if row.batch is None else f", batch {row.batch}"
    return f"{row.precision}, {row.name or row.processor}{batch}"


def _measured(row: Baseline) -> Energy | None:
    """A baseline's reading as an energy, two standard errors to each side; None where there is none."""
    joules, error = row.energy.joules, 2 * (row.energy_error or 0.0)
    if joules is None:
        return None
    return Energy(joules, max(0.0, joules - error), joules + error, row.energy.scope, _row(row))
