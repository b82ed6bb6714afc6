"""A Trainer that can also search and stop there."""

from __future__ import annotations

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_wrcor import _trainer
from lightning_wrcor.callback import ZeroShotSearch
from lightning_wrcor.module import ZeroShotSearchModule


class SearchTrainer(Trainer):
    """Lightning's Trainer with one more verb."""

    def search(self, model: LightningModule, datamodule: LightningDataModule | None = None, **fit: Any) -> None:
        """Choose the network as fit does, write it into the log folder, and train nothing.

        The set-up of ``fit`` runs (processes, data, callbacks, loggers) up to where the winner is known. There is no
        sanity check, no optimiser, no step, and no checkpoint.

        Args:
            model: the module; it or a callback searches.
            datamodule: the data.
            fit: what ``fit`` takes.

        Raises:
            MisconfigurationException: when nobody searches, or when the winner is given already.
        """
        if fit.get("ckpt_path"):
            raise MisconfigurationException(
                f"There is nothing to search: the checkpoint {fit['ckpt_path']} holds a network. Leave ckpt_path out, or fit."
            )
        if not is_overridden("configure_callbacks", model):  # callbacks of the module's own are known later
            _searcher(self, model)
        given = self.callbacks  # type: ignore[has-type]
        self.callbacks = [*given, _Stop()]
        try:
            self.fit(model, datamodule=datamodule, **fit)
        finally:
            self.callbacks = given

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._run(*args, **kwargs)
        except _Chosen:  # the end of a run, as the Trainer's own tuners end one
            call._call_teardown_hook(self)
            self._teardown()
            self.state.status = TrainerStatus.FINISHED
            self.state.stage = None
            return None


class _Chosen(Exception):  # noqa: N818  (no error)
    """The winner is known and written down."""


class _Stop(Callback):
    """Ends the set-up of ``fit`` once the winner is known; it stands last, so that all other callbacks were set up."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the searcher search, unless it has; report the winner; stop."""
        searcher = _searcher(trainer, pl_module)
        if isinstance(searcher, ZeroShotSearchModule):
            searcher.setup(stage)  # its turn is after the callbacks'
            searcher.report()
        else:
            if searcher.winner is None:  # the module brought it, which puts it after this one
                searcher.setup(trainer, pl_module, stage)
            searcher.report(trainer)
        folder = trainer.log_dir or trainer.default_root_dir  # all ranks ask: it may be broadcast
        if _trainer.is_fast_dev_run(trainer):
            rank_zero_info("fast_dev_run: nothing was written.")
        else:
            rank_zero_info(
                f"Written into {folder}: search.json (all candidates) and selected.yaml (the winner). To train the winner:\n"
                f"  python -m lightning_wrcor fit --config ... --config {folder}/selected.yaml"
            )
        raise _Chosen


def _searcher(trainer: Trainer, model: LightningModule) -> ZeroShotSearchModule | ZeroShotSearch:
    """Who is going to search.

    Raises:
        MisconfigurationException: when nobody is, or when the winner is given already.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    searcher = model if isinstance(model, ZeroShotSearchModule) else None
    found = searcher or next((one for one in callbacks if isinstance(one, ZeroShotSearch)), None)
    if found is None:
        raise MisconfigurationException(
            f"There is nothing to search: {type(model).__name__} is no ZeroShotSearchModule, and none of the Trainer's "
            "callbacks is a ZeroShotSearch."
        )
    settings = found.search_settings if isinstance(found, ZeroShotSearchModule) else found
    if settings.genotype is not None:
        raise MisconfigurationException(
            f"There is nothing to search: the winner is given (genotype={settings.genotype!r}). Leave genotype out, or fit."
        )
    return found
