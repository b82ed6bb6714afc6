"""One forward pass, and the backward pass where it is needed, with observers at every non-linearity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_wrcor.inspection import Call, Tracer, assign_layers
from lightning_wrcor.inspection.weights import Normalise
from lightning_wrcor.proxies._base import Needs, Observer, PassRecord
from lightning_wrcor.proxies._layers import Layers, unwatched
from lightning_wrcor.proxies._precision import Precision, autocast
from lightning_wrcor.proxies._samples import puts_sequences_first, samples_first


def run_pass(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    needs: Needs,
    observers: Sequence[Observer],
    layers: Mapping[str, int] | None = None,
    normalise: Normalise | None = None,
    channels_last: bool = False,
    precision: Precision = "float32",
) -> PassRecord:
    """Run the batch through the network and show the observers what they watch.

    The gradient at one non-linearity is taken on an alias of its input, so that a tensor with several consumers gives
    each its own; where the input is overwritten, at its last value before that. Parameters need no gradient: the graph
    starts at the first thing whose gradient is wanted, and a weight's gradient is shown and dropped as it comes.

    Args:
        network: prepared for scoring; its parameters need no gradient.
        images: ``(B, C, H, W)``.
        labels: ``(B,)`` whole numbers or ``(B, classes)`` probabilities; None only where no loss is differentiated.
        needs: what is wanted of the pass.
        observers: receive what comes in call order, then gradients as the backward pass reaches them.
        layers: layer map, or None for the rule for any network.
        normalise: called in place of normalisations.
        channels_last: the images are in this order of memory, and the network may rely on the usual one.
        precision: ``"bfloat16"`` runs the network under torch's autocast.

    Raises:
        ValueError: for a network whose output is no logits, labels out of range, or parts that cannot be seen.
        RuntimeError: when a gradient that exists was not seen.
        ReliesOnOrderError: where only the usual order of memory gives what the network means.
    """
    record = PassRecord()
    sources: dict[int, Any] = {}
    received: set[int] = set()
    anchor = torch.zeros((), device=images.device, requires_grad=True)
    sequence_first = puts_sequences_first(network)

    def show(call: Call, part: Literal["activation", "gradient"], value: Tensor) -> None:
        response = samples_first(value.detach(), len(images), sequence_first)
        if response is None:
            record.without_samples.append((call.index, part))
            return
        with unwatched(value):
            for observer in observers:
                observer.see(call, part, response)

    def gradient(call: Call, value: Tensor) -> None:
        received.add(call.index)
        show(call, "gradient", value)

    def activated(call: Call, value: Tensor) -> None:
        given = samples_first(value.detach(), len(images), sequence_first)
        if given is None or not call.depends or call.again:
            return
        with unwatched(value):
            for observer in observers:
                observer.see_activated(call, given)

    def visit(call: Call, tensor: Tensor) -> Tensor:
        if not call.depends:
            return tensor
        if not call.again:
            show(call, "activation", tensor)
        if not (torch.is_grad_enabled() and needs.gradients):
            return tensor
        if call.overwrites:
            _watch_overwritten(tensor, anchor, partial(gradient, call))
            base = tensor._base if tensor._is_view() else tensor
            assert base is not None
            sources[call.index] = base.grad_fn
            return tensor
        if tensor.requires_grad:
            alias = tensor.view_as(tensor)
            sources[call.index] = alias.grad_fn
        else:
            # Nothing before this call needs a gradient: the graph starts here.
            alias = tensor.detach().requires_grad_()
            alias.register_post_accumulate_grad_hook(_drop_grad)
            sources[call.index] = alias
        alias.register_hook(partial(gradient, call))
        return alias

    weighted = Layers(needs, observers, len(images), sequence_first) if needs.weights or needs.outputs else None
    tracer = Tracer(
        network,
        visit,
        gates=needs.gates,
        visit_layer=weighted,
        normalise=normalise,
        activated=activated if needs.activated else None,
        channels_last=channels_last,
    )
    with torch.set_grad_enabled(needs.backward), tracer:
        # A copy, because the network may overwrite its input.
        given = _watched_images(images, observers) if needs.images else images.clone()
        with autocast(precision, images.device.type):
            output = network(given)
        logits, record.output = take_logits(output, len(images))
        record.classes = logits.shape[1]
        tracer.stop()
        if needs.gradients:
            _refuse_hidden(tracer.hidden)
        record.calls, record.gates_seen = tracer.calls, dict(tracer.gates_seen)
        record.layers = assign_layers(network, tracer.calls, layers) if tracer.calls else []
        record.independent = [call.index for call in tracer.calls if not call.depends]
        record.weighted, record.hiding = tracer.layers, tracer.hiding
        record.parts = [] if weighted is None else weighted.sizes
        wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        target = wide.sum()
        if labels is not None:
            check_labels(labels, logits)
            loss = F.cross_entropy(wide, labels)
            record.loss = float(loss.detach())
            target = loss if needs.target == "loss" else target
        if needs.backward:
            leaves, nodes = graph_behind(target)
            own = {source for source in sources.values() if not isinstance(source, Tensor)}
            record.unseen = tracer.unseen(nodes - own)
            if target.requires_grad:
                # Not target.backward(): inside a torch function the tracer sees nothing, and what checkpointing runs
                # again must run as it did. With an edge of the graph in place of a tensor it is none.
                edge = torch.autograd.graph.get_gradient_edge(target)
                torch.autograd.backward([edge], [torch.ones_like(target)])
            _refuse_hidden(weighted.hidden if weighted is not None else [])
            for call in tracer.calls if needs.gradients else ():
                if call.index in received or not call.depends:
                    continue
                source = sources[call.index]
                if (id(source) in leaves) if isinstance(source, Tensor) else (source in nodes):
                    raise RuntimeError(
                        f"The gradient at {call.kind} in {call.module!r} exists but was not seen; please report this "
                        "network as a bug of lightning_wrcor."
                    )
                record.unreached.append(call.index)
    return record


def _refuse_hidden(modules: Sequence[str]) -> None:
    if modules:
        raise ValueError(
            f"Parts of {modules[0]!r} ran without autograd (a reentrant checkpoint or no_grad), so they have no gradient. "
            "Switch checkpointing off, or use use_reentrant=False."
        )


def _watched_images(images: Tensor, observers: Sequence[Observer]) -> Tensor:
    """A copy of the images whose gradient the observers will see."""
    leaf = images.detach().clone().requires_grad_()

    def seen(tensor: Tensor) -> None:
        assert tensor.grad is not None
        with unwatched(tensor):
            for observer in observers:
                observer.see_images(tensor.grad)
        tensor.grad = None

    leaf.register_post_accumulate_grad_hook(seen)
    return leaf.clone()  # the network may overwrite its input, and a leaf must not be


def _drop_grad(tensor: Tensor) -> None:
    tensor.grad = None


class _Overwritten(torch.autograd.Function):
    """The identity, in place: a point in a tensor's history just before it is overwritten.

    An alias would not do: what an in-place function does to an alias is written into the history of the tensor behind it,
    and the alias's own gradient never comes.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor, see: Callable[[Tensor], None]) -> Tensor:
        ctx.see = see
        ctx.mark_dirty(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        ctx.see(gradient)
        return gradient, None, None


def _watch_overwritten(tensor: Tensor, anchor: Tensor, see: Callable[[Tensor], None]) -> Tensor:
    """Show ``see`` the gradient at a tensor's present value, which is about to be overwritten.

    Args:
        tensor: it gets a new history, and needs a gradient from here on.
        anchor: any tensor that needs a gradient (the tensor itself may not).
        see: receives the gradient in the backward pass.
    """
    _Overwritten.apply(tensor, anchor, see)
    return tensor


def take_logits(output: Any, batch_size: int) -> tuple[Tensor, str]:
    """The logits in what a network returns (a tensor, the first of several, or ``logits`` in a mapping), and its type.

    Raises:
        ValueError: where there are none.
    """
    kind = type(output).__name__
    if isinstance(output, Mapping):
        output = output.get("logits", next(iter(output.values()), None))
    elif isinstance(output, (tuple, list)) and output:
        output = output[0]
    if isinstance(output, Tensor) and output.dim() == 2 and len(output) == batch_size:
        return output, "Tensor" if kind == "Parameter" else kind
    got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(f"A network that is scored returns logits of shape ({batch_size}, classes); this one gave {got}.")


def check_labels(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that do not fit the logits.

    Raises:
        ValueError: with the way out.
    """
    classes = logits.shape[1]
    if labels.is_floating_point():
        if labels.shape != logits.shape:
            raise ValueError(f"Label probabilities of shape {tuple(labels.shape)} do not fit {classes} logits.")
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"The labels run from {low} to {high}, but the network has {classes} logits (0 to {classes - 1}). Build it "
            "with num_classes=... that covers the labels."
        )


def graph_behind(loss: Tensor) -> tuple[set[int], set[Any]]:
    """Ids of the leaf tensors and the nodes that the loss depends on."""
    leaves: set[int] = set()
    nodes: set[Any] = set()
    waiting = [loss.grad_fn] if loss.grad_fn is not None else []
    while waiting:
        node = waiting.pop()
        if node in nodes:
            continue
        nodes.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return leaves, nodes
