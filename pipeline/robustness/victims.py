"""What is attacked and certified: a trained float network, or the deployed integers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...hw_targets.network import arithmetic
from ...hw_targets.network.coding import Coding, check_known
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.simulate.torch_engine.device import device_of
from ...models import encoding
from ...models.activity import activity
from ...models.settings import LOGIT_SCALE
from ...models.surrogates import USUAL, Gradient
from ...models.training import Classifier
from ..deploy.calibration import calibration_messages
from ..deploy.deploy import deploy_graph
from ..deploy.deployed import Deployed
from ..deploy.run import output_scores
from ..frontends.norse import convert
from ..quantize import quantize
from ..twin import Twin


class Victim(ABC):
    """A classifier of images (sample, *shape) in [0, 1], with its input coding inside.

    `name` says what it is in reports, `digest` which one; `coding` is None for an ANN, which sees the
    images themselves; `shape` is (C, H, W), of data with time (steps, *input shape). Data of another
    range are attacked in units of it: `span` are its ends, and an image x stands for low + (high - low)
    times x. `spiking`: whether gradients pass spikes, by a rule that can be chosen. `device`: where it
    computes, to which images must be brought; `on` changes it.
    """

    span: tuple[float, float] = (0.0, 1.0)
    spiking: bool = True
    device: torch.device = torch.device("cpu")
    name: str
    digest: str
    coding: Coding | None
    shape: tuple[int, ...]
    classes: int

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What of it has weights, which are where it computes."""
        return ()

    @contextmanager
    def on(self, device: str | torch.device) -> Iterator[None]:
        """Compute on a device within the block, and afterwards where it did before.

        Raises NetworkError for a device that is not there.
        """
        where, before = device_of(device), self.device
        try:
            self._move(where)
            yield
        finally:
            self._move(before)

    def _move(self, device: torch.device) -> None:
        self.device = device
        for module in self.modules:
            module.to(device)

    @property
    def stochastic(self) -> bool:
        """Whether two draws of the coding can give different answers for one image."""
        return self.coding is not None and self.coding.stochastic

    @abstractmethod
    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        """Logits (sample, classes) for the softmax, differentiable in `images`; one draw each."""

    @abstractmethod
    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        """What the decision, the argmax, is taken from, (sample, classes); one draw each.

        Of the network as it is used: of the deployed one by the engine, not by its twin.
        """

    def data(self, images: Tensor) -> Tensor:
        """What images in [0, 1] stand for, see `span`."""
        low, high = self.span
        return images if self.span == (0.0, 1.0) else low + (high - low) * images

    def answers(self, images: Tensor, draws: torch.Generator) -> NDArray[np.int64]:
        """The class of each image, (sample,); one draw each."""
        answers: NDArray[np.int64] = self.scores(images, draws).argmax(axis=1)
        return answers


class FloatVictim(Victim):
    """A network of `spikeship train`: a Norse network, or its ANN twin."""

    def __init__(
        self,
        classifier: Classifier,
        name: str = "float",
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.span = span
        settings = classifier.settings
        if settings.coding.name == "events":
            raise ValueError("events cannot be attacked: attacks perturb images in [0, 1].")
        if settings.spiking and settings.framework != "norse":
            raise ValueError(
                f"the float form of a {settings.framework} network cannot be attacked: export it, "
                f"which changes no integer of it, and attack the .net file."
            )
        self.name, self.spiking = name, settings.spiking
        self.classifier = classifier.eval().requires_grad_(False).to(self.device)
        sha = hashlib.sha256(settings.text.encode())
        for key, value in classifier.state_dict().items():
            sha.update(key.encode() + value.cpu().numpy().tobytes())
        self.digest = sha.hexdigest()
        self.coding = settings.coding if settings.spiking else None
        self.shape, self.classes = settings.shape, settings.classes
        if settings.coding.name == "sequence":
            self.shape = (settings.coding.steps, *settings.shape)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.classifier,)

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        images = self.data(images)
        inputs = images if self.coding is None else encoding.real(self.coding, images, draws)
        return self.classifier.scale * activity(self.classifier.net, inputs, gradient).logits

    @torch.no_grad()
    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        logits: NDArray[Any] = self.classifier.logits(self.data(images), draws).cpu().numpy()
        return logits


class DeployedVictim(Victim):
    """A network of `spikeship export`: gradients through its twin, decisions by the engine."""

    def __init__(
        self,
        deployed: Deployed,
        name: str = "deployed",
        span: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.span = span
        network, recipe = deployed.network, deployed.recipe
        check_known(recipe.coding.name)
        self.coding = recipe.coding
        if recipe.coding.name == "events":
            raise ValueError("events cannot be attacked: attacks perturb images in [0, 1].")
        self.name, self.digest = name, network.digest
        self.deployed, self.network, self.recipe = deployed, network, recipe
        self.shape = network.input_shape
        if recipe.coding.name == "sequence":
            self.shape = (recipe.coding.steps, *network.input_shape)
        self.classes = network.populations[-1].size
        self.twin = Twin(network, trainable=())
        self._gain = _gain(network)

    @classmethod
    def quantized(
        cls, classifier: Classifier, calibration: Tensor, bits: int = 8, name: str | None = None
    ) -> DeployedVictim:
        """What `spikeship export --bits` makes of a trained Norse network, without a file.

        `calibration`: training images (sample, C, H, W) on which scales are chosen.
        """
        settings = classifier.settings
        messages = calibration_messages(settings.coding, calibration, settings.seed)
        frames = messages / settings.coding.levels
        graph = convert(classifier.net, settings.shape, frames)
        recipe = Recipe.of(settings.coding, settings.seed, {"dataset": settings.dataset})
        deployed = deploy_graph(graph, messages, recipe, quantizer=partial(quantize, bits=bits))
        return cls(deployed, name or f"{bits} bits")

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.twin,)

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        assert self.coding is not None
        self.twin.gradient = gradient
        messages = encoding.messages(self.coding, self.data(images), draws)
        if self.recipe.decode == "spike count":
            (*_, out) = self.twin.run_recipe(messages, record=("spikes.-1",)).spikes
            assert out is not None
            return LOGIT_SCALE["spikes"] * out.sum(1).flatten(1)
        (*_, out) = self.twin.run_recipe(messages, record=("v.-1",)).v
        assert out is not None
        value = out.mean(1) if self.recipe.decode == "mean voltage" else out[:, -1]
        unit = self.recipe.output_unit * (1 << arithmetic.STATE_SHIFT) * self._gain
        return LOGIT_SCALE["voltage"] * (value / unit).flatten(1)

    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        assert self.coding is not None
        messages = encoding.integers(self.coding, self.data(images), draws)
        return output_scores(self.network, messages, device=self.device)


def _gain(network: Network) -> float:
    """How much larger v of the output neurons is than the current that holds it there."""
    neuron = network.populations[-1].layer.neuron
    gain = 1.0
    if isinstance(neuron, CubaLIF):
        for decay in (float(np.mean(neuron.i_decay)), float(np.mean(neuron.v_decay))):
            gain *= arithmetic.DECAY_ONE / decay if decay > 0 else 1.0
    return gain
