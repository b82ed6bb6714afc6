"""What a person sees of a search: figures of its costs, progress, funnel and winner.

Each function takes a `SearchResult`, also one that was read from the journal of a search under way, and returns a
matplotlib figure that pyplot knows nothing of. ``python -m lightning_wrcor.report figures`` draws them from a terminal.
"""

from lightning_wrcor.report._figures import all_figures as all_figures
from lightning_wrcor.report._figures import draw_correlations as draw_correlations
from lightning_wrcor.report._figures import draw_costs as draw_costs
from lightning_wrcor.report._figures import draw_funnel as draw_funnel
from lightning_wrcor.report._figures import draw_progress as draw_progress
from lightning_wrcor.report._figures import draw_shares as draw_shares
