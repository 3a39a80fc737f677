"""What an honest report of a spiking network's energy has to say, point by point, of one `Profile`.

After the critiques of such reports: Yan, Bai and Wong (arXiv:2409.08290), Dampfhoffer et al. (TETCI 7(3),
2023), Davidson and Furber (Front. Neurosci. 15:651141, 2021), NeuroBench's system track. What is not
known is a point that says so, never one left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...hw_targets.counts.counts import Counts
from ..text import answers_text, percent, span
from .profile import Profile

NOT_AVAILABLE = "not available"
NO_ANN = f"{NOT_AVAILABLE}: no ANN was given (--ann)"


@dataclass(frozen=True)
class Point:
    """One point of the checklist."""

    number: int
    title: str
    text: str


def checklist(p: Profile) -> tuple[Point, ...]:
    """All points, in order."""
    return tuple(
        Point(i, title, "; ".join(text(p)) + ".") for i, (title, text) in enumerate(_POINTS, 1)
    )


def _time(p: Profile) -> Iterator[str]:
    yield f"T = {p.steps} steps, latency {p.latency_steps} steps more for the first answer"
    for device, price in zip(p.devices, p.prices, strict=True):
        if price.seconds is None:
            yield f"{device.id}: time per step {NOT_AVAILABLE}, no times per operation are published"
            continue
        how = (
            "given" if p.step_seconds is not None else "modelled from the device's operation times"
        )
        yield f"{device.id}: {span(price.seconds / p.steps, 's')} per step, {how}"


def _accuracy(p: Profile) -> Iterator[str]:
    samples = p.first_counts.samples
    yield f"integers {answers_text(p.accuracy, p.error)} ({samples:,} test samples of {p.data})"
    if p.accuracy is None and p.error is None:
        pass
    elif p.float_accuracy is None and p.float_error is None:
        yield f"float spiking network {NOT_AVAILABLE}: no .nir file beside the .net file"
    else:
        yield f"float spiking network {answers_text(p.float_accuracy, p.float_error)}"
    if p.ann is None:
        yield NO_ANN
        return
    yield f"ANN float32 {p.ann.answers[0]}"
    yield (
        f"ANN with {p.ann.weight_bits}-bit weights, as here, and 8-bit activations "
        f"{p.ann.answers[1]}"
    )


def _bits(p: Profile) -> Iterator[str]:
    if p.ann is None:
        yield NO_ANN
        return
    yield "each energy of the ANN names its precision"
    yield (
        f"as many levels as {p.steps} steps have spike counts need ceil(log2(T + 1)) = "
        f"{p.ann.few_bits} bits: with such activations the ANN has {p.ann.answers[2]}"
    )


def _batches(p: Profile) -> Iterator[str]:
    rows = p.ann.baselines if p.ann is not None else ()
    if not rows:
        yield f"measured ANN {NOT_AVAILABLE}: not asked for (--measure)" if p.ann else NO_ANN
        return
    for row in rows:
        used = "utilisation unknown" if row.utilisation is None else percent(row.utilisation)
        rate = NOT_AVAILABLE if row.macs_per_second is None else f"{row.macs_per_second:.3g} MAC/s"
        best = ", best" if row.best else ""
        yield f"{row.precision} on {row.processor}, batch {row.batch}{best}: {rate}, {used}"


def _parts(p: Profile) -> Iterator[str]:
    for device, price in zip(p.devices, p.prices, strict=True):
        parts = {
            "dynamic": price.dynamic.interval,
            "static of used cores": price.static_used_cores,
            "static of whole chips": price.static_whole_chip,
            "embedded processors": price.overhead,
            "total": None if price.total is None else price.total.interval,
        }
        shown = (
            f"{name} {NOT_AVAILABLE if value is None else span(value, 'J')}"
            for name, value in parts.items()
        )
        yield f"{device.id}: {', '.join(shown)}"
    yield "static is the idle power of powered cores or chips; host and board are in no figure"


def _data_movement(p: Profile) -> Iterator[str]:
    for chip, mapping in p.mappings.items():
        c = p.counts[chip]
        per = c.samples
        yield (
            f"{chip}: cores {mapping.cores}, tiles {c.tiles}, chips {c.chips}; "
            f"{c.total('axon_out') / per:,.0f} messages between cores, "
            f"{c.total('hops_ew') / per:,.0f} hops east or west, {c.total('hops_ns') / per:,.0f} north "
            f"or south, {c.total('messages_off_chip') / per:,.0f} messages to other chips"
        )
    first = p.first_counts
    yield (
        f"not modelled: off-chip input and output ({first.input_messages / first.samples:,.0f} "
        f"messages come in per inference) and the encoding of images, which the host does"
    )


def _conventions(p: Profile) -> Iterator[str]:
    c = p.first_counts
    zero = c.total("synops_fanout") - c.total("synops")
    yield (
        f"deliveries through weights of zero are not priced, as Loihi 2's counter skips them: "
        f"{zero / c.samples:,.0f} per inference beside {c.total('synops') / c.samples:,.0f}"
    )
    ann = "" if p.ann is None else f", those of the ANN in float32 {p.ann.work.footprint_bytes:,}"
    yield (
        f"{percent(p.connection_sparsity)} of weights are zero; weights and biases take "
        f"{p.footprint_bytes:,} bytes{ann}"
    )
    if macs := c.total("effective_macs"):
        yield (
            f"{macs / c.samples:,.0f} of the synops are of graded messages, priced as binary ones: an "
            f"assumption"
        )
    else:
        yield "all messages are -1, 0 or 1"


def _loads(p: Profile) -> Iterator[str]:
    c = p.first_counts
    yield f"{percent(1 - c.activation_sparsity)} of neuron outputs are spikes"
    busiest = _busiest(p.first_counts)
    if busiest is not None:
        yield busiest
    text = f"{c.spikes_per_synapse:.3g} spikes per synapse and inference"
    if p.ann is None:
        yield f"{text}; break-even {NO_ANN}"
        return
    points = []
    for opponent in p.ann.fair.opponents:
        even = opponent.break_even
        points.append(f"{opponent.name} {'no' if even is None else span(even, '')}")
    yield f"{text}; break-even with the ANN in one model of arithmetic and SRAM: {', '.join(points)}"


def _busiest(counts: Counts) -> str | None:
    """The core with most synops in one step."""
    if counts.chip is None:
        return None
    k = max(range(len(counts.cores)), key=lambda i: counts.cores[i].synops_max)
    core = counts.cores[k]
    return (
        f"{counts.chip}: in one step at most {core.synops_max:,} synops and "
        f"{core.messages_in_max:,} messages, on core {k} ({counts.layers[core.population].name})"
    )


def _sources(p: Profile) -> Iterator[str]:
    for device, price in zip(p.devices, p.prices, strict=True):
        shares = ", ".join(f"{percent(part)} {basis}" for basis, part in price.shares.items())
        yield f"{device.id} rests on figures that are {shares}"
    yield "`spikeship devices NAME` lists every figure with its source and interval"


def _process(p: Profile) -> Iterator[str]:
    devices = (*p.devices, *(p.ann.devices if p.ann is not None else ()))
    for d in devices:
        node = "node unknown" if d.node_nm is None else f"{d.node_nm:g} nm"
        yield f"{d.id}: {node}, {d.year}"
    yield "a difference between nodes is no difference between architectures"


def _raw(p: Profile) -> Iterator[str]:
    yield "--json has all counts by layer and core, and all coefficients, to price again"
    yield f"network digest {p.digest[:12]}"


def _wording(p: Profile) -> Iterator[str]:
    yield "energies of the spiking network are estimated"
    taken = [c for c in p.comparisons if c.value is not None]
    refused = len(p.comparisons) - len(taken)
    yield (
        f"ratios of devices: {len(taken)}, as intervals; {refused} refused, as scopes differ or a "
        f"figure is missing"
    )
    if any(c.mixed for c in taken):
        yield "some are across scopes, by --allow-mixed-scope: they compare parts with wholes"


_POINTS: tuple[tuple[str, Callable[[Profile], Iterator[str]]], ...] = (
    ("time", _time),
    ("accuracy of both", _accuracy),
    ("bits of the ANN", _bits),
    ("batch 1 and best batch", _batches),
    ("parts of the energy", _parts),
    ("data movement", _data_movement),
    ("conventions", _conventions),
    ("loads and break-even", _loads),
    ("sources", _sources),
    ("process", _process),
    ("raw counts", _raw),
    ("wording", _wording),
)
