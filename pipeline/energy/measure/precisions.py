"""One ANN in several precisions, as torch itself runs them."""

from __future__ import annotations

import copy
import warnings
from typing import Literal, TypeAlias

import torch
from torch import nn

from .reading import Unavailable

Processor: TypeAlias = Literal["cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "float16", "int8"]
_INT8_KERNELS = ("fbgemm", "x86")
"""Engines of torch.ao: FBGEMM; x86 takes oneDNN where that should be faster. Neither always is."""


def variants(
    net: nn.Module, precision: Precision, processor: Processor, calibration: torch.Tensor
) -> dict[str, nn.Module]:
    """The network in `precision` on `processor`, once for each set of kernels that torch has for it.

    All take images of the dtype `input_dtype(precision)`. int8 is torch's own static quantization of
    the whole network (linear and convolution with their ReLU): int8 weights per output channel, uint8
    activations with ranges observed on `calibration` images (sample, C, H, W), batch norm folded.
    Raises Unavailable where torch has no such kernels.
    """
    net = copy.deepcopy(net).eval()
    if precision != "int8":
        return {"torch": net.to(processor, input_dtype(precision))}
    if processor == "cuda":
        raise Unavailable("torch runs no int8 networks on a GPU; measure float16 there instead.")
    engines = [e for e in _INT8_KERNELS if e in torch.backends.quantized.supported_engines]
    return {f"torch.ao {e}": _int8(net, e, calibration) for e in engines or ("qnnpack",)}


def input_dtype(precision: Precision) -> torch.dtype:
    """The dtype of images that a variant takes; int8 networks quantize float32 images themselves."""
    return torch.float16 if precision == "float16" else torch.float32


def _int8(net: nn.Module, engine: str, calibration: torch.Tensor) -> nn.Module:
    try:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
    except ImportError:
        raise Unavailable(
            f"torch {torch.__version__} has no torch.ao.quantization any more; torch 2.3 has."
        ) from None
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # on observers' defaults, and of deprecation
            observed = prepare_fx(
                copy.deepcopy(net), get_default_qconfig_mapping(engine), (calibration[:1],)
            )
            observed(calibration)
            quantized: nn.Module = convert_fx(observed)
    finally:
        torch.backends.quantized.engine = before
    return quantized
