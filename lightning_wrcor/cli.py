"""The Lightning CLI: ``python -m lightning_wrcor fit --config config.yaml``."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI

import lightning_wrcor  # noqa: F401  (bare class names on the command line)
from lightning_wrcor.callback import ZeroShotSearch
from lightning_wrcor.data import DigitsData, ImageFolderData
from lightning_wrcor.module import ZeroShotSearchModule

__all__ = ["DigitsData", "ImageFolderData", "ZeroShotSearch", "ZeroShotSearchModule", "main"]


def main(args: Sequence[str] | None = None) -> LightningCLI:
    """Run the command line.

    Model and data are given by class path (``--model ZeroShotSearchModule``, your own as ``package.module.Class``), and so
    are callbacks and search spaces. ``${...}`` in a file refers to other values of it. ``--optimizer`` does not exist:
    an optimiser made from a network that is about to be replaced would train nothing.

    Args:
        args: the command line; None takes it from the process.
    """
    return LightningCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={"parser_mode": "omegaconf"},
        args=list(args) if args is not None else None,
    )
