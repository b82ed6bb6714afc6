"""The proxies of AZ-NAS, and one more: what the features between the blocks of a network say.

Features are what the blocks give (cells, stages or blocks: the layers of WRCor, see `lightning_wrcor.inspection.layers`),
for a batch of Gaussian noise, with weights drawn by Kaiming's normal initialisation (fan in) and biases 0, in training
mode. The fourth proxy of AZ-NAS is the number of multiply-adds (`MACs`); the vote ``az_nas`` joins the four.

Source: Lee and Ham, "AZ-NAS: assembling zero-cost proxies for network architecture search", CVPR 2024, arXiv 2403.19232.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lightning_wrcor.inspection import Tracer
from lightning_wrcor.inspection.layers import find_blocks
from lightning_wrcor.proxies._base import Context, Measurement, Proxy
from lightning_wrcor.proxies._initialise import DrawnWeights, kaiming_fan_in
from lightning_wrcor.proxies._weights import require_weights

_CONSTANT = "dead: a block's features are constant"
_FINDING = 2
"""Images of the pass that finds the blocks: the fewest that BatchNorm takes on maps of one position."""


class _BlockFeatures(Proxy):
    def _features(self, context: Context) -> list[tuple[str, Tensor, int]]:
        """``(block, features, dimension of the channels)`` from the input on; blocks without positions are left out.

        They are computed once for the three proxies.

        Raises:
            ValueError: for a network with fewer than two blocks, or with weights that cannot be replaced.
        """
        kept: list[tuple[str, Tensor, int]] | None = context.shared.get("az_nas")
        if kept is None:
            kept = context.shared["az_nas"] = _run(context, self.name)
        if len(kept) < 2:
            raise ValueError(
                f"{self.name} compares the features of successive blocks, but {type(context.network).__name__} has "
                f"{len(kept)} block{'s' * (len(kept) != 1)} whose features have positions."
            )
        return kept

    def _entropies(self, context: Context) -> list[float]:
        """Of each block; -inf for one whose features are all alike. Computed once for all that rest on them."""
        features = self._features(context)
        kept: list[float] | None = context.shared.get("az_nas_entropies")
        if kept is None:
            kept = [_entropy(block, channels) for _, block, channels in features]
            context.shared["az_nas_entropies"] = kept
        return kept


def _run(context: Context, name: str) -> list[tuple[str, Tensor, int]]:
    weights = DrawnWeights(context, "az_nas", kaiming_fan_in)
    noise = weights.noise(*context.images.shape, like=context.images)
    network = context.network
    # Not the calls of an earlier pass: that one may have counted gates, which can make other blocks.
    with torch.no_grad(), Tracer(network, lambda call, tensor: tensor, visit_layer=weights) as tracer:
        network(noise[:_FINDING].clone())
    context.record.weighted, context.record.hiding = tracer.layers, tracer.hiding
    require_weights(context, name)
    blocks = find_blocks(network, tracer.calls, context.layers)
    kept: list[tuple[str, Tensor, int]] = []
    tracer = Tracer(network, lambda call, tensor: tensor, visit_layer=weights)
    with torch.enable_grad(), _watch(network, blocks, kept, tracer), tracer:
        network(noise.clone())
    return kept


@contextmanager
def _watch(
    network: nn.Module, blocks: list[str], kept: list[tuple[str, Tensor, int]], tracer: Tracer
) -> Iterator[None]:
    """Keep what the blocks give. A copy goes on, because the next block may overwrite it."""

    def left(name: str, module: nn.Module, args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or first.dim() < 3 or math.prod(first.shape[1:]) == max(first.shape[1:]):
            return None
        if name in {known for known, *_ in kept}:
            return None  # a block that runs again
        if not first.requires_grad:
            first = first.detach().requires_grad_()  # the first block: gradients go no further back
        kept.append((name, first, _channels(first, tracer)))
        copied = first.clone()
        if isinstance(output, Tensor):
            return copied
        return [copied, *output[1:]] if isinstance(output, list) else (copied, *output[1:])

    modules = dict(network.named_modules())
    hooks = [modules[name].register_forward_hook(partial(left, name)) for name in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _channels(features: Tensor, tracer: Tracer) -> int:
    """The dimension of the channels: last for sequences; for maps the first unless only the last fits the last layer.

    Behind a convolution, whose positions come last, the map must be square as well when it is read the other way.
    """
    if features.dim() == 3:
        return 2
    if tracer.layers:
        first, *places, last = features.shape[1:]
        fits = last == len(tracer.layers[-1].weight) != first
        turned = tracer.layers[-1].kind == "Linear" or all(place == first for place in places)
        if fits and turned:
            return features.dim() - 1
    return 1


def _entropy(features: Tensor, channels: int) -> float:
    """Entropy of the normalised eigenvalues of the channels' covariance over samples and positions."""
    rows = features.detach().movedim(channels, -1).flatten(0, -2)
    centred = rows - rows.mean(0)
    # Both products have the same eigenvalues but for zeros, which add nothing.
    gram = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    eigenvalues = torch.linalg.eigvalsh((gram / len(rows)).double()).clamp_min(0.0)
    total = float(eigenvalues.sum())
    if not total > 0:
        return -math.inf
    shares = eigenvalues / total
    return -float(torch.special.xlogy(shares, shares).sum())


class AZExpressivity(_BlockFeatures):
    """Expressivity: sum over blocks of the entropy of the features' normalised principal components.

    For a block, the eigenvalues of the covariance between channels (over samples and positions), divided by their sum,
    are taken as probabilities p; its entropy is ``-sum p log p``. One forward pass (and one of two images, which finds the
    blocks), shared by all of these proxies; no data, no labels.

    Source: arXiv 2403.19232, equations 1 to 4.
    """

    name = "az_expressivity"

    def measure(self, context: Context) -> float | Measurement:
        """The sum over blocks; -inf where a block's features are all alike."""
        value = math.fsum(self._entropies(context))
        return value if math.isfinite(value) else Measurement(-math.inf, _CONSTANT)


class BlockEntropy(_BlockFeatures):
    """Mean over blocks of the entropy of the features' normalised principal components.

    `AZExpressivity` divided by the number of blocks: the sum grows with every block that is added, and among networks of
    different depth it counts blocks; the mean compares them. Where all networks have as many blocks both rank alike.

    Source: this project, docs/consensus.md; the entropy is that of arXiv 2403.19232, equations 1 to 4.
    """

    name = "block_entropy"

    def measure(self, context: Context) -> float | Measurement:
        """The mean over blocks, in nats; -inf where a block's features are all alike."""
        entropies = self._entropies(context)
        value = math.fsum(entropies) / len(entropies)
        return value if math.isfinite(value) else Measurement(-math.inf, _CONSTANT)


class AZProgressivity(_BlockFeatures):
    """Progressivity: the smallest gain in expressivity from one block to the next.

    Source: arXiv 2403.19232, equation 5.
    """

    name = "az_progressivity"

    def measure(self, context: Context) -> float | Measurement:
        """The smallest difference; -inf where a block's features are all alike."""
        entropies = self._entropies(context)
        if not all(map(math.isfinite, entropies)):
            return Measurement(-math.inf, _CONSTANT)
        return min(after - before for before, after in pairwise(entropies))


class AZTrainability(_BlockFeatures):
    """Trainability: how near to 1 the largest singular value of each block's Jacobian is.

    For each block from the second on, random signs are sent back from its output g_out to its input, giving g_in; the
    matrix ``A = mean over samples and positions of g_in g_out^T`` (a block that halves the size has its input's positions
    folded into channels) estimates the Jacobian, and the block's score is ``2 - s - 1 / s``, s the largest singular value
    of A, at most 0. The value is the mean over blocks, but for those whose positions before and after do not match (where
    a class token is added). One forward pass and one backward pass through each block; no data, no labels. A block that
    passes its input through unchanged (A is the identity) has nothing to train: -inf, as in the published code.

    Source: arXiv 2403.19232, equations 6 to 9.
    """

    name = "az_trainability"

    def measure(self, context: Context) -> float | Measurement:
        """The mean over blocks."""
        features = self._features(context)
        generator = torch.Generator().manual_seed(context.seed % 2**63)
        values: list[float] = []
        odd = ""
        for (_, before, channels_in), (name, after, channels_out) in pairwise(features):
            signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
            (back,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
            if back is None or not bool(back.any()):
                return Measurement(-math.inf, f"dead: no gradient passes through the block {name!r}")
            if back.shape == signs.shape and torch.equal(back, signs):
                return Measurement(-math.inf, f"the block {name!r} passes its input through unchanged")
            matrix = _jacobian(back.movedim(channels_in, 1), signs.movedim(channels_out, 1))
            if matrix is None:
                odd = f"{name!r} ({tuple(before.shape)} and {tuple(after.shape)})"
                continue
            wide = matrix.double()
            gram = wide @ wide.T if wide.shape[0] < wide.shape[1] else wide.T @ wide
            largest = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))
            values.append(2.0 - largest - 1.0 / (largest + 1e-6))
        if not values:
            raise ValueError(f"az_trainability: the positions before and after no block match, such as {odd}.")
        return math.fsum(values) / len(values)


def _jacobian(back: Tensor, signs: Tensor) -> Tensor | None:
    """``(channels in x folded positions, channels out)``; None where positions do not divide."""
    places_in, places_out = back.shape[2:], signs.shape[2:]
    if len(places_in) != len(places_out):
        back, signs = back.flatten(2), signs.flatten(2)
        places_in, places_out = back.shape[2:], signs.shape[2:]
    if any(wide % narrow for wide, narrow in zip(places_in, places_out, strict=True)):
        return None
    for place, narrow in enumerate(places_out):
        # (B, C, ..., wide, ...) -> (B, C * wide / narrow, ..., narrow, ...), as a pixel unshuffle does.
        folds = places_in[place] // narrow
        back = back.unflatten(2 + place, (narrow, folds)).movedim(3 + place, 2).flatten(1, 2)
    rows_in, rows_out = back.movedim(1, -1).flatten(0, -2), signs.movedim(1, -1).flatten(0, -2)
    return rows_in.T @ rows_out / len(rows_out)
