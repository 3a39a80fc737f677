"""The forward of a torch ANN, followed by torch.fx: the layer that each operation is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from .activation import Activation, activation_of, is_elementwise
from .ann_operation import bounded, by_channel, is_row, mean, reshaped, same
from .ann_plain import FUNCTIONS, plain
from .ann_rewrite import AnnError, Named

ENDS = ("softmax", "log_softmax", "Softmax", "LogSoftmax")
"""What a network may end with and no integer needs: the order of the logits is the same."""
CASTS = ("double", "float", "half", "to", "type", "type_as")
NO_LAYER = (
    "there is no layer for it; Linear, convolutions, BatchNorm, ReLU, average and maximum pooling, "
    "Dropout and Flatten are known."
)


def traced(
    model: nn.Module, x: Tensor, kind: str
) -> tuple[list[Named], Callable[[Tensor], Tensor]]:
    """Every operation between the input and the answer as a layer, and a softmax at the end.

    `model`: in evaluation mode and float64; `x`: images. `kind`: what errors call it. Raises AnnError.
    """
    tracer = _Tracer(model)
    try:
        graph = fx.GraphModule(model, tracer.trace(model))
    except Exception as error:  # whatever a user's forward may raise
        said = " ".join(str(error).split())[:300]
        raise AnnError(
            f"the forward of {kind} cannot be followed by torch.fx: {said} Branches that depend on "
            f"values must go; so must functions that are not torch's."
        ) from error
    follow = _Follow(graph, x)
    try:
        follow.run(x)
    except AnnError:
        raise
    except Exception as error:
        raise AnnError(
            f"{kind} fails on images of shape {tuple(x.shape[1:])}: {str(error).partition(chr(10))[0]}"
        ) from error
    if follow.problems:
        listed = "\n".join(f"  - {problem}" for problem in follow.problems)
        raise AnnError(f"{kind} is no row of layers that can spike:\n{listed}")
    return follow.layers, follow.end


class _Tracer(fx.Tracer):
    """Activations of the user's own are looked at from outside; all other modules of theirs inside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        alone = [m for m in model.modules() if next(m.children(), None) is None]
        self._activations = {id(m) for m in alone if is_elementwise(m)}  # not while it traces

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if super().is_leaf_module(m, module_qualified_name):
            return True
        return id(m) in self._activations or type(m).__module__.startswith("onnx2torch.")


class _Follow(fx.Interpreter):
    """Runs a traced network, and notes the layer that each of its operations is."""

    def __init__(self, graph: fx.GraphModule, x: Tensor) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.layers: list[Named] = []
        self.problems: list[str] = []
        self.end: Callable[[Tensor], Tensor] = lambda y: y
        self._ended = ""
        self._signals = x.ndim == 3
        self._current: fx.Node | None = None
        self._values: dict[fx.Node, Tensor] = {}
        self._several: set[fx.Node] = set()
        self._names: dict[fx.Node, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        for source in n.all_input_nodes:
            if source in self._values:  # what changes it in place changes a copy
                self.env[source] = self._values[source].clone()
        out = super().run_node(n)
        if isinstance(out, Tensor) and out.is_floating_point():
            out = out.double()
        if n.op == "placeholder" and self._current is None:
            self._current, self._values[n], self._names[n] = n, out, "its input"
        elif n.op == "output":
            self._finish(n)
        elif n.op != "get_attr":
            self._note(n, out)
        return out

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """As it is; what changes the type of numbers alone does nothing, here all are float64."""
        out = super().call_method(target, args, kwargs)
        if target not in CASTS or not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        return args[0] if args[0].is_floating_point() else out

    def _note(self, n: fx.Node, out: Any) -> None:
        sources = [s for s in n.all_input_nodes if s in self._values]
        name = self._name(n)
        if isinstance(out, tuple | list) and any(isinstance(each, Tensor) for each in out):
            if sources:
                self.problems.append(f"{name}: gives several tensors; a layer gives one.")
                self._several.add(n)
            return
        if isinstance(out, Tensor) and self._several.intersection(n.all_input_nodes):
            self._values[n], self._names[n], self._current = out, name, n
            return
        whole = isinstance(out, Tensor) and not out.is_floating_point() and out.dtype != torch.bool
        if not sources or not isinstance(out, Tensor) or whole:  # such as a shape
            return
        self._values[n], self._names[n] = out, name
        current, self._current = self._current, n
        if sources != [current]:
            self.problems.append(self._branch(name, sources, current))
            return
        layer = self._layer(n, self._values[sources[0]], out)
        if layer is not None and self._ended:
            layer = f"comes behind {self._ended}, which is left out only at the end."
        if isinstance(layer, str):
            self.problems.append(f"{name}: {layer}")
        elif layer is not None:
            parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
            self.layers.extend((name, part) for part in parts)

    def _branch(self, name: str, sources: list[fx.Node], current: fx.Node | None) -> str:
        given = " and ".join(self._names[source] for source in sources)
        if len(sources) > 1:
            return (
                f"{name} puts together {given} (a skip connection, or parallel branches); netx holds "
                f"a chain of layers."
            )
        assert current is not None
        before = self._names[current]
        if self._in_place(current):
            return (
                f"{name} takes {given}, which {before} changes in place: let it take what that returns, "
                f"x = relu_(x)."
            )
        return (
            f"{name} takes {given}, not what comes before it, {before}: the network branches; netx holds "
            f"a chain of layers."
        )

    def _in_place(self, n: fx.Node) -> bool:
        name = str(_target(n))
        if n.op == "call_module":
            return bool(getattr(self.fetch_attr(name), "inplace", False))
        return bool(n.kwargs.get("inplace")) or (name.endswith("_") and not name.endswith("__"))

    def _name(self, n: fx.Node) -> str:
        if n.op == "call_module":
            return f"{n.target} ({type(self.fetch_attr(str(n.target))).__name__})"
        target = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "?")
        return f"{target} in forward"

    def _layer(self, n: fx.Node, x: Tensor, out: Tensor) -> nn.Module | str | None:
        """The layer that an operation is; None where it changes nothing; a text: why there is none."""
        module, function = self._module(n), self._function(n)
        kind = type(module).__name__ if module is not None else str(_target(n))
        if module is not None and (layer := plain(module, x, out)) is not None:
            if self._signals and x.ndim == 3:
                self._signals = False  # said once
                return (
                    "works on signals (C, L). Give the data as images of one row, x (sample, C, 1, L); "
                    "the network stays as it is."
                )
            return layer
        flat = out.ndim and len(out) == len(x) and out.numel() == x.numel()
        if flat and torch.equal(out.reshape(len(x), -1), x.reshape(len(x), -1)):
            if out.shape != x.shape:
                return reshaped(x, out)
            if not bounded(function, x):
                return None
        if kind in ENDS:
            if not torch.equal(x.argsort(-1), out.argsort(-1)) or not is_row(function, x, out):
                return "is not taken over the outputs, (sample, outputs) with dim=1."
            self.end, self._ended = function, self._name(n)
            return None
        if (pooled := mean(x, out)) is not None:
            return pooled
        if not same(function, x, out):
            return "answers at random in evaluation mode; dropout needs training=self.training."
        if out.shape == x.shape and is_elementwise(function):
            made = activation_of(function) or by_channel(function, x) or self._composed(function)
            return made or (
                "is an activation that neurons do not have; ReLU, ReLU with a ceiling and clip-floor "
                "steps are known. Train with one of them."
            )
        if out.shape == x.shape and (made := by_channel(function, x)) is not None:
            return made
        return NO_LAYER

    def _composed(self, function: Callable[[Tensor], Tensor]) -> nn.Module | None:
        """The activation that it is together with the one right before, which it takes the place of."""
        last = self.layers[-1][1] if self.layers else None
        if not isinstance(last, Activation):
            return None
        made = activation_of(lambda x: function(last(x)))
        if made is not None:
            self.layers.pop()
        return made

    def _module(self, n: fx.Node) -> nn.Module | None:
        if n.op == "call_module":
            return self.fetch_attr(str(n.target))  # type: ignore[no-any-return]
        if n.op == "call_function" and n.target in FUNCTIONS:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            try:
                return FUNCTIONS[n.target](*args, **kwargs)[1].double()
            except TypeError:
                return None
        return None

    def _function(self, n: fx.Node) -> Callable[[Tensor], Tensor]:
        """An operation as a function of its one tensor from the chain."""
        (source,) = (s for s in n.all_input_nodes if s in self._values and s is not n)

        def function(x: Tensor) -> Tensor:
            def put(node: fx.Node) -> Any:
                return x.clone() if node is source else self.env[node]

            args = fx.node.map_arg(n.args, put)
            kwargs = fx.node.map_arg(n.kwargs, put)
            return getattr(self, n.op)(n.target, args, kwargs)  # type: ignore[no-any-return]

        return function

    def _finish(self, n: fx.Node) -> None:
        returned = n.args[0]
        if returned is not self._current and not self.problems:
            self.problems.append(
                "its forward returns something else than what its last layer gives. Return that alone."
            )


def _target(n: fx.Node) -> Any:
    return n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "")
