"""What training the winner needs beside Lightning: timm's optimisers, mixing, losses, teachers. Knows torch and timm."""

from lightning_wrcor.training.distillation import Distillation, Teacher, distillation_loss
from lightning_wrcor.training.drop_path import set_drop_path
from lightning_wrcor.training.finalists import Finalists
from lightning_wrcor.training.losses import classification_loss
from lightning_wrcor.training.mixing import Mixing
from lightning_wrcor.training.optimizer import (
    check_optimizer,
    learning_rate_factor,
    make_optimizer,
    scaled_learning_rate,
)
from lightning_wrcor.training.pretrained import LoadedWeights, load_pretrained
from lightning_wrcor.training.resolution import ProgressiveResolution, resize

__all__ = [
    "Distillation",
    "Finalists",
    "LoadedWeights",
    "Mixing",
    "ProgressiveResolution",
    "Teacher",
    "check_optimizer",
    "classification_loss",
    "distillation_loss",
    "learning_rate_factor",
    "load_pretrained",
    "make_optimizer",
    "resize",
    "scaled_learning_rate",
    "set_drop_path",
]
