"""ANNs in ONNX files, as torch modules: read by onnx2torch, proven by ONNX's own reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CLOSE = 1e-4
"""By how much, in parts of the largest answer, float32 sums in another order may differ."""


OPSET = 15


class OnnxError(ValueError):
    """An ONNX file that is no ANN of one input and one output, or that cannot be read."""


def read_onnx(path: str | Path) -> nn.Module:
    """The network of an ONNX file, images (sample, *shape) to answers (sample, outputs).

    onnx2torch makes it; on random images it answers as onnx.reference does, or it is refused. Raises
    FileNotFoundError, ModuleNotFoundError without the extra `onnx`, and OnnxError with what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        import onnx
        import onnx2torch
    except ModuleNotFoundError as error:
        raise OnnxError(
            f'{path}: reading ONNX needs {error.name}: pip install "spikeship[onnx]". Or build the '
            f"network in torch, and give file.py:function."
        ) from None
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf and of ONNX
        raise OnnxError(f"{path}: not an ONNX file ({_first_line(error)}).") from None
    model, shape = _current(model), _input_shape(model, path)
    try:
        module: nn.Module = onnx2torch.convert(model).eval()
    except NotImplementedError as error:
        raise OnnxError(
            f"{path}: onnx2torch does not know all of it ({_first_line(error)}). Build the network in "
            f"torch, and give file.py:function."
        ) from None
    _prove(module, model, shape, path)
    return module


def _current(model: Any) -> Any:
    """The same in version `OPSET` of ONNX's operations, where it is older and that can be.

    The reference evaluator normalizes by the batch in versions before 14.
    """
    import onnx
    from onnx import version_converter

    if all(opset.version >= OPSET for opset in model.opset_import if not opset.domain):
        return model
    try:
        return onnx.shape_inference.infer_shapes(version_converter.convert_version(model, OPSET))
    except Exception:  # an operation that the converter does not know
        return model


def _input_shape(model: Any, path: Path) -> list[int | None]:
    """The axes of its one input, None where they may have any length."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise OnnxError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; one each is needed."
        )
    axes = inputs[0].type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in axes]


def _prove(module: nn.Module, model: Any, shape: list[int | None], path: Path) -> None:
    """Compare with the reference evaluator, and refuse what takes batches of one size alone."""
    from onnx.reference import ReferenceEvaluator

    batch = shape[0] if shape else None
    rest = [length for length in shape[1:] if length]
    if len(rest) < len(shape) - 1:
        raise OnnxError(
            f"{path} takes images of any size ({shape}); netx does not: export it for one, the samples' "
            f"axis alone left open."
        )
    x = np.random.default_rng(0).random((batch or 2, *rest), np.float32)
    name = model.graph.input[0].name
    (expected,) = ReferenceEvaluator(model).run(None, {name: x})
    with torch.no_grad():
        made = module(torch.from_numpy(x)).numpy()
        if made.shape != expected.shape or np.abs(made - expected).max() > CLOSE * max(
            np.abs(expected).max(), 1e-30
        ):
            raise OnnxError(
                f"{path}: what onnx2torch makes of it answers otherwise than ONNX's reference. Build the "
                f"network in torch, and give file.py:function."
            )
        if batch is None:
            return
        try:
            more = module(torch.from_numpy(np.concatenate([x, x])))
        except Exception:  # a Reshape to the batch that it was exported with
            more = None
    if more is None or len(more) != 2 * batch:
        raise OnnxError(
            f"{path} takes batches of {batch} alone: export it for any, as with torch.onnx.export(..., "
            f'input_names=["x"], dynamic_axes={{"x": {{0: "sample"}}}}).'
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
