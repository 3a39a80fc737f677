"""What attacks and certificates cost: the benchmark runs, and its JSON says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spikeship.benchmarks import attack_speed
from spikeship.models.settings import Settings


@pytest.mark.slow
def test_attack_speed_says_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"draws": "rsc1", "exact": "phase", "neither": "direct"}
    networks = {
        name: Settings.of(widths=(16,), steps=4, coding=coding) for name, coding in names.items()
    }
    monkeypatch.setattr(attack_speed, "NETWORKS", networks)
    attack_speed.main(quick=True, device="cpu", out=tmp_path / "speed.json")
    stored = json.loads((tmp_path / "speed.json").read_text())
    assert stored["command"] == "python -m spikeship.benchmarks.attack_speed --quick"
    assert list(stored["cells"]) == list(names)
    methods = {name: c.get("certificate", {}).get("method") for name, c in stored["cells"].items()}
    assert methods == {"draws": "rsc1-grid", "exact": "phase", "neither": None}
    for cell in stored["cells"].values():
        assert cell["twin_over_norse"] > 0
        assert all(rate > 0 for rate in cell["pgd_images_per_second"].values())
    assert [c["pgd"]["eot"] for c in stored["cells"].values()] == [8, 8, 1]
