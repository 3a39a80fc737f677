"""ANNs in ONNX files, as torch modules: read by onnx2torch, proven by ONNX's own reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CLOSE = 1e-4
"""By how much, in parts of the largest answer, float32 sums in another order may differ."""
TORCH = "build the network in torch, and give file.py:function."
OPSET = 15
"""Files in older versions of ONNX's operations are brought up to it: before 14 the reference evaluator
normalizes by the batch."""


class OnnxError(ValueError):
    """An ONNX file that is no ANN of one input and one output, or that cannot be read."""


class OnnxNetwork(nn.Module):
    """What onnx2torch made of a file."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x)
        return y


def read_onnx(path: str | Path) -> nn.Module:
    """The network of an ONNX file, images (sample, *shape) to answers (sample, outputs).

    onnx2torch makes it; on random images it answers as onnx.reference does, or it is refused. Raises
    FileNotFoundError, and OnnxError with what to do, also where the extra `onnx` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        import onnx
        import onnx2torch
    except ModuleNotFoundError as error:
        raise OnnxError(
            f'{path}: reading ONNX needs {error.name}: pip install "spikeship[onnx]". Or {TORCH}'
        ) from None
    except ImportError as error:  # a torch that is too new, or too old, for onnx2torch
        raise OnnxError(f"{path}: {_first_line(error)}. {TORCH.capitalize()}") from None
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # of protobuf and of ONNX
        raise OnnxError(f"{path}: not an ONNX file ({_first_line(error)}).") from None
    model = _current(_without_copies(model))
    name, shape = _input(model, path)
    try:
        net = OnnxNetwork(onnx2torch.convert(model)).eval()
    except Exception as error:  # NotImplementedError, and what its converters raise
        raise OnnxError(
            f"{path}: onnx2torch cannot read it ({_first_line(error)}). {TORCH.capitalize()}"
        ) from None
    _prove(net, model, name, shape, path)
    return net


def _without_copies(model: Any) -> Any:
    """Weights that are an Identity of others, as torch's export makes of equal ones, as their own.

    onnx2torch looks for weights among those that are stored.
    """
    graph = model.graph
    stored = {weight.name: weight for weight in graph.initializer}
    for node in list(graph.node):
        if node.op_type == "Identity" and node.input[0] in stored:
            copy = type(stored[node.input[0]])()
            copy.CopyFrom(stored[node.input[0]])
            copy.name = node.output[0]
            stored[copy.name] = copy
            graph.initializer.append(copy)
            graph.node.remove(node)
    return model


def _current(model: Any) -> Any:
    """The same in version `OPSET` of the operations, where it is older and that can be."""
    import onnx
    from onnx import version_converter

    if all(opset.version >= OPSET for opset in model.opset_import if not opset.domain):
        return model
    try:
        return onnx.shape_inference.infer_shapes(version_converter.convert_version(model, OPSET))
    except Exception:  # an operation that the converter does not know
        return model


def _input(model: Any, path: Path) -> tuple[str, tuple[int | None, ...]]:
    """Its one input: name, and axes, None where the number of samples is left open. Raises OnnxError."""
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise OnnxError(
            f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; one each is needed."
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type != 1:  # TensorProto.FLOAT
        raise OnnxError(f"{path} does not take float32: export it in float32.")
    shape = tuple(axis.dim_value or None for axis in kind.shape.dim)
    if not shape or None in shape[1:]:
        said = ", ".join("any" if axis is None else str(axis) for axis in shape)
        raise OnnxError(
            f"{path} takes images of any size ({said}); a chip does not: export it for one, the samples' "
            f"axis alone left open."
        )
    return inputs[0].name, shape


def _prove(
    net: nn.Module, model: Any, name: str, shape: tuple[int | None, ...], path: Path
) -> None:
    """Compare with the reference evaluator, and refuse what takes batches of one size alone."""
    from onnx.reference import ReferenceEvaluator

    batch = shape[0]
    x = np.random.default_rng(0).random((batch or 2, *shape[1:]), np.float32)  # type: ignore[arg-type]
    try:
        answers: Any = ReferenceEvaluator(model).run(None, {name: x})
    except Exception as error:  # of whatever operation
        raise OnnxError(
            f"{path}: ONNX's reference cannot run it ({_first_line(error)}), so that what was read could "
            f"not be compared. {TORCH.capitalize()}"
        ) from None
    (expected,), made = answers, _run(net, x)
    close = CLOSE * max(float(np.abs(expected).max()), 1e-30)
    if made is None or made.shape != expected.shape or np.abs(made - expected).max() > close:
        raise OnnxError(
            f"{path}: what onnx2torch makes of it answers otherwise than ONNX's reference. "
            f"{TORCH.capitalize()}"
        )
    more = made if batch is None else _run(net, np.concatenate([x, x]))
    if more is None or (batch and len(more) != 2 * batch):
        raise OnnxError(
            f"{path} takes batches of {batch} alone: export it for any, as with torch.onnx.export(..., "
            f'input_names=["x"], dynamic_axes={{"x": {{0: "sample"}}}}).'
        )


@torch.no_grad()
def _run(net: nn.Module, x: NDArray[np.float32]) -> NDArray[Any] | None:
    """What it answers; None where it fails, such as by a Reshape to the batch of its export."""
    try:
        answers: NDArray[Any] = net(torch.from_numpy(x)).numpy()
    except Exception:
        return None
    return answers


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
