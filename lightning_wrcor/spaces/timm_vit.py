"""Vision transformers that timm builds from their measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from lightning_wrcor.inspection import Costs, count_costs
from lightning_wrcor.spaces._base import Genotype
from lightning_wrcor.spaces._choices import Choice, Value
from lightning_wrcor.spaces._timm_blocks import TimmBlocks, ratios, whole
from lightning_wrcor.spaces._without_weights import without_weights


class TimmViT(TimmBlocks):
    """Vision transformers (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929) as `timm.models.VisionTransformer`.

    What is searched is what AutoFormer searches (Chen et al., ICCV 2021, arXiv 2107.00651), for the whole network
    instead of each block: patch size, width, depth, heads and the ratio of the MLP's hidden width. The default
    choices are those of its tiny space; heads share the width, as in timm. ViT-Ti/16 is a member, with the parameters
    and MACs of timm's own, written ``vit_p16_w192_d12_h3_m4.0``.

    A genotype is a tuple ``(patch_size, embed_dim, depth, heads, mlp_ratio)``. Combinations belong to the space where
    the heads divide the width.

    Args:
        patch_sizes: heights and widths of a patch in pixels; each divides ``image_size``.
        embed_dims: widths of the tokens.
        depths: numbers of blocks.
        heads: numbers of attention heads.
        mlp_ratios: ratios of the MLP's hidden width to the width.
        image_size: height and width in pixels of the images. Networks of this space take no other size.
        kwargs: further arguments of `timm.models.VisionTransformer` for all models, such as
            ``{"drop_path_rate": 0.1, "class_token": False, "global_pool": "avg"}``.

    Raises:
        ValueError: for values that cannot be, and arguments that the space sets itself.
    """

    kind = "timm_vit"
    _restricted = True
    _data: ClassVar[Mapping[str, Any]] = {
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "fixed_input_size": True,
    }

    def __init__(
        self,
        patch_sizes: Sequence[int] = (16,),
        embed_dims: Sequence[int] = (192, 216, 240),
        depths: Sequence[int] = (12, 13, 14),
        heads: Sequence[int] = (3, 4),
        mlp_ratios: Sequence[float] = (3.5, 4.0),
        image_size: int = 224,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.patch_sizes = whole("patch_sizes", patch_sizes)
        self.embed_dims = whole("embed_dims", embed_dims)
        self.depths = whole("depths", depths)
        self.heads = whole("heads", heads)
        self.mlp_ratios = ratios("mlp_ratios", mlp_ratios)
        choices = [
            Choice("patch_size", self.patch_sizes, "vit_p"),
            Choice("embed_dim", self.embed_dims, "_w"),
            Choice("depth", self.depths, "_d"),
            Choice("heads", self.heads, "_h"),
            Choice("mlp_ratio", self.mlp_ratios, "_m"),
        ]
        super().__init__(choices, image_size, kwargs)
        self._counts: dict[tuple[Any, ...], Costs] = {}
        for patch_size in self.patch_sizes:
            if image_size % patch_size:
                raise ValueError(f"patch_sizes divide image_size={image_size}; got {patch_size}.")

    def _allows(self, values: Mapping[str, Any]) -> bool:
        return bool(values["embed_dim"] % values["heads"] == 0)

    @property
    def _why_not(self) -> str:
        return "TimmViT (whose heads divide the width)"

    def _model(self, values: Mapping[str, Any], name: str) -> tuple[type[nn.Module], dict[str, Any]]:
        from timm.models import VisionTransformer

        described = {name: values[name] for name in ("patch_size", "embed_dim", "depth", "mlp_ratio")}
        return VisionTransformer, {**described, "num_heads": values["heads"], "img_size": self.image_size}

    def costs(
        self, genotype: Genotype, input_size: tuple[int, int, int] | None = None, num_classes: int = 1000
    ) -> Costs:
        """Parameters, MACs and depth, without the weights.

        All blocks of a network cost the same, so those with one and two blocks are counted, on the meta device, and
        remembered; random numbers are left as they were.

        Args:
            genotype: one value of each choice.
            input_size: ``(channels, height, width)`` of one image; by default 3 channels of ``image_size``. The
                networks take no other height and width.
            num_classes: width of the logits.

        Returns:
            The same figures as a forward pass of the built network (MACs: torch's flop counter divided by two).
        """
        values: dict[str, Any] = self._checked(genotype)
        size = input_size or self.input_size
        one, two = (self._counted({**values, "depth": depth}, size, num_classes) for depth in (1, 2))
        more = values["depth"] - 1
        return Costs(
            one.params + more * (two.params - one.params),
            one.macs + more * (two.macs - one.macs),
            one.depth + more * (two.depth - one.depth),
        )

    def _counted(self, values: Mapping[str, Value], size: tuple[int, int, int], num_classes: int) -> Costs:
        key = (*values.values(), size, num_classes)
        if key not in self._counts:
            self._counts[key] = without_weights(
                lambda: self._create(values, num_classes, size[0]), lambda network: count_costs(network, size)
            )
        return self._counts[key]
