"""The trained winner as files for others: weights, programs, a folder for timm, and a model card.

`export_network` reads a checkpoint; ``python -m lightning_wrcor.export CHECKPOINT FOLDER`` does so from a terminal.
"""

from lightning_wrcor.export._export import Exported as Exported
from lightning_wrcor.export._export import export_network as export_network
from lightning_wrcor.export._formats import FORMATS as FORMATS
from lightning_wrcor.export._formats import check_formats as check_formats
from lightning_wrcor.export._weights import load_exported as load_exported
