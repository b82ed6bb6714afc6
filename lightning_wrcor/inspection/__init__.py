"""What can be learned of a network by looking at it: its non-linearities, layers and costs.

Knows torch only. Proxies, spaces and the search build on it; it knows none of them.
"""

from lightning_wrcor.inspection.costs import Costs as Costs
from lightning_wrcor.inspection.costs import count_costs as count_costs
from lightning_wrcor.inspection.latency import Latency as Latency
from lightning_wrcor.inspection.layers import assign_layers as assign_layers
from lightning_wrcor.inspection.memory import peak_activation_bytes as peak_activation_bytes
from lightning_wrcor.inspection.order import ReliesOnOrderError as ReliesOnOrderError
from lightning_wrcor.inspection.tracer import Call as Call
from lightning_wrcor.inspection.tracer import Tracer as Tracer
from lightning_wrcor.inspection.weights import LayerCall as LayerCall
