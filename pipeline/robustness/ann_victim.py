"""A torch ANN of somebody else's as a victim, whatever its forward computes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...hw_targets.network.coding import Coding
from ...models import encoding
from ...models.ann import Ann
from ...models.ann_layers import copied
from ...models.ann_rewrite import AnnError
from ...models.ann_rows import answering
from ...models.encoding import generator
from ...models.surrogates import USUAL, Gradient
from .victims import Victim

SAMPLES = 8
"""Images on which a network is looked at."""
CLOSE = 1e-3
"""By how much, in parts of the largest logit, float32 may make two answers to one image differ."""
DIGITS = 6
"""Of the answers that a digest is made from: the same on all machines."""


class AnnVictim(Victim):
    """A torch module that maps images (sample, *shape) to logits (sample, classes).

    It is run as it is, skip connections and all, as a copy in evaluation mode; only `convert` and
    `profile` need a row of layers. `images` (sample, *shape), in [0, 1]: some of the data, on which it is
    looked at first. `coding`: None, or noise that is added once to every image (rsc1, one step), which
    makes a network of it that can be certified: g(x) = the most likely answer to round(x) + noise.

    Raises AnnError, which says why, for a network that fails on the images, whose answers are no logits
    of two classes or more, vary from run to run or with the other images beside one, or pass no gradient
    to the image; ValueError for events and other codings.
    """

    spiking = False

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        name: str = "ANN",
        span: tuple[float, float] = (0.0, 1.0),
        coding: Coding | None = None,
    ) -> None:
        if not images.is_floating_point():
            raise ValueError("events cannot be attacked: attacks perturb images in [0, 1].")
        if coding is not None:
            check_noise(coding)
        self.name, self.span, self.coding = name, span, coding
        self.shape = tuple(images.shape[1:])
        kind = type(model).__name__
        own = copied(model.net if isinstance(model, Ann) else model)
        self.model = own.requires_grad_(False).to(self.device)
        weights = (*self.model.parameters(), *self.model.buffers())
        self._dtype = next((w.dtype for w in weights if w.is_floating_point()), torch.float32)
        if self._dtype not in (torch.float32, torch.float64):  # in which processors compute slowly
            self.model, self._dtype = self.model.float(), torch.float32
        self.model = answering(self.model, self.data(images[:SAMPLES]).to(self._dtype))
        self.classes = self._looked_at(images[:SAMPLES], kind)
        self.digest = self._digest(kind)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return (self.model,)

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        x = self.data(images)
        if self.coding is not None:
            (x,) = encoding.real(self.coding, x, draws)
        return self._run(x)

    @torch.no_grad()
    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        logits: NDArray[Any] = self.logits(images, draws).cpu().numpy()
        return logits

    def _run(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x.to(self._dtype).clone())  # its forward may work in place
        return out if out.dtype == torch.float64 else out.float()

    def _looked_at(self, images: Tensor, kind: str) -> int:
        """How many classes it knows. Raises AnnError."""
        if not len(images):
            raise AnnError("no images: at least one is needed to look at the network.")
        x = self.data(images).detach().requires_grad_()
        out = self._tried(x, kind, "data")
        if not isinstance(out, Tensor) or not out.is_floating_point() or out.ndim != 2:
            what = f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, Tensor) else ""
            raise AnnError(
                f"{kind} returns {what or type(out).__name__}; logits (sample, classes) are needed."
            )
        self._check_logits(out.detach(), kind, len(images))
        if not out.requires_grad:
            raise AnnError(
                f"{kind} passes no gradient to its input, so no attack could see it: its forward leaves "
                f"torch, or detaches (numpy, detach, no_grad)."
            )
        with torch.no_grad():
            again = self._tried(x, kind, "the same data again")
            alone = [self._tried(image[None], kind, "one image alone") for image in x]
        if any(one.shape != out[:1].shape for one in alone):
            raise AnnError(
                f"{kind} answers one image alone with shape {tuple(alone[0].shape)}, not "
                f"{tuple(out[:1].shape)}: use flatten(1) in place of squeeze()."
            )
        close = CLOSE * float(out.abs().max())
        if not bool(((again - out).abs() <= close).all()):
            raise AnnError(
                f"{kind} answers the same images differently each time, in evaluation mode: dropout or "
                f"noise in its forward must depend on self.training, and nothing be kept between calls."
            )
        if not bool(((torch.cat(alone) - out).abs() <= close).all()):
            raise AnnError(
                f"{kind} answers an image differently beside others: it uses the statistics of the batch "
                f"(a norm with track_running_stats=False?). An image needs an answer of its own."
            )
        return int(out.shape[1])

    def _tried(self, x: Tensor, kind: str, what: str) -> Any:
        """What the network returns. Raises AnnError where it fails."""
        try:
            return self.model(x.to(self._dtype).clone())
        except Exception as error:  # whatever a user's forward may raise
            said = str(error).partition("\n")[0]
            raise AnnError(f"{kind} fails on {what}, of shape {tuple(x.shape)}: {said}") from error

    def _check_logits(self, out: Tensor, kind: str, samples: int) -> None:
        if len(out) != samples:
            raise AnnError(f"{kind} gives {len(out)} answers to {samples} images.")
        if out.shape[1] < 2:
            raise AnnError(
                f"{kind} has one output: attacks and certificates turn the answers of classifiers. Of "
                f"two classes return two logits, such as torch.cat([-z, z], 1) / 2."
            )
        if not bool(out.isfinite().all()):
            raise AnnError(f"{kind} answers with numbers that are not finite.")
        if bool((out >= 0).all()) and bool(((out.sum(1) - 1).abs() < CLOSE).all()):
            raise AnnError(
                f"{kind} returns probabilities, whose gradients vanish where it is sure: attacks would "
                f"look weaker than they are. Leave out the softmax at the end and return the logits."
            )

    @torch.no_grad()
    def _digest(self, kind: str) -> str:
        """SHA-256 of the weights, and of the answers to random images, which the forward decides.

        They are in float64 where the network can.
        """
        x = torch.rand((SAMPLES, *self.shape), generator=generator(0), dtype=torch.float64)
        try:
            out = copied(self.model).double()(self.data(x)).double()
        except Exception:  # a forward that names float32 itself
            out = self._run(self.data(x)).double()
        size = float(out.abs().max().clamp(min=1e-30))
        rounded = np.round((out / size).numpy(), DIGITS) + 0.0  # no -0
        seen = f"{kind} {self.shape} {self.span} {size:.{DIGITS}g}"
        sha = hashlib.sha256(seen.encode() + rounded.tobytes())
        for key, value in self.model.state_dict().items():
            if isinstance(value, Tensor):
                sha.update(key.encode() + value.contiguous().numpy().tobytes())
        return sha.hexdigest()


def check_noise(coding: Coding) -> None:
    """Refuse a coding that an ANN cannot be given: it sees an image once. Raises ValueError."""
    if coding.name != "rsc1" or coding.steps != 1:
        raise ValueError(
            f"coding {coding.name} in {coding.steps} steps: an ANN sees an image once, so the one coding "
            f"it can have is noise, rsc1 in 1 step. `convert` makes a spiking network of it for others."
        )
