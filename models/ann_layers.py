"""What a torch ANN computes, as a row of few kinds of layers; read from its forward by torch.fx.

`_traced` follows the forward, each operation a module of its own, whether it was written as a module or
as a function; `ann_rewrite.simplified` then makes few kinds of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from .activation import activation_of, is_elementwise
from .ann_rewrite import NORMS, AnnError, Named, scaling, simplified
from .functional import LAYERS

KEPT = (nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
ENDS = ("softmax", "log_softmax", "Softmax", "LogSoftmax")
"""What a network may end with and no integer needs: the order of the logits is the same."""
SAMPLES = 8
"""Images, and as many random ones of either sign, on which layers and network are compared."""


@torch.no_grad()
def layers_of(model: nn.Module, images: Tensor) -> nn.Sequential:
    """The layers of an ANN: Conv2d, Linear, `Activation`, AvgPool2d, MaxPool2d and Flatten.

    `model`: images (sample, *shape) to one row of numbers for each; it is not changed. `images`: some.
    A copy in evaluation mode and float64 is traced by torch.fx, so that functions in `forward` count as
    modules do. Exactly rewritten are: BatchNorm (folded into the layer before, or a 1 x 1
    convolution), dropout and whatever changes nothing (left out), maxima before a ReLU (after it, as it
    never falls), AdaptiveAvgPool2d (an average of whole parts, or part of the Linear behind), numbers
    that are added to or multiply all pixels, a softmax at the end (left out: the order of the answers
    is the same). What the layers give is compared with the model on `images` and on random ones.

    Raises AnnError, which names every operation that there is no layer for, or where the network
    branches.
    """
    given = images[:SAMPLES].double()
    if not len(given):
        raise AnnError("no images: at least one is needed to follow the network.")
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)).double()
    spread = given.std(correction=0).clamp(min=0.1)
    x = torch.cat([given, 2 * spread * noise + given.mean()])
    try:
        twin = copy.deepcopy(model).cpu().double().eval()
    except (RuntimeError, TypeError) as error:
        raise AnnError(f"{type(model).__name__} cannot be copied ({error}).") from None
    found, end = _traced(twin, x)
    net = nn.Sequential(*simplified(found, x)).eval().requires_grad_(False)
    expected, made = twin(x), end(net(x))
    off = float((made - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if made.shape != expected.shape or not off < 1e-6:
        raise AnnError(
            f"{type(model).__name__} and its layers answer differently, by {off:.2g} of the largest: its "
            f"forward does something that depends on the values of its input."
        )
    return net.float()


# -- following the forward --------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    """Activations of the user's own are looked at from outside; all other modules of theirs inside."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        alone = [m for m in model.modules() if next(m.children(), None) is None]
        self._activations = {id(m) for m in alone if is_elementwise(m)}  # not while it traces

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if super().is_leaf_module(m, module_qualified_name):
            return True
        return id(m) in self._activations


def _traced(model: nn.Module, x: Tensor) -> tuple[list[Named], Callable[[Tensor], Tensor]]:
    """Every operation between the input and the answer as a module, and a softmax at the end."""
    tracer = _Tracer(model)
    try:
        graph = fx.GraphModule(model, tracer.trace(model))
    except Exception as error:  # whatever a user's forward may raise
        said = " ".join(str(error).split())[:300]
        raise AnnError(
            f"the forward of {type(model).__name__} cannot be followed by torch.fx: {said} Branches that "
            f"depend on values must go; so must functions that are not torch's."
        ) from error
    follow = _Follow(graph, x)
    try:
        follow.run(x)
    except AnnError:
        raise
    except Exception as error:
        raise AnnError(
            f"{type(model).__name__} fails on images of shape {tuple(x.shape[1:])}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    if follow.problems:
        listed = "\n".join(f"  - {problem}" for problem in follow.problems)
        raise AnnError(f"{type(model).__name__} is no row of layers that can spike:\n{listed}")
    return follow.layers, follow.end


class _Follow(fx.Interpreter):
    """Runs a traced network, and notes the layer that each of its operations is."""

    def __init__(self, graph: fx.GraphModule, x: Tensor) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.layers: list[Named] = []
        self.problems: list[str] = []
        self.end: Callable[[Tensor], Tensor] = lambda y: y
        self._current: fx.Node | None = None
        self._values: dict[fx.Node, Tensor] = {}
        self._names: dict[fx.Node, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        for source in n.all_input_nodes:
            if source in self._values:  # what changes it in place changes a copy
                self.env[source] = self._values[source].clone()
        out = super().run_node(n)
        if n.op == "placeholder" and self._current is None:
            self._current, self._values[n], self._names[n] = n, out, "its input"
        elif n.op == "output":
            self._finish(n)
        elif isinstance(out, Tensor) and n.op != "get_attr":
            sources = [s for s in n.all_input_nodes if s in self._values]
            if sources:
                self._note(n, sources, out)
        return out

    def _note(self, n: fx.Node, sources: list[fx.Node], out: Tensor) -> None:
        name = self._name(n)
        self._values[n], self._names[n] = out, name
        if sources != [self._current]:
            self.problems.append(self._branch(name, sources))
            self._current = n
            return
        x = self._values[sources[0]]
        self._current = n
        layer = self._layer(n, x, out)
        if isinstance(layer, str):
            self.problems.append(f"{name}: {layer}")
        elif layer is not None:
            self.layers.append((name, layer))

    def _branch(self, name: str, sources: list[fx.Node]) -> str:
        given = " and ".join(self._names[source] for source in sources)
        if len(sources) > 1:
            return (
                f"{name} puts together {given} (a skip connection, or parallel branches); netx holds "
                f"a chain of layers."
            )
        assert self._current is not None
        return (
            f"{name} takes {given}, not what comes before it, {self._names[self._current]}: the network "
            f"branches; netx holds a chain of layers."
        )

    def _name(self, n: fx.Node) -> str:
        if n.op == "call_module":
            return f"{n.target} ({type(self.fetch_attr(str(n.target))).__name__})"
        target = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "?")
        return f"{target} in forward"

    def _layer(self, n: fx.Node, x: Tensor, out: Tensor) -> nn.Module | str | None:
        """The module that an operation is; None where it changes nothing; a text: why there is none."""
        module = self._module(n)
        if isinstance(module, (*KEPT, *NORMS)):
            return module
        flat = out.ndim and len(out) == len(x) and out.numel() == x.numel()
        if flat and torch.equal(out.reshape(len(x), -1), x.reshape(len(x), -1)):
            if out.shape == x.shape and not _bounded(self._function(n), x):
                return None
            if out.shape != x.shape and out.ndim == 2:
                return nn.Flatten()
            if out.shape != x.shape:
                return (
                    f"makes {tuple(out.shape[1:])} of {tuple(x.shape[1:])}; only Flatten is known."
                )
        function = self._function(n)
        kind = type(module).__name__ if module is not None else str(_target(n))
        if kind in ENDS:
            self.end = function
            return None
        if out.shape == x.shape and is_elementwise(function):
            made = activation_of(function) or _by_channel(function, x)
            return made or (
                "is an activation that neurons do not have; ReLU, ReLU with a ceiling and clip-floor "
                "steps are known. Train with one of them."
            )
        if out.shape == x.shape and (made := _by_channel(function, x)) is not None:
            return made
        return "there is no layer for it."

    def _module(self, n: fx.Node) -> nn.Module | None:
        if n.op == "call_module":
            return copy.deepcopy(self.fetch_attr(str(n.target)))  # type: ignore[no-any-return]
        if n.op == "call_function" and n.target in LAYERS:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            try:
                return LAYERS[n.target](*args, **kwargs)[1].double()
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


def _bounded(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether what changed nothing on these images would change others: a clamp, a ReLU."""
    try:
        far = torch.cat([-10 - x.abs(), 10 + x.abs()])[: len(x)]
        return not torch.equal(function(far), far) or not torch.equal(function(-far), -far)
    except Exception:
        return False


def _by_channel(function: Callable[[Tensor], Tensor], x: Tensor) -> nn.Module | None:
    """a[c] x + b[c], as a layer of its own; None where it is something else."""
    if x.ndim not in (2, 4):
        return None
    zeros = torch.zeros_like(x[:1])
    try:
        b = function(zeros)
        a = function(zeros + 1) - b
        same = torch.allclose(function(x), a * x + b, rtol=1e-9, atol=1e-12)
        same &= torch.allclose(function(-3 * x), -3 * a * x + b, rtol=1e-9, atol=1e-9)
    except Exception:
        return None
    if not same or a.shape != zeros.shape:
        return None
    if x.ndim == 4:
        if any((t != t[:, :, :1, :1]).any() for t in (a, b)):
            return None
        a, b = a[:, :, 0, 0], b[:, :, 0, 0]
    return scaling(a.flatten(), b.flatten(), x.ndim)
