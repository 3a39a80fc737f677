"""The NIR paper's three networks: float against what other platforms recorded, integers against float.

Usage: python -m spikeship.benchmarks.exchange --data DATA [--samples 200]

DATA holds `golden/nir_lif`, `golden/nir_cnn`, `golden/nir_braille` (from the NIR paper's repository,
neuromorphs/NIR, BSD-3-Clause) and `datasets/nmnist_small`. Prints tables, writes JSON.

1. One LIF neuron: spikes of five float platforms; a real Loihi 2 chip's spikes and voltages, from
   the integers of the paper; the integers that `quantize` finds.
2. A CNN of IF neurons on N-MNIST. The convention is that of the paper's own scripts: frames of 1 ms
   (no pixel has two events in one, so counts are spikes), dt = 1, r = 1: v <- v + x, at most one
   spike a step if v > 1, then v <- 0; SumPool2d adds spikes, so the next layer's inputs are counts.
3. A recurrent network of CubaLIF neurons on a Braille letter: the float network against snnTorch's
   recorded hidden spikes, integers against the float network, over time. Only one input was
   published, so quantization is calibrated on others made from it, and judged on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import nir
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.table import Table

from ..hw_targets.network.coding import Coding
from ..hw_targets.network.layers import Dense
from ..hw_targets.network.network import Network
from ..hw_targets.network.neurons import CubaLIF
from ..hw_targets.network.recipe import Recipe
from ..hw_targets.simulate.engine import simulate
from ..models.data.nmnist import nmnist
from ..pipeline.deploy.run import run_recipe
from ..pipeline.float.execute import execute
from ..pipeline.frontends import from_nir
from ..pipeline.lower import bias_channel, copies
from ..pipeline.quantize import Quantized, agree, quantize
from .harness import RESULTS, command, finish

Array: TypeAlias = NDArray[Any]
Result: TypeAlias = dict[str, Any]

PAPER_LIF = CubaLIF(i_decay=4096, v_decay=163, threshold=25)
"""int(4095 dt/tau) = 163 and int(131071 v_th) >> 9 = 25, as the paper computes them."""
PAPER_WEIGHT = 10
"""int(256 dt/tau). In units of the state, 2^-6 of a weight's: 640 a spike, fire above 1600."""
WINDOW = 32
CNN_STEPS = 300
CALIBRATION_SAMPLES = 10


def one_neuron(folder: Path) -> Result:
    """The LIF neuron of task 1: 1000 steps, 34 input spikes, 4 output spikes."""
    graph = from_nir(folder / "lif_norse.nir", dt=1e-4, reset="zero")

    def recorded(name: str) -> Array:
        table: Array = np.loadtxt(folder / f"lif_{name}.csv", delimiter=",").T
        return table

    x = recorded("norse")[0].astype(np.int32)[None, :, None]
    ours = execute(graph, x.astype(float)).spikes[0][0, :, 0]
    platforms = ("exact", "norse", "snntorch", "spinnaker2", "nengo", "rockpool", "sinabs", "spyx")
    paper = Network([Dense(np.array([[PAPER_WEIGHT]]), neuron=PAPER_LIF)])
    trace = simulate(paper, x, record=("spikes", "v"))
    assert trace.spikes is not None
    assert trace.v is not None
    fired, v = trace.spikes[0][0, :, 0], trace.v[0][0, :, 0]
    chip: Result = {}
    for name in ("lava_cpu_fixed", "lava_loihi_fixed"):
        _, their_v, their_spikes = recorded(name)
        chip[name] = {
            "spike_mismatches": int((fired != their_spikes).sum()),
            "voltage_mismatches": int((v != their_v).sum()),
            "of_which_in_spike_steps": int(((v != their_v) & (fired > 0)).sum()),
        }
    quantized = quantize(
        graph, x, Recipe(Coding("direct", 1000), reset_interval=1000, reset_offset=1)
    )
    integers = run_recipe(quantized.network, x).spikes
    assert integers is not None
    return {
        "float_spikes_at": np.flatnonzero(ours),
        "float_mismatches": {name: int((ours != recorded(name)[2]).sum()) for name in platforms},
        "paper": {
            "weight": PAPER_WEIGHT,
            "i_decay": 4096,
            "v_decay": 163,
            "threshold": 25,
            "digest": paper.digest,
            "against": chip,
        },
        "quantized": {
            "losses": quantized.losses,
            "digest": quantized.network.digest,
            "spike_mismatches": int((integers[0][0, :, 0] != ours).sum()),
        },
    }


def nmnist_cnn(
    file: Path, data_root: Path, samples: int, calibration: int = CALIBRATION_SAMPLES
) -> Result:
    """Accuracy of the CNN of task 2 on the first samples, in float and as 8-bit integers.

    Calibrated on the samples that follow.
    """
    graph = from_nir(file, dt=1, reset="zero")
    frames, labels = nmnist(data_root, CNN_STEPS)
    later = frames[samples : samples + calibration].astype(np.int32)
    frames, labels = frames[:samples].copy(), labels[:samples]
    recipe = Recipe(Coding("direct", CNN_STEPS), reset_interval=CNN_STEPS, reset_offset=1)
    start = time.perf_counter()
    counts = np.concatenate(
        [
            execute(graph, frames[i : i + 10].astype(np.float32), torch.float32).spikes[-1].sum(1)
            for i in range(0, samples, 10)
        ]
    )
    result: Result = {
        "samples": samples,
        "calibration_samples": len(later),
        "steps": CNN_STEPS,
        "float_accuracy": float((counts.argmax(1) == labels).mean()),
        "float_seconds": time.perf_counter() - start,
    }
    for name, method in (("naive", "max"), ("ours", "search")):
        quantized = quantize(graph, later, recipe, method=method)  # type: ignore[arg-type]
        start = time.perf_counter()
        spikes = run_recipe(
            quantized.network, frames.astype(np.int32), record=("spikes.-1",)
        ).spikes
        assert spikes is not None
        theirs = spikes[-1].sum(axis=1)
        result[name] = {
            "accuracy": float((theirs.argmax(1) == labels).mean()),
            "same_class_as_float": float((theirs.argmax(1) == counts.argmax(1)).mean()),
            "seconds": time.perf_counter() - start,
            "digest": quantized.network.digest,
            "losses": quantized.losses,
        }
    return result


def braille(folder: Path) -> Result:
    """The recurrent network of task 3: 12 inputs, 38 recurrent and 7 output neurons, 256 steps."""
    graph = from_nir(folder / "braille_noDelay_bias_zero.nir", dt=1e-4, reset="zero", reset_delay=0)
    x = np.load(folder / "braille_ds_test_0_input_256x12.npy")[None].astype(np.int32)
    exact = execute(graph, x.astype(float)).spikes
    platforms = {}
    for name in ("snntorch", "norse", "lava"):
        spikes = np.load(folder / f"{name}_activity_noDelay_bias_zero.npy")
        spikes = spikes.T if spikes.shape == exact[0].shape[:0:-1] else spikes
        platforms[name] = _compared(exact[0], spikes[None].astype(np.int8))
    other = _like(x)
    networks = {
        "naive: largest scale, biases on v": (graph, "max", False, 1),
        "naive, biases as a channel": (bias_channel(graph), "max", False, 1),
        "ours, biases on v": (graph, "search", False, 1),
        "ours, biases as a channel": (bias_channel(graph), "search", False, 1),
        "ours, and a scale per neuron": (bias_channel(graph), "search", True, 1),
        "ours, and every source twice": (copies(bias_channel(graph), 2), "search", True, 2),
        "ours, and every source four times": (copies(bias_channel(graph), 4), "search", True, 4),
    }
    rows = {}
    for name, (form, method, per_channel, times) in networks.items():
        quantized, spikes = _integers(form, x, other, method, per_channel, times)
        hidden, output = spikes[0][..., : exact[0].shape[-1]], spikes[1]
        rows[name] = {
            "hidden": _compared(exact[0], hidden),
            "output": _compared(exact[1], output),
            "same_class": bool(output.sum(1).argmax() == exact[1].sum(1).argmax()),
            "neurons": [p.size for p in quantized.network.populations],
            "digest": quantized.network.digest,
        }
    return {
        "steps": x.shape[1],
        "window": WINDOW,
        "calibration": "6 circular shifts and the reversal of the input, 4 Bernoulli draws of its rates",
        "float_against_recorded": platforms,
        "integers_against_float": rows,
    }


def _like(x: Array) -> Array:
    """Inputs that are like x and are not x."""
    rng = np.random.default_rng(0)
    shifted = [np.roll(x, shift, axis=1) for shift in range(WINDOW, 7 * WINDOW, WINDOW)]
    drawn = (rng.random((4, *x.shape[1:])) < x.mean(axis=1)).astype(np.int32)
    return np.concatenate([*shifted, x[:, ::-1], drawn])


def _integers(
    graph: nir.NIRGraph, x: Array, calibration: Array, method: Any, per_channel: bool, times: int
) -> tuple[Quantized, list[Array]]:
    """The quantized network and its spikes per layer, inputs made as the graph's widening wants."""
    steps = x.shape[1]
    size = int(next(iter(graph.inputs.values())).input_type["input"][0])
    widened = [
        np.tile(
            np.concatenate([y, np.ones((*y.shape[:2], size // times - y.shape[2]), np.int32)], 2),
            times,
        )
        for y in (x, calibration)
    ]
    recipe = Recipe(Coding("direct", steps), reset_interval=steps, reset_offset=1)
    options = {"method": method, "per_channel": per_channel, "approximate_current_bias": True}
    quantized = quantize(graph, widened[1], recipe, **options)
    spikes = run_recipe(quantized.network, widened[0]).spikes
    assert spikes is not None
    return quantized, list(spikes)


def _compared(exact: Array, other: Array) -> Result:
    """Spikes (sample, time, neuron) side by side; `matched` is 2 both / (exact + other)."""
    windows = [(i, i + WINDOW) for i in range(0, exact.shape[1], WINDOW)]
    same, matched = agree(exact, other)
    return {
        "mismatches": int((exact != other).sum()),
        "agreement": same,
        "matched": matched,
        "agreement_over_time": [agree(exact[:, a:b], other[:, a:b])[0] for a, b in windows],
        "matched_over_time": [agree(exact[:, a:b], other[:, a:b])[1] for a, b in windows],
    }


def tables(result: Result) -> Iterator[Table]:
    """The three tasks as printed."""
    lif, cnn, rnn = (result[name] for name in ("lif", "cnn", "braille"))
    table = Table("LIF neuron", "spikes that differ", "voltages that differ", title="1. nir_lif")
    for name, count in lif["float_mismatches"].items():
        table.add_row(f"float: {name}", str(count), "")
    for name, row in lif["paper"]["against"].items():
        in_spikes = f"{row['voltage_mismatches']} ({row['of_which_in_spike_steps']} in spike steps)"
        table.add_row(f"the paper's integers: {name}", str(row["spike_mismatches"]), in_spikes)
    table.add_row("our integers: our float", str(lif["quantized"]["spike_mismatches"]), "")
    yield table
    table = Table("N-MNIST CNN", "accuracy", title=f"2. nir_cnn, {cnn['samples']} samples")
    table.add_row("float", f"{100 * cnn['float_accuracy']:.1f} %")
    for name in ("naive", "ours"):
        table.add_row(f"8-bit integers, {name}", f"{100 * cnn[name]['accuracy']:.1f} %")
    yield table
    table = Table(
        "hidden spikes against float", "same", "matched", "matched, by 32 steps", "output"
    )
    table.title = "3. nir_braille"
    for name, row in rnn["float_against_recorded"].items():
        table.add_row(f"recorded: {name}", *_cells(row), "")
    for name, row in rnn["integers_against_float"].items():
        table.add_row(name, *_cells(row["hidden"]), f"{100 * row['output']['matched']:.1f} %")
    yield table


def _cells(row: Result) -> tuple[str, str, str]:
    curve = " ".join(f"{100 * value:.0f}" for value in row["matched_over_time"])
    return f"{100 * row['agreement']:.2f} %", f"{100 * row['matched']:.1f} %", curve


def main(
    data: Annotated[Path, typer.Option(help="Folder with golden/ and datasets/.")],
    samples: Annotated[int, typer.Option(help="N-MNIST samples.")] = 200,
    out: Annotated[Path, typer.Option()] = RESULTS / "exchange.json",
) -> None:
    """Measure, print, write JSON."""
    golden = data / "golden"
    result = {
        "command": command("exchange", samples=samples),
        "lif": one_neuron(golden / "nir_lif"),
        "cnn": nmnist_cnn(golden / "nir_cnn/cnn_sinabs.nir", data / "datasets", samples),
        "braille": braille(golden / "nir_braille"),
    }
    finish(result, out, tables(result))


if __name__ == "__main__":
    typer.run(main)
