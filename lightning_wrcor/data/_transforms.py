"""timm's transforms, by the data modules' arguments."""

from __future__ import annotations

from typing import Any, Literal

TrainCrop = Literal["rrc", "rkrc", "rkrr"]
Crop = Literal["center", "squash", "border"]
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest", "random"]
Erase = Literal["const", "rand", "pixel"]

_CHOICES = {"train_crop_mode": TrainCrop, "crop_mode": Crop, "interpolation": Interpolation, "re_mode": Erase}
_PROBABILITIES = ("hflip", "vflip", "re_prob", "grayscale_prob", "gaussian_blur_prob", "color_jitter_prob")
_TRAINING = (
    *("train_crop_mode", "scale", "ratio", "hflip", "vflip", "color_jitter", "color_jitter_prob", "grayscale_prob"),
    *("gaussian_blur_prob", "auto_augment", "re_prob", "re_mode", "re_count"),
)
_EVALUATION = ("crop_pct", "crop_mode")
SETTINGS = ("image_size", "eval_size", "interpolation", "mean", "std", *_TRAINING, *_EVALUATION)
"""Arguments that a data module with timm's transforms has."""


def check_settings(settings: dict[str, Any]) -> None:
    """Raise a ValueError that names the first setting out of its range."""
    from typing import get_args

    sizes = settings["image_size"], settings["eval_size"]
    if sizes[0] < 1 or (sizes[1] is not None and sizes[1] < 1):
        raise ValueError(
            f"image_size must be positive, and eval_size where it is given; got {sizes[0]} and {sizes[1]}."
        )
    if not 0 < settings["crop_pct"] <= 1:
        raise ValueError(f"crop_pct must be a share above 0 and at most 1; got {settings['crop_pct']}.")
    for name, choices in _CHOICES.items():
        if settings[name] not in get_args(choices):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}; got {settings[name]!r}.")
    for name in _PROBABILITIES:
        value = settings[name]
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must be a probability, from 0 to 1; got {value}.")
    if settings["re_count"] < 1:
        raise ValueError(f"re_count, the most places that are erased, must be 1 or more; got {settings['re_count']}.")


def make_transform(settings: dict[str, Any], training: bool) -> Any:
    """The transform for training, or for validation and test.

    Raises:
        ValueError: where timm does not take the settings.
    """
    from timm.data import create_transform

    size = settings["image_size"] if training else settings["eval_size"] or settings["image_size"]
    interpolation = settings["interpolation"]
    if interpolation == "random" and not training:
        interpolation = "bilinear"
    chosen = {name: settings[name] for name in (*(_TRAINING if training else _EVALUATION), "mean", "std")}
    try:
        return create_transform(size, training, interpolation=interpolation, **chosen)
    except (AssertionError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"timm cannot make the transform with auto_augment={settings['auto_augment']!r}, color_jitter="
            f"{settings['color_jitter']!r}, scale={settings['scale']!r} and ratio={settings['ratio']!r}: {error!r}. "
            "Policies are such as 'rand-m9-mstd0.5', 'augmix-m5', '3a', 'original'."
        ) from error
