"""What a run on a GPU measures: all of it, or a rehearsal at toy size on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..speed.networks import PLANS, QUICK_PLANS, Plan
from .networks import RESNET18, VGG11, VGG16, Residual, Subject


@dataclass(frozen=True)
class Setup:
    """What a run measures."""

    device: str
    subjects: tuple[Subject, ...]
    batches: tuple[int, ...]
    networks: int
    """random ones, in each of the two ways of updating neurons"""
    seconds: float
    """that each of the two may take"""
    repeats: int
    engine_batch: int
    """samples that the engine gets at most"""
    scan: tuple[int, int]
    """elements and steps of the neuron update alone"""
    growth: Mapping[str, tuple[float, ...]]
    """what time is measured against, all else fixed"""
    usual_batch: int
    """of growth with everything else"""
    energy: Subject
    """the network whose energy is measured, and that of its float twins"""
    energy_batches: tuple[int, ...]
    windows: int
    """of an energy measurement, each of `window_s` seconds"""
    window_s: float
    pynvml: Any = field(default=None, compare=False)
    """what stands in for the module of that name"""


FULL = Setup(
    device="cuda",
    subjects=(
        Subject(PLANS["mlp"], 0.05),
        Subject(PLANS["nmnist"], 0.05),
        Subject(VGG11, 0.1, 4),
        Subject(VGG16, 0.1, 4),
        Subject(RESNET18, 0.1, 4),
    ),
    batches=(1, 32, 256, 2048),
    networks=400,
    seconds=45.0,
    repeats=5,
    engine_batch=64,
    scan=(1 << 24, 32),
    growth={
        "steps": (8, 32, 128, 512, 2048),
        "hidden neurons": (128, 512, 2048, 8192),
        "input spike rate": (0.01, 0.05, 0.2, 1.0),
        "batch": (1, 8, 64, 512, 4096),
        "threads": (1, 2, 4, 8, 16, 32, 64),
    },
    usual_batch=256,
    energy=Subject(VGG11, 0.1, 4),
    energy_batches=(1, 256),
    windows=3,
    window_s=2.0,
)
TOY_VGG = Plan("vgg11", (3, 8, 8), ((4, 3, (1, 1), (1, 1)), (6, 3, (2, 2), (1, 1))), (10,), 4)
TOY_VGG16 = Plan("vgg16", (3, 8, 8), (*TOY_VGG.conv, (6, 3, (1, 1), (1, 1))), (10,), 4)
TOY_RESNET = Residual("resnet18", (3, 8, 8), ((4, 1, 1), (6, 1, 2)), 10, 4)
REHEARSAL = Setup(
    device="cpu",
    subjects=(
        Subject(QUICK_PLANS["mlp"], 0.05),
        Subject(QUICK_PLANS["nmnist"], 0.05),
        Subject(TOY_VGG, 0.1, 4),
        Subject(TOY_VGG16, 0.1, 4),
        Subject(TOY_RESNET, 0.1, 4),
    ),
    batches=(1, 8),
    networks=12,
    seconds=10.0,
    repeats=2,
    engine_batch=8,
    scan=(1 << 10, 4),
    growth={
        "steps": (4, 8),
        "hidden neurons": (16, 32),
        "input spike rate": (0.05, 1.0),
        "batch": (1, 4),
        "threads": (1, 2),
    },
    usual_batch=4,
    energy=Subject(TOY_VGG, 0.1, 4),
    energy_batches=(1, 4),
    windows=2,
    window_s=0.02,
)
