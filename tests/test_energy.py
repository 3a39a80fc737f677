"""Devices and the energies priced with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikeship.hw_targets.counts import Counts, LayerCounts
from spikeship.hw_targets.energy import (
    DeviceError,
    estimate,
    estimate_macs,
    load_device,
)

COUNTS = Counts((LayerCounts("0:dense", 100, 50, 30, 4000, 5000, 800, 9000),), 1, 8, "digest")

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
counter = "messages_in"
reason = "not measured yet"
"""


def test_davies() -> None:
    """synops * 23.6 (to 35.5) pJ + updates at 81 pJ active, 52 pJ inactive; see `estimate`."""
    energy = estimate(COUNTS, load_device("loihi1-davies2018"))
    assert energy.low == pytest.approx(1e-12 * (4000 * 23.6 + 30 * 81 + 770 * 52), rel=1e-9)
    assert energy.high == pytest.approx(1e-12 * (4000 * 35.5 + 800 * 81), rel=1e-9)
    middle = 1e-12 * (4000 * 23.6 + 415 * 81 + 385 * 52)
    assert energy.joules == pytest.approx(middle, rel=1e-9)
    assert (energy / 4).high == pytest.approx(energy.high / 4)
    assert {u.name for u in energy.unpriced} >= {"message_same_tile", "hop_ew", "barrier"}
    assert energy.scope == "core dynamic"


def test_horowitz_resnet18() -> None:
    """1.82 GMAC at 4.6 pJ are 8.372 mJ (the figure in syops-counter's README)."""
    energy = estimate_macs(1_820_000_000, load_device("cmos45-horowitz-fp32"))
    assert energy.joules == pytest.approx(8.372e-3, rel=1e-9)


def test_own_device(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DEVICE)
    energy = estimate(COUNTS, load_device(path))
    assert (energy.low, energy.joules, energy.high) == pytest.approx((4e-9, 8e-9, 16e-9))
    assert [(u.name, u.reason) for u in energy.unpriced] == [("link", "not measured yet")]


@pytest.mark.parametrize(("change", "message"), [
    (('source = "our lab"', ""), r"cost\.synop: no source"),
    (("low = 1.0", "low = 3.0"), r"low 3\.0 <= value 2\.0 <= high 4\.0 < inf does not hold"),
    (("pJ/op", "calories"), "unit 'calories'; use one of pJ/op"),
    (("measured", "guessed"), "basis 'guessed'; use one of measured"),
    (("trust =", "grade ="), r"cost\.synop: missing \['trust'\]"),
    (("scope =", "range ="), r"missing \['scope'\]"),
    (("schema = 1", "schema = 9"), "schema 9; this version reads 1"),
    (('reason = "not measured yet"', ""), "an unknown cost needs its counter and a reason"),
    (("year = 2026", "year = "), "not valid TOML"),
])  # fmt: skip
def test_bad_devices(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(DEVICE.replace(*change))
    with pytest.raises(DeviceError, match=message) as error:
        load_device(path)
    assert "mine.toml" in str(error.value)


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match="unknown device 'brain'; shipped: cmos45"):
        load_device("brain")
    with pytest.raises(DeviceError, match=r"none\.toml: no such file"):
        load_device("none.toml")


def test_a_device_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(DeviceError, match="prices 'macs', which this run does not count"):
        estimate(COUNTS, load_device("cmos45-horowitz-int8"))
