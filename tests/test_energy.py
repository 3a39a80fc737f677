"""Pricing counts: published formulas and figures, intervals, times, totals, ratios, invariants."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.hw_targets.counts.counts import (
    CoreCounts,
    Counts,
    LayerCounts,
    activity_of,
    count,
    tally,
)
from spikeship.hw_targets.counts.placement import Core, Mesh, Placement, layer_per_core
from spikeship.hw_targets.energy.device import (
    COUNTERS,
    Barrier,
    Coefficient,
    Device,
    DeviceError,
    Unpriced,
)
from spikeship.hw_targets.energy.device_files import load_device, shipped_devices
from spikeship.hw_targets.energy.energy import Energy, ScopeError, edp, ratio
from spikeship.hw_targets.energy.interval import Interval
from spikeship.hw_targets.energy.price import (
    estimate,
    estimate_macs,
    ndns_pdp_proxy,
    ndns_power_proxy,
    price,
    price_events,
    readings,
)
from spikeship.hw_targets.energy.step_time import inference_seconds, step_seconds
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input, NeuronLayer
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate.reference import simulate
from spikeship.hw_targets.simulate.trace import Activity
from spikeship.pipeline import records

COUNTS = Counts((LayerCounts("0:dense", 100, 50, 30, 4000, 5000, 800, 9000),), 1, 8, "digest")
SPIKING = [
    n for n in shipped_devices() if load_device(n).kind == "neuromorphic" and load_device(n).costs
]
MESH = Mesh(128, 4, 4)


def placed(chip: str = "loihi1", samples: int = 1, chips: int = 1, **events: int) -> Counts:
    """Counts of one layer on one core, with these events and no others."""
    unknown: dict[str, Any] = {"neuron_updates_active": None}
    core = {f.name: events.get(f.name, unknown.get(f.name, 0)) for f in fields(CoreCounts)}
    layer = {name: core.get(name, events.get(name, 0)) for name in LayerCounts.__dataclass_fields__}
    layer["name"] = "0:dense"
    return Counts(
        (LayerCounts(**layer),),
        samples,
        events.get("steps", 1),
        "digest",
        (CoreCounts(**core),),
        events.get("input_messages", 0),
        chip,
        chips,
        events.get("tiles", 1),
    )


def device(**changes: Any) -> Device:
    """Synops at 2 [1, 4] J, neurons at 3 J; a core 5 W, an embedded processor 7 [6, 9] W."""
    rest = ("x", "measured", "us", "A")
    made = Device(
        id="mine", name="Mine", kind="neuromorphic", chip="loihi1", scope="core dynamic", node_nm=None,
        vdd_v=None, year=2026, static_scope="used_cores", arithmetic_only=False, lower_bound=False, note="",
        coefficients=(
            Coefficient("synop", "cost", "synops", 2, 1, 4, *rest),
            Coefficient("neuron", "cost", "neuron_updates", 3, 3, 3, "x", "assumed", "us", "A"),
            Coefficient("core", "power", "used_cores", 5, 5, 5, *rest),
            Coefficient("x86", "power", "processors", 7, 6, 9, *rest),
        ),
        barrier=None, corners=(), model=None, unpriced=(),
    )  # fmt: skip
    return replace(made, **changes)


# -- published formulas and figures ----------------------------------------------------------------

SANAFE = {
    "same core": (
        {"synops": 4740, "neuron_updates": 1200, "neuron_updates_active": 1170, "spikes_out": 671, "axon_out": 158},
        (168_270.0, 133_212.3, 17_538.0, 319_020.3),
    ),
    "tile 0 to 9": (
        {"synops": 5340, "neuron_updates": 1200, "neuron_updates_active": 1169, "spikes_out": 648, "axon_out": 178,
             "hops_ew": 356, "hops_ns": 178},
        (189_570.0, 131_596.8, 21_573.6, 342_740.4),
    ),
}  # fmt: skip
"""Two runs of SANA-FE 2.2.9 (30 LIF neurons, 40 steps): events, and pJ of synapses, soma, network, all."""


@pytest.mark.parametrize("run", SANAFE)
def test_sanafe(run: str) -> None:
    events, expected = SANAFE[run]
    energy = estimate(placed(**events), load_device("loihi1-sanafe"))
    groups = (
        ("synop",),
        ("soma_access", "soma_update", "soma_spike"),
        ("axon_out", "hop_ew", "hop_ns"),
    )
    found = [sum(energy.terms[name][0] for name in group) * 1e12 for group in groups]
    assert [*found, energy.joules * 1e12] == pytest.approx(expected, rel=1e-9)
    value, low, high = energy.terms["soma_update"]  # its definition of "updated" is known
    assert value == low == high


def test_davies() -> None:
    """synops * 23.6 (to 35.5) pJ + updates at 81 pJ active, 52 pJ inactive; see `readings`."""
    energy = estimate(COUNTS, load_device("loihi1-davies2018"))
    assert energy.low == pytest.approx(1e-12 * (4000 * 23.6 + 30 * 81 + 770 * 52), rel=1e-9)
    assert energy.high == pytest.approx(1e-12 * (4000 * 35.5 + 800 * 81), rel=1e-9)
    middle = 1e-12 * (4000 * 23.6 + 415 * 81 + 385 * 52)
    assert energy.joules == pytest.approx(middle, rel=1e-9)
    assert {u.name for u in energy.unpriced} >= {"message_same_tile", "hop_ew", "barrier"}
    assert energy.scope == "core dynamic"
    assert energy.terms["neuron_inactive"][1:] == pytest.approx((0, 770 * 52e-12))
    known = replace(COUNTS, layers=(replace(COUNTS.layers[0], neuron_updates_active=200),))
    energy = estimate(known, load_device("loihi1-davies2018"))
    assert energy.low == pytest.approx(1e-12 * (4000 * 23.6 + 30 * 81 + 770 * 52), rel=1e-9)
    assert energy.high == pytest.approx(1e-12 * (4000 * 35.5 + 200 * 81 + 600 * 52), rel=1e-9)


def test_davies_on_the_lsnn_that_intel_measured() -> None:
    """Its counts give 30.7 uJ if only spiking neurons are active: 1.39 of 22.15 uJ measured."""
    lsnn = placed(synops=634_785 + 4_821, neuron_updates=294_000, spikes_out=10_592)
    energy = estimate(lsnn, load_device("loihi1-davies2018"))
    assert energy.low * 1e6 == pytest.approx(30.69, abs=0.01)
    assert energy.low / 22.15e-6 == pytest.approx(1.39, abs=0.005)


def test_loihi2_on_the_run_it_is_derived_from() -> None:
    """68.35 uJ a step of PilotNet, of 2,257,061 synops and 158,509 neurons."""
    step = placed("loihi2", synops=2_257_061, neuron_updates=158_509)
    energy = estimate(step, load_device("loihi2-derived-pilotnet"))
    assert energy.joules == pytest.approx(68.35e-6, rel=0.03)
    assert energy.low <= 68.35e-6 <= energy.high * 1.001
    assert energy.high == pytest.approx(68.39e-6, rel=1e-3)  # the corner of 17.8 and 178 pJ
    assert sum(high for _, _, high in energy.terms.values()) > 1.3 * energy.high


def test_keras_spiking() -> None:
    """Dense 784 -> 128 on the CPU: 8.63e-4 J of synapses, 1.1e-6 J of neurons, 8.64e-4 J as it prints."""
    energy = estimate_macs(784 * 128, load_device("keras-spiking-cpu"), neurons=128)
    assert energy.terms["mac"][0] == pytest.approx(8.630272e-4, rel=1e-9)
    assert energy.terms["neuron"][0] == pytest.approx(1.1008e-6, rel=1e-9)
    assert energy.joules == pytest.approx(8.64128e-4, rel=1e-9)
    spiking = estimate(
        placed(synops=1, synops_fanout=10, neuron_updates=3), load_device("keras-spiking-loihi")
    )
    assert spiking.joules == pytest.approx(10 * 27.1e-12 + 3 * 81e-12, rel=1e-9)


def test_horowitz_resnet18() -> None:
    """1.82 GMAC at 4.6 pJ are 8.372 mJ (the figure in syops-counter's README)."""
    energy = estimate_macs(1_820_000_000, load_device("cmos45-horowitz-fp32"))
    assert energy.joules == pytest.approx(8.372e-3, rel=1e-9)
    assert energy.scope == "arithmetic only"
    assert energy.partial


def test_published_products() -> None:
    """Quartz: EDP; N-TIDIGITS: power x time; lava-dl's SDNN table: multiply-adds over synops."""
    quartz = Energy(182.5e-6, 182.5e-6, 182.5e-6, "", "")
    assert edp(quartz, Interval.exact(4.91e-3)).value == pytest.approx(182.5e-6 * 4.91e-3, rel=1e-9)
    assert edp(quartz, Interval.exact(4.91e-3)).value == pytest.approx(0.896e-6, abs=5e-10)
    tidigits = Interval.exact(10.89e-3) * 17.625e-6 * 3000
    assert tidigits.value == pytest.approx(575.8e-6, abs=5e-8)
    sdnn = placed(synops=599_807, dense_ops=7_306_062)
    assert 1 / sdnn.spikes_per_synapse == pytest.approx(12.18, abs=5e-3)


def test_ndns_proxies() -> None:
    """Two inferences of 0.5 s: (100 + 10 * 30) / 2 / 0.5 operations a second."""
    counts = placed(samples=2, synops=100, neuron_updates=30)
    assert ndns_power_proxy(counts, 0.5) == 400
    assert ndns_pdp_proxy(counts, 0.5, 0.25) == 100


# -- estimates --------------------------------------------------------------------------------------


def test_every_counter_has_a_reading() -> None:
    ann = {"macs", "neurons", "weight_bytes", "activation_bytes"}
    for events in readings(placed(neuron_updates=3)):
        assert set(events) == set(COUNTERS["cost"]) - ann


def test_unknown_propagates() -> None:
    """What nobody published is listed where it happened, and not where it did not."""
    davies = load_device("loihi1-davies2018")
    one_chip = estimate(placed(steps=8, synops=1), davies)
    assert [u.name for u in one_chip.unpriced] == ["barrier"]
    assert one_chip.partial
    more = estimate(placed(chips=2, steps=8, messages_off_chip=1, input_messages=5), davies)
    assert [u.name for u in more.unpriced] == ["barrier", "chip_link", "input"]
    assert not estimate(placed(synops=1), device()).partial
    derived = load_device(
        "loihi2-derived-pilotnet"
    )  # its unknown times and powers are no dynamic energy
    assert not estimate(placed("loihi2", steps=8, synops=1), derived).partial


def test_corners_replace_the_ends_of_totals_only() -> None:
    """Value 2 and 3 J; corners (1 J, 9 J) and (4 J, 0 J): ends of the totals, not of the terms."""
    given = device(corners=({"synop": 1, "neuron": 9}, {"synop": 4, "neuron": 0}))
    energy = estimate(placed(synops=10, neuron_updates=2), given)
    assert (energy.joules, energy.low, energy.high) == (26, 26, 40)
    assert energy.terms == {"synop": (20, 10, 40), "neuron": (6, 6, 6)}
    energy = estimate(placed(synops=1, neuron_updates=2), given)
    assert (energy.joules, energy.low, energy.high) == (8, 4, 19)
    half = device(corners=({"neuron": 1}, {"neuron": 5}))
    energy = estimate(placed(synops=10, neuron_updates=2), half)
    assert (energy.low, energy.high) == (10 + 2, 40 + 10)


def test_shares_and_scaling() -> None:
    energy = estimate(placed(synops=3, neuron_updates=6), device())
    assert energy.shares == {"assumed": 0.75, "measured": 0.25}
    assert list(energy.shares) == ["assumed", "measured"]
    for scaled in (energy * 4, energy / 0.25):  # type: ignore[operator]
        assert (scaled.joules, scaled.low, scaled.high) == (96, 84, 120)
        assert scaled.terms["synop"] == (24, 12, 48)
    assert Energy(0, 0, 0, "", "").shares == {}


def test_graded_spikes_are_said() -> None:
    binary, graded = placed(synops=3, effective_acs=3), placed(synops=3, effective_macs=3)
    assert estimate(binary, device()).notes == ()
    assert (
        "graded spikes are priced as binary ones: an assumption"
        in estimate(graded, device()).notes[0]
    )


@pytest.mark.parametrize(("priced", "message"), [
    (lambda: estimate(COUNTS, load_device("cmos45-horowitz-int8")), "prices 'macs', which this run does not count"),
    (lambda: estimate_macs(3, load_device("loihi1-davies2018")), "prices 'hops_ew', .*'synops', which this run"),
    (lambda: estimate_macs(3, load_device("keras-spiking-gpu")), "prices 'neurons', which this run does not count"),
    (lambda: estimate(COUNTS, load_device("user-template")), "user-template: no cost has a figure that applies"),
    (lambda: estimate(placed("loihi2"), load_device("loihi1-sanafe")), "has the costs of loihi1, and the network is placed on loihi2"),
    (lambda: price(placed("loihi1"), load_device("loihi2-derived-pilotnet"), None), "placed on loihi1: map it on loihi2"),
    (lambda: price_events({"macs": None}, load_device("cmos45-horowitz-int8")), "no cost has a figure that applies"),
])  # fmt: skip
def test_a_device_of_the_wrong_kind_is_refused(priced: Any, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        priced()


# -- time -------------------------------------------------------------------------------------------

TIMED = device(
    coefficients=(
        Coefficient("synop", "time", "synops", 2, 1, 4, "s", "", "", ""),
        Coefficient("neuron", "time", "neurons", 10, 10, 20, "s", "", "", ""),
        Coefficient("in", "time", "messages_in", 100, 100, 100, "s", "", "", ""),
    ),
    barrier=Barrier((1, 2), (1000, 3000), "s", "", "", ""),
)
CORES = (Core(0, ((0, 3),)), Core(0, ((3, 4),)), Core(1, ((0, 2),)))


def activity(*synops: Any, messages: Any = None) -> Activity:
    loads = [np.array(part, np.int64)[None] for part in synops]
    arriving = [np.zeros_like(part) for part in loads] if messages is None else messages
    samples, steps = loads[0].shape[:2]
    return Activity(
        samples, steps, (), (), tuple(map(np.zeros_like, loads)), tuple(loads), tuple(arriving)
    )


def test_the_slowest_core_decides_each_step() -> None:
    """Step 0: core 0, of 3 neurons; step 1: core 2 by its synops; step 2: core 1 by a message."""
    messages = [np.array([[[0, 0], [0, 0], [0, 1]]]), np.zeros((1, 3, 1), int)]
    done = activity([[0, 0], [0, 0], [0, 0]], [[1], [30], [0]], messages=messages)
    found = step_seconds(done, Placement(CORES, MESH, "loihi1"), TIMED)
    assert found is not None
    assert found.shape == (3, 1, 3)
    assert found[0, 0].tolist() == [1030, 1080, 1110]
    assert found[1, 0].tolist() == [1030, 1050, 1110]
    assert found[2, 0].tolist() == [1060, 1160, 1120]
    assert inference_seconds(found) == Interval(3220, 3190, 3340)


def test_the_barrier_counts_tiles() -> None:
    done = activity([[0, 0]], [[0]])
    placement = Placement(CORES, Mesh(128, 2, 4), "loihi1")
    found = step_seconds(done, placement, TIMED)
    assert found is not None
    assert found[0, 0, 0] == 3030
    three = Placement(CORES, Mesh(128, 1, 4), "loihi1")
    assert step_seconds(done, three, TIMED) is None  # no figure for three tiles
    assert step_seconds(done, replace(placement, mesh=None, chip=None), TIMED) is None
    assert step_seconds(done, placement, device()) is None
    loihi2 = replace(placement, chip="loihi2")
    assert step_seconds(done, loihi2, load_device("loihi2-derived-pilotnet")) is None
    with pytest.raises(DeviceError, match="placed on loihi2"):
        step_seconds(done, loihi2, TIMED)
    free = step_seconds(done, three, replace(TIMED, barrier=None))
    assert free is not None
    assert free[0, 0, 0] == 30


def test_mean_time_of_inferences() -> None:
    steps = np.array([[[1, 2], [3, 4]], [[1, 1], [1, 1]], [[5, 5], [5, 7]]], float)
    assert inference_seconds(steps) == Interval(5, 2, 11)


# -- totals -----------------------------------------------------------------------------------------


def test_price() -> None:
    """4 inferences of 12 synops, 8 neuron updates and 2 to 3 s in all on one core."""
    counts = placed(samples=4, synops=12, neuron_updates=8)
    paid = price(counts, device(), Interval(2, 2, 3), processors=3)
    assert paid.dynamic.interval == Interval(12, 9, 18)
    assert paid.static_used_cores == Interval(10, 10, 15)
    assert paid.static_whole_chip is None
    assert paid.overhead == Interval(42, 36, 81)
    assert paid.total is not None
    assert paid.total.interval == Interval(64, 55, 114)
    assert paid.total.scope == "core dynamic + static of used cores + embedded processors"
    assert paid.total.terms["x86"] == (42, 36, 81)
    assert paid.edp == Interval(128, 110, 342)
    assert paid.shares == {"measured": 58 / 64, "assumed": 6 / 64}
    assert (paid.unpriced, paid.partial, paid.modelled) == ((), False, None)
    slower = price(counts, device(), Interval(2, 2, 3), Interval.exact(5), processors=3)
    assert slower.edp == Interval(320, 275, 570)
    assert slower.total == paid.total


def test_a_price_without_a_time_says_so() -> None:
    paid = price(placed(synops=1), device(), None)
    assert (paid.total, paid.edp, paid.static_used_cores, paid.overhead) == (None,) * 4
    assert [u.name for u in paid.unpriced] == ["core", "x86"]
    assert "needs the time of an inference" in paid.unpriced[0].reason
    assert paid.partial
    assert paid.shares == {"measured": 1.0, "assumed": 0.0}
    json.loads(records.dumps(paid))


def test_a_price_without_a_placement_says_so() -> None:
    paid = price(COUNTS, device(), Interval.exact(1))
    assert paid.total is None
    assert {u.reason for u in paid.unpriced} == {"needs neurons placed on the cores of a chip"}


def test_both_static_scopes() -> None:
    """Loihi 1: used cores in the total, whole chips beside it; Loihi 2: whole chips, cores unknown."""
    counts = placed(chips=2)
    counts = replace(counts, cores=counts.cores * 3)
    one = price(counts, load_device("loihi1-davies2018"), Interval.exact(2))
    assert one.static_used_cores is not None
    assert one.static_used_cores.ends == pytest.approx((4.8e-3, 2.28e-3, 6.06e-3))
    assert one.static_whole_chip is not None
    assert one.static_whole_chip.ends == pytest.approx((0.424, 4 * 0.08908, 4 * 0.12323))
    assert one.overhead is not None
    assert one.overhead.ends == pytest.approx((0.088, 0.072, 0.096))
    assert one.total is not None
    assert one.total.joules == pytest.approx(4.8e-3 + 0.088)
    two = price(placed("loihi2"), load_device("loihi2-derived-pilotnet"), Interval.exact(2))
    assert (two.static_used_cores, two.overhead) == (None, None)
    assert two.total is not None
    assert two.total.interval.ends == pytest.approx((0.464, 0.464, 0.564))
    assert two.total.scope == "chip dynamic + static of whole chips"


def test_no_figure_for_power_is_no_total() -> None:
    paid = price(placed(), load_device("keras-spiking-loihi"), Interval.exact(1))
    assert paid.total is None
    assert [u.name for u in paid.unpriced] == ["static"]
    unknown = Unpriced("host", "processors", "never measured", "power")
    given = device(coefficients=device().coefficients[:3], unpriced=(unknown,))
    paid = price(placed(), given, Interval.exact(1))
    assert (paid.total, paid.overhead, paid.unpriced) == (None, None, (unknown,))
    assert paid.static_used_cores == Interval.exact(5)


def test_the_model_factor_stays_apart() -> None:
    counts = placed(synops=1000, neuron_updates=100)
    paid = price(counts, load_device("loihi1-davies2018"), Interval.exact(1e-6))
    assert paid.modelled is not None
    assert paid.modelled.low == pytest.approx(0.7 * paid.dynamic.low)
    assert paid.modelled.value == paid.dynamic.joules
    assert paid.modelled.high == pytest.approx(1.4 * paid.dynamic.high)
    assert "does not predict a third network" in paid.model_note
    assert paid.total is not None
    power = paid.total.joules - paid.dynamic.joules
    assert power == pytest.approx(1e-6 * (0.8e-3 + 0.022))


# -- ratios -----------------------------------------------------------------------------------------

A = Energy(6, 4, 8, "chip", "a")
B = Energy(2, 1, 4, "chip", "b")


def test_ratio_is_an_interval() -> None:
    assert ratio(A, B) == Interval(3, 1, 8)
    board = replace(B, scope="board")
    assert ratio(A, board, allow_mixed_scope=True) == Interval(3, 1, 8)
    assert ratio(A, replace(B, lower_bound=True), allow_lower_bound=True) == Interval(3, 0, 8)


@pytest.mark.parametrize(("a", "b", "message"), [
    (None, B, "an energy is missing"),
    (A, None, "an energy is missing"),
    (A, replace(B, scope="board"), r"a \(chip\) and b \(board\): their scopes differ.*--allow-mixed-scope"),
    (A, replace(B, low=0), "the second may be 0"),
    (replace(A, joules=0, low=0), B, "the first is 0"),
    (A, replace(B, lower_bound=True), "the second is a lower bound"),
    (replace(A, lower_bound=True), B, "the first is a lower bound, so the ratio has no upper end"),
])  # fmt: skip
def test_ratios_refused(a: Energy | None, b: Energy | None, message: str) -> None:
    with pytest.raises(ScopeError, match=message):
        ratio(a, b)


def test_published_scopes_do_not_mix() -> None:
    """Loihi's cores against a GPU's board at its data sheet's peak: refused, twice over."""
    snn = estimate(placed(synops=1), load_device("loihi1-davies2018"))
    gpu = estimate_macs(1, load_device("gpu-h200-datasheet"))
    with pytest.raises(ScopeError, match="scopes differ"):
        ratio(snn, gpu)
    with pytest.raises(ScopeError, match="lower bound"):
        ratio(snn, gpu, allow_mixed_scope=True)


@pytest.mark.parametrize(
    "ends", [(1, 2, 3), (1, 0, 0.5), (1, -1, 1), (float("nan"),) * 3, (1, 1, float("inf"))]
)
def test_intervals_refused(ends: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Interval(*ends)


def test_intervals() -> None:
    a, b = Interval(4, 2, 8), Interval(2, 1, 2)
    assert a + b == Interval(6, 3, 10)
    assert a * b == Interval(8, 2, 16)
    assert a / b == Interval(2, 1, 8)
    assert a * 3 == Interval(12, 6, 24)
    assert a / 2 == Interval(2, 1, 4)
    with pytest.raises(ZeroDivisionError):
        a / Interval(1, 0, 1)


# -- invariants on random networks and placements ----------------------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> tuple[Network, Placement, np.ndarray, Activity]:
    """A random network on a random placement, and what it did."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-40, 90, shape) * (
            rng.random(shape) < draw(st.sampled_from([0.3, 1.0]))
        )

    neuron = CubaLIF(2000, 700, 40)
    layers: list[NeuronLayer | Flatten | Input] = []
    width = draw(st.integers(1, 5))
    if draw(st.booleans()):
        channels = draw(st.integers(1, 3))
        kernel = weights(channels, 1, 2, 2)
        layers = [
            Input((1, 4, 3)),
            Conv(kernel, None, neuron, stride=draw(st.integers(1, 2)), padding=1),
        ]
        width = int(np.prod(Network([*layers]).shapes[-1]))
        layers.append(Flatten())
    for n in draw(st.lists(st.integers(1, 6), min_size=1, max_size=2)):
        recurrent = weights(n, n) if draw(st.booleans()) else None
        layers.append(Dense(weights(n, width), None, neuron, recurrent=recurrent))
        width = n
    network = Network(layers)
    cores = []
    for p in network.populations:
        cuts = sorted(
            draw(st.sets(st.integers(1, max(1, p.shape[0] - 1)), max_size=3)) - {p.shape[0]}
        )
        whole = tuple((0, n) for n in p.shape)
        ends = [0, *cuts, p.shape[0]]
        cores += [Core(p.index, (pair, *whole[1:])) for pair in itertools.pairwise(ends)]
    tile, rows, tiles = draw(st.sampled_from([(4, 4, 32), (1, 2, 4), (2, 1, 3), (16, 1, 1)]))
    placement = Placement(tuple(cores), Mesh(tile * tiles, tile, rows), "loihi1")
    samples, steps = 2, 4
    inputs = rng.integers(0, 2, (samples, steps, *network.input_shape))
    trace = simulate(network, inputs, Timing(steps + network.latency), record=("spikes", "u", "v"))
    trace = trace.aligned(network, steps)
    return network, placement, inputs, activity_of(network, inputs, trace, placement)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(runs())
def test_invariants(run: tuple[Network, Placement, np.ndarray, Activity]) -> None:
    """Energy section 5.2 of the counts, and what every price keeps to."""
    network, placement, _inputs, done = run
    counts = tally(network, done, placement)
    for name in (
        "spikes_out",
        "synops",
        "synops_fanout",
        "neuron_updates",
        "neuron_updates_active",
    ):
        assert sum(getattr(part, name) for part in counts.layers) == sum(
            getattr(part, name) for part in counts.cores
        )
    for layer, p in zip(counts.layers, network.populations, strict=True):
        assert layer.synops <= layer.synops_fanout <= layer.dense_ops
        assert layer.neuron_updates == p.size * counts.steps * counts.samples
        assert layer.spikes_out <= layer.neuron_updates_active <= layer.neuron_updates
    assert counts.total("axon_out") >= sum(layer.spikes_out for layer in counts.layers[:-1])
    if placement.tiles == 1:
        assert counts.total("hops_ew") == counts.total("hops_ns") == 0
        assert counts.total("messages_same_tile") == counts.total("axon_out")
    assert counts.total("messages_in") == counts.total("axon_out") + counts.input_messages
    alone = tally(network, done)
    assert alone.chip is None

    for name in SPIKING:
        given_device = load_device(name)
        if given_device.chip == "loihi2":
            with pytest.raises(DeviceError):
                estimate(counts, given_device)
            counts2 = replace(counts, chip="loihi2")
        else:
            counts2 = counts
        energy = estimate(counts2, given_device)
        assert 0 <= energy.low <= energy.joules <= energy.high
        assert sum(term[0] for term in energy.terms.values()) == pytest.approx(
            energy.joules, rel=1e-12
        )
        for value, low, high in energy.terms.values():
            assert 0 <= low <= value <= high
        if not given_device.corners:
            assert energy.low >= sum(low for _, low, _ in energy.terms.values()) * (1 - 1e-12)
            assert energy.high <= sum(high for _, _, high in energy.terms.values()) * (1 + 1e-12)
        double = estimate(counts2 + counts2, given_device)
        assert (double / 2).interval.ends == pytest.approx(energy.interval.ends, rel=1e-12)
        unplaced = estimate(alone, given_device)
        assert unplaced.joules <= energy.joules * (1 + 1e-12)
        assert {u.name for u in energy.unpriced} <= {u.name for u in unplaced.unpriced}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(runs(), st.sampled_from(["loihi1-davies2018", "loihi1-sanafe"]))
def test_step_times_by_brute_force(
    run: tuple[Network, Placement, np.ndarray, Activity], name: str
) -> None:
    """Core by core and step by step, from the definition."""
    _, placement, _, done = run
    timed = load_device(name)
    found = step_seconds(done, placement, timed)
    barrier = timed.barrier.at(placement.tiles) if timed.barrier else None
    if barrier is None:
        assert found is None
        return
    assert found is not None
    for end, sample, step in np.ndindex(found.shape):
        slowest = 0.0
        for k, core in enumerate(placement.cores):
            at = (sample, step, placement.of(core.population).index(k))
            amounts = {
                "synops": done.synops[core.population][at],
                "messages_in": done.messages[core.population][at],
                "spikes_out": done.spikes[core.population][at],
                "neurons": core.neurons,
            }
            slowest = max(
                slowest, sum(c.interval.ends[end] * amounts[c.counter] for c in timed.of("time"))
            )
        assert found[end, sample, step] == pytest.approx(slowest + barrier.ends[end], rel=1e-12)
    assert (found[1] <= found[0]).all()
    assert (found[0] <= found[2]).all()


def test_counts_of_a_run_without_a_placement() -> None:
    """`count` with no chip: what a message passes is listed, not taken as 0."""
    network = Network([Dense(np.full((2, 3), 50), None, CubaLIF(2000, 700, 1))])
    inputs = np.ones((1, 3, 3), int)
    trace = simulate(network, inputs, Timing(4), record="spikes").aligned(network, 3)
    counts = count(network, inputs, trace)
    assert layer_per_core(network).mesh is None
    energy = estimate(counts, load_device("loihi1-sanafe"))
    ways = {"axon_out", "hop_ew", "hop_ns", "chip_link"}
    assert {u.name for u in energy.unpriced} == {*ways, "barrier", "input"}
    assert not ways & set(energy.terms)


def test_own_device(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("""
        schema = 1
        id = "mine"
        device = "My chip"
        kind = "neuromorphic"
        scope = "core dynamic"
        year = 2026
        cost.synop = { value = 2, low = 1, high = 4, unit = "pJ/op", counter = "synops", basis = "measured", source = "our lab", trust = "A" }
        cost.link = { unknown = true, counter = "steps", reason = "not measured yet" }
    """)
    energy = estimate(COUNTS, load_device(path))
    assert (energy.low, energy.joules, energy.high) == pytest.approx((4e-9, 8e-9, 16e-9))
    assert [(u.name, u.reason) for u in energy.unpriced] == [("link", "not measured yet")]
