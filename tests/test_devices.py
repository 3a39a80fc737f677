"""Device files: what ships, where its figures come from, and what is refused."""

from __future__ import annotations

import io
import re
from importlib import resources
from pathlib import Path

import pytest
from rich.console import Console

from spikeship.hw_targets.energy.device import COUNTERS, Barrier, DeviceError
from spikeship.hw_targets.energy.device_files import load_device, shipped_devices
from spikeship.pipeline.cli.devices_tables import device_tables, devices_tables

DEVICE = """
schema = 1
id = "mine"
device = "My chip"
kind = "neuromorphic"
scope = "core dynamic"
node_nm = 7
year = 2026
[cost.synop]
value = 2.0
low = 1.0
high = 4.0
unit = "pJ/op"
counter = "synops"
basis = "measured"
source = "our lab"
trust = "A"
[cost.link]
unknown = true
counter = "messages_off_chip"
reason = "not measured yet"
[time.barrier]
by_tiles = { 1 = 100.0, 4 = 400.0 }
unit = "ns"
basis = "measured"
source = "our oscilloscope"
trust = "A"
[[corner]]
synop = 1.5
"""
SHIPPED = """cmos45-horowitz-fp32 cmos45-horowitz-int8 gpu-h200-datasheet gpu-jetson-orin-nano-datasheet
keras-spiking-arm keras-spiking-cpu keras-spiking-gpu keras-spiking-loihi keras-spiking-spinnaker
keras-spiking-spinnaker2 loihi1-davies2018 loihi1-sanafe loihi2-derived-pilotnet user-template"""


def test_the_devices_that_ship() -> None:
    assert shipped_devices() == tuple(SHIPPED.split())


@pytest.mark.parametrize("name", shipped_devices())
def test_shipped_devices_load(name: str) -> None:
    """No figure from memory (trust D) is shipped, and every one has a source."""
    device = load_device(name)
    assert device.id == name
    assert bool(device.coefficients) == (name != "user-template")
    for c in device.coefficients:
        assert c.source
        assert c.trust in ("A", "B", "C")
    assert device.arithmetic_only == name.startswith("cmos45")
    assert device.lower_bound == name.startswith("gpu")
    assert device.chip == ("loihi" + name[5] if re.match(r"loihi\d", name) else device.chip)
    if device.model:
        assert device.model.low < 1 <= device.model.high


def test_figures_in_si_units() -> None:
    """A row of each group, against the published figures."""
    device = load_device("loihi1-davies2018")
    found = {(c.group, c.name): c for c in device.coefficients}
    assert found["cost", "synop"].interval.ends == pytest.approx((23.6e-12, 23.6e-12, 35.5e-12))
    assert found["power", "static_per_core"].interval.ends == pytest.approx((8e-4, 3.8e-4, 1.01e-3))
    assert found["power", "x86_active"].interval.ends == pytest.approx((0.022, 0.018, 0.024))
    assert found["time", "synop"].value == pytest.approx(3.5e-9)
    assert found["cost", "hop_ns"].value == pytest.approx(4e-12)
    assert {u.name for u in device.unpriced} == {"barrier", "chip_link", "input"}
    derived = load_device("loihi2-derived-pilotnet")
    assert [c["synop"] for c in derived.corners] == pytest.approx([17.8e-12, 29.9e-12])
    assert [c["neuron_update"] for c in derived.corners] == pytest.approx([178e-12, 0])
    gpu = load_device("gpu-h200-datasheet").costs[0]
    assert gpu.value == pytest.approx(2 * 700 / 1978.9e12, rel=1e-3)
    assert gpu.value <= 2 * 700 / 1978.9e12


@pytest.mark.parametrize(("tiles", "expected"), [
    (1, (100, 100, 100)),
    (2, (150, 100, 200)),
    (3, (300, 200, 500)),
    (5, (500, 500, 500)),
    (6, None),
])  # fmt: skip
def test_barrier(tiles: int, expected: tuple[float, ...] | None) -> None:
    """Linear between the points, which are the ends; the figures say nothing of more tiles."""
    barrier = Barrier(
        (1, 2, 5) if tiles > 2 else (1, 3),
        (100, 200, 500) if tiles > 2 else (100, 200),
        "s",
        "measured",
        "",
        "A",
    )
    found = barrier.at(tiles)
    assert (found and found.ends) == expected


CHANGES = [
    (('source = "our lab"', ""), r"cost\.synop: no source"),
    (('source = "our oscilloscope"', ""), r"time\.barrier: no source"),
    (("low = 1.0", "low = 3.0"), r"cost\.synop: 0 <= low 3\.0 <= value 2\.0 <= high 4\.0 < inf does not hold"),
    (("low = 1.0", "low = -1.0"), r"0 <= low -1\.0 <= value"),
    (("high = 4.0", "high = 1.5"), r"value 2\.0 <= high 1\.5"),
    (("high = 4.0", "high = inf"), r"high inf < inf"),
    (("value = 2.0", 'value = "2.0"'), "value = '2.0' is of the wrong type"),
    (("value = 2.0", "value = true"), "value = True is of the wrong type"),
    (("pJ/op", "calories"), "unit 'calories'; use one of pJ/op"),
    (("pJ/op", "mW"), "unit 'mW'; use one of pJ/op"),
    (("measured", "guessed"), "basis 'guessed'; use one of measured"),
    (('counter = "synops"', 'counter = "sinops"'), "counter 'sinops'; use one of synops"),
    (('"messages_off_chip"', '"letters"'), r"cost\.link: counter 'letters'; use one of synops"),
    (('trust = "A"', 'trust = "X"'), "trust 'X'; use one of A, B, C, D"),
    (("trust =", "grade ="), r"cost\.synop: missing \['trust'\]"),
    (("trust =", "grade ="), r"cost\.synop: unknown \['grade'\]"),
    (("scope =", "range ="), r"missing \['scope'\]"),
    (("schema = 1", "schema = 9"), "schema 9; this version reads 1"),
    (('kind = "neuromorphic"', 'kind = "brain"'), "kind 'brain'; use one of neuromorphic"),
    (('kind = "neuromorphic"', 'kind = "neuromorphic"\nchip = "loihi3"'), "chip 'loihi3'; use one of loihi1, loihi2"),
    (("node_nm", 'static_scope = "some"\nnode_nm'), "static_scope 'some'; use one of used_cores, whole_chip"),
    (('reason = "not measured yet"', ""), "an unknown cost needs its counter and a reason"),
    (("year = 2026", "year = "), "not valid TOML"),
    (("synop = 1.5", "sinop = 1.5"), r"corner 1: names no cost with a value: 'sinop'; known: synop"),
    (("synop = 1.5", "synop = -1.5"), r"corner 1: synop = -1\.5; give a number of at least 0"),
    (("synop = 1.5", "synop = 1.5\n[[corner]]"), "corner 2: every corner gives values for the same"),
    (("[[corner]]", "[corner]"), "corner = .* is of the wrong type"),
    (("1 = 100.0", "5 = 100.0"), r"time\.barrier: by_tiles .*: give rising numbers of tiles"),
    (("1 = 100.0", "1 = 500.0"), "with times that rise"),
    (("1 = 100.0", "one = 100.0"), "give rising numbers of tiles"),
    (("[time.barrier]", "[cost.barrier]"), r"cost\.barrier: only time\.barrier has a table by_tiles"),
    (("[cost.link]", "[model]\nlow = 2.0\nhigh = 3.0\nnote = 'x'\n[cost.link]"), r"model: low 2\.0 <= 1 <= high 3\.0"),
    (("[cost.link]", "[power.synop]"), "synop: a cost and a power of this name"),
    (("[cost.synop]", "[cost]\nsynop = 3\n[unused]"), r"unknown \['unused'\]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[c[1] for c in CHANGES])
def test_bad_devices(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """Each error names the file, the place, what was found and what is allowed."""
    path = tmp_path / "mine.toml"
    assert change[0] in DEVICE
    path.write_text(DEVICE)
    load_device(path)
    path.write_text(DEVICE.replace(*change))
    with pytest.raises(DeviceError, match=message) as error:
        load_device(path)
    assert str(error.value).startswith(str(path))


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        DEVICE.replace("pJ/op", "calories")
        .replace("low = 1.0", "low = 3.0")
        .replace("unknown = true", "")
    )
    with pytest.raises(DeviceError) as error:
        load_device(path)
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["cost.synop", "cost.synop", "cost.link"]


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match="unknown device 'brain'; shipped: cmos45"):
        load_device("brain")
    with pytest.raises(DeviceError, match=r"none\.toml: no such file"):
        load_device("none.toml")


def test_the_template_is_a_device_when_filled_in(tmp_path: Path) -> None:
    """Its commented lines are valid, and it names every unit and counter."""
    text = (
        resources.files("spikeship.hw_targets.energy")
        .joinpath("devices/user-template.toml")
        .read_text()
    )
    unknown = re.compile(r"unknown = true\ncounter = .*\nreason = .*\n")
    text = unknown.sub("", text, count=1)
    neuron = 'value = 90\nlow = 80\nhigh = 150\nunit = "pJ/op"\ncounter = "neuron_updates"\nbasis = "assumed"\nsource = "x"\ntrust = "C"\n'
    text = unknown.sub(neuron, text, count=1)
    path = tmp_path / "mine.toml"
    path.write_text(re.sub(r"(?m)^# (\[|\w+ = )", r"\1", text))
    device = load_device(path)
    assert device.chip == "loihi2"
    assert [c.name for c in device.costs] == ["synop", "neuron_update"]
    assert len(device.corners) == 2
    assert device.barrier is not None
    assert device.model is not None
    for counter in {c for group in COUNTERS.values() for c in group} - {"neuron_updates_inactive"}:
        assert counter in text


def test_tables_say_sources_and_limits() -> None:
    console = Console(width=200, file=io.StringIO())
    devices = [load_device(name) for name in shipped_devices()]
    for view in (*devices_tables(devices), *(v for d in devices for v in device_tables(d))):
        console.print(view)
    text = re.sub(r"\s+", " ", re.sub(r"[│┃]", " ", console.file.getvalue()))
    for device in devices:
        assert device.id in text
        for c in device.coefficients:
            assert c.source.split(",")[0] in text
    for line in (
        "23.6 [23.6, 35.5] pJ/op",
        "1: 0.6, 2: 1, 4: 1.4, 29: 1.8 us",
        "synop 17.8 pJ/op, neuron_update 178 pJ/op; or synop 29.9 pJ/op, neuron_update 0 pJ/op",
        "measured / estimated in [0.7, 1.4]",
        "Nobody has published an energy per operation of Loihi 2",
        "lower bound",
        "never published",
        "prices nothing as it stands",
    ):
        assert line in text, line
