"""An image classifier that chooses its own network."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_wrcor import _trainer
from lightning_wrcor._config import closest, plain
from lightning_wrcor._handover import LAID_OVER, check_optimisers, freeze_unreached, report_winner
from lightning_wrcor.callback import ZeroShotSearch
from lightning_wrcor.proxies import Proxy
from lightning_wrcor.search import CHECKPOINT_KEY, Constraints, Racing, SearchResult, Strategy, Winner
from lightning_wrcor.spaces import Space


class ZeroShotSearchModule(LightningModule):
    """An image classifier whose network is the best of many, chosen before training starts.

    The search runs once, in the ``fit`` set-up; the network is built in ``configure_model``. The winner is in the
    hyper-parameters (``genotype``) and in every checkpoint, so that ``load_from_checkpoint``, resuming, ``test`` and
    ``predict`` build that network without a search.

    Args:
        space: the candidates: a search space, its name (``nasbench201``, ``darts``, ``timm``), or a list of timm names,
            modules and functions that build a network.
        num_classes: classes; None takes them from the data module.
        proxy: what scores the candidates; a proxy's name, a proxy, or several, of which the first ranks.
        strategy: who is scored next; ``random``, ``exhaustive`` or a strategy.
        budget: candidates that are scored; None is the strategy's own default (100 for random search).
        constraints: bounds on parameters, MACs, depth, resolution, memory of activations and latency.
        probe_size: images in the probe batch, drawn from the training data.
        seed: seed of the search.
        journal: file to which every score is appended; ``auto`` names one after the search, None writes none.
        racing: score the best again with fresh weights, and take the cheapest that keeps up; None: the best score.
        genotype: text of the winner (``selected.yaml`` has it); with it nothing is searched.
        in_chans: channels of the images; None takes them from the data.
        image_size: height and width of the images, used only to find parameters that the output never reaches; None
            takes them from the data module or the space.
        optimizer: name of one of timm's optimisers (``sgd``, ``adamw``, ``lamb``, ...).
        lr: peak learning rate.
        weight_decay: weight decay; norms and biases have none.
        optimizer_args: further arguments of the optimiser, such as ``{"momentum": 0.9}``.
        schedule: ``cosine`` to zero over the whole training, or ``constant``.
        warmup_epochs: epochs in which the learning rate grows linearly from nearly zero.
        label_smoothing: 0 to 1.

    Attributes:
        network: the network; None until the winner is known.
        result: the search's result, None where no search was needed.
        winner: the winner as plain values, None until it is known.
    """

    network: nn.Module | None

    def __init__(
        self,
        space: Space | str | list[Any] | dict[str, Any] = "nasbench201",
        num_classes: int | None = None,
        proxy: str | Proxy | list[Any] | dict[str, Any] = "wrcor",
        strategy: str | Strategy | dict[str, Any] = "random",
        budget: int | None = None,
        constraints: Constraints | dict[str, Any] | None = None,
        probe_size: int = 64,
        seed: int = 0,
        journal: str | None = "auto",
        racing: Racing | dict[str, Any] | None = None,
        genotype: str | None = None,
        in_chans: int | None = None,
        image_size: int | None = None,
        optimizer: str = "sgd",
        lr: float = 0.1,
        weight_decay: float = 4e-5,
        optimizer_args: dict[str, Any] | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_epochs: float = 0.0,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        self.search_settings = ZeroShotSearch(
            space,  # type: ignore[arg-type]
            proxy=proxy,  # type: ignore[arg-type]
            strategy=strategy,  # type: ignore[arg-type]
            budget=budget,
            constraints=constraints,
            attribute="network",
            batch_size=probe_size,
            seed=seed,
            genotype=genotype,
            journal=journal,
            racing=racing,
        )
        _check_optimizer(optimizer)
        # Plain values only: anything else would keep the checkpoint from being read with weights_only=True.
        self.save_hyperparameters(ignore=["space", "proxy", "strategy", "constraints", "racing"])
        settings = self.search_settings
        self.hparams["space"] = settings.space.config()
        self.hparams["proxy"] = plain(settings.proxy)
        self.hparams["strategy"] = settings.strategy.config()
        self.hparams["constraints"] = settings.constraints.to_dict()
        self.hparams["racing"] = settings.racing.to_dict() if settings.racing is not None else None
        self.network = None
        self.result: SearchResult | None = None
        self.winner: Winner | None = None
        if genotype is not None and num_classes is not None and in_chans is not None:
            chosen = settings.space.parse(genotype)
            name = settings.space.name(chosen)
            self.winner = Winner(settings.space.config(), chosen, name, num_classes, in_chans, "network")
        self._make_metrics(num_classes)

    # ---- the network

    def configure_model(self) -> None:
        """Build the winner, once; search first where that has to be done (weight averaging calls this early)."""
        if self.network is not None:
            return
        if self.winner is None and self._trainer is not None:
            self._find_winner()
        if self.winner is None:
            return
        settings = self.search_settings
        given = settings.space if settings.space.config() == self.winner.space else None
        self.network = self.winner.build(given)
        freeze_unreached(self.network, (self.winner.in_chans, *self._image_size()))
        self._make_metrics(self.winner.num_classes)

    def setup(self, stage: str) -> None:
        """Find the winner: in the requested checkpoint, as given, or by a search."""
        if self.network is None:
            self._find_winner()

    def _find_winner(self) -> None:
        trainer = self.trainer
        path = _trainer.requested_checkpoint(trainer)
        stored = _trainer.stored_winner(trainer, path) if path is not None else None
        if stored is not None:
            self._take(stored)
        if self.winner is not None:
            return
        if trainer.state.fn != "fit":
            raise MisconfigurationException(
                "There is no network yet: the search runs in trainer.fit. Give ckpt_path=..., or load the module with "
                "ZeroShotSearchModule.load_from_checkpoint."
            )
        if path is not None:
            raise MisconfigurationException(f"The checkpoint {path} holds no winner of a search.")
        settings = self.search_settings
        images, _ = _trainer.probe_batch(trainer, 2, settings.seed, settings.read_batch)
        if self.hparams["in_chans"] not in (None, images.shape[1]):
            raise MisconfigurationException(
                f"in_chans is {self.hparams['in_chans']}, but the images have {images.shape[1]} channels."
            )
        if settings.genotype is not None:
            chosen = settings.space.parse(settings.genotype)
            name = settings.space.name(chosen)
            winner = Winner(settings.space.config(), chosen, name, self._classes(), images.shape[1], "network")
        else:
            self.result = settings.search(trainer, self, num_classes=self._classes())
            winner = Winner.of(self.result, self.result.num_classes, self.result.input_size[0], "network")
        self._take(winner)

    def _take(self, winner: Winner) -> None:
        self.winner = winner
        # load_from_checkpoint calls __init__ with these, which is then enough to build the network.
        self.hparams["genotype"] = winner.name
        self.hparams["space"] = winner.space
        self.hparams["num_classes"] = winner.num_classes
        self.hparams["in_chans"] = winner.in_chans
        self.hparams["image_size"] = self._image_size()[0]

    def _classes(self) -> int:
        found = self.hparams["num_classes"] or getattr(self.trainer.datamodule, "num_classes", None)  # type: ignore[attr-defined]
        if not found:
            raise MisconfigurationException(
                "The number of classes is not known: pass num_classes=..., or give the data module such an attribute."
            )
        return int(found)

    def _image_size(self) -> tuple[int, int]:
        size = self.hparams["image_size"]
        if self.result is not None:
            return self.result.input_size[1:]
        data = getattr(self._trainer, "datamodule", None) if self._trainer is not None else None
        found = getattr(data, "input_size", None)
        if size is None and found is not None:
            return tuple(found[1:])
        return (size, size) if size is not None else self.search_settings.space.input_size[1:]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the winner into the checkpoint."""
        if self.winner is not None:
            checkpoint[CHECKPOINT_KEY] = self.winner.to_dict()

    # ---- training

    def on_fit_start(self) -> None:
        """Check that the winner is what will be trained, and tell the loggers about it."""
        assert self.network is not None
        check_optimisers(self.trainer, self.network)
        self.report()

    def report(self) -> None:
        """Tell the Trainer's loggers about the winner, and write it into the log folder; all ranks together."""
        assert self.winner is not None
        chosen = {"model": {"init_args": {"space": self.winner.space, "genotype": self.winner.name}}}
        report_winner(self.trainer, self.winner, self.result, LAID_OVER, chosen)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, C, H, W)``."""
        if self.network is None:
            raise MisconfigurationException("There is no network yet: it is chosen in trainer.fit.")
        output = self.network(images)
        logits: Tensor = output[0] if isinstance(output, (tuple, list)) else output
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy with label smoothing."""
        images, labels = self.search_settings.read_batch(batch)
        loss = F.cross_entropy(self(images), labels, label_smoothing=self.hparams["label_smoothing"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss, top-1 and top-5 accuracy."""
        self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Loss, top-1 and top-5 accuracy."""
        self._evaluate("test", batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Class probabilities ``(B, classes)``."""
        images = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self.forward(images).softmax(-1)

    def _make_metrics(self, num_classes: int | None) -> None:
        if num_classes is None:
            return
        for stage in ("val", "test"):
            for k in (1, 5):
                if k < num_classes:
                    setattr(self, f"{stage}_top{k}", MulticlassAccuracy(num_classes, top_k=k, average="micro"))

    def _evaluate(self, stage: str, batch: Any) -> None:
        images, labels = self.search_settings.read_batch(batch)
        logits = self(images)
        self.log(
            f"{stage}/loss", F.cross_entropy(logits, labels), prog_bar=True, sync_dist=True, batch_size=len(images)
        )
        for k in (1, 5):
            metric = getattr(self, f"{stage}_top{k}", None)
            if metric is not None:
                metric.update(logits, labels)
                self.log(f"{stage}/top{k}", metric, prog_bar=k == 1)

    def configure_optimizers(self) -> Any:
        """Timm's optimiser by name, without decay on norms and biases; the schedule steps every batch."""
        from timm.optim import create_optimizer_v2

        assert self.network is not None
        chosen = self.hparams
        optimizer = create_optimizer_v2(
            self.network,
            opt=chosen["optimizer"],
            lr=chosen["lr"],
            weight_decay=chosen["weight_decay"],
            **(chosen["optimizer_args"] or {}),
        )
        steps = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs if self.trainer.max_epochs and self.trainer.max_epochs > 0 else 1
        warmup = min(steps - 1, int(steps / epochs * chosen["warmup_epochs"]))
        schedulers: list[torch.optim.lr_scheduler.LRScheduler] = []
        if warmup > 0:
            schedulers.append(torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=warmup))
        if chosen["schedule"] == "cosine":
            schedulers.append(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps - warmup)))
        else:
            schedulers.append(torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))
        schedule = (
            torch.optim.lr_scheduler.SequentialLR(optimizer, schedulers, [warmup]) if warmup > 0 else schedulers[0]
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _check_optimizer(name: str) -> None:
    """Refuse a misspelt optimiser before anything is searched."""
    from timm.optim import get_optimizer_class, list_optimizers

    try:
        get_optimizer_class(name.removeprefix("lookahead_"))
    except ValueError as error:
        names = ", ".join(closest(name, list_optimizers())[:8])
        raise ValueError(f"timm has no optimiser named {name!r}. Closest: {names}.") from error
