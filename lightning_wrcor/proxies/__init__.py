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
from lightning_wrcor.proxies.correlation import ACor as ACor
from lightning_wrcor.proxies.correlation import GCor as GCor
from lightning_wrcor.proxies.correlation import RCor as RCor
from lightning_wrcor.proxies.correlation import WRCor as WRCor
from lightning_wrcor.proxies.counting import MACs as MACs
from lightning_wrcor.proxies.counting import Params as Params
