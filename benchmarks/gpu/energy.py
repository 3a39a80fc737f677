"""Joules and seconds per inference on a GPU, by NVML: ANN, spiking network in floats, our integers.

One network in all of them, the images in the computer's own memory, the answers back in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate.torch_engine import run as on_torch
from ...pipeline.energy.measure import Nvml, measure
from ...pipeline.energy.measure.nvml import cuda_index
from ..speed.networks import random_input
from .floats import Precision, Spiking, ann_of, graphed, products_in
from .networks import network_of
from .setup import Setup

Kind: TypeAlias = Literal["ann", "snn"]


def cells(setup: Setup) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The measurements by name: kind, precision, batch, and whether it is one CUDA graph."""
    for batch in setup.energy_batches:
        for kind in get_args(Kind):
            for precision in get_args(Precision):
                # in large batches launches cost nothing
                for graph in (False, True) if batch == 1 else (True,):
                    name = f"{kind} {precision} {batch}{' graph' if graph else ''}"
                    yield (
                        name,
                        lambda k=kind, p=precision, b=batch, g=graph: floats(setup, k, p, b, g),  # type: ignore[misc]
                    )
        yield f"integers {batch}", lambda b=batch: integers(setup, b)  # type: ignore[misc]


def integers(setup: Setup, batch: int) -> dict[str, Any]:
    """The integers, simulated by the torch backend."""
    subject = setup.energy
    network, steps = network_of(subject, setup.device), subject.input_steps
    x = random_input(network.input_shape, subject.rate, batch, steps)
    timing = Timing(steps + network.latency)
    measured = _measured(
        setup, batch, lambda: on_torch.simulate(network, x, timing, device=setup.device).counts
    )
    return {"digest": network.digest, "steps": steps, **measured}


def floats(
    setup: Setup, kind: Kind, precision: Precision, batch: int, graph: bool
) -> dict[str, Any]:
    """The same network in floating point; of the ANN one step, of the spiking one all of them.

    A rehearsal on the CPU has neither graphs nor TF32.
    """
    cuda = setup.device == "cuda"
    subject = setup.energy
    network, steps = network_of(subject, setup.device), subject.input_steps
    dtype = torch.float16 if precision == "float16" else torch.float32
    x = torch.tensor(random_input(network.input_shape, subject.rate, batch, steps), dtype=dtype)
    frames = x[:, 0].contiguous() if kind == "ann" else x.transpose(0, 1).contiguous()
    net = (ann_of(network) if kind == "ann" else Spiking(network)).to(setup.device, dtype).eval()
    host = frames.pin_memory() if cuda else frames
    there = frames.to(setup.device)

    def forward() -> Tensor:
        return net(there).argmax(1)  # type: ignore[no-any-return]

    with torch.inference_mode(), products_in(precision):
        expected = forward()
        run = graphed(forward) if graph and cuda else forward

        def work() -> Tensor:
            there.copy_(host, non_blocking=True)
            return run().cpu()

        same = float((work() == expected.cpu()).float().mean())
        measured = _measured(setup, batch, work)
    return {"steps": 1 if kind == "ann" else steps, "answers_as_without_graph": same, **measured}


def _measured(setup: Setup, batch: int, work: Callable[[], object]) -> dict[str, Any]:
    """A call on `batch` images: per inference, and what was read."""
    cuda = setup.device == "cuda"
    name = str(torch.cuda.get_device_name()) if cuda else ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    index = cuda_index(torch.cuda.current_device() if cuda else 0, visible)
    measured = measure(
        work,
        Nvml(index, setup.pynvml, expected=name),
        window_s=setup.window_s,
        repeats=setup.windows,
        warmup_s=setup.window_s / 2,
        synchronize=torch.cuda.synchronize if cuda else lambda: None,
    )
    energy, error = measured.energy, measured.energy_error
    dynamic = measured.dynamic
    return {
        "batch": batch,
        "status": energy.status,
        "reason": energy.reason,
        "scope": energy.scope,
        "joules": None if energy.joules is None else energy.joules / batch,
        "joules_error": None if error is None else error / batch,
        "dynamic_joules": None if dynamic is None else dynamic.value / batch,
        "seconds": measured.seconds.value / batch,
        "samples_per_second": batch / measured.seconds.value,
        "measurement": measured,
    }
