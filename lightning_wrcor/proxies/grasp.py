"""GraSP: how much removing a weight would slow the gradient's flow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_wrcor.inspection import Tracer
from lightning_wrcor.proxies._base import Context, Measurement, Needs, Proxy
from lightning_wrcor.proxies._layers import Layers
from lightning_wrcor.proxies._pass import check_labels, graph_behind, take_logits
from lightning_wrcor.proxies._samples import puts_sequences_first
from lightning_wrcor.proxies._weights import dead_unless, require_weights


class GraSP(Proxy):
    """Gradient signal preservation: sum over all weights of ``-w (H g)``.

    g is the gradient of the cross-entropy, H its Hessian. The sign is the published one, which was chosen from known
    accuracies; over two seeds the score agrees with itself only moderately. One forward pass and two backward passes, the
    second through the first; needs labels.

    Source: Wang et al., "Picking winning tickets before training by preserving gradient flow", ICLR 2020, arXiv
    2002.07376; as a proxy arXiv 2101.08134.
    """

    name = "grasp"

    def measure(self, context: Context) -> float | Measurement:
        """The sum over all layers; -inf where no gradient reaches a weight.

        Raises:
            ValueError: for a network with a function that cannot be differentiated twice, and labels out of range.
        """
        size = len(context.images)
        layers = Layers(Needs(weights=1), (), size, puts_sequences_first(context.network))
        tracer = Tracer(context.network, lambda call, tensor: tensor, visit_layer=layers)
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            with tracer:
                logits = take_logits(context.network(context.images.clone()), size)[0]
            context.record.weighted, context.record.hiding = tracer.layers, tracer.hiding
            require_weights(context, self.name)
            check_labels(context.labels, logits)
            loss = F.cross_entropy(logits, context.labels)
            if not loss.requires_grad:
                return Measurement(-math.inf, "dead: no gradient reaches a weight")
            leaves = layers.leaves
            try:
                first = torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)
                reached = [(leaf, part) for leaf, part in zip(leaves, first, strict=True) if part is not None]
                dead = dead_unless(any(bool(part.any()) for _, part in reached))
                if dead is not None:
                    return dead
                # The gradient of half the squared norm of g is H g.
                total = torch.stack([(part.detach() * part).sum() for _, part in reached]).sum()
                if any(node.name() == "torch::autograd::Error" for node in graph_behind(total)[1]):
                    # Autograd leaves out a function with `once_differentiable`, and what it gives would be wrong.
                    raise RuntimeError("a function of it is only once differentiable")
                weights = [leaf for leaf, _ in reached]
                second = torch.autograd.grad(total, weights, allow_unused=True)
            except RuntimeError as error:
                if "derivative" not in str(error) and "differentiable" not in str(error):
                    raise
                raise ValueError(f"grasp differentiates twice, which this network does not allow: {error}") from error
        parts = zip(weights, second, strict=True)
        return -math.fsum(float((leaf.detach().double() * part).sum()) for leaf, part in parts if part is not None)
