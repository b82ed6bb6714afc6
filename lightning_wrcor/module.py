"""An image classifier that chooses its own network."""

from __future__ import annotations

from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_wrcor import _trainer
from lightning_wrcor._classifier import Classifier
from lightning_wrcor._config import plain
from lightning_wrcor._handover import LAID_OVER, check_optimisers, freeze_unreached, report_winner
from lightning_wrcor.callback import ZeroShotSearch
from lightning_wrcor.proxies import Proxy
from lightning_wrcor.proxies._precision import Precision
from lightning_wrcor.search import CHECKPOINT_KEY, Constraints, Racing, SearchResult, Strategy, Winner
from lightning_wrcor.spaces import Space
from lightning_wrcor.training import Distillation, Mixing, ProgressiveResolution


class ZeroShotSearchModule(Classifier):
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
        precision: number format of the pass in which candidates are scored: ``float32``, or ``bfloat16`` (autocast). That of
            the training is the Trainer's.
        log_figures: draw the search's figures for the Trainer's loggers that take some, which takes a second or two.
        genotype: text of the winner (``selected.yaml`` has it); with it nothing is searched.
        in_chans: channels of the images; None takes them from the data.
        image_size: height and width of the images, used only to find parameters that the output never reaches; None
            takes them from the data module or the space.
        optimizer: name of one of timm's optimisers (``sgd``, ``adamw``, ``lamb``, ...).
        lr: peak learning rate.
        weight_decay: weight decay; norms and biases have none.
        optimizer_args: further arguments of the optimiser, such as ``{"momentum": 0.9}``.
        schedule: ``cosine`` or ``linear`` over the whole training, or ``constant``.
        warmup_epochs: epochs in which the learning rate grows linearly.
        label_smoothing: 0 or more, below 1.
        lr_batch: images in an optimiser step (over all processes and accumulated batches) that ``lr`` is meant for; it is
            scaled to those that there are. None: ``lr`` as it is.
        lr_scaling: ``linear``, or ``sqrt`` of the ratio.
        layer_decay: factor of the learning rate from each layer to the one before it; None: all alike.
        warmup_lr: share of ``lr`` that the warm-up begins with.
        min_lr: share of ``lr`` that is left at the end.
        loss: ``cross_entropy``, or ``bce``: one yes or no a class.
        bce_threshold: with ``bce``, a mixed label above it counts as a full yes, others as no.
        mixing: mixup and CutMix: `Mixing` or a mapping of its arguments.
        drop_path: stochastic depth: probability that the last residual branch is left out; it grows linearly with depth.
            None: as the network is built, which is 0 but for a few of timm's (Swin: 0.1).
        distillation: a teacher: `Distillation` or a mapping of its arguments.
        progressive: smaller training images at first: `ProgressiveResolution` or a mapping of its arguments.
        channels_last: keep images and weights in the memory format that tensor cores prefer.
        compile: compile the winner (``torch.compile``); a mapping has its arguments.
        pretrained: weights that training begins with: True for those that timm has for the winner (it downloads them), or
            a file. The classifier is left as it is where the number of classes differs.

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
        precision: Precision = "float32",
        log_figures: bool = True,
        genotype: str | None = None,
        in_chans: int | None = None,
        image_size: int | None = None,
        optimizer: str = "sgd",
        lr: float = 0.1,
        weight_decay: float = 4e-5,
        optimizer_args: dict[str, Any] | None = None,
        schedule: Literal["cosine", "linear", "constant"] = "cosine",
        warmup_epochs: float = 0.0,
        label_smoothing: float = 0.1,
        lr_batch: int | None = None,
        lr_scaling: Literal["linear", "sqrt"] = "linear",
        layer_decay: float | None = None,
        warmup_lr: float = 1e-3,
        min_lr: float = 0.0,
        loss: Literal["cross_entropy", "bce"] = "cross_entropy",
        bce_threshold: float | None = None,
        mixing: Mixing | dict[str, Any] | None = None,
        drop_path: float | None = None,
        distillation: Distillation | dict[str, Any] | None = None,
        progressive: ProgressiveResolution | dict[str, Any] | None = None,
        channels_last: bool = False,
        compile: bool | dict[str, Any] = False,
        pretrained: bool | str = False,
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
            precision=precision,
            log_figures=log_figures,
        )
        # Plain values only: anything else would keep the checkpoint from being read with weights_only=True.
        self.save_hyperparameters(ignore=["space", "proxy", "strategy", "constraints", "racing"])
        settings = self.search_settings
        self.hparams["space"] = settings.space.config()
        self.hparams["proxy"] = plain(settings.proxy)
        self.hparams["strategy"] = settings.strategy.config()
        self.hparams["constraints"] = settings.constraints.to_dict()
        self.hparams["racing"] = settings.racing.to_dict() if settings.racing is not None else None
        self.read_training_settings()
        self.network = None
        self.result: SearchResult | None = None
        self.winner: Winner | None = None
        if genotype is not None and num_classes is not None and in_chans is not None:
            chosen = settings.space.parse(genotype)
            name = settings.space.name(chosen)
            self.winner = Winner(settings.space.config(), chosen, name, num_classes, in_chans, "network")
        self.make_metrics(num_classes)

    def read_batch(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch, as `ZeroShotSearch.read_batch` reads them."""
        return self.search_settings.read_batch(batch)

    # ---- the network

    def configure_model(self) -> None:
        """Build the winner, once; search first where that has to be done (weight averaging calls this early)."""
        if self.network is not None:
            return
        if self._trainer is not None:
            self._find_winner()
        if self.winner is None:
            return
        settings = self.search_settings
        given = settings.space if settings.space.config() == self.winner.space else None
        network = self.winner.build(given)
        freeze_unreached(network, (self.winner.in_chans, *self._image_size()))
        self.prepare(network)
        self.compile_network(network)
        self.network = network
        self.make_metrics(self.winner.num_classes)

    def setup(self, stage: str) -> None:
        """Find the winner: in the requested checkpoint, as given, or by a search."""
        if self.network is None:
            self._find_winner()

    def _find_winner(self) -> None:
        trainer = self.trainer
        path = _trainer.requested_checkpoint(trainer)
        stored = _trainer.stored_winner(trainer, path) if path is not None else None
        known = stored or self.winner
        if known is not None:
            self._take(known)
            return
        if trainer.state.fn != "fit":
            raise MisconfigurationException(
                "There is no network yet: the search runs in trainer.fit. Give ckpt_path=..., or load the module with "
                "ZeroShotSearchModule.load_from_checkpoint."
            )
        if path is not None:
            raise MisconfigurationException(f"The checkpoint {path} holds no winner of a search.")
        settings = self.search_settings
        images, _ = _trainer.probe_batch(trainer, 2, settings.seed, self.read_batch)
        if self.hparams["in_chans"] not in (None, images.shape[1]):
            raise MisconfigurationException(
                f"in_chans is {self.hparams['in_chans']}, but the images have {images.shape[1]} channels."
            )
        if self.progressive is not None:
            self.progressive.size(0, 1, images.shape[-1])  # a start that is too large shows now, not after the search
        self.prepare_teacher(self._classes(), images.shape[1])
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
        assert self.winner is not None
        self.prepare_teacher(self.winner.num_classes, self.winner.in_chans)
        self.report()

    def report(self) -> None:
        """Tell the Trainer's loggers about the winner, and write it into the log folder; all ranks together."""
        assert self.winner is not None
        chosen = {"model": {"init_args": {"space": self.winner.space, "genotype": self.winner.name}}}
        report_winner(
            self.trainer, self.winner, self.result, LAID_OVER, chosen, log_figures=self.search_settings.log_figures
        )
