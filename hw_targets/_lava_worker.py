"""The process that `lava_cpu` starts: the only module that imports Lava.

`python -m spikeship.hw_targets._lava_worker FOLDER` loads `network.net` with lava-dl, runs the job in
`job.json` and leaves one .npy file, (step, *shape), per probe. Lava's own
`Var.get` moves one number at a time; the processes here keep whole arrays where they are received and
write them at the last step.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lava.lib.dl import netx
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.io.source import RingBuffer


class SpikeProbe(AbstractProcess):  # type: ignore[misc]
    """Saves what an output port sends, (step, *shape), to a .npy file after `steps` steps."""

    def __init__(self, shape: tuple[int, ...], steps: int, path: str) -> None:
        super().__init__(shape=shape, steps=steps, path=path)
        self.a_in = InPort(shape=shape)

    @classmethod
    def of(cls, port: OutPort, steps: int, path: Path) -> SpikeProbe:
        probe = cls(port.shape, steps, str(path))
        port.connect(probe.a_in)
        return probe


@implements(proc=SpikeProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeProbe(PyLoihiProcessModel):  # type: ignore[misc]
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.rows: list[Any] = []

    def run_spk(self) -> None:
        self.rows.append(np.array(self.a_in.recv(), dtype=np.int32))
        if self.time_step == self.proc_params["steps"]:
            np.save(self.proc_params["path"], np.stack(self.rows))


class StateProbe(AbstractProcess):  # type: ignore[misc]
    """Saves the value a variable has at the end of every step, (step, *shape), to a .npy file."""

    def __init__(self, shape: tuple[int, ...], steps: int, path: str) -> None:
        super().__init__(shape=shape, steps=steps, path=path)
        self.state = RefPort(shape=shape)

    @classmethod
    def of(cls, var: Var, steps: int, path: Path) -> StateProbe:
        probe = cls(var.shape, steps, str(path))
        probe.state.connect_var(var)
        return probe


@implements(proc=StateProbe, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateProbe(PyLoihiProcessModel):  # type: ignore[misc]
    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.rows: list[Any] = []

    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        self.rows.append(np.array(self.state.read(), dtype=np.int32))
        if self.time_step == self.proc_params["steps"]:
            np.save(self.proc_params["path"], np.stack(self.rows))


class Rewind(AbstractProcess):  # type: ignore[misc]
    """Sets a variable to row k of `values` at the end of step (k + 1) * period."""

    def __init__(self, shape: tuple[int, ...], period: int, path: str) -> None:
        super().__init__(shape=shape, period=period, path=path)
        self.state = RefPort(shape=shape)

    @classmethod
    def of(cls, var: Var, values: Any, period: int, path: Path) -> Rewind:
        np.save(path, values)
        process = cls(var.shape, period, str(path))
        process.state.connect_var(var)
        return process


@implements(proc=Rewind, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRewind(PyLoihiProcessModel):  # type: ignore[misc]
    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def post_guard(self) -> bool:
        return bool(self.time_step % self.proc_params["period"] == 0)

    def run_post_mgmt(self) -> None:
        values = np.load(self.proc_params["path"], mmap_mode="r")
        row = self.time_step // self.proc_params["period"] - 1
        self.state.write(np.array(values[row], dtype=np.int32))
        self.state.wait()


MODELS = {SpikeProbe: PySpikeProbe, StateProbe: PyStateProbe, Rewind: PyRewind}


def states(layer: Any, names: list[str]) -> list[Var]:
    """Everything in a layer that outlasts a step: variables `names` of its neurons, and buffers."""
    found = [getattr(layer.neuron, name) for name in names]
    for part in ("synapse", "synapse_rec", "real_synapse", "imag_synapse"):
        synapse = getattr(layer, part, None)
        if synapse is not None:  # a_buf: of a convolution
            found.append(synapse.a_buf if hasattr(synapse, "a_buf") else synapse.a_buff)
    return found


def main(folder: Path) -> None:
    """Run the job in `folder`; the file `done` says that it finished."""
    job = json.loads((folder / "job.json").read_text())
    period, steps = job["period"], job["steps"]
    net = netx.hdf5.Network(net_config=str(folder / "network.net"), **job["network"])
    first = net.layers[0]
    added: list[AbstractProcess] = []
    if (folder / "bias.npy").exists():
        biases = np.load(folder / "bias.npy")
        first.neuron.bias_mant.init = biases[0]
        first.neuron.bias_mant.shape = biases[0].shape
        following = np.concatenate([biases[1:], biases[:1]])
        next_bias = folder / "next_bias.npy"
        added.append(Rewind.of(first.neuron.bias_mant, following, period, next_bias))
    else:
        source = RingBuffer(data=np.load(folder / "input.npy"))
        source.s_out.connect(first.neuron.a_in if first.block == "Input" else first.inp)
    for i, what, variable in job["probes"]:
        neuron, path = net.layers[i].neuron, folder / f"{what}.{i}.npy"
        if what == "spikes":
            added.append(SpikeProbe.of(neuron.s_out, steps, path))
        else:
            added.append(StateProbe.of(getattr(neuron, variable), steps, path))
    for i, (layer, names) in enumerate(zip(net.layers, job["states"], strict=True)):
        for k, state in enumerate(states(layer, names)):
            zeros = np.zeros((steps // period, *state.shape), np.int32)
            added.append(Rewind.of(state, zeros, period, folder / f"zeros.{i}.{k}.npy"))
    net._log_config.level = logging.ERROR
    # to find a model, Lava runs every file beside the process's own, again for every process
    models = {process: MODELS[type(process)] for process in added}
    configuration = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
    try:
        net.run(condition=RunSteps(num_steps=steps), run_cfg=configuration)
        net.pause()
    finally:
        net.stop()
    (folder / "done").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
