"""The search as a callback: add it to an existing Trainer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from lightning_wrcor import __version__, _handover, _trainer
from lightning_wrcor._config import naming_unknown
from lightning_wrcor._random import derive_seed
from lightning_wrcor.proxies import Proxy, get_proxy
from lightning_wrcor.proxies._precision import Precision, read_precision
from lightning_wrcor.search import Constraints, Racing, SearchResult, Strategy, Winner, get_strategy, zero_shot_search
from lightning_wrcor.search._search import check_budget
from lightning_wrcor.spaces import Space, get_space

_IMAGES = ("image", "images", "img", "pixel_values", "input", "inputs", "x")
_LABELS = ("label", "labels", "target", "targets", "y")
_DEVICES = "The search runs on the Trainer's devices: Trainer(devices=..., accelerator=...)."
_ELSEWHERE = {
    "progress": "The search shows its progress where the Trainer does: Trainer(enable_progress_bar=False) hides both.",
    "devices": _DEVICES,
    "accelerator": _DEVICES,
    "probe_size": "It is called batch_size here (probe_size is ZeroShotSearchModule's).",
}
"""Arguments of `zero_shot_search` and of the module that the callback does not have."""


class ZeroShotSearch(Callback):
    """Chooses the network before training: scores untrained candidates and puts the best into the LightningModule.

    It acts in ``setup(stage="fit")``: after the data module's setup and with the process group up, before weights are
    loaded from a checkpoint, before the optimisers exist and before the module is wrapped for distributed training. The
    scores are shared over the Trainer's processes; all of them install the same network. Global random numbers and the
    training data's order are left as they were. The winner is written into every checkpoint, so that ``fit``, ``validate``,
    ``test`` and ``predict`` with a checkpoint rebuild it without a search. With ``fast_dev_run`` two candidates are scored.

    Put it before callbacks that copy the module (weight averaging). It writes ``search.json`` and ``selected.yaml`` into
    the Trainer's log folder.

    Args:
        space: the candidates: a search space, its name (``nasbench201``, ``darts``, ``timm``), or a list of timm names,
            modules and functions that build a network.
        proxy: what scores them; a proxy's name, a proxy, or several, of which the first ranks.
        strategy: who is scored next; ``random``, ``exhaustive`` or a strategy.
        budget: candidates that are scored; None is the strategy's own default (100 for random search).
        constraints: bounds on parameters, MACs, depth, resolution, memory of activations and latency.
        attribute: attribute of the LightningModule that holds the network; found by itself where there is only one.
        batch_size: images in the probe batch, drawn from the training data.
        seed: seed of the search: of the probe batch, the strategy and every candidate's weights.
        num_classes: classes of the networks; by default those of the data module, the module or the network it holds.
        genotype: text of a known winner (as ``selected.yaml`` has it): it is installed without a search.
        journal: file to which every score is appended, so that an interrupted search goes on; ``auto`` names one after
            the search in the Trainer's default folder, None writes none.
        racing: score the best again with fresh weights, and install the cheapest that keeps up; None: the best score.
        precision: number format of the pass in which candidates are scored: ``float32``, or ``bfloat16`` (autocast), for
            devices that are fast in it. That of the training is the Trainer's.
        log_figures: draw the search's figures for the Trainer's loggers that take some, which takes a second or two.

    Attributes:
        result: the search's result, None where no search was needed.
        winner: the chosen network as plain values, None before ``setup``.

    Examples:
        Candidates from a search space, or from a list::

            Trainer(callbacks=[ZeroShotSearch("nasbench201", budget=50)]).fit(module, data)
            Trainer(callbacks=[ZeroShotSearch(["resnet18", "regnety_016", my_factory])]).fit(module, data)
    """

    @naming_unknown(_ELSEWHERE)
    def __init__(
        self,
        space: Space | str | list[Any],
        proxy: str | Proxy | list[Any] = "wrcor",
        strategy: str | Strategy = "random",
        budget: int | None = None,
        constraints: Constraints | dict[str, Any] | None = None,
        attribute: str | None = None,
        batch_size: int = 64,
        seed: int = 0,
        num_classes: int | None = None,
        genotype: str | None = None,
        journal: str | None = "auto",
        racing: Racing | dict[str, Any] | None = None,
        precision: Precision = "float32",
        log_figures: bool = True,
    ) -> None:
        self.space = get_space(space)
        self.proxy = [get_proxy(one) for one in proxy] if isinstance(proxy, list) else get_proxy(proxy)
        self.strategy = get_strategy(strategy)
        self.budget = budget
        self.constraints = Constraints.read(constraints)
        self.attribute = attribute
        self.batch_size = batch_size
        self.seed = seed
        self.num_classes = num_classes
        self.genotype = genotype
        self.journal = journal
        self.racing = Racing.read(racing)
        self.precision = read_precision(precision)
        self.log_figures = log_figures
        if batch_size < 2:
            raise ValueError(f"A probe batch has at least 2 images (64 is usual); got batch_size={batch_size}.")
        check_budget(budget)
        if genotype is not None:
            self.space.parse(genotype)  # a mistake in it shows here, not after the data has been loaded
        self.result: SearchResult | None = None
        self.winner: Winner | None = None
        self._network: nn.Module | None = None
        # The command line sets it: a winner's arguments in the form of its files.
        self.as_configuration: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    @property
    def state_key(self) -> str:
        """One search a Trainer."""
        return "ZeroShotSearch"

    # ---- what users may override or call

    def read_batch(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Turn a batch of the training loader into ``(images, labels)``; override it for batches of another form.

        Args:
            batch: as the loader gives it, before any transfer hook: a pair, or a mapping with ``image`` and ``label``.

        Returns:
            Images ``(B, C, H, W)`` floating point and labels ``(B,)`` or ``(B, classes)``.

        Raises:
            MisconfigurationException: for a batch of another form.
        """
        if isinstance(batch, Mapping):
            image = next((batch[name] for name in _IMAGES if name in batch), None)
            label = next((batch[name] for name in _LABELS if name in batch), None)
            if isinstance(image, Tensor) and isinstance(label, Tensor):
                return image, label
            what = f"a mapping with the keys {', '.join(map(str, batch))}"
        elif isinstance(batch, (tuple, list)) and len(batch) >= 2 and all(isinstance(p, Tensor) for p in batch[:2]):
            return batch[0], batch[1]
        else:
            what = type(batch).__name__
        raise MisconfigurationException(
            f"A training batch is {what}; the search needs (images, labels). Override ZeroShotSearch.read_batch(batch)."
        )

    def search(self, trainer: Trainer, pl_module: LightningModule, num_classes: int | None = None) -> SearchResult:
        """Search with the Trainer's data, device and processes. Nothing is installed. All ranks call it together.

        Args:
            trainer: in its ``setup`` phase.
            pl_module: the module that is going to be trained; it is not changed.
            num_classes: classes of the networks; None finds them.
        """
        images, labels = _trainer.probe_batch(
            trainer, self.batch_size, derive_seed(self.seed, "probe"), self.read_batch
        )
        if not images.is_floating_point():
            raise MisconfigurationException(
                f"The training images are {images.dtype}; if the module converts them in a transfer hook, do the same in an "
                "overridden ZeroShotSearch.read_batch(batch)."
            )
        classes = num_classes or self._classes(trainer, pl_module)
        fast = _trainer.is_fast_dev_run(trainer)
        strategy_budget = self.strategy.default_budget if self.budget is None else self.budget
        budget = min(2, strategy_budget or 2) if fast else self.budget
        if fast:
            rank_zero_info(f"fast_dev_run: the search scores {budget} candidates.")
        result = zero_shot_search(
            self.space,
            (images, labels),
            proxy=self.proxy,
            strategy=self.strategy,
            budget=budget,
            constraints=self.constraints,
            seed=self.seed,
            num_classes=classes,
            journal=None if fast else self._journal_path(trainer, images, labels, classes),
            racing=Racing(2, 2) if fast and self.racing else self.racing,
            precision=self.precision,
            progress=trainer.progress_bar_callback is not None,
            ranks=_trainer.TrainerRanks(trainer),
        )
        if len(images) < self.batch_size and not fast:
            result.notes.append(f"The probe batch has {len(images)} images ({self.batch_size} were asked for).")
        rank_zero_info(f"\n{result.table()}\n")
        return result

    # ---- hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the winner (in the requested checkpoint, as given, or by a search) and install it."""
        from lightning_wrcor.module import ZeroShotSearchModule

        if isinstance(pl_module, ZeroShotSearchModule):
            raise MisconfigurationException(
                "ZeroShotSearchModule searches by itself; remove the ZeroShotSearch callback, or use your own module."
            )
        if sum(isinstance(one, ZeroShotSearch) for one in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise MisconfigurationException("There are several ZeroShotSearch callbacks; one Trainer takes one.")
        if stage == "fit":
            _trainer.check_callback_order(trainer, trainer.callbacks.index(self))  # type: ignore[attr-defined]
        path = _trainer.requested_checkpoint(trainer)
        stored = _trainer.stored_winner(trainer, path) if path is not None else None
        if stored is not None:
            self.winner = stored
            if stored.space != self.space.config():
                rank_zero_warn(
                    f"The checkpoint {path} holds the winner {stored.name!r} of another search space; that network is used, "
                    f"and {type(self.space).__name__} is not searched."
                )
        elif stage == "fit" and path is not None and self.winner is None and self.genotype is None:
            raise MisconfigurationException(
                f"The checkpoint {path} holds no winner of a search, so its weights cannot fit a network that a search would "
                "choose. Leave ZeroShotSearch out to go on with it, or start without ckpt_path."
            )
        elif stage != "fit" and self.winner is None:
            verb = getattr(stage, "value", stage)  # Lightning hands over an enumeration
            rank_zero_warn(
                f"No winner of a search is known, so {verb} runs with the network that {type(pl_module).__name__} has. The "
                "search runs in fit; a checkpoint written by it holds the winner (ckpt_path=...)."
            )
        attribute = self.attribute or (self.winner.attribute if self.winner else None)
        if self.winner is None and stage == "fit":
            attribute = _handover.find_network(pl_module, self.attribute)
            if trainer.is_global_zero and _trainer.starts_processes_by_spawning(trainer):
                rank_zero_warn(
                    "With a spawning strategy the trained winner stays in the child processes; go on from "
                    "trainer.checkpoint_callback.best_model_path (lightning_wrcor.load_network reads it)."
                )
            self.winner = self._choose(trainer, pl_module, attribute)
        if self.winner is not None and attribute is not None:
            self._install(pl_module, attribute)
            _trainer.remember_in_checkpoints(pl_module, self.winner)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the winner is what will be trained, and tell the loggers about it."""
        if self.winner is None:
            return
        present = getattr(pl_module, self.winner.attribute)
        if getattr(present, "_orig_mod", present) is not self._network:
            raise MisconfigurationException(
                f"Something replaced {type(pl_module).__name__}.{self.winner.attribute} after the search had installed "
                f"{self.winner.name!r} (a configure_model that builds the network?). Build the network in __init__, or use "
                "lightning_wrcor.ZeroShotSearchModule."
            )
        _handover.check_optimisers(trainer, present)
        self.report(trainer)

    def report(self, trainer: Trainer) -> None:
        """Tell the Trainer's loggers about the winner, and write it into the log folder; all ranks together."""
        assert self.winner is not None
        what, chosen = "arguments of ZeroShotSearch", {"space": self.winner.space, "genotype": self.winner.name}
        if self.as_configuration is not None:
            what, chosen = _handover.LAID_OVER, self.as_configuration(chosen)
        _handover.report_winner(trainer, self.winner, self.result, what, chosen, log_figures=self.log_figures)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """With a spawning strategy, keep the winner's weights from being loaded into the parent's old network."""
        if stage == "fit" and self.winner is not None and _trainer.starts_processes_by_spawning(trainer):
            _trainer.keep_from_parent(pl_module, self.winner.attribute)

    # ---- the rest

    def _choose(self, trainer: Trainer, pl_module: LightningModule, attribute: str) -> Winner:
        if self.genotype is not None:
            images, _ = _trainer.probe_batch(trainer, 2, derive_seed(self.seed, "probe"), self.read_batch)
            classes = self._classes(trainer, pl_module)
            genotype = self.space.parse(self.genotype)
            name = self.space.name(genotype)
            return Winner(self.space.config(), genotype, name, classes, images.shape[1], attribute)
        self.result = self.search(trainer, pl_module)
        return Winner.of(self.result, self.result.num_classes, self.result.input_size[0], attribute)

    def _install(self, pl_module: LightningModule, attribute: str) -> None:
        """Replace the network, once: a second call with the same winner changes nothing."""
        assert self.winner is not None
        present = getattr(pl_module, attribute, None)
        if present is not None and present is self._network and getattr(self, "_installed", None) == self.winner:
            return
        given = self.space if self.space.config() == self.winner.space else None
        network = self.winner.build(given)
        size = self.space.input_size if not self.result else self.result.input_size
        _handover.freeze_unreached(network, (self.winner.in_chans, *size[1:]))
        held = next(present.parameters(), None) if isinstance(present, nn.Module) else None
        if held is not None and held.device.type != "meta":
            network.to(held.device)
        setattr(pl_module, attribute, network)
        self._network = network
        self._installed = self.winner

    def _classes(self, trainer: Trainer, pl_module: LightningModule) -> int:
        network = getattr(pl_module, _handover.find_network(pl_module, self.attribute), None)
        return self.num_classes or _handover.find_classes(trainer, pl_module, network)

    def _journal_path(self, trainer: Trainer, images: Tensor, labels: Tensor, classes: int) -> str | None:
        if self.journal != "auto":
            return self.journal
        proxies = self.proxy if isinstance(self.proxy, list) else [self.proxy]
        from lightning_wrcor.search.journal import fingerprint

        facts = (
            __version__,
            self.space.config(),
            [p.config() for p in proxies],
            classes,
            fingerprint((images, labels)),
            *([] if self.precision == "float32" else [self.precision]),
        )
        name = f"{type(self.space).__name__}-{derive_seed(self.seed, *facts):016x}.jsonl"
        path = Path(trainer.default_root_dir) / "zero_shot_search" / re.sub(r"[^\w.-]", "_", name)
        return str(_trainer.TrainerRanks(trainer).broadcast(path))
