"""Who is scored next: strategies by ask and tell."""

from lightning_wrcor.search.strategies._base import LearningStrategy as LearningStrategy
from lightning_wrcor.search.strategies._base import Strategy as Strategy
from lightning_wrcor.search.strategies._registry import get_strategy as get_strategy
from lightning_wrcor.search.strategies._registry import list_strategies as list_strategies
from lightning_wrcor.search.strategies.evolution import RegularisedEvolution as RegularisedEvolution
from lightning_wrcor.search.strategies.local_search import LocalSearch as LocalSearch
from lightning_wrcor.search.strategies.nsga2 import NSGA2 as NSGA2
from lightning_wrcor.search.strategies.reinforce import Reinforce as Reinforce
from lightning_wrcor.search.strategies.simple import ENUMERABLE as ENUMERABLE
from lightning_wrcor.search.strategies.simple import ExhaustiveSearch as ExhaustiveSearch
from lightning_wrcor.search.strategies.simple import RandomSearch as RandomSearch
