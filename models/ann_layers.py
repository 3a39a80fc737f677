"""What a torch ANN computes, as a row of few kinds of layers; read from its forward by torch.fx.

`ann_trace.traced` follows the forward, each operation a module of its own, whether it was written as a
module or as a function; `ann_rewrite.simplified` then makes few kinds of them.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .ann_rewrite import AnnError, simplified
from .ann_rows import answering
from .ann_trace import traced

SAMPLES = 8
"""Images, and as many random ones of either sign, on which layers and network are compared."""
EXACT, FLOAT32 = 1e-6, 1e-3
"""By how much, in parts of the largest answer, layers and network may differ, in float64 and float32."""


@torch.no_grad()
def layers_of(model: nn.Module, images: Tensor) -> nn.Sequential:
    """The layers of an ANN: Conv2d, Linear, `Activation`, AvgPool2d, MaxPool2d and Flatten.

    `model`: images (sample, *shape) to one row of numbers for each; it is not changed. Of signals
    (sample, C, L), as Conv1d takes them, `images` are rows (sample, C, 1, L). `images`: some.

    A copy in evaluation mode and float64 is traced by torch.fx, so that functions in `forward` count as
    modules do. Exactly rewritten are: BatchNorm (folded into the layer before, or a 1 x 1
    convolution), dropout and whatever changes nothing (left out), maxima before a ReLU (after it, as it
    never falls), AdaptiveAvgPool2d (an average of whole parts, or part of the Linear behind), layers of
    signals (those of images of one row), numbers that are added to or multiply all pixels, weights that
    are computed (norms, masks: what they are now), a softmax at the end (left out: the order of the
    answers is the same). What the layers give is compared with the model on `images` and on random ones.

    Raises AnnError, which names every operation that there is no layer for, or where the network
    branches.
    """
    kind = type(model).__name__
    given = images[:SAMPLES].double()
    if not len(given):
        raise AnnError("no images: at least one is needed to follow the network.")
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).double()
    spread = given.std(correction=0).clamp(min=0.1)
    x = torch.cat([given, 2 * spread * noise + given.mean()])
    own = copied(model)
    twin = answering(copy.deepcopy(own).double(), x)
    layers, end = traced(twin, x, kind)
    net = nn.Sequential(*simplified(layers, x)).eval().requires_grad_(False)
    made = end(net(x))
    expected, close = _answers(own, twin, x)
    if made.shape != expected.shape or made.ndim != 2:
        raise AnnError(
            f"{kind} answers with {tuple(expected.shape[1:])} numbers to an image; one row of them is "
            f"needed, (sample, outputs)."
        )
    off = float((made - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not off < close:
        raise AnnError(
            f"{kind} and its layers answer differently, by {off:.2g} of the largest: its forward does "
            f"something that depends on the values of its input."
        )
    return net.float()


def _answers(own: nn.Module, twin: nn.Module, x: Tensor) -> tuple[Tensor, float]:
    """What a network answers, in float64 if it can, and by how much others may differ."""
    try:
        return twin(x.clone()), EXACT
    except RuntimeError:  # a forward that names float32 itself
        single = own.float()
        return answering(single, x.float())(x.float()).double(), FLOAT32


def copied(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode, out of what torch wraps around networks. Raises AnnError."""
    kind = type(model).__name__
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if any(is_lazy(weight) for weight in (*model.parameters(), *model.buffers())):
        raise AnnError(
            f"{kind} has lazy modules without weights: run it once and load its weights before you give "
            f"it."
        )
    try:
        return copy.deepcopy(model).cpu().eval()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        said = " ".join(str(error).split())
        remedy = ""
        if "leaves" in said:  # torch.nn.utils.weight_norm keeps weights that it computed
            remedy = " Call torch.nn.utils.remove_weight_norm, or prune.remove, first."
        raise AnnError(f"{kind} cannot be copied: {said}{remedy}") from None
