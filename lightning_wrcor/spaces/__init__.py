"""Search spaces: genotypes (plain data), and the networks that they describe.

Knows torch and timm only, and imports timm where it is used.
"""

from lightning_wrcor.spaces._base import FiniteSpace as FiniteSpace
from lightning_wrcor.spaces._base import Genotype as Genotype
from lightning_wrcor.spaces._base import ImageSizeError as ImageSizeError
from lightning_wrcor.spaces._base import Space as Space
from lightning_wrcor.spaces._base import freeze as freeze
from lightning_wrcor.spaces._registry import get_space as get_space
from lightning_wrcor.spaces._registry import list_spaces as list_spaces
from lightning_wrcor.spaces._registry import register_space as register_space
from lightning_wrcor.spaces.choice_space import ChoiceSpace as ChoiceSpace
from lightning_wrcor.spaces.darts import DARTS as DARTS
from lightning_wrcor.spaces.mobilenet_v2 import MobileNetV2 as MobileNetV2
from lightning_wrcor.spaces.nasbench101 import NASBench101 as NASBench101
from lightning_wrcor.spaces.nasbench201 import NASBench201 as NASBench201
from lightning_wrcor.spaces.nasbench_macro import NASBenchMacro as NASBenchMacro
from lightning_wrcor.spaces.natsbench_size import NATSBenchSize as NATSBenchSize
from lightning_wrcor.spaces.nds import ENAS as ENAS
from lightning_wrcor.spaces.nds import PNAS as PNAS
from lightning_wrcor.spaces.nds import AmoebaNet as AmoebaNet
from lightning_wrcor.spaces.nds import NASNet as NASNet
from lightning_wrcor.spaces.network_list import NetworkList as NetworkList
from lightning_wrcor.spaces.timm_efficientnet import TimmEfficientNet as TimmEfficientNet
from lightning_wrcor.spaces.timm_models import TimmModels as TimmModels
from lightning_wrcor.spaces.timm_resnet import TimmResNet as TimmResNet
from lightning_wrcor.spaces.timm_vit import TimmViT as TimmViT
from lightning_wrcor.spaces.union import UnionSpace as UnionSpace

for _space in (
    NASBench101,
    NASBench201,
    NATSBenchSize,
    NASBenchMacro,
    DARTS,
    ENAS,
    PNAS,
    NASNet,
    AmoebaNet,
    TimmModels,
    NetworkList,
    ChoiceSpace,
    MobileNetV2,
    TimmResNet,
    TimmEfficientNet,
    TimmViT,
    UnionSpace,
):
    register_space(_space)
