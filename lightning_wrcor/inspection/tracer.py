"""Watching the non-linearities of a forward pass, however they are written."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_wrcor.inspection.nonlinearities import NonLinearity, is_plain_leaf, judge_leaf, recognise

_DROPOUTS: dict[Any, int] = {
    getattr(home, name): 0
    for home in (F, torch)
    for name in (
        "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "alpha_dropout_",
        "feature_dropout", "feature_dropout_", "feature_alpha_dropout", "feature_alpha_dropout_",
    )
    if hasattr(home, name)
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a non-linearity in a forward pass.

    Attributes:
        index: position in call order, from 0; gates are numbered with the others when they are counted.
        kind: common name, such as ``"SiLU"``.
        module: name of the innermost module that was running (``""`` for the network itself).
        stack: names of the modules that were running, from the network inwards.
    """

    index: int
    kind: str
    module: str
    stack: tuple[str, ...]


Visit = Callable[[Call, Tensor], Tensor]
"""Receives a call and its input; returns the tensor that the non-linearity shall use instead (an alias of the input)."""


class Tracer(TorchFunctionMode):
    """Calls ``visit`` for every non-linearity of the forward passes that run inside the ``with`` block.

    Each call is seen exactly once, whether it is written as a module (torch's, timm's, or any element-wise leaf module)
    or as a function, in place or not. In-place non-linearities are computed out of place, because the gradient at an
    overwritten tensor cannot be had; later uses of the overwritten tensor receive the new value, so that the network
    computes the same. Dropout is switched off, functional dropout and ``bernoulli_`` masks included.

    Args:
        network: the network; hooks are put on its modules inside the ``with`` block and removed afterwards.
        visit: called for each non-linearity that counts, in call order.
        gates: count bounded functions (sigmoid, tanh, softmax, ...) as well.

    Attributes:
        calls: the calls that counted, in order.
        gates_seen: how often each kind of gate was called without being counted.
        hidden: names of modules where a non-linearity ran without autograd (reentrant checkpoints), so that it has no
            gradient.
    """

    def __init__(self, network: nn.Module, visit: Visit, gates: bool = False) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.gates_seen: Counter[str] = Counter()
        self.hidden: list[str] = []
        self._network = network
        self._visit = visit
        self._count_gates = gates
        self._active = False
        self._stack: list[str] = []
        self._leaf: nn.Module | None = None
        self._leaf_nodes: set[Any] = set()
        self._judged: dict[nn.Module, NonLinearity | None] = {}
        self._overwritten: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> Tracer:
        for name, module in self._network.named_modules():
            before = module.register_forward_pre_hook(partial(self._enter_module, name), with_kwargs=True)
            after = module.register_forward_hook(self._leave_module, always_call=True)
            self._hooks.callback(before.remove)
            self._hooks.callback(after.remove)
        self._active = True
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._active = False
        self._overwritten.clear()
        self._hooks.close()
        super().__exit__(*error)

    def stop(self) -> None:
        """Stop counting (the backward pass may run parts of the forward pass again: checkpointing)."""
        self._active = False

    def unseen(self, nodes: Iterable[Any]) -> list[str]:
        """Custom autograd functions among the graph's nodes that no captured leaf module accounts for.

        Args:
            nodes: nodes of the autograd graph of what the network returned.
        """
        custom = torch.autograd.function.BackwardCFunction
        return [type(node).__name__ for node in nodes if isinstance(node, custom) and node not in self._leaf_nodes]

    # ---- modules: who is running, and leaf modules that are a non-linearity as a whole

    def _enter_module(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._active:
            return None
        self._stack.append(name)
        if self._leaf is not None or kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            return None
        # torch's own modules call functions that are seen below; everything else is judged by what it computes.
        if type(module).__module__.startswith("torch.nn.") or not is_plain_leaf(module):
            return None
        if not args[0].is_floating_point() or args[0].dim() < 2:
            return None
        if module not in self._judged:
            example = args[0]
            if example.device.type == "meta":  # nothing can be tried there; such a module runs on any device
                example = torch.empty(1, *example.shape[1:], dtype=example.dtype, device="cpu")
            with torch._C.DisableTorchFunction():
                self._judged[module] = judge_leaf(module, example)
        found = self._judged[module]
        if found is None:
            return None
        self._leaf = module
        if found.gate and not self._count_gates:
            self.gates_seen[found.kind] += 1
            return None
        return (self._announce(found, args[0]),), kwargs

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._active:
            return
        if self._stack:
            self._stack.pop()
        if module is self._leaf:
            self._leaf = None
            if isinstance(output, Tensor) and output.grad_fn is not None:
                self._leaf_nodes.add(output.grad_fn)

    def _announce(self, found: NonLinearity, tensor: Tensor) -> Tensor:
        stack = tuple(self._stack)
        if not torch.is_grad_enabled():
            self.hidden.append(stack[-1] if stack else "")
        call = Call(len(self.calls), found.kind, stack[-1] if stack else "", stack)
        self.calls.append(call)
        return self._visit(call, tensor)

    # ---- functions

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._overwritten:
            args, kwargs = self._renewed(args), {key: self._renewed(value) for key, value in kwargs.items()}
        found = recognise(func, args, kwargs)
        if found is not None:
            return self._non_linearity(found, func, args, kwargs)
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, {**kwargs}
            kwargs.pop("dropout_p", None)
        elif func is Tensor.bernoulli_ and len(args) == 2 and isinstance(args[1], float):
            return args[0].fill_(args[1])  # a drop mask, replaced by its mean: nothing is dropped
        return func(*args, **kwargs)

    def _non_linearity(self, found: NonLinearity, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            tensor, rest = args[0], args[1:]
        else:
            kwargs = dict(kwargs)
            tensor, rest = kwargs.pop("input"), ()
        overwrites = found.overwrites((tensor, *rest), kwargs)
        replacement = tensor
        if self._active and self._leaf is None:
            if found.gate and not self._count_gates:
                self.gates_seen[found.kind] += 1
            else:
                replacement = self._announce(found, tensor)
        if not overwrites:
            return func(replacement, *rest, **kwargs)
        positional, keyword = found.out_of_place((replacement, *rest), kwargs)
        result = found.function(*positional, **keyword)
        key = id(tensor)
        # Whoever still holds the tensor that should have been overwritten gets the new value from now on.
        self._overwritten[key] = (weakref.ref(tensor, lambda _: self._overwritten.pop(key, None)), result)
        return result

    def _renewed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            held = self._overwritten.get(id(value))
            return self._renewed(held[1]) if held is not None and held[0]() is value else value
        if isinstance(value, (list, tuple)) and any(isinstance(part, (Tensor, list, tuple)) for part in value):
            renewed = [self._renewed(part) for part in value]
            return type(value)(renewed) if type(value) in (list, tuple) else value
        return value


def switch_off_randomness(network: nn.Module) -> None:
    """Switch dropout and drop-path off and leave everything else in training mode (in place).

    Leaf modules without parameters and buffers go to evaluation mode: dropout, drop-path and stochastic depth have no
    other effect, and nothing else of that shape has a training mode.
    """
    network.train()
    for module in network.modules():
        if is_plain_leaf(module):
            module.eval()
            if getattr(module, "inplace", None) is True and not type(module).__module__.startswith("torch.nn."):
                module.inplace = False  # torch's own are computed out of place call by call
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
