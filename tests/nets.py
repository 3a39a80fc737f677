"""Little networks that many tests build: neurons and graphs by name, their inputs.

Trained ones come from the fixtures of conftest.py.
"""

from __future__ import annotations

from typing import Any

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from torch import nn

from spikeship.pipeline.frontends import from_norse

SHAPE = (1, 6, 6)  # of the images that `graph_of` takes
STEPS = 8


def lif(**p: float) -> nn.Module:
    """A LIF cell of Norse; `p` replaces parameters."""
    p = {"tau_mem_inv": 500.0, "v_th": 0.3, **p}
    return norse.LIFBoxCell(norse.LIFBoxParameters(**{k: torch.tensor(v) for k, v in p.items()}))


def readout(tau_mem_inv: float = 500.0) -> nn.Module:
    """A leaky integrator of Norse that never spikes."""
    return norse.LIBoxCell(LIBoxParameters(tau_mem_inv=torch.tensor(tau_mem_inv)))


def graph_of(*modules: nn.Module, gain: float = 2.0, seed: int = 0) -> nir.NIRGraph:
    """Norse modules in a row on images of `SHAPE`; weights drawn from `seed`, then times `gain`."""
    model = norse.SequentialState(*modules).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
        for parameter in model.parameters():
            parameter *= gain
    return from_norse(model, SHAPE)


def inputs(samples: int = 32, seed: int = 0) -> np.ndarray[Any, Any]:
    """Integers for such a graph, (sample, `STEPS`, *`SHAPE`)."""
    rng = np.random.default_rng(seed)
    return rng.integers(-3, 20, (samples, STEPS, *SHAPE)).astype(np.int32)


def nir_lif(
    shape: int | tuple[int, ...],
    tau: float = 2e-3,
    threshold: float = 1.0,
    *,
    r: float = 1.0,
    **metadata: Any,
) -> nir.LIF:
    """Equal LIF neurons of NIR without leak voltage, reset to 0."""
    values = (np.full(shape, value) for value in (tau, r, 0.0, threshold, 0.0))
    return nir.LIF(*values, metadata=metadata)
