"""Counts times sourced coefficients: `estimate`, `step_seconds`, `price` and `ratio`.

Equations:

    E_dynamic = sum of coefficient x counter over a device's costs
    t_step    = max over cores(t_synop x synops + t_neuron x neurons + t_in x messages) + barrier(tiles)
    E_static  = power per used core (or whole chip) x cores (or chips) x time of an inference
    E_x86     = power of an active embedded processor x processors x time of an inference
    E_total   = E_dynamic + E_static + E_x86;        EDP = E_total x latency

An estimate is of the scope that its device names and nothing else; what has no figure is listed in
`unpriced`, never taken as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..counts.counts import Counts
from .device import Coefficient, Device, DeviceError, StaticScope, Unpriced, same_chip
from .energy import Energy, edp
from .interval import Interval

ON_CHIP = (
    "messages_in",
    "axon_out",
    "messages_same_tile",
    "hops_ew",
    "hops_ns",
    "messages_off_chip",
)
"""Counters that mean something only where neurons are placed on the cores of a chip."""

UNPLACED = "needs neurons placed on the cores of a chip"
UNTIMED = "needs the time of an inference, which the device's figures do not give"
GRADED = (
    "graded spikes are priced as binary ones: an assumption (Intel's brief calls the difference of an "
    "8-bit payload negligible; nobody published a figure)"
)

Events = Mapping[str, float | None]


def readings(counts: Counts) -> tuple[Events, Events, Events]:
    """Every counter that a cost may multiply, summed over samples; None: not counted in this run.

    Three times, as nobody published which neuron updates are active: in the middle, if only neurons
    that spike are, and if all with a state that is not zero are (all neurons where that was not
    counted). `neuron_updates_nonzero` is SANA-FE's definition: the last of these, where counted.
    Counters of `ON_CHIP` are None without a placement on a chip.
    """
    updates, spikes = counts.total("neuron_updates"), counts.total("spikes_out")
    known = all(layer.neuron_updates_active is not None for layer in counts.layers)
    most = counts.total("neuron_updates_active") if known else updates
    common: dict[str, float | None] = {
        name: counts.total(name)
        for name in ("synops", "synops_fanout", "effective_acs", "effective_macs")
    }
    common |= {name: None if counts.chip is None else counts.total(name) for name in ON_CHIP}
    common |= {
        "neuron_updates": updates,
        "spikes_out": spikes,
        "input_messages": counts.input_messages,
        "steps": counts.samples * counts.steps,
    }

    def read(active: float, nonzero: float) -> Events:
        return {
            **common,
            "neuron_updates_active": active,
            "neuron_updates_inactive": updates - active,
            "neuron_updates_nonzero": nonzero,
        }

    least = most if known else spikes
    return read((spikes + most) / 2, most), read(spikes, least), read(most, most)


def estimate(counts: Counts, device: Device) -> Energy:
    """Dynamic energy of a counted run on a neuromorphic device, summed over its samples.

    E = sum of cost x counter. Ends: over the ends of every cost (over the sets of a device's corners
    where it has some) and over the `readings` of active neurons. Synapses of weight zero are free, as
    Loihi 2's counter skips them, unless a device prices `synops_fanout`. Raises DeviceError for counts on
    another chip than the device's, and for devices that price other things.
    """
    same_chip(device, counts.chip)
    graded = device.kind == "neuromorphic" and counts.total("effective_macs") > 0
    energy = _energy(readings(counts), device)
    return replace(energy, notes=(GRADED,)) if graded else energy


def estimate_macs(macs: int, device: Device, neurons: int | None = None) -> Energy:
    """Energy of one pass of a network with so many multiply-adds (and neurons) on a processor.

    E = e_mac x macs (+ e_neuron x neurons where the device prices neurons). Raises DeviceError for
    devices that price other things.
    """
    events: dict[str, float | None] = {"macs": macs}
    return price_events(events if neurons is None else {**events, "neurons": neurons}, device)


def price_events(events: Events, device: Device) -> Energy:
    """Energy of counted events, by the names of `device.COUNTERS`; None: not known.

    Raises DeviceError for devices that price other things, or none that is known.
    """
    return _energy((events,), device)


def _energy(runs: Sequence[Events], device: Device) -> Energy:
    """The first of `runs` gives the value, all together the ends."""
    surplus = sorted({c.counter for c in device.costs} - set(runs[0]))
    if surplus:
        raise DeviceError(
            f"device {device.id} prices {', '.join(map(repr, surplus))}, which this run does not count "
            f"(counted: {', '.join(runs[0])}). Use a device of the right kind."
        )
    priced = [c for c in device.costs if runs[0][c.counter] is not None]
    if not priced:
        raise DeviceError(f"device {device.id}: no cost has a figure that applies to this run.")
    values = {c.name: c.value for c in priced}
    lows, highs = {c.name: c.low for c in priced}, {c.name: c.high for c in priced}
    sets = [values]
    for corner in device.corners or ({},):
        own = {name: cost for name, cost in corner.items() if name in values}
        sets += [{**lows, **own}, {**highs, **own}]
    totals = [_sum(costs, priced, events) for costs in sets for events in runs]
    terms = {
        c.name: (
            c.value * _count(c, runs[0]),
            min(c.low * _count(c, events) for events in runs),
            max(c.high * _count(c, events) for events in runs),
        )
        for c in priced
    }
    missing = [Unpriced(c.name, c.counter, UNPLACED) for c in device.costs if c not in priced]
    missing += [u for u in device.unpriced if u.group == "cost" and runs[0].get(u.counter) != 0]
    return Energy(
        totals[0],
        min(totals),
        max(totals),
        device.scope,
        device.id,
        terms,
        tuple(missing),
        {c.name: c.basis for c in priced},
        device.lower_bound,
    )


def _count(cost: Coefficient, events: Events) -> float:
    count = events[cost.counter]
    assert count is not None
    return count


def _sum(costs: Mapping[str, float], priced: Sequence[Coefficient], events: Events) -> float:
    return sum(costs[c.name] * _count(c, events) for c in priced)


@dataclass(frozen=True)
class Price:
    """What one inference costs on a device, in joules; None: not known, and `unpriced` says why.

    `dynamic`: what the events cost; `modelled`: the same times the device's model factor, which
    `model_note` explains (kept apart: it describes the model's error and no coefficient's). Static energy
    in both scopes; the device's `static_scope` enters `total`. `overhead`: the embedded processors.
    `shares`: part of the total, or of the dynamic energy where it is unknown, that rests on each basis.
    `partial`: whether something that belongs to the total has no figure.
    """

    device: str
    dynamic: Energy
    modelled: Interval | None
    model_note: str
    static_used_cores: Interval | None
    static_whole_chip: Interval | None
    static_scope: StaticScope
    overhead: Interval | None
    total: Energy | None
    seconds: Interval | None
    latency: Interval | None
    edp: Interval | None
    shares: Mapping[str, float]
    unpriced: tuple[Unpriced, ...]
    partial: bool


def price(
    counts: Counts,
    device: Device,
    seconds: Interval | None,
    latency: Interval | None = None,
    *,
    processors: int = 1,
) -> Price:
    """Price one inference of a counted run.

    `seconds`: its time on the chip, from `inference_seconds` or any other source; None: not known, then
    nothing that costs power is priced. `latency` (default: `seconds`) multiplies the total to the EDP.
    `processors`: active embedded processors of each chip. Raises DeviceError as `estimate` does.
    """
    dynamic = estimate(counts, device) / counts.samples
    latency = latency or seconds
    amounts = {
        "used_cores": len(counts.cores) if counts.chip else None,
        "chips": counts.chips if counts.chip else None,
        "processors": processors * counts.chips if counts.chip else None,
    }
    powers: dict[str, dict[str, Interval]] = {name: {} for name in amounts}
    missing = {name: [u for u in device.unpriced if u.counter == name] for name in amounts}
    for c in device.of("power"):
        amount = amounts[c.counter]
        if amount is None:
            missing[c.counter].append(Unpriced(c.name, c.counter, UNPLACED, "power"))
        elif seconds is None:
            missing[c.counter].append(Unpriced(c.name, c.counter, UNTIMED, "power"))
        else:
            powers[c.counter][c.name] = c.interval * seconds * amount
    own = "used_cores" if device.static_scope == "used_cores" else "chips"
    if not powers[own] and not missing[own]:
        missing[own].append(Unpriced("static", own, "the device has no figure for it", "power"))
    used, whole, overhead = (
        None if missing[name] or not powers[name] else _total(powers[name].values())
        for name in ("used_cores", "chips", "processors")
    )
    total = None
    if not missing[own] and not missing["processors"]:
        total = _with_power(dynamic, device, {**powers[own], **powers["processors"]})
    unpriced = (*dynamic.unpriced, *missing[own], *missing["processors"])
    return Price(
        device=device.id,
        dynamic=dynamic,
        modelled=_modelled(dynamic, device),
        model_note=device.model.note if device.model else "",
        static_used_cores=used,
        static_whole_chip=whole,
        static_scope=device.static_scope,
        overhead=overhead,
        total=total,
        seconds=seconds,
        latency=latency,
        edp=None if total is None or latency is None else edp(total, latency),
        shares=(total or dynamic).shares,
        unpriced=unpriced,
        partial=bool(unpriced),
    )


def _total(parts: Iterable[Interval]) -> Interval:
    return sum(parts, Interval.exact(0))


def _modelled(dynamic: Energy, device: Device) -> Interval | None:
    if device.model is None:
        return None
    return dynamic.interval * Interval(1, device.model.low, device.model.high)


def _with_power(dynamic: Energy, device: Device, power: Mapping[str, Interval]) -> Energy:
    """Dynamic energy, static energy and overhead as one energy of a wider scope."""
    whole = dynamic.interval + _total(power.values())
    static = device.static_scope.replace("_", " ").replace("chip", "chips")
    bases = {c.name: c.basis for c in device.of("power") if c.name in power}
    over = any(c.counter == "processors" and c.name in power for c in device.of("power"))
    return replace(
        dynamic,
        joules=whole.value,
        low=whole.low,
        high=whole.high,
        scope=f"{device.scope} + static of {static}" + (" + embedded processors" if over else ""),
        terms={**dynamic.terms, **{name: part.ends for name, part in power.items()}},
        bases={**dynamic.bases, **bases},
    )


def ndns_power_proxy(counts: Counts, seconds: float) -> float:
    """Operations per second, (synops + 10 x neuron updates) / `seconds` of an inference.

    The N-DNS challenge's stand-in for power: its authors say that a neuron update takes about ten times
    the energy of a synop on Loihi 2.
    """
    operations = counts.total("synops") + 10 * counts.total("neuron_updates")
    return operations / counts.samples / seconds


def ndns_pdp_proxy(counts: Counts, seconds: float, latency: float) -> float:
    """Operations: `ndns_power_proxy` x `latency` in seconds."""
    return ndns_power_proxy(counts, seconds) * latency
