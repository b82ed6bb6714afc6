from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_wrcor.training import Mixing


def pictures(n: int = 8, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one value each, so that a mixed pixel tells which images are in it."""
    labels = torch.arange(n) % classes
    return (torch.arange(n).float() + 1).view(n, 1, 1, 1).expand(n, 3, 8, 8).clone(), labels


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_pixels_and_labels_have_the_same_shares(kind: str, mode: str) -> None:
    images, labels = pictures()
    np.random.seed(0)
    mixed, targets = Mixing(**{kind: 1.0}, mode=mode)(images, labels, 5)
    assert targets.shape == (8, 5)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert ((targets > 0).sum(1) == 2).any(), "something was mixed"
    for place, partner in enumerate(range(7, -1, -1)):
        # The mean pixel is share * own + (1 - share) * partner's value, whether mixed by adding or by a piece.
        own, other = float(place + 1), float(partner + 1)
        share = float((mixed[place].mean() - other) / (own - other))
        expected = torch.zeros(5)
        expected[labels[place]] += share
        expected[labels[partner]] += 1 - share
        torch.testing.assert_close(targets[place], expected, atol=1e-5, rtol=0)


def test_images_are_left_as_they_are_and_the_last_of_an_odd_batch_is_left_out() -> None:
    images, labels = pictures(7)
    before = images.clone()
    np.random.seed(0)
    mixed, targets = Mixing(mixup=0.4)(images, labels, 5)
    assert torch.equal(images, before)
    assert len(mixed) == len(targets) == 6


def test_the_same_random_numbers_give_the_same_mixture_and_none_at_probability_zero() -> None:
    images, labels = pictures()
    results = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        results.append(Mixing(mixup=0.4, cutmix=1.0)(images, labels, 5)[1])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    same, targets = Mixing(mixup=0.4, prob=0.0)(images, labels, 5)
    assert torch.equal(same, images)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, 5).float())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "mixup=0.0 and cutmix=0.0. Without mixing, give None"),
        ({"mixup": -1, "cutmix": 1}, ValueError, "got mixup=-1"),
        ({"mixup": 1, "prob": 2}, ValueError, "prob of mixing is a share, 0 to 1; got 2"),
        ({"mixup": 1, "mode": "all"}, ValueError, "one of batch, pair, elem; got 'all'"),
        ({"mixup": 1, "off_epochs": -1}, ValueError, "off_epochs of mixing"),
        ({"mixupp": 1}, ValueError, r"no setting named 'mixupp' of mixing\. Did you mean mixup\? Settings: mixup"),
        (0.4, TypeError, "Mixing is given as Mixing"),
    ],
)
def test_mistakes(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Mixing.read(given)  # type: ignore[arg-type]


def test_what_cannot_be_mixed_is_refused() -> None:
    images, labels = pictures()
    with pytest.raises(ValueError, match=r"one class an image; got labels of shape \(8, 5\)"):
        Mixing(mixup=1)(images, torch.zeros(8, 5), 5)
    with pytest.raises(ValueError, match="at least two images"):
        Mixing(mixup=1)(images[:1], labels[:1], 5)


def test_plain_values_and_back() -> None:
    mixing = Mixing(mixup=0.2, mode="pair", off_epochs=3)
    assert Mixing.read(mixing.to_dict()) == mixing
    assert Mixing.read(None) is None
