"""EfficientNets that timm builds from its block strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from lightning_wrcor.spaces._choices import Choice, read_stages
from lightning_wrcor.spaces._timm_blocks import StagedBlocks, count_stages, ratios, whole, whole_stages

_WIDTHS = ((16, 24), (24, 32), (40, 48), (80, 96), (112, 128), (192, 216), (320, 352))
_DEPTHS = ((1, 2), (2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 3, 4), (1, 2))
_ROUND = 8  # timm rounds channels to multiples of this


class TimmEfficientNet(StagedBlocks):
    """EfficientNets (Tan and Le, ICML 2019, arXiv 1905.11946) as models of `timm.models.EfficientNet`.

    A 3x3 stem of stride 2, a stage of depthwise separable convolutions, further stages of inverted residuals (MBConv),
    a 1x1 convolution, pooling and a linear classifier. The choices of a stage are its depth, its kernel, its expansion
    (not in the first), its width and the ratio of squeeze-and-excitation, 0 for none. Networks are written in timm's
    own notation; EfficientNet-B0 is a member, with the parameters and MACs of timm's own::

        stem32 ds_r1_k3_s1_c16_se0.25 ir_r2_k3_s2_e6_c24_se0.25 ir_r2_k5_s2_e6_c40_se0.25 ... head1280

    A genotype is a tuple with these values in this order, without the strides.

    Args:
        stems: widths of the stem, multiples of 8.
        widths: for each stage a list of widths, multiples of 8; there are as many stages as lists.
        depths: numbers of blocks, as one list for all stages or one for each.
        kernels: odd sizes of the depthwise convolutions; likewise.
        expansions: how many times its input a block widens; likewise (that of the first stage is not used).
        se_ratios: ratios of squeeze-and-excitation to the block's input, 0 for none; likewise.
        heads: widths of the last convolution.
        strides: the stride of each stage, 1 or 2.
        image_size: height and width in pixels of the images; other sizes work as well.
        kwargs: further arguments of `timm.models.EfficientNet` for all models, such as ``{"drop_path_rate": 0.2}``.
            The activation is SiLU, unless ``act_layer`` names another.

    Raises:
        ValueError: for values that timm has no blocks for, and arguments that the space sets itself.
    """

    kind = "timm_efficientnet"
    _data: ClassVar[Mapping[str, Any]] = {"first_conv": "conv_stem", "classifier": "classifier"}

    def __init__(
        self,
        stems: Sequence[int] = (32,),
        widths: Sequence[Sequence[int]] = _WIDTHS,
        depths: Sequence[Any] = _DEPTHS,
        kernels: Sequence[Any] = (3, 5, 7),
        expansions: Sequence[Any] = (3, 4, 6),
        se_ratios: Sequence[Any] = (0.25,),
        heads: Sequence[int] = (1280,),
        strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
        image_size: int = 224,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        stages = count_stages(widths=widths)
        self.stems = whole("stems", stems, multiple=_ROUND)
        self.widths = whole_stages("widths", widths, stages, multiple=_ROUND)
        self.depths = whole_stages("depths", depths, stages)
        self.kernels = whole_stages("kernels", kernels, stages)
        self.expansions = whole_stages("expansions", expansions, stages)
        self.se_ratios = tuple(
            ratios("se_ratios", part, zero=True) for part in read_stages("se_ratios", se_ratios, stages)
        )
        self.heads = whole("heads", heads)
        self.strides = tuple(strides)
        even = [kernel for part in self.kernels for kernel in part if kernel % 2 == 0]
        if even:
            raise ValueError(f"kernels are odd numbers; got {even[0]}.")
        if len(self.strides) != stages or not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides has 1 or 2 for each of {stages} stages; got {strides!r}.")
        choices = []
        for stage, stride in enumerate(self.strides):
            expansion = Choice(f"expansion{stage + 1}", self.expansions[stage], f"_s{stride}_e")
            choices.append(
                [
                    Choice(f"depth{stage + 1}", self.depths[stage], " ir_r" if stage else " ds_r"),
                    Choice(f"kernel{stage + 1}", self.kernels[stage], "_k"),
                    *([expansion] if stage else []),
                    Choice(f"width{stage + 1}", self.widths[stage], "_c" if stage else f"_s{stride}_c"),
                    Choice(f"se_ratio{stage + 1}", self.se_ratios[stage], "_se"),
                ]
            )
        stem, head = Choice("stem", self.stems, "stem"), Choice("head", self.heads, " head")
        super().__init__(stem, choices, [head], image_size, kwargs)
        self._create_kwargs = {"act_layer": nn.SiLU, **self._create_kwargs}

    def _model(self, values: Mapping[str, Any], name: str) -> tuple[type[nn.Module], dict[str, Any]]:
        from timm.models import EfficientNet
        from timm.models._efficientnet_builder import decode_arch_def

        blocks = decode_arch_def([[block] for block in name.split()[1:-1]])
        return EfficientNet, {"block_args": blocks, "stem_size": values["stem"], "num_features": values["head"]}

    def _fixed(self, stage: int) -> dict[str, str]:
        return {"block": "MBConv" if stage else "separable", "stride": str(self.strides[stage])}

    def _modules(self, model: Any) -> tuple[nn.Module, Sequence[nn.Sequential], nn.Module]:
        stem = nn.Sequential(model.conv_stem, model.bn1)
        return stem, model.blocks, nn.Sequential(model.conv_head, model.bn2, model.global_pool, model.classifier)
