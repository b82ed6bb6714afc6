"""The search: who is scored next, under which constraints, by which processes; the journal; the result.

Knows proxies and spaces by their contracts alone, and nothing of Lightning but Fabric, where ``devices`` are asked for.
"""

from lightning_wrcor.search._messages import SearchError as SearchError
from lightning_wrcor.search._ranks import Ranks as Ranks
from lightning_wrcor.search._search import zero_shot_search as zero_shot_search
from lightning_wrcor.search.constraints import Constraints as Constraints
from lightning_wrcor.search.evaluation import Evaluation as Evaluation
from lightning_wrcor.search.journal import Journal as Journal
from lightning_wrcor.search.merge import merge_journals as merge_journals
from lightning_wrcor.search.racing import Racing as Racing
from lightning_wrcor.search.racing import Standing as Standing
from lightning_wrcor.search.result import Funnel as Funnel
from lightning_wrcor.search.result import SearchResult as SearchResult
from lightning_wrcor.search.strategies import NSGA2 as NSGA2
from lightning_wrcor.search.strategies import ExhaustiveSearch as ExhaustiveSearch
from lightning_wrcor.search.strategies import LocalSearch as LocalSearch
from lightning_wrcor.search.strategies import RandomSearch as RandomSearch
from lightning_wrcor.search.strategies import RegularisedEvolution as RegularisedEvolution
from lightning_wrcor.search.strategies import Reinforce as Reinforce
from lightning_wrcor.search.strategies import Strategy as Strategy
from lightning_wrcor.search.strategies import get_strategy as get_strategy
from lightning_wrcor.search.strategies import list_strategies as list_strategies
from lightning_wrcor.search.winner import CHECKPOINT_KEY as CHECKPOINT_KEY
from lightning_wrcor.search.winner import Winner as Winner
