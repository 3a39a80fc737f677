"""A profile of a small network made by hand: its counts and prices again, both sides, and the checklist."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from spikeship.hw_targets.chips.mapper import map_network
from spikeship.hw_targets.counts.counts import count
from spikeship.hw_targets.energy.device import DeviceError
from spikeship.hw_targets.energy.device_files import load_device
from spikeship.hw_targets.energy.interval import Interval
from spikeship.hw_targets.energy.price import estimate
from spikeship.hw_targets.network.bits import footprint_bytes
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.netx.file import write_netx
from spikeship.models import training
from spikeship.models.data.dataset import Dataset
from spikeship.models.data.load import load
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier
from spikeship.pipeline import records
from spikeship.pipeline.cli.profile import profile_views
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import encoded, run_recipe
from spikeship.pipeline.energy.checklist import checklist
from spikeship.pipeline.energy.measure import Baseline, Mean, Reading
from spikeship.pipeline.energy.profile import Profile, default_devices, profile

from cli import ok, text

POISSON = Coding.of("poisson", 4, 16, 0.0)
GRADED = Coding.of("direct", 4)


def network(coding: Coding = POISSON) -> Network:
    rng = np.random.default_rng(3)
    weights = [rng.integers(-30, 60, s) * rng.integers(0, 2, s) * 2 for s in ((12, 64), (10, 12))]
    neuron = CubaLIF(i_decay=4096, v_decay=1024, threshold=90)
    layers = [Input((1, 8, 8)), Flatten(), *(Dense(w, neuron=neuron) for w in weights)]
    return Network(layers, Recipe.of(coding, 0, {"dataset": "digits"}))


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Digits, of which the test split is short."""
    found = load("digits")
    return replace(found, test=found.test.first(30))


@pytest.fixture(scope="module")
def ann() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Settings(spiking=False, widths=(12,)))


@pytest.fixture(scope="module")
def result(data: Dataset, ann: Classifier) -> Profile:
    return profile(Deployed(network()), data, ann=ann)


def text_of(result: Profile) -> str:
    console = Console(file=io.StringIO(), width=250)
    for view in profile_views(result):
        console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def baseline(reading: Reading) -> Baseline:
    return Baseline("cpu", "a CPU", "float32", 888, reading, batch=1, seconds=Mean(1e-5, None))


UNKNOWN = Reading("unavailable", None, 1.0, "CPU package", "nobody bought a meter", "RAPL")
MEASURED = Reading("measured", 2e-5, 1.0, "CPU package", "", "RAPL")
ON_CHIP = replace(MEASURED, scope="chip dynamic")


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_counts_are_those_of_the_traces_on_the_chips_cores(
    result: Profile, data: Dataset, chip: str
) -> None:
    net = network()
    assert net.recipe is not None
    placement = map_network(net, chip).placement
    ((messages, _),) = encoded(net.recipe, data.test)
    trace = run_recipe(net, messages, record=("spikes", "u", "v"))
    expected = count(net, messages, trace, placement)
    assert result.counts[chip] == expected
    assert expected.total("synops") > 0
    assert expected.chip == chip


def test_prices_are_the_counts_times_the_figures(result: Profile) -> None:
    assert [d.id for d in result.devices] == list(default_devices(network()))
    for device, price in zip(result.devices, result.prices, strict=True):
        counts = result.counts_for(device)
        assert price.dynamic == estimate(counts, device) / counts.samples
    loihi1, loihi2 = result.prices
    assert loihi1.total is not None
    assert loihi1.seconds is not None
    assert loihi1.latency == loihi1.seconds * (1 + 2 / 4)  # two layers, four steps
    assert loihi1.total.joules > loihi1.dynamic.joules
    assert (loihi2.total, loihi2.seconds) == (None, None)
    assert loihi2.partial


def test_a_time_per_step_can_be_given(data: Dataset) -> None:
    found = profile(Deployed(network()), data, ["loihi2-derived-pilotnet"], step_seconds=1e-4)
    (price,) = found.prices
    assert price.seconds == Interval.exact(4e-4)
    assert price.total is not None
    assert price.total.joules == pytest.approx(price.dynamic.joules + 0.232 * 4e-4)
    assert price.edp is not None
    assert price.edp.value == pytest.approx(price.total.joules * 6e-4)
    assert "given" in checklist(found)[0].text


def test_what_a_chip_cannot_carry_is_not_priced_on_it(data: Dataset) -> None:
    assert default_devices(network(GRADED)) == ("loihi2-derived-pilotnet",)
    with pytest.raises(DeviceError, match=r"loihi1-davies2018: .* cannot carry .*single spikes"):
        profile(Deployed(network(GRADED)), data, ["loihi1-davies2018"])
    with pytest.raises(DeviceError, match="cmos45-horowitz-int8 prices an ANN: give"):
        profile(Deployed(network()), data, ["cmos45-horowitz-int8"])


def test_the_anns_side(result: Profile, data: Dataset, ann: Classifier) -> None:
    twin = result.ann
    assert twin is not None
    assert twin.accuracy == training.accuracy(ann, data.test)
    assert (twin.few_bits, twin.work.macs) == (3, 64 * 12 + 12 * 10)
    assert [e.joules for e in twin.energies] == pytest.approx([0.23e-12 * 888, 4.6e-12 * 888])
    assert twin.fair.steps == 4
    few = profile(Deployed(network()), data, ann=ann, samples=10).ann
    assert few is not None
    assert few.accuracy == training.accuracy(ann, data.test.first(10))
    assert few.work.images == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reading", "mixed", "ratios", "says"),
    [
        (UNKNOWN, False, 0, "its energy is not known, which is not 0"),
        (UNKNOWN, True, 4, "its energy is not known, which is not 0"),
        (MEASURED, False, 0, "no ratio of chip dynamic and CPU package"),
        (MEASURED, True, 6, "chip dynamic / CPU package"),
        (ON_CHIP, False, 1, "estimated ratios"),
    ],
)
def test_ratios_need_two_energies_of_one_scope(
    data: Dataset, ann: Classifier, reading: Reading, mixed: bool, ratios: int, says: str
) -> None:
    found = profile(
        Deployed(network()),
        data,
        ann=ann,
        measure=lambda *_: (baseline(reading),),
        allow_mixed_scope=mixed,
    )
    taken = [c for c in found.comparisons if c.value is not None]
    assert len(taken) == ratios
    assert len(found.comparisons) == 2 * 3
    assert says in text_of(found)
    assert all(c.refused for c in found.comparisons if c.value is None)
    for c in taken:
        mine = next(p for p in found.prices if p.device == c.snn)
        energy = mine.total or mine.dynamic
        if c.ann_scope == reading.scope:
            assert c.value is not None
            assert reading.joules is not None
            assert c.value.value == pytest.approx(energy.joules / reading.joules)


def test_the_checklist_leaves_nothing_out(result: Profile, data: Dataset) -> None:
    points = checklist(result)
    assert [p.number for p in points] == list(range(1, 13))
    assert all(len(p.text) > 30 for p in points)
    alone = checklist(profile(Deployed(network()), data))
    assert "no ANN was given" in alone[1].text + alone[2].text
    assert f"{footprint_bytes(network()):,} bytes" in points[6].text
    shown = text_of(result)
    for point in points:
        assert f"{point.number:2} {point.title}: " in shown


def test_a_reader_can_price_again(result: Profile) -> None:
    """From the JSON alone: sums of coefficients times counts are the energies in it."""
    stored = json.loads(records.dumps(result))
    for device, price in zip(stored["devices"], stored["prices"], strict=True):
        counts = stored["counts"][device["chip"]]
        events = {
            name: sum(part[name] for part in counts[where])
            for where in ("layers", "cores")
            for name in counts[where][0]
            if isinstance(counts[where][0][name], int)
        }
        spiking, active = events["spikes_out"], events["neuron_updates_active"]
        events["neuron_updates_active"] = (spiking + active) / 2  # the two readings' middle
        events["neuron_updates_inactive"] = (
            events["neuron_updates"] - events["neuron_updates_active"]
        )
        joules = sum(
            c["value"] * events[c["counter"]]
            for c in device["coefficients"]
            if c["group"] == "cost"
        )
        assert joules / counts["samples"] == pytest.approx(price["dynamic"]["joules"], rel=1e-9)


# -- on the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "net.net"
    write_netx(network(), path)
    return path


def test_profile_command(net: Path) -> None:
    stored = ok("profile", net, "--samples", 20)
    assert [p["device"] for p in stored["profile"]["prices"]] == list(default_devices(network()))
    assert len(stored["checklist"]) == 12
    assert "float spiking network not available" in stored["checklist"][1]["text"]
    assert "--measure measures the ANN" in text("profile", net, "--measure", status=2)
    assert "microseconds above 0" in text("profile", net, "--step-time", 0, status=2)
    shown = text("profile", net, "--samples", 20, "--step-time", 50, "--device", "loihi1-sanafe")
    assert "loihi1-sanafe" in shown
    assert "davies" not in shown


def test_map_command(net: Path) -> None:
    stored = ok("map", net)
    assert stored["ok"]
    assert stored["fits"] == {"1": True, "8": True, "32": True}
    assert stored["mapping"]["chip"]["id"] == "loihi2"
    assert [layer["cores"] for layer in stored["mapping"]["layers"]] == [1, 1]
    assert "2 of 128 cores" in text("map", net, "--chip", "loihi1")
    assert "2 of 128 cores" in text("map", net, "--cores-per-chip", 128)
    assert "--packet and" in text("map", net, "--chip", "loihi1", "--packet", 48, status=2)
    assert "--packet 50; 48 or 64" in text("map", net, "--packet", 50, status=3)


def test_map_command_ends_with_status_1_where_it_does_not_fit(tmp_path: Path) -> None:
    write_netx(network(GRADED), tmp_path / "graded.net")
    assert "single spikes" in text("map", tmp_path / "graded.net", "--chip", "loihi1", status=1)
    weight = np.ones((40_000, 4), int) * 2
    write_netx(Network([Dense(weight, neuron=CubaLIF(4096, 0, 9))]), tmp_path / "wide.net")
    assert text("map", tmp_path / "wide.net", "--chips", 32)
    assert "1 chip: no" in text("map", tmp_path / "wide.net", "--chips", 1, status=1)


def test_devices_command(tmp_path: Path) -> None:
    everything = ok("devices")
    assert len(everything["devices"]) > 10
    assert "Davies et al. 2018" in text("devices", "loihi1-davies2018")
    assert load_device("user-template").id in text("devices")
    bad = tmp_path / "bad.toml"
    bad.write_text(
        'schema = 1\n[cost.synop]\nvalue = 1.0\nlow = 2.0\nhigh = 3.0\nunit = "furlongs"\n'
    )
    assert "bad.toml" in text("devices", bad, status=3)
    assert "unknown device 'brain'" in text("devices", "brain", status=3)
