"""A teacher: a trained network whose logits the student learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_wrcor._config import closest, plain, read_settings
from lightning_wrcor._random import own_random_numbers
from lightning_wrcor.training.pretrained import load_pretrained
from lightning_wrcor.training.resolution import resize

_OWN_ARGUMENTS = ("num_classes", "in_chans", "pretrained", "checkpoint_path", "features_only")


@dataclass(frozen=True)
class Distillation:
    """The student learns from the labels and from a teacher's logits (Hinton et al. 2015, arXiv 1503.02531).

    The loss is ``(1 - alpha)`` times that of the labels plus ``alpha`` times `distillation_loss`.

    Args:
        teacher: a model of timm by its name, with the tag of its weights or without, such as ``"resnet152"``.
        weights: a file with the teacher's weights, as `load_pretrained` reads it.
        pretrained: take timm's own weights, which timm downloads.
        alpha: share of the teacher's part in the loss, 0 to 1.
        temperature: the logits are divided by it, so that the teacher's smaller probabilities count for more.
        hard: learn the class that the teacher takes for the right one (DeiT, Touvron et al., ICML 2021, arXiv 2012.12877)
            in place of its probabilities; the temperature then changes nothing.
        teacher_args: further arguments of `timm.create_model`.
        normalise: normalise the images as the teacher wants them. False: it gets them as the student does.
        mean: mean of each channel that the teacher's images are normalised with, of values from 0 to 1; None: that of its
            configuration in timm.
        std: their standard deviation, likewise.
        image_size: height and width in pixels of the teacher's images. None: those of the student's, or the teacher's own
            where it takes no other.

    Raises:
        ValueError: for a name that timm does not know, without ``weights`` and ``pretrained`` or with both, for an argument
            of the teacher that is not the user's, and for numbers out of range.
    """

    teacher: str
    weights: str | None = None
    pretrained: bool = False
    alpha: float = 0.5
    temperature: float = 1.0
    hard: bool = False
    teacher_args: dict[str, Any] = field(default_factory=dict)
    normalise: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        _check_teacher(self.teacher)
        if self.weights is None and not self.pretrained:
            raise ValueError(
                f"The teacher {self.teacher!r} is untrained, and teaches nothing: give weights=FILE, or pretrained=True for "
                "those of timm."
            )
        if self.weights is not None and self.pretrained:
            raise ValueError(f"The teacher has weights={self.weights!r} and pretrained=True: give one of the two.")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha of distillation is a share of the loss, 0 to 1; got {self.alpha}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature of distillation is a number above 0; got {self.temperature}.")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size of distillation is a number of pixels, at least 1; got {self.image_size}.")
        for name in _OWN_ARGUMENTS:
            if name in self.teacher_args:
                raise ValueError(
                    f"teacher_args cannot hold {name!r}: the student's data and the other settings say it."
                )
        for name in ("mean", "std"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(float(value) for value in given))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, given: Distillation | Mapping[str, Any] | None) -> Distillation | None:
        """Settings from what a user gives: an object, a mapping of its arguments, or None for no teacher.

        Raises:
            TypeError: for anything else.
            ValueError: for a setting that is not known; the message lists those there are, closest first.
        """
        return read_settings(cls, given, "distillation")


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, settings: Distillation | float = 1.0) -> Tensor:
    """How far the student is from the teacher; the mean over the batch, in float32.

    With the temperature T, p = softmax(teacher / T) and q = softmax(student / T) it is T^2 sum p log(p / q); the factor keeps
    the size of its gradients about the same for every T (Hinton et al. 2015). With ``hard`` it is the cross-entropy with the
    teacher's most likely class.

    Args:
        student_logits: ``(B, classes)``.
        teacher_logits: ``(B, classes)``; no gradient reaches them.
        settings: where temperature and ``hard`` are taken from; a number is the temperature.

    Returns:
        A scalar.

    Raises:
        ValueError: where the shapes differ.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"The student's logits have the shape {tuple(student_logits.shape)}, the teacher's {tuple(teacher_logits.shape)}."
        )
    student, teacher = student_logits.float(), teacher_logits.detach().float()
    hard, temperature = (
        (settings.hard, settings.temperature) if isinstance(settings, Distillation) else (False, settings)
    )
    if hard:
        return F.cross_entropy(student, teacher.argmax(1))
    scaled = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return F.kl_div(scaled[1], scaled[0], reduction="batchmean", log_target=True) * temperature**2


class Teacher:
    """A trained network that is only asked.

    It is no module, so that it is no part of the module that holds it: not of its parameters and checkpoints, nor of its
    modes (it is in evaluation mode for ever). Copies of such a module, as weight averaging makes them, share it.

    Args:
        settings: which network, and its weights.
        num_classes: classes of the student.
        mean: mean of each channel that the student's images are normalised with.
        std: standard deviation, likewise.
        in_chans: channels of the images.

    Attributes:
        network: timm's model.
        size: height and width that images are brought to, None for those that they have.

    Raises:
        ValueError: where the teacher has another number of classes or cannot be built, where its weights do not fit, and
            where the images' normalisation is not known.
    """

    def __init__(
        self,
        settings: Distillation,
        num_classes: int,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        in_chans: int = 3,
    ) -> None:
        if settings.normalise and (mean is None or std is None):
            raise ValueError(
                "It is not known what the images are normalised with, so that they cannot be normalised for the teacher: give "
                "the data module the attributes mean and std, or set normalise=False of distillation, which shows the "
                "teacher the student's images."
            )
        with own_random_numbers():
            self.network = _build(settings, num_classes, in_chans)
        self.network.eval().requires_grad_(False)
        cfg = self.network.pretrained_cfg
        self.size = _size(settings, cfg)
        self._channels_last = False
        self._scale = self._shift = None
        if settings.normalise:
            own = (torch.tensor(settings.mean or cfg["mean"]), torch.tensor(settings.std or cfg["std"]))
            self._scale, self._shift = _conversion(torch.tensor(mean), torch.tensor(std), *own, in_chans)

    def to(self, device: torch.device | str, channels_last: bool = False) -> Teacher:
        """Move to a device; with ``channels_last`` the weights, and every batch, have that memory format."""
        self.network.to(device)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self._channels_last = channels_last
        if self._scale is not None and self._shift is not None:
            self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits ``(B, classes)``, without gradients, in the precision of the caller's autocast.

        Args:
            images: ``(B, C, H, W)``, normalised as the student's are, mixed or not.
        """
        images = images.to(next(self.network.parameters()).dtype)
        # Linear in the pixels, so that it makes no difference whether images were mixed before or after.
        if self._scale is not None and self._shift is not None:
            images = images * self._scale + self._shift
        if self.size is not None:
            images = resize(images, self.size)
        if self._channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        output = self.network(images)
        logits: Tensor = output[0] if isinstance(output, (tuple, list)) else output
        return logits

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self  # nothing about it changes


def _check_teacher(name: str) -> None:
    import timm
    from timm.models import split_model_name_tag

    stem, tag = split_model_name_tag(name)
    if not timm.is_model(stem):
        names = ", ".join(closest(stem, timm.list_models())[:5])
        raise ValueError(f"The teacher is a model of timm, which has no {name!r}. Closest: {names}.")
    if tag:
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{stem}.*")]
        if tag not in tags:
            listed = ", ".join(closest(tag, tags)) or "none"
            raise ValueError(f"timm has no weights {tag!r} of the teacher {stem!r}. There are: {listed}.")


def _build(settings: Distillation, num_classes: int, in_chans: int) -> Any:
    """The teacher with its weights."""
    import timm
    from timm.models import get_pretrained_cfg

    name, cfg = settings.teacher, get_pretrained_cfg(settings.teacher)
    arguments = dict(settings.teacher_args)
    if settings.image_size is not None and cfg.fixed_input_size:
        arguments.setdefault("img_size", settings.image_size)
    if settings.pretrained and not cfg.has_weights:
        raise ValueError(f"timm has no pretrained weights for the teacher {name!r}: give weights=FILE.")
    if settings.pretrained and cfg.num_classes != num_classes:
        raise ValueError(
            f"timm's weights of the teacher {name!r} are for {cfg.num_classes} classes, but the data has {num_classes}: train "
            "it on this data first, and give weights=FILE."
        )
    try:
        network = timm.create_model(
            name, pretrained=settings.pretrained, num_classes=num_classes, in_chans=in_chans, **arguments
        )
    except (AssertionError, TypeError) as error:
        raise ValueError(f"timm cannot build the teacher {name!r} with {arguments!r}: {error}") from error
    if settings.weights is not None:
        loaded = load_pretrained(network, settings.weights)
        if loaded.left:
            raise ValueError(
                f"The weights {settings.weights} of the teacher {name!r} are not for the {num_classes} classes of the data."
            )
    return network


def _size(settings: Distillation, cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the teacher's images must have."""
    wanted = settings.image_size
    if wanted is None and cfg.get("fixed_input_size"):
        wanted = settings.teacher_args.get("img_size", cfg["input_size"][1:])
    if wanted is None:
        return None
    return (wanted, wanted) if isinstance(wanted, int) else (int(wanted[0]), int(wanted[1]))


def _conversion(mean: Tensor, std: Tensor, own_mean: Tensor, own_std: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Factor and summand of each channel, ``(1, C, 1, 1)``, that lead from one normalisation to the other."""
    for what, values in (("student", mean), ("student", std), ("teacher", own_mean), ("teacher", own_std)):
        if values.numel() not in (1, channels):
            raise ValueError(
                f"The images have {channels} channels, but the {what}'s are normalised with {values.numel()} numbers: set mean "
                "and std of distillation."
            )
    factor, summand = std / own_std, (mean - own_mean) / own_std
    return factor.expand(channels).view(1, -1, 1, 1), summand.expand(channels).view(1, -1, 1, 1)
