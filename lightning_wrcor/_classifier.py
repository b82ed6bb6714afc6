"""Training, validation and test of an image classifier: what happens to a network once it is there."""

from __future__ import annotations

import math
import os
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_wrcor import _trainer
from lightning_wrcor._random import derive_seed, seed_all
from lightning_wrcor.training import (
    Distillation,
    Mixing,
    ProgressiveResolution,
    Teacher,
    check_optimizer,
    classification_loss,
    distillation_loss,
    learning_rate_factor,
    load_pretrained,
    make_optimizer,
    scaled_learning_rate,
    set_drop_path,
)


class Classifier(LightningModule):
    """The half of `ZeroShotSearchModule` that trains; its settings are the hyper-parameters."""

    network: nn.Module | None  # no default here: it would hide the module that is set later
    mixing: Mixing | None
    distillation: Distillation | None
    progressive: ProgressiveResolution | None

    def read_batch(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch."""
        raise NotImplementedError

    def read_training_settings(self) -> None:
        """Refuse what cannot work before anything is searched, and leave plain values in the hyper-parameters."""
        chosen = self.hparams
        check_optimizer(chosen["optimizer"])
        if not 0 <= chosen["label_smoothing"] < 1:
            raise ValueError(f"label_smoothing is a share, 0 or more and below 1; got {chosen['label_smoothing']}.")
        if chosen["drop_path"] is not None and not 0 <= chosen["drop_path"] < 1:
            raise ValueError(f"drop_path is a probability, 0 or more and below 1; got {chosen['drop_path']}.")
        if chosen["warmup_epochs"] < 0:
            raise ValueError(f"warmup_epochs is a number of epochs, 0 or more; got {chosen['warmup_epochs']}.")
        for name in ("warmup_lr", "min_lr"):
            if not 0 <= chosen[name] <= 1:
                raise ValueError(f"{name} is a share of lr, 0 to 1; got {chosen[name]}.")
        if chosen["bce_threshold"] is not None and chosen["loss"] != "bce":
            raise ValueError(f"bce_threshold={chosen['bce_threshold']} is for loss='bce'; got loss={chosen['loss']!r}.")
        self.mixing = Mixing.read(chosen["mixing"])
        self.distillation = Distillation.read(chosen["distillation"])
        self.progressive = ProgressiveResolution.read(chosen["progressive"])
        for name in ("mixing", "distillation", "progressive"):
            settings = getattr(self, name)
            chosen[name] = settings.to_dict() if settings is not None else None
        # Outside the module's own parts: it is neither trained, nor averaged, nor in checkpoints.
        self._teacher: list[Teacher] = []

    # ---- the network

    def prepare(self, network: nn.Module) -> None:
        """What training wants of a network that has just been built."""
        chosen = self.hparams
        fresh = self._trainer is not None and _trainer.begins_to_fit(self.trainer)
        if chosen["pretrained"] and fresh:
            size = chosen["image_size"] if getattr(network, "pretrained_cfg", {}).get("fixed_input_size") else None
            loaded = load_pretrained(network, chosen["pretrained"], in_chans=chosen["in_chans"], image_size=size)
            rank_zero_info(str(loaded))
        if chosen["drop_path"] is not None:
            try:
                set_drop_path(network, chosen["drop_path"])
            except ValueError as error:  # who wins is not known when settings are written
                rank_zero_warn(f"{error} It is trained without.")
        if chosen["channels_last"]:
            network.to(memory_format=torch.channels_last)

    def compile_network(self, network: nn.Module) -> None:
        """Compile in place, which leaves the names of the weights as they are."""
        wanted = self.hparams["compile"]
        if wanted:
            network.compile(**(wanted if isinstance(wanted, dict) else {}))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, C, H, W)``."""
        if self.network is None:
            raise MisconfigurationException("There is no network yet: it is chosen in trainer.fit.")
        if self.hparams["channels_last"]:
            images = images.contiguous(memory_format=torch.channels_last)
        output = self.network(images)
        logits: Tensor = output[0] if isinstance(output, (tuple, list)) else output
        return logits

    # ---- training

    def prepare_teacher(self, num_classes: int, in_chans: int) -> None:
        """Load the teacher, on the device of the training; before a search, which a wrong teacher should not waste."""
        if self.distillation is None or self._teacher:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        mean, std = getattr(data, "mean", None), getattr(data, "std", None)
        teacher = Teacher(self.distillation, num_classes, mean, std, in_chans=in_chans)
        teacher.to(self.device, channels_last=self.hparams["channels_last"])
        self._teacher = [teacher]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Give the step random numbers of its own, so that a training that goes on draws what it would have drawn."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", self.hparams["seed"]))
        seed_all(derive_seed(seed, "step", self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch: of its classes, mixed or not, and of the teacher's logits where there is a teacher."""
        chosen = self.hparams
        images, targets = self.read_batch(batch)
        if self.progressive is not None:
            size = self.progressive.size(self.current_epoch, self._epochs(), images.shape[-1])
            images = self.progressive.resize(images, size)
        if self.mixing is not None and self._epochs() - self.current_epoch > self.mixing.off_epochs:
            images, targets = self.mixing(images, targets, chosen["num_classes"])
        logits = self(images)
        loss = classification_loss(logits, targets, chosen["loss"], chosen["label_smoothing"], chosen["bce_threshold"])
        if self.distillation is not None:
            (teacher,) = self._teacher
            taught = distillation_loss(logits, teacher(images), self.distillation)
            self.log("train/distillation", taught)
            loss = (1 - self.distillation.alpha) * loss + self.distillation.alpha * taught
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _epochs(self) -> float:
        """Epochs of the whole training, as far as they are known."""
        epochs = self.trainer.max_epochs
        if epochs is not None and epochs > 0:
            return epochs
        steps = self.trainer.max_steps
        return steps / _trainer.steps_an_epoch(self.trainer) or math.inf if steps > 0 else math.inf

    def configure_optimizers(self) -> Any:
        """Timm's optimiser by name, without decay on norms and biases; the learning rate changes every step."""
        assert self.network is not None
        chosen, trainer = self.hparams, self.trainer
        steps = trainer.estimated_stepping_batches
        if math.isinf(steps):
            if chosen["schedule"] != "constant":
                raise MisconfigurationException(
                    f"A training without an end has no {chosen['schedule']} schedule: give the Trainer max_epochs or "
                    "max_steps, or take schedule='constant'."
                )
            steps = 2**62
        lr = float(chosen["lr"])
        if chosen["lr_batch"] is not None:
            lr = scaled_learning_rate(lr, _trainer.images_a_step(trainer), chosen["lr_batch"], chosen["lr_scaling"])
        optimizer = make_optimizer(
            self.network,
            chosen["optimizer"],
            lr,
            chosen["weight_decay"],
            chosen["layer_decay"],
            chosen["optimizer_args"],
        )
        an_epoch = _trainer.steps_an_epoch(trainer)
        if math.isinf(an_epoch) and chosen["warmup_epochs"]:
            raise MisconfigurationException(
                f"warmup_epochs={chosen['warmup_epochs']} needs training data with a length; got data without. Take 0."
            )
        warmup = int(an_epoch * chosen["warmup_epochs"]) if chosen["warmup_epochs"] else 0
        factor = partial(
            learning_rate_factor,
            steps=int(steps),
            warmup=min(int(steps) - 1, warmup),
            schedule=chosen["schedule"],
            warmup_lr=chosen["warmup_lr"],
            min_lr=chosen["min_lr"],
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---- validation, test, prediction

    def make_metrics(self, num_classes: int | None) -> None:
        """Top-1 and top-5 accuracy, as far as there are so many classes."""
        if num_classes is None:
            return
        for stage in ("val", "test"):
            for k in (1, 5):
                if k < num_classes:
                    setattr(self, f"{stage}_top{k}", MulticlassAccuracy(num_classes, top_k=k, average="micro"))

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

    def on_test_start(self) -> None:
        """Test the averaged weights where there are any."""
        _trainer.take_averaged_weights(self.trainer, self)

    def on_predict_start(self) -> None:
        """Predict with the averaged weights where there are any."""
        _trainer.take_averaged_weights(self.trainer, self)

    def _evaluate(self, stage: str, batch: Any) -> None:
        images, labels = self.read_batch(batch)
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{stage}/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(images))
        for k in (1, 5):
            metric = getattr(self, f"{stage}_top{k}", None)
            if metric is not None:
                metric.update(logits, labels)
                self.log(f"{stage}/top{k}", metric, prog_bar=k == 1)
