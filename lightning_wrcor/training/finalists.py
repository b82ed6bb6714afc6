"""How long the best candidates of a search are trained before one of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_wrcor._config import read_settings


@dataclass(frozen=True)
class Finalists:
    """The best candidates are trained for a while, all alike, and the one with the best validation accuracy is trained on.

    A score orders thousands of candidates roughly; a short training orders the first few better, at a small share of the
    price of the whole training.

    Args:
        count: how many of the best, at least 2.
        epochs: epochs of each short training; the schedule of the learning rate is that of so short a training.
        steps: optimiser steps of each, in the place of epochs.

    Raises:
        ValueError: for numbers out of these ranges, and where not exactly one of epochs and steps is given.
    """

    count: int = 3
    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"count of finalists is a number of networks, at least 2; got {self.count}.")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"Finalists are trained for epochs or for steps, one of the two; got epochs={self.epochs} and "
                f"steps={self.steps}."
            )
        length = self.epochs if self.epochs is not None else self.steps
        if length is None or length < 1:
            raise ValueError(f"Finalists are trained for at least 1 epoch or step; got {length}.")

    def trainer(self) -> dict[str, Any]:
        """Arguments of the Trainer for a short training."""
        if self.epochs is not None:
            return {"max_epochs": self.epochs, "max_steps": -1, "max_time": None}
        return {"max_epochs": -1, "max_steps": self.steps, "max_time": None}

    def __str__(self) -> str:
        length, unit = (self.epochs, "epoch") if self.epochs is not None else (self.steps, "step")
        return f"{length} {unit}{'s' * (length != 1)}"

    @classmethod
    def read(cls, given: Finalists | Mapping[str, Any] | None) -> Finalists | None:
        """Settings from what a user gives: an object, a mapping of its arguments, or None for none.

        Raises:
            TypeError: for anything else.
            ValueError: for a setting that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "the comparison of finalists")
