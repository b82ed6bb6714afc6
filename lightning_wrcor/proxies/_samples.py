"""Where the samples are in a response."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_wrcor.proxies._base import Context


def samples_first(response: Tensor, batch_size: int, sequence_first: bool = False) -> Tensor | None:
    """The response as ``(B, ...)``, or None where the samples cannot be found.

    The samples are the first dimension, or several rows of it each (networks fold windows and patches into it, samples
    outermost), or the one other dimension of that length (torch's transformers put the sequence first).

    Args:
        response: what a non-linearity receives, or its gradient.
        batch_size: number of images B.
        sequence_first: a second dimension of length B holds the samples, whatever the first one's length.
    """
    shape = response.shape
    if response.dim() == 0 or response.numel() == 0:
        return None
    if sequence_first and response.dim() == 3 and shape[1] == batch_size:
        return response.transpose(0, 1)
    if shape[0] == batch_size:
        return response
    if shape[0] % batch_size == 0:
        return response.reshape(batch_size, -1, *shape[1:])
    places = [place for place, length in enumerate(shape) if length == batch_size]
    return response.movedim(places[0], 0) if len(places) == 1 else None


def puts_sequences_first(network: nn.Module) -> bool:
    """Whether the network has torch's attention or recurrent layers in their default layout, (sequence, batch, width)."""
    kinds = (nn.MultiheadAttention, nn.RNNBase)
    return any(isinstance(module, kinds) and not module.batch_first for module in network.modules())


def require_calls(context: Context) -> None:
    """Refuse a network without non-linearities, for a proxy that rests on them.

    Raises:
        ValueError: with the gates that it has instead.
    """
    if context.record.calls:
        return
    seen = ", ".join(f"{count} {kind}" for kind, count in context.record.gates_seen.items())
    raise ValueError(
        f"{type(context.network).__name__} calls no non-linearity that counts"
        + (f" (gates: {seen}; the option gates=True counts them)." if seen else ".")
    )
