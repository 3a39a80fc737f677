"""The torch backend beyond the parity table: exact products, devices, counting, the kernel, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeship import hw_targets
from spikeship.benchmarks._fuzz_checks import difference, unlike_reference
from spikeship.benchmarks._fuzz_networks import draw
from spikeship.hw_targets import Counter, NetworkError, read_netx, write_netx
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import reference
from spikeship.hw_targets.simulate.torch_engine import products
from spikeship.hw_targets.simulate.torch_engine import run as on_torch
from spikeship.hw_targets.simulate.torch_engine.products import Product, exact_type

from cli import ok
from kinds import Case, Rng, case, dense, every_kind, run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("fan_in", "largest", "dtype"),
    [
        (256, 255, torch.float32),
        (257, 256, torch.float64),  # 257 * 256 * 256 is beyond 2^24
        (300, (1 << 24) - 1, torch.float64),
        (1 << 15, 1 << 31, torch.int64),
    ],
)
def test_products_are_exact_in_the_type_that_is_chosen(
    fan_in: int, largest: int, dtype: torch.dtype
) -> None:
    """At the very bound: all weights and messages as large as they get, but for single ones."""
    rng = np.random.default_rng(fan_in)
    weight = np.full((3, fan_in), 256)
    weight[1, ::2] = -255
    weight[2] = rng.integers(-256, 255, fan_in)
    product = Product(weight, CPU)
    assert exact_type(product.total * largest) == dtype
    x = np.full((4, fan_in), min(largest, (1 << 31) - 1))
    x[1] = rng.integers(-x[0, 0], x[0, 0], fan_in)
    x[2, ::3], x[3, 0] = 1, 0
    sums = product(torch.tensor(x, dtype=torch.int32), largest)
    assert np.array_equal(sums.values.long() * sums.times, x @ weight.T)


def test_no_float32_where_torch_may_shorten_it() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert exact_type(1) == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)
    assert exact_type((1 << 24) - 1) == torch.float32
    assert exact_type(1 << 24) == torch.float64


def test_a_product_of_8_bits_is_checked_before_it_is_used() -> None:
    products.int8_works.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "int8_product", lambda x, w: torch.zeros(len(x), len(w)))
        with pytest.warns(RuntimeWarning, match="no products in 8 bits.*its sums are wrong"):
            assert not products.int8_works(CPU)
    products.int8_works.cache_clear()


def emulated(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    assert x.dtype == weight.dtype == torch.int8
    assert x.shape[1] % 8 == weight.shape[0] % 8 == 0
    return x.int() @ weight.int().t()


@pytest.mark.slow
@every_kind
def test_products_of_8_bits(kind: Callable[[Rng], Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: matrices in one or two parts, sums times a factor."""
    products.int8_works.cache_clear()
    monkeypatch.setattr(products, "INT8_ON", ("cpu",))
    monkeypatch.setattr(products, "_FEWEST", 1)
    monkeypatch.setattr(products, "int8_product", emulated)
    for seed in range(2):
        example = case(kind, seed)
        found = run(on_torch.simulate, example)
        assert difference(example.network, found, run(reference.simulate, example)) is None
    products.int8_works.cache_clear()


@pytest.mark.slow
def test_random_networks_and_what_is_counted_in_them() -> None:
    differ = {seed: unlike_reference(draw(seed), seed, "cpu") for seed in range(5000, 5080)}
    assert {seed: what for seed, what in differ.items() if what} == {}


def test_the_kernel_gives_what_the_steps_give() -> None:
    """Interpreted on the CPU; on a GPU it checks itself before it is used."""
    pytest.importorskip("triton", minversion="3.0", reason="Triton 3 interprets its kernels")
    code = (
        "import torch; from spikeship.hw_targets.simulate.torch_engine import scan; "
        "print(scan.why_not(torch.device('cpu')))"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backend": "torch", "device": "gpu"}, "device 'gpu' is no device of torch; use cpu"),
        ({"backend": "torch", "device": "meta"}, "device 'meta': only cpu and cuda are known"),
        ({"backend": "torch", "device": "cuda:99"}, "device 'cuda:99': torch .* sees . CUDA GPUs"),
        ({"backend": "torch", "threads": 2}, "drop threads"),
        ({"backend": "jax"}, "backend 'jax' is unknown; use engine or torch"),
        ({"device": "cuda"}, "device 'cuda' is for backend=\"torch\""),
    ],
)
def test_what_cannot_be_had_is_refused(arguments: dict[str, Any], says: str) -> None:
    example = case(dense, 0)
    with pytest.raises(NetworkError, match=says):
        hw_targets.simulate(example.network, example.inputs, example.timing, **arguments)


def test_a_counter_of_another_network_is_refused() -> None:
    example, other = case(dense, 0), case(dense, 1)
    with pytest.raises(NetworkError, match="make a Counter of the network that runs"):
        on_torch.simulate(example.network, example.inputs, counter=Counter(other.network))


def test_on_the_command_line(tmp_path: Path) -> None:
    example = case(dense, 0)
    write_netx(example.network, tmp_path / "a.net", for_lava=False)
    np.save(tmp_path / "x.npy", example.inputs)
    words = ("simulate", tmp_path / "a.net", "--input", tmp_path / "x.npy", "--out")
    out = tmp_path / "trace.npz"
    ok(*words, out, "--record", "spikes,v", "--backend", "torch", "--device", "cpu")
    trace = hw_targets.Trace.load(out)
    network = read_netx(tmp_path / "a.net")
    steps = Timing(steps=example.inputs.shape[1] + network.latency)
    expected = reference.simulate(network, example.inputs, steps, record=("spikes", "v"))
    assert trace.backend == "torch"
    for name in ("spikes", "v"):
        assert np.array_equal(getattr(trace, name)[0], getattr(expected, name)[0])
