"""Watching the non-linearities of a forward pass, however they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_wrcor.inspection.nonlinearities import (
    GRAPH_NODES,
    NonLinearity,
    is_plain_leaf,
    judge_leaf,
    may_be_activation,
    recognise,
)
from lightning_wrcor.inspection.order import OrderWatch
from lightning_wrcor.inspection.weights import HIDING, NORMALISING, WEIGHTED, LayerCall, Normalise, VisitLayer

_DROPOUTS: frozenset[Any] = frozenset(
    getattr(home, name)
    for home in (F, torch)
    for name in (
        "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "alpha_dropout_",
        "feature_dropout", "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_",
    )
    if hasattr(home, name)
)  # fmt: skip

_MARK = "_depends_on_input"
"""Attribute of tensors that depend on what the network was given."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a non-linearity in a forward pass.

    Attributes:
        index: position in call order, from 0; gates are numbered with the others when they are counted.
        kind: common name, such as ``"SiLU"``.
        module: name of the innermost module that was running (``""`` for the network itself).
        stack: names of the modules that were running, from the network inwards.
        since: names of the modules that were entered since the previous call, in order.
        depends: its input depends on what the network was given (that of a table of relative positions does not).
        overwrites: the call overwrites its input.
        again: it ran already and does not count; the backward pass runs this part once more (checkpointing).
        same_as: index of an earlier call that received the very same tensor, unchanged since; None where there is none.
    """

    index: int
    kind: str
    module: str
    stack: tuple[str, ...]
    since: tuple[str, ...] = ()
    depends: bool = True
    overwrites: bool = False
    again: bool = False
    same_as: int | None = None


Visit = Callable[[Call, Tensor], Tensor]
"""Receives a call and its input; returns the tensor that the non-linearity shall use instead: an alias of the input, or
the input itself, as it must be where the call overwrites its input."""


class Tracer(TorchFunctionMode):
    """Calls ``visit`` for every non-linearity of the forward passes that run inside the ``with`` block.

    Each call is seen exactly once, whether it is written as a module (torch's, timm's, or any element-wise leaf module)
    or as a function, in place or not. Dropout is switched off, functional dropout and ``bernoulli_`` masks included.

    Args:
        network: the network; hooks are put on its modules inside the ``with`` block and removed afterwards.
        visit: called for each non-linearity that counts, in call order.
        gates: count bounded functions (sigmoid, tanh, softmax, ...) as well.
        visit_layer: called for each convolution and linear map in place of its function.
        normalise: called for each normalisation in place of its function.
        activated: called with what each non-linearity that counts gives.
        channels_last: the images are in this order of memory, and the network may rely on the usual one: raise
            ReliesOnOrderError where it writes into what may be a view in one of them and a copy in the other.

    Attributes:
        calls: the calls that counted, in order.
        layers: calls of convolutions and linear maps, in order; empty without ``visit_layer``.
        hiding: modules whose weights cannot be told apart (torch's own multi-head attention).
        gates_seen: how often each kind of gate was called without being counted.
        hidden: names of modules where a non-linearity ran without autograd (reentrant checkpoints), so that it has no
            gradient.
    """

    def __init__(
        self,
        network: nn.Module,
        visit: Visit,
        gates: bool = False,
        visit_layer: VisitLayer | None = None,
        normalise: Normalise | None = None,
        activated: Callable[[Call, Tensor], None] | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.layers: list[LayerCall] = []
        self.hiding: list[str] = []
        self.gates_seen: Counter[str] = Counter()
        self.hidden: list[str] = []
        self._network = network
        self._visit = visit
        self._count_gates = gates
        self._visit_layer = visit_layer
        self._normalise = normalise
        self._activated = activated
        self._order = OrderWatch() if channels_last else None
        self._current: Call | None = None
        self._inputs: dict[int, tuple[ref[Tensor], int, int]] = {}
        self._again = False
        self._stack: list[str] = []
        self._entered: list[str] = []
        self._leaf: nn.Module | None = None
        self._known: set[Any] = set()
        self._judged: dict[nn.Module, NonLinearity | None] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> Tracer:
        for name, module in self._network.named_modules():
            before = module.register_forward_pre_hook(partial(self._enter_module, name), with_kwargs=True)
            after = module.register_forward_hook(self._leave_module, always_call=True)
            self._hooks.callback(before.remove)
            self._hooks.callback(after.remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()
        for module in self._network.modules():
            for held in (*module._parameters.values(), *module._buffers.values()):
                if held is not None:
                    held.__dict__.pop(_MARK, None)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Stop counting; what runs now is run again by the backward pass (checkpointing)."""
        self._again = True
        self._stack.clear()
        self._leaf = None

    def unseen(self, nodes: Iterable[Any]) -> list[str]:
        """What ran without being seen: listed non-linearities, scripted and custom functions in the autograd graph.

        Args:
            nodes: nodes of the autograd graph of what the network returned, without those that the caller put there.

        Returns:
            A name for each node that no function call and no captured leaf module accounts for.
        """
        custom = torch.autograd.function.BackwardCFunction
        names = []
        for node in nodes:
            name = node.name()
            opaque = isinstance(node, custom) or name in GRAPH_NODES or name.startswith("torch::jit")
            if opaque and node not in self._known:
                names.append("a scripted function" if name.startswith("torch::jit") else name)
        return names

    # ---- modules: who is running, and leaf modules that are a non-linearity as a whole

    def _enter_module(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._stack:
            _mark([*args, *kwargs.values()])  # what the network is given
        self._stack.append(name)
        self._entered.append(name)
        if self._leaf is not None or kwargs or len(args) != 1 or module._modules:
            return None
        tensor = args[0]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.dim() < 2:
            return None
        if module not in self._judged:
            self._judged[module] = self._judge(module, tensor)
        found = self._judged[module]
        if found is None:
            return None
        self._leaf = module
        return (self._announce(found, tensor, found.in_place),), kwargs

    def _judge(self, module: nn.Module, example: Tensor) -> NonLinearity | None:
        if not may_be_activation(module, example):
            return None
        if example.device.type == "meta":  # nothing can be tried there; a module without parameters runs on any device
            if module._parameters:
                return None
            example = torch.empty(1, *example.shape[1:], dtype=example.dtype, device="cpu")
        with torch._C.DisableTorchFunction():
            return judge_leaf(module, example)

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._stack:
            self._stack.pop()
        if _marked(args):  # custom autograd functions inside it are not seen
            _mark(output)
        if module is self._leaf:
            self._leaf = None
            if isinstance(output, Tensor):
                if output.grad_fn is not None:
                    self._known.add(output.grad_fn)
                self._show_activated(output)

    def _announce(self, found: NonLinearity, tensor: Tensor, overwrites: bool) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        if found.gate and not self._count_gates:
            if not self._again:
                self.gates_seen[found.kind] += 1
            return tensor
        stack, since = tuple(self._stack), tuple(self._entered)
        self._entered.clear()
        module = stack[-1] if stack else ""
        depends = self._depends(tensor)
        index = len(self.calls)
        same_as = None if self._again else self._first_with(tensor, index)
        call = Call(index, found.kind, module, stack, since, depends, overwrites, self._again, same_as)
        if not self._again:
            self.calls.append(call)
            self._current = call
            if not torch.is_grad_enabled():
                self.hidden.append(module)
        return self._visit(call, tensor)

    def _first_with(self, tensor: Tensor, index: int) -> int | None:
        """The call that received this tensor first, if it was not ``index``."""
        if tensor.is_inference():  # it does not know whether something was written into it
            return None
        known = self._inputs.get(id(tensor))
        # The object itself must still be there (another one may have its id), and nothing may have been written into it.
        if known is not None and known[0]() is tensor and known[1] == tensor._version:
            return known[2]
        self._inputs[id(tensor)] = ref(tensor), tensor._version, index
        return None

    def _depends(self, tensor: Tensor) -> bool:
        # Without gradients of weights, nothing but the images' path has a gradient; what custom functions make of a
        # marked tensor may have lost the mark.
        return _marked(tensor) or (tensor.requires_grad and self._visit_layer is None)

    def _show_activated(self, output: Tensor) -> None:
        """Show what the call that was announced last gives."""
        if self._current is not None and self._activated is not None:
            self._activated(self._current, output)
        self._current = None

    # ---- functions

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = self._call(func, args, kwargs)
        if self._order is not None:
            self._order.look(func, args[0] if args else kwargs.get("input"), result, self._stack)
        if isinstance(result, (Tensor, tuple, list)):
            if _marked(args) or (kwargs and _marked(kwargs)):
                _mark(result)
        elif result is None and _marked(args[1:]):  # x[index] = value
            _mark(args[0])
        return result

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = recognise(func, args, kwargs)
        if found is not None:
            if self._leaf is not None:
                pass  # it counts as a whole
            elif args:
                args = (self._announce(found, args[0], found.overwrites(args, kwargs)), *args[1:])
            else:
                tensor = self._announce(found, kwargs["input"], found.overwrites((None,), kwargs))
                kwargs = {**kwargs, "input": tensor}
            result = func(*args, **kwargs)
            if result.grad_fn is not None:
                self._known.add(result.grad_fn)
            if self._leaf is None:
                self._show_activated(result)
            return result
        if func in WEIGHTED:
            return self._call_layer(func, args, kwargs)
        if func in NORMALISING and self._normalise is not None:
            stand_in = self._normalise(func, args[0] if args else kwargs["input"])
            # A copy: the network may overwrite what it takes for the output, and go on with the input.
            return func(*args, **kwargs) if stand_in is None else stand_in.clone()
        if func in HIDING and self._stack:
            self.hiding.append(self._stack[-1])
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:])[: len(args)]
            kwargs = {name: value for name, value in kwargs.items() if name != "dropout_p"}
        elif func is Tensor.bernoulli_ and len(args) == 2 and isinstance(args[1], float):
            return args[0].fill_(args[1])  # a drop mask, replaced by its mean: nothing is dropped
        return func(*args, **kwargs)

    def _call_layer(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Convolutions and linear maps whose weight is not made from the images."""
        named = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        images, weight = named.get("input"), named.get("weight")
        known = isinstance(images, Tensor) and isinstance(weight, Tensor) and not _marked(weight)
        if self._visit_layer is None or not known:
            return func(*args, **kwargs)
        assert isinstance(images, Tensor)
        assert isinstance(weight, Tensor)
        others = {name: value for name, value in kwargs.items() if name not in ("input", "weight", "bias")}

        def run(images: Tensor, weight: Tensor, bias: bool = True) -> Tensor:
            result: Tensor = func(images, weight, named.get("bias") if bias else None, *args[3:], **others)
            return result

        module = self._stack[-1] if self._stack else ""
        # What a layer makes of a parameter is a new tensor at every call.
        owner = id(weight) if isinstance(weight, nn.Parameter) else -1 - len(self.layers)
        depends = self._depends(images)
        call = LayerCall(len(self.layers), WEIGHTED[func], module, weight.detach(), owner, depends, self._again)
        if not self._again:
            self.layers.append(call)
        return self._visit_layer(call, run, images, weight)


def _mark(value: Any) -> None:
    """Remember that these tensors depend on what the network was given."""
    if isinstance(value, Tensor):
        setattr(value, _MARK, True)
    elif isinstance(value, (tuple, list)):
        for part in value:
            _mark(part)
    elif isinstance(value, dict):
        _mark(list(value.values()))


def _marked(value: Any) -> bool:
    if isinstance(value, Tensor):
        return hasattr(value, _MARK)
    if isinstance(value, (tuple, list)):
        return any(map(_marked, value))
    return isinstance(value, dict) and any(map(_marked, value.values()))


def switch_off_randomness(network: nn.Module) -> None:
    """Switch dropout and drop-path off and leave everything else in training mode (in place).

    Leaf modules without parameters and buffers go to evaluation mode: dropout, drop-path and stochastic depth have no
    other effect, and nothing else of that shape has a training mode.
    """
    network.train()
    for module in network.modules():
        if is_plain_leaf(module):
            module.eval()
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0
