"""Search spaces: genotypes (plain data), and the networks that they describe.

Knows torch and timm only, and imports timm where it is used.
"""

from lightning_wrcor.spaces._base import FiniteSpace as FiniteSpace
from lightning_wrcor.spaces._base import Genotype as Genotype
from lightning_wrcor.spaces._base import Space as Space
from lightning_wrcor.spaces._base import freeze as freeze
from lightning_wrcor.spaces._registry import get_space as get_space
from lightning_wrcor.spaces._registry import list_spaces as list_spaces
from lightning_wrcor.spaces._registry import register_space as register_space
from lightning_wrcor.spaces.darts import DARTS as DARTS
from lightning_wrcor.spaces.nasbench201 import NASBench201 as NASBench201
from lightning_wrcor.spaces.network_list import NetworkList as NetworkList
from lightning_wrcor.spaces.timm_models import TimmModels as TimmModels

for _space in (NASBench201, DARTS, TimmModels, NetworkList):
    register_space(_space)
