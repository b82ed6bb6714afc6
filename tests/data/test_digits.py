"""The digits: real images, split and shifted, and learned by a small network."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from image_toys import Classifier, trainer
from lightning.pytorch import seed_everything

from lightning_wrcor.data import DigitsData


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (12, 1)])
def test_digits_are_normalised_images_of_the_size_asked_for(size, channels):
    data = DigitsData(image_size=size, channels=channels, batch_size=32)
    assert data.input_size == (channels, size, size)
    assert data.num_classes == 10
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (32, channels, size, size)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(images[:, 0], images[:, -1])
    assert abs(images.mean()) < 0.2
    assert 0.7 < images.std() < 1.1


def test_digits_splits_hold_each_of_the_1797_images_once():
    """Known from scikit-learn's documentation: 1,797 images, 174 to 183 a class."""
    data = DigitsData(image_size=8, channels=1, augment=False)
    data.setup()
    splits = {name: data._get(name) for name in ("train", "val", "test")}
    everything = torch.cat([split.images.flatten(1) for split in splits.values()])
    assert len(everything) == 1797
    assert len(everything.unique(dim=0)) == 1797
    shares = {name: Counter(split.labels.tolist()) for name, split in splits.items()}
    whole = sum(shares.values(), Counter())
    assert sorted(whole.values())[0] == 174
    assert sorted(whole.values())[-1] == 183
    for digit in range(10):
        assert shares["test"][digit] == pytest.approx(0.2 * whole[digit], abs=1)
        assert shares["val"][digit] == pytest.approx(0.2 * whole[digit], abs=1)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    source = load_digits()
    data = DigitsData(image_size=8, channels=1, augment=False)
    image, label = data._get("test")[0]
    pixels = source.images.astype(np.float32)
    expected = (pixels - pixels.mean()) / pixels.std(ddof=1)
    match = np.abs(expected - image[0].numpy()).max((1, 2)).argmin()
    np.testing.assert_allclose(image[0].numpy(), expected[match], atol=1e-5)
    assert label == source.target[match]


def test_digits_split_depends_on_the_seed_only():
    def test_images(seed):
        torch.manual_seed(int(torch.randint(1000, ())))
        return DigitsData(seed=seed, image_size=8)._get("test").images

    assert torch.equal(test_images(0), test_images(0))
    assert not torch.equal(test_images(0), test_images(1))


def test_digits_are_shifted_in_training_only():
    data = DigitsData(image_size=16, channels=1)
    train, val = data._get("train"), data._get("val")
    torch.manual_seed(0)
    seen = torch.stack([train[0][0] for _ in range(100)]).unique(dim=0)
    assert len(seen) == 9  # one pixel in each of two directions, or none
    assert torch.equal(val[0][0], val[0][0])
    still = DigitsData(image_size=16, channels=1, augment=False)._get("train")[0][0]
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            # Away from the border, where background comes in, a shift is a roll.
            rolled = torch.roll(still, (down, right), (1, 2))[:, 1:-1, 1:-1]
            assert sum(torch.equal(rolled, one[:, 1:-1, 1:-1]) for one in seen) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 4}, "image_size must be 8 or more"),
        ({"channels": 2}, "channels 1 or 3; got 16 and 2"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave images for training"),
        ({"test_fraction": 0.0}, "must be above 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_digits_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        DigitsData(**arguments)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'lightning_wrcor\[recipes\]'"):
        DigitsData().setup("fit")


def test_a_small_network_learns_the_digits(tmp_path):
    seed_everything(0, verbose=False)
    data = DigitsData(image_size=16, channels=1, batch_size=32)
    module = Classifier(16 * 16, 10, lr=0.02)
    run = trainer(tmp_path, max_epochs=6)
    run.fit(module, datamodule=data)
    run.test(module, datamodule=data, verbose=False)
    assert len(module.right) == len(data._get("test"))
    assert np.mean(module.right) > 0.93


def test_what_they_are_normalised_with() -> None:
    from sklearn.datasets import load_digits

    pixels = load_digits().data / 16
    data = DigitsData(channels=3)
    assert data.mean == pytest.approx([pixels.mean()] * 3, abs=1e-5)
    assert data.std == pytest.approx([pixels.std(ddof=1)] * 3, abs=1e-5)
