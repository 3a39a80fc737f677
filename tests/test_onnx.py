"""ANNs in ONNX files, through onnx2torch: the same row of layers, or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeship.pipeline.frontends.load import load_ann
from spikeship.pipeline.frontends.onnx_file import OnnxError, read_onnx

from cli import call, ok

RNG = np.random.default_rng(0)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        OnnxError, match=r"needs onnx: pip install \"spikeship\[onnx\]\".*file.py:f"
    ):
        read_onnx(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_onnx(tmp_path / "other.onnx")
    result = call("convert", tmp_path / "net.onnx", "--data", "digits")
    assert (result.exit_code, "needs onnx" in result.stderr) == (3, True)


def written(
    path: Path, nodes: list[tuple[Any, ...]], batch: Any = "n", inputs: int = 1, opset: int = 17
) -> Path:
    """A file of `nodes` (kind, attributes, weights), each fed by the one before: (n, 1, 8, 8) to numbers."""
    onnx = pytest.importorskip("onnx", reason="onnx is in the extra onnx")
    pytest.importorskip("onnx2torch", reason="onnx2torch is in the extra onnx")
    made, stored, last = [], [], "x"
    for i, (kind, attributes, *weights) in enumerate(nodes):
        names = [f"w{i}_{j}" for j in range(len(weights))]
        stored += [onnx.numpy_helper.from_array(w, n) for w, n in zip(weights, names, strict=True)]
        made.append(
            onnx.helper.make_node(kind, [last, *names], [f"y{i}"], f"{kind}{i}", **attributes)
        )
        last = f"y{i}"
    number = onnx.TensorProto.FLOAT
    given = [
        onnx.helper.make_tensor_value_info("x" * (i + 1), number, [batch, 1, 8, 8])
        for i in range(inputs)
    ]
    answer = [onnx.helper.make_tensor_value_info(last, number, [batch, 10])]
    graph = onnx.helper.make_graph(made, "net", given, answer, stored)
    versions = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=versions)
    model.ir_version = 8
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def weights(*shape: int) -> Any:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def shape(*axes: int) -> Any:
    return np.array(axes, np.int64)


NORM = [np.ones(4, np.float32), weights(4), weights(4), 1 + weights(4) ** 2]
START: list[tuple[Any, ...]] = [
    ("Conv", {"pads": [1, 1, 1, 1]}, weights(4, 1, 3, 3), weights(4)),
    ("BatchNormalization", {}, *NORM),
    ("Relu", {}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
]
LAST = ("Gemm", {"transB": 1}, weights(10, 64), weights(10))
KINDS = ["Conv2d", "Activation", "MaxPool2d", "Flatten", "Linear"]
TAKEN: dict[str, tuple[list[tuple[Any, ...]], list[str]]] = {
    "flatten": ([*START, ("Flatten", {}), LAST], KINDS),
    "reshape": ([*START, ("Reshape", {}, shape(-1, 64)), LAST], KINDS),
    "softmax": ([*START, ("Flatten", {}), LAST, ("Softmax", {"axis": 1})], KINDS),
    "means, clip": ([START[0], ("Clip", {}, np.float32(0).reshape(()), np.float32(1).reshape(())), ("GlobalAveragePool", {}), ("Flatten", {}), ("Gemm", {}, weights(4, 10))], ["Conv2d", "Activation", "AvgPool2d", "Flatten", "Linear"]),
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", TAKEN)
def test_the_same_row_of_layers(name: str, opset: int, tmp_path: Path) -> None:
    """In versions before 14 the reference itself normalizes by the batch."""
    nodes, kinds = TAKEN[name]
    path = written(tmp_path / "net.onnx", nodes, opset=opset)
    current = written(tmp_path / "current.onnx", nodes)
    from onnx.reference import ReferenceEvaluator

    x = RNG.random((6, 1, 8, 8), np.float32)
    ann = load_ann(str(path), torch.from_numpy(x))
    assert [type(layer).__name__ for layer in ann.net] == kinds
    (expected,) = ReferenceEvaluator(str(current)).run(None, {"x": x})
    with torch.no_grad():
        made = ann.net(torch.from_numpy(x))
    if name == "softmax":
        made = made.softmax(1)
    assert np.abs(made.numpy() - expected).max() < 1e-5


def test_weights_that_are_copies_of_others(tmp_path: Path) -> None:
    """As torch's export writes equal biases."""
    path = written(tmp_path / "net.onnx", [*START, ("Flatten", {}), LAST])
    import onnx

    model = onnx.load(path)
    (conv,) = (node for node in model.graph.node if node.op_type == "Conv")
    model.graph.node.insert(0, onnx.helper.make_node("Identity", [conv.input[2]], ["copied"]))
    conv.input[2] = "copied"
    model.graph.node.remove(conv)
    model.graph.node.insert(1, conv)
    onnx.save(model, path)
    net = read_onnx(path)
    assert [
        type(layer).__name__ for layer in load_ann(str(path), torch.rand(4, 1, 8, 8)).net
    ] == KINDS
    assert sum(p.numel() for p in net.parameters()) == 40 + 8 + 650


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one batch": ({"nodes": [*START, ("Reshape", {}, shape(2, -1)), LAST], "batch": 2}, "takes batches of 2 alone: export it for any"),
    "any size": ({"nodes": [*START, ("Flatten", {}), LAST], "size": "h"}, "takes images of any size"),
    "two inputs": ({"nodes": [*START, ("Flatten", {}), LAST], "inputs": 2}, "has 2 inputs and 1 outputs"),
    "unknown": ({"nodes": [*START, ("Flatten", {}), LAST, ("Hardmax", {})]}, "onnx2torch cannot read it .NotImplementedError.*. Build the network in torch"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    how, says = dict(REFUSED[name][0]), REFUSED[name][1]
    size = how.pop("size", None)
    path = written(tmp_path / "net.onnx", **how)
    if size:
        import onnx

        model = onnx.load(path)
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = size
        onnx.save(model, path)
    with pytest.raises(OnnxError, match=says):
        read_onnx(path)


def test_no_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch", reason="onnx2torch is in the extra onnx")
    (tmp_path / "net.onnx").write_bytes(b"not a network")
    with pytest.raises(OnnxError, match="not an ONNX file"):
        read_onnx(tmp_path / "net.onnx")


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """convert, export, profile beside it, attack: one file."""
    path = written(tmp_path / "net.onnx", TAKEN["flatten"][0])
    monkeypatch.chdir(tmp_path)
    made = ok("convert", path, "--data", "digits", "--out", "made")
    assert made["graph"] == "made/converted.nir"
    ok("export", made["graph"], "--data", "digits", "--out", "own.net")
    cost = ok("profile", "own.net", "--ann", path, "--samples", 10)["profile"]
    assert [layer["weights"] for layer in cost["ann"]["work"]["layers"]] == [36, 640]
    (attacked,) = ok("attack", path, "--data", "digits", "--samples", 10)["attacks"]
    assert attacked["after"]["accuracy"] <= attacked["clean"]["accuracy"]
    result = call("attack", path, "--data", "digits", "--checkpoint", "w.pt")
    assert (result.exit_code, "holds its own weights" in result.stderr) == (3, True)
