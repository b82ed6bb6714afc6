"""What a person sees of a search: figures of its costs, progress, funnel and winner, and a card with all of it.

Each function takes a `SearchResult`, also one that was read from the journal of a search under way. Those that draw return
a matplotlib figure that pyplot knows nothing of. ``python -m lightning_wrcor.report`` has ``figures`` and ``card`` for a
terminal.
"""

from lightning_wrcor.report._card import write_card as write_card
from lightning_wrcor.report._card_outcome import TrainingOutcome as TrainingOutcome
from lightning_wrcor.report._figures import all_figures as all_figures
from lightning_wrcor.report._figures import draw_correlations as draw_correlations
from lightning_wrcor.report._figures import draw_costs as draw_costs
from lightning_wrcor.report._figures import draw_funnel as draw_funnel
from lightning_wrcor.report._figures import draw_progress as draw_progress
from lightning_wrcor.report._figures import draw_shares as draw_shares
