"""Proxies: an untrained network and one batch give one number, higher is better.

Knows torch only (and `lightning_wrcor.inspection`); search spaces and the search know of proxies, never the reverse.
"""

from lightning_wrcor.proxies._base import Context as Context
from lightning_wrcor.proxies._base import Measurement as Measurement
from lightning_wrcor.proxies._base import Needs as Needs
from lightning_wrcor.proxies._base import Observer as Observer
from lightning_wrcor.proxies._base import Proxy as Proxy
from lightning_wrcor.proxies._registry import get_proxy as get_proxy
from lightning_wrcor.proxies._registry import list_proxies as list_proxies
from lightning_wrcor.proxies._registry import register_proxy as register_proxy
from lightning_wrcor.proxies._report import ScoreReport as ScoreReport
from lightning_wrcor.proxies._score import score as score
from lightning_wrcor.proxies.az_nas import AZExpressivity as AZExpressivity
from lightning_wrcor.proxies.az_nas import AZProgressivity as AZProgressivity
from lightning_wrcor.proxies.az_nas import AZTrainability as AZTrainability
from lightning_wrcor.proxies.az_nas import BlockEntropy as BlockEntropy
from lightning_wrcor.proxies.channels import NEAR as NEAR
from lightning_wrcor.proxies.channels import MeCo as MeCo
from lightning_wrcor.proxies.codes import NASWOT as NASWOT
from lightning_wrcor.proxies.codes import SWAP as SWAP
from lightning_wrcor.proxies.codes import LinearRegions as LinearRegions
from lightning_wrcor.proxies.common import CommonActivations as CommonActivations
from lightning_wrcor.proxies.common import CommonGradients as CommonGradients
from lightning_wrcor.proxies.correlation import ACor as ACor
from lightning_wrcor.proxies.correlation import GCor as GCor
from lightning_wrcor.proxies.correlation import RCor as RCor
from lightning_wrcor.proxies.correlation import WRCor as WRCor
from lightning_wrcor.proxies.counting import Depth as Depth
from lightning_wrcor.proxies.counting import FanIn as FanIn
from lightning_wrcor.proxies.counting import MACs as MACs
from lightning_wrcor.proxies.counting import Params as Params
from lightning_wrcor.proxies.density import GradientDensity as GradientDensity
from lightning_wrcor.proxies.density import GradientReach as GradientReach
from lightning_wrcor.proxies.grasp import GraSP as GraSP
from lightning_wrcor.proxies.information import NTK as NTK
from lightning_wrcor.proxies.information import VKDNW as VKDNW
from lightning_wrcor.proxies.jacobian import EPENAS as EPENAS
from lightning_wrcor.proxies.jacobian import JacobCor as JacobCor
from lightning_wrcor.proxies.perturbation import PNorm as PNorm
from lightning_wrcor.proxies.perturbation import Zen as Zen
from lightning_wrcor.proxies.saliency import SNIP as SNIP
from lightning_wrcor.proxies.saliency import Fisher as Fisher
from lightning_wrcor.proxies.saliency import GradNorm as GradNorm
from lightning_wrcor.proxies.saliency import L2Norm as L2Norm
from lightning_wrcor.proxies.saliency import Plain as Plain
from lightning_wrcor.proxies.saliency import SynFlow as SynFlow
from lightning_wrcor.proxies.votes import AZNAS as AZNAS
from lightning_wrcor.proxies.votes import SJW as SJW
from lightning_wrcor.proxies.votes import SPW as SPW
from lightning_wrcor.proxies.votes import TENAS as TENAS
from lightning_wrcor.proxies.votes import Consensus as Consensus
from lightning_wrcor.proxies.votes import VKDNWAggregate as VKDNWAggregate
from lightning_wrcor.proxies.votes import Vote as Vote
from lightning_wrcor.proxies.zico import ZiCo as ZiCo
