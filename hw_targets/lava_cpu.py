"""The same function as `reference.simulate`, through Lava's own fixed-point CPU backend.

The network is written to a netx file and loaded by lava-dl's `netx.hdf5.Network`: what runs here is
Lava reading our file. Needs Python 3.10 with lava-nc and lava-dl (`pip install "spikeship[lava]"`).
Lava starts one process per layer: scripts that call `run` need `if __name__ == "__main__":`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .network import Input, Network, NetworkError
from .netx import write_netx
from .reference import RECORDABLE, check_reset, prepare_input
from .trace import Trace


class LavaMissingError(RuntimeError):
    """Lava is not installed here, or this Python cannot run it."""


def why_unavailable() -> str | None:
    """None where Lava can run; otherwise one sentence that says why not and what to do."""
    if sys.version_info >= (3, 11):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Lava needs Python 3.10, this is {version}: make an environment with Python 3.10 and "
            f'`pip install "spikeship[lava]"`.'
        )
    for package in ("lava", "lava.lib.dl.netx"):
        try:
            found = find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return 'Lava is not installed: `pip install "spikeship[lava]"`.'
    return None


def run(
    network: Network,
    inputs: ArrayLike,
    steps: int | None = None,
    *,
    reset_interval: int | None = None,
    reset_offset: int = 0,
    message_bits: int | None = None,
    record: Collection[str] = ("spikes",),
) -> Trace:
    """Run a network on Lava's `Loihi2SimCfg(select_tag="fixed_pt")`; arguments as in `simulate`.

    All samples go through one Lava run. Between two samples one idle step (or as many as bring the
    step count to a multiple of `reset_interval`) passes, at whose end every synaptic buffer and
    every state is set back to 0, so that each sample starts as in a run of its own. Overflows are
    not counted by Lava: `trace.overflow` is None. Raises LavaMissingError, NetworkError, NetxError.
    """
    reason = why_unavailable()
    if reason:
        raise LavaMissingError(reason)
    unknown = set(record) - set(RECORDABLE)
    if unknown:
        raise NetworkError(f"cannot record {sorted(unknown)}; choose from {RECORDABLE}.")
    check_reset(reset_interval, reset_offset)
    x, bias, steps = prepare_input(network, inputs, steps, message_bits)
    period = steps + 1
    if reset_interval is not None:
        period = -(-period // reset_interval) * reset_interval
    arguments = {
        "input_message_bits": 24 if message_bits is None else message_bits,
        "reset_interval": reset_interval,
        "reset_offset": reset_offset,
    }
    with tempfile.TemporaryDirectory(prefix="spikeship-lava-") as folder, _quiet():
        write_netx(network, Path(folder) / "network.net")
        _run(network, x, bias, steps, period, arguments, tuple(record), Path(folder))
        kept: dict[str, tuple[NDArray[Any], ...]] = {}
        for name in record:
            dtype = np.int8 if name == "spikes" else np.int32
            kept[name] = tuple(
                _from_lava(np.load(Path(folder) / f"{name}.{p.index}.npy"), len(p.shape))
                .reshape(len(x), period, *p.shape)[:, :steps]
                .astype(dtype)
                for p in network.populations
            )
    return Trace(kept.get("spikes"), kept.get("u"), kept.get("v"), None, "lava")


def _to_lava(array: NDArray[Any], axes: int) -> NDArray[Any]:
    """(..., C, H, W) to (..., W, H, C); other shapes stay."""
    return np.swapaxes(array, -1, -3) if axes == 3 else array


_from_lava = _to_lava  # the same swap back


@contextlib.contextmanager
def _quiet() -> Any:
    """Lava prints banners at import and warns about its own dependencies; none of it is ours."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _run(
    network: Network,
    x: NDArray[np.int32],
    bias: NDArray[np.int32] | None,
    steps: int,
    period: int,
    arguments: dict[str, Any],
    record: tuple[str, ...],
    folder: Path,
) -> None:
    from lava.lib.dl import netx
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer

    from . import _lava_processes as processes

    axes = len(network.input_shape)
    first = network.layers[0]
    samples = len(x)
    total = samples * period
    net = netx.hdf5.Network(net_config=str(folder / "network.net"), **arguments)
    if len(net.layers) != len(network.populations):
        raise NetworkError(
            f"lava-dl built {len(net.layers)} layers of {len(network.populations)}: this is a bug."
        )
    target = net.layers[0]
    driven = isinstance(first, Input) and first.neuron is not None
    if bias is not None:
        biases = _to_lava(bias, axes)
        target.neuron.bias_mant.init = biases[0]
        target.neuron.bias_mant.shape = biases[0].shape
        following = np.concatenate([biases[1:], biases[:1]])
        processes.Rewind.of(target.neuron.bias_mant, following, period, folder / "bias.npy")
    else:
        data = np.zeros((samples, period, *x.shape[2:]), np.int32)
        data[:, : x.shape[1]] = x
        data = _to_lava(data.reshape(total, *x.shape[2:]), axes)
        port = target.neuron.a_in if driven else target.inp
        if data.shape[1:] != port.shape:  # Input((C, H, W)) and Flatten straight into Dense
            data = _from_lava(data, axes).reshape(total, *port.shape)
        source = RingBuffer(data=np.moveaxis(data, 0, -1))
        source.s_out.connect(port)
    for i, layer in enumerate(net.layers):
        for name in record:
            path = folder / f"{name}.{i}.npy"
            if name == "spikes":
                processes.SpikeProbe.of(layer.neuron.s_out, total, path)
            else:
                processes.StateProbe.of(getattr(layer.neuron, name), total, path)
        states = [layer.neuron.u, layer.neuron.v]
        synapse = getattr(layer, "synapse", None)
        if synapse is not None:
            states.append(synapse.a_buf if hasattr(synapse, "a_buf") else synapse.a_buff)
        for k, state in enumerate(states):
            zeros = np.zeros((samples, *state.shape), np.int32)
            processes.Rewind.of(state, zeros, period, folder / f"zeros.{i}.{k}.npy")
    net._log_config.level = logging.ERROR
    try:
        net.run(condition=RunSteps(num_steps=total), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        net.pause()
    finally:
        net.stop()
