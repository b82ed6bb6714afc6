"""timm's transforms by the data modules' arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_toys import folder_data, rows, write_splits
from PIL import Image

PLAIN = {
    "hflip": 0.0,
    "color_jitter": 0.0,
    "scale": (1.0, 1.0),
    "ratio": (1.0, 1.0),
    "mean": (0.0,) * 3,
    "std": (1.0,) * 3,
}


@pytest.fixture
def one(tmp_path):
    """One image of 16 x 16 pixels in each split, a different colour in each corner."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8, :8], pixels[:8, 8:], pixels[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "a" / "one.png")
    return tmp_path, torch.from_numpy(pixels).permute(2, 0, 1) / 255


def train_image(root, **arguments) -> torch.Tensor:
    return folder_data(root, **{**PLAIN, "interpolation": "nearest", **arguments})._get("train")[0][0]


def test_flips_turn_the_image_over(one) -> None:
    root, image = one
    torch.testing.assert_close(train_image(root), image)
    torch.testing.assert_close(train_image(root, vflip=1.0), image.flip(1))
    torch.testing.assert_close(train_image(root, hflip=1.0), image.flip(2))


def test_grey_blurred_and_jittered_images(one) -> None:
    root, image = one
    grey = train_image(root, grayscale_prob=1.0)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert len(grey.unique()) == 4
    assert len(train_image(root, gaussian_blur_prob=1.0).unique()) > 4, "no longer only black and full colour"
    assert not torch.equal(train_image(root, color_jitter=0.4), image)
    torch.testing.assert_close(train_image(root, color_jitter=0.4, color_jitter_prob=0.0), image)
    torch.testing.assert_close(train_image(root, color_jitter=0.4, auto_augment="rand-m0-n0"), image)


@pytest.mark.parametrize(("mode", "colours"), [("const", 1), ("rand", 1), ("pixel", 100)])
def test_erased_places(one, mode: str, colours: int) -> None:
    root, image = one
    erased = train_image(root, re_prob=1.0, re_mode=mode)
    changed = (erased != image).any(0)
    assert changed.any()
    found = erased[:, changed].unique(dim=1).shape[1]
    assert found == 1 if colours == 1 else found == int(changed.sum())
    assert (erased[:, changed].unique().tolist() == [0.0]) == (mode == "const")


def test_several_places_are_erased(one) -> None:
    """One rectangle changes as many pixels as its bounding box has; several in general do not."""
    root, image = one

    def is_rectangle(count: int) -> bool:
        changed = (train_image(root, re_prob=1.0, re_mode="pixel", re_count=count) != image).any(0)
        rows_, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        box = (rows_.max() - rows_.min() + 1) * (columns.max() - columns.min() + 1)
        return int(changed.sum()) == int(box)

    torch.manual_seed(0)
    assert all(is_rectangle(1) for _ in range(20))
    assert not all(is_rectangle(4) for _ in range(20))


def test_evaluation_at_another_size(tmp_path) -> None:
    data = folder_data(write_splits(tmp_path), image_size=16, eval_size=24)
    assert data.input_size == (3, 16, 16)
    assert next(iter(data.train_dataloader()))[0].shape[2:] == (16, 16)
    assert rows(data.val_dataloader())[0].shape == (9, 3, 24, 24)
    assert rows(data.test_dataloader())[0].shape == (6, 3, 24, 24)


def test_crops_of_training_and_evaluation(tmp_path) -> None:
    """An image twice as wide as high, the left half white: squashing keeps both halves, the centre crop the middle."""
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "a" / "one.png")

    def val(mode: str) -> torch.Tensor:
        return folder_data(tmp_path, **PLAIN, crop_pct=1.0, crop_mode=mode, interpolation="nearest")._get("val")[0][0]

    assert float(val("center").mean()) == 0.0
    assert float(val("squash").mean()) == pytest.approx(0.25)
    assert val("border").shape == (3, 16, 16)
    none = {**PLAIN, "scale": None, "ratio": None}
    for mode in ("rrc", "rkrc", "rkrr"):
        assert folder_data(tmp_path, **none, train_crop_mode=mode)._get("train")[0][0].shape == (3, 16, 16)
    whites = [float(folder_data(tmp_path, **none, train_crop_mode="rkrc")._get("train")[0][0].mean()) for _ in range(5)]
    assert max(whites) < 0.25, "a crop at the centre sees little of the left quarter"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eval_size": 0}, "eval_size where it is given; got 16 and 0"),
        ({"vflip": 1.5}, "vflip must be a probability, from 0 to 1; got 1.5"),
        ({"grayscale_prob": -0.1}, "grayscale_prob must be a probability"),
        ({"re_mode": "pixels"}, "re_mode must be one of const, rand, pixel; got 'pixels'"),
        ({"train_crop_mode": "rcc"}, "train_crop_mode must be one of rrc, rkrc, rkrr; got 'rcc'"),
        ({"crop_mode": "middle"}, "crop_mode must be one of center, squash, border"),
        ({"interpolation": "cubic"}, "interpolation must be one of bicubic, .*; got 'cubic'"),
        ({"re_count": 0}, "re_count, .* must be 1 or more; got 0"),
        ({"max_unreadable": 2.0}, "max_unreadable must be a share from 0 to 1; got 2.0"),
    ],
)
def test_settings_out_of_range(tmp_path, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        folder_data(tmp_path, **arguments)
