"""What a user's own Python file holds: a Norse network with a readout, and arrays as data."""

NETWORK = """
import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from torch import nn
from torch.utils.data import TensorDataset

def network(inputs, outputs):
    torch.manual_seed(0)
    spiking = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.3))
    reading = LIBoxParameters(tau_mem_inv=torch.tensor(500.0))
    return norse.SequentialState(
        nn.Flatten(), nn.Linear(inputs, 20), norse.LIFBoxCell(spiking), nn.Linear(20, outputs),
        norse.LIBoxCell(reading),
    )

def arrays(): return dict(np.load("images.npz"))
def tensors():
    a = arrays()
    return tuple(
        TensorDataset(torch.tensor(a[f"x_{part}"]), torch.tensor(a[f"y_{part}"]))
        for part in ("train", "test")
    )
"""
