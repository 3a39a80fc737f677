"""The list of what is supported is what the code's own tables and refusals say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest

from spikeship.hw_targets.network import arithmetic
from spikeship.hw_targets.network.coding import CODINGS
from spikeship.hw_targets.network.layers import Conv, Dense, Layer
from spikeship.hw_targets.network.neurons import NEURONS, CubaLIF, NetworkError
from spikeship.models.surrogates import SURROGATES
from spikeship.pipeline.frontends import norse, norse_modules, slayer, slayer_neurons
from spikeship.pipeline.frontends.slayer_neurons import slayer_name
from spikeship.pipeline.graph import PARAMETERS
from spikeship.pipeline.parts import Field, Part
from spikeship.pipeline.quantize.quantize import BITS
from spikeship.pipeline.supported import supported

from cli import ok, text

PARTS = {part.name: part for part in supported()}


def names(part: str, refused: bool | None = None) -> list[str]:
    kinds = PARTS[part].kinds
    return [k.name for k in kinds if refused is None or k.remark.startswith("refused") == refused]


@pytest.mark.parametrize(
    ("part", "table"),
    [
        ("NIR primitives", [kind.__name__ for kind in PARAMETERS]),
        ("SLAYER blocks", [slayer_name(name) for name in slayer.BLOCKS]),
        (
            "SLAYER neurons",
            [slayer_name(name) for name in (*slayer_neurons.NEURONS, *slayer_neurons.NORMS)],
        ),
        ("input codings", list(CODINGS)),
        ("weight bits", [str(bits) for bits in BITS]),
        ("surrogate gradients", list(SURROGATES)),
        ("netx layers", [kind.__name__ for kind in get_args(Layer)]),
        ("netx neurons", [kind.__name__ for kind in NEURONS]),
        ("answers", ["spike count", "mean voltage", "last voltage"]),
    ],
)
def test_a_part_is_the_table_of_the_code(part: str, table: list[str]) -> None:
    assert names(part) == table
    assert len(table) > 2


def test_what_is_refused_says_why() -> None:
    assert names("Norse modules", refused=False) == [
        kind.__name__ for kind in norse_modules.CONVERSIONS
    ]
    assert names("Norse modules", refused=True) == [f"*{text}*" for text in norse.REASONS]
    refused = [slayer_name(name) for name, value in slayer.BLOCKS.items() if isinstance(value, str)]
    assert names("SLAYER blocks", refused=True) == refused != []
    assert {"Dense", "Recurrent", "sigma_delta.Output"} <= {*names("SLAYER blocks", refused=False)}
    assert "neuron.cuba" in names("SLAYER neurons", refused=False)


def field(part: str, kind: str, name: str) -> Field:
    (found,) = (k for k in PARTS[part].kinds if k.name == kind)
    (one,) = (f for f in found.fields if f.name == name)
    return one


MADE: list[tuple[str, str, Any]] = [
    ("CubaLIF", "i_decay", lambda x: CubaLIF(x, 1, 1)),
    ("CubaLIF", "threshold", lambda x: CubaLIF(1, 1, x)),
    ("Dense", "weight", lambda x: Dense([[x]])),
    ("Dense", "bias", lambda x: Dense([[1]], bias=[x])),
    ("Dense", "recurrent", lambda x: Dense([[1]], recurrent=[[x]])),
    ("Dense", "delay", lambda x: Dense([[1]], delay=x)),
    ("Conv", "weight", lambda x: Conv(np.full((1, 1, 1, 1), x), neuron=CubaLIF(1, 1, 1))),
    ("Conv", "stride", lambda x: Conv(np.ones((1, 1, 1, 1)), neuron=CubaLIF(1, 1, 1), stride=(x, 1))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "make"), MADE, ids=lambda x: x if isinstance(x, str) else ""
)
def test_a_range_is_exactly_what_the_hardware_takes(kind: str, name: str, make: Any) -> None:
    part = "netx neurons" if kind == "CubaLIF" else "netx layers"
    found = field(part, kind, name)
    assert found.low is not None
    assert found.high is not None
    make(found.low)
    make(found.high)
    for beyond in (found.low - 1, found.high + 1):
        with pytest.raises(NetworkError, match="is outside"):
            make(beyond)


def test_every_field_of_every_kind_is_listed() -> None:
    for part, all_ in (("netx layers", get_args(Layer)), ("netx neurons", NEURONS)):
        for made, kind in zip(all_, PARTS[part].kinds, strict=True):
            assert [f.name for f in kind.fields] == [f.name for f in fields(made)]
    assert field("netx neurons", "CubaLIF", "kind").choices == ("CUBA", "LOIHI")
    assert field("netx layers", "Conv", "neuron").choices == ("CubaLIF", "SigmaDelta", "Sigma")
    assert field("netx layers", "Dense", "neuron").optional
    remarks = {k.name: k.remark for k in PARTS["number ranges"].kinds}
    assert remarks["THRESHOLD_MAX"] == str(arithmetic.THRESHOLD_MAX)
    assert {"WEIGHT_MIN", "BIAS_MAX", "DELAY_MAX", "STATE_LIMIT"} < set(remarks)


def test_the_command_prints_tables_and_json() -> None:
    shown = text("supported")
    for word in ("weight -256 .. 254", "LIFRecurrentCell", "superspike", "refused: its threshold"):
        assert word in shown
    parts = ok("supported")["parts"]
    assert [part["name"] for part in parts] == list(PARTS)
    assert all(part["missing"] is None for part in parts)


def test_frameworks_that_are_not_installed_are_named() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'nir', 'norse', 'lightning', 'lava'):\n"
        "    sys.modules[name] = None\n"  # importing it now fails
        "from spikeship.pipeline.cli.app import app\n"
        "app()\n"
    )
    run = [sys.executable, "-c", code, "supported"]
    done = subprocess.run([*run, "--json"], check=True, capture_output=True, text=True)
    parts = {part["name"]: Part(**part) for part in json.loads(done.stdout)["parts"]}
    there = {name for name, part in parts.items() if part.missing is None}
    assert there == {"answers", "input codings", "netx layers", "netx neurons", "number ranges"}
    assert "nir is not installed: pip install" in (parts["NIR primitives"].missing or "")
    shown = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert "Norse modules: norse is not installed" in shown or "Norse modules: nir is not" in shown
    assert "weight -256 .. 254" in shown
