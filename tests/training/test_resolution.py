from __future__ import annotations

import pytest
import torch

from lightning_wrcor.training import ProgressiveResolution, resize


def test_sizes_grow_linearly_in_steps_of_the_multiple():
    progressive = ProgressiveResolution(start=128, until=1.0, multiple=32)
    # 128 + 96 e / 9: 128, 138.7, 149.3, 160, 170.7, 181.3, 192, 202.7, 213.3, 224; the nearest multiples of 32 by hand.
    assert [progressive.size(epoch, 10, 224) for epoch in range(10)] == [
        128,
        128,
        160,
        160,
        160,
        192,
        192,
        192,
        224,
        224,
    ]
    fine = ProgressiveResolution(start=128, multiple=1)
    assert [fine.size(epoch, 10, 224) for epoch in (0, 3, 6, 9)] == [128, 160, 192, 224]


def test_the_full_size_begins_at_its_share_of_the_epochs_and_is_never_rounded():
    progressive = ProgressiveResolution(start=64, until=0.5, multiple=32)
    sizes = [progressive.size(epoch, 8, 100) for epoch in range(8)]
    assert sizes == [64, 64, 96, 96, 100, 100, 100, 100]
    assert ProgressiveResolution(start=8, multiple=32).size(0, 9, 100) == 32
    assert ProgressiveResolution(start=100).size(0, 3, 100) == 96
    assert ProgressiveResolution(start=64).size(0, 1, 224) == 224  # the only epoch is the last
    assert ProgressiveResolution(start=64).size(7, float("inf"), 224) == 64
    assert (
        ProgressiveResolution(start=128, multiple=1).size(1, 3.5, 228) == 168
    )  # 40 a step of the 2.5 to the last epoch


def test_a_start_above_the_full_size_is_refused():
    with pytest.raises(ValueError, match="images of 256 pixels, but those of the data have only 224"):
        ProgressiveResolution(start=256).size(0, 10, 224)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 0}, "start of progressive"),
        ({"start": 64, "multiple": 0}, "multiple of progressive"),
        ({"start": 64, "until": 0}, "until of progressive"),
        ({"start": 64, "until": 1.5}, "until of progressive"),
        ({"start": 64, "untill": 0.5}, "until"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveResolution.read(settings)


def test_settings_are_read():
    assert ProgressiveResolution.read(None) is None
    read = ProgressiveResolution.read({"start": 96, "until": 0.8})
    assert read == ProgressiveResolution(96, 0.8)
    assert ProgressiveResolution.read(read) is read
    assert ProgressiveResolution.read(read.to_dict()) == read


def by_triangles(line, size):
    """Anti-aliased bilinear interpolation of one line, written out: each output is a mean weighted by a triangle."""
    scale = len(line) / size
    out = []
    for place in range(size):
        centre = (place + 0.5) * scale
        weights = [max(0.0, 1 - abs(pixel + 0.5 - centre) / max(scale, 1.0)) for pixel in range(len(line))]
        out.append(sum(w * float(x) for w, x in zip(weights, line, strict=True)) / sum(weights))
    return torch.tensor(out)


@pytest.mark.parametrize("size", [5, 12, 20])
def test_resizing_is_antialiased_and_bilinear(size):
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    rows = torch.stack([by_triangles(line, size) for line in images.reshape(-1, 12)]).reshape(2, 3, 12, size)
    whole = torch.stack([by_triangles(line, size) for line in rows.transpose(2, 3).reshape(-1, 12)])
    expected = whole.reshape(2, 3, size, size).transpose(2, 3)
    torch.testing.assert_close(resize(images, size), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ProgressiveResolution(4).resize(images, size), expected, atol=1e-5, rtol=0)


def test_resizing_keeps_type_and_what_has_the_size():
    images = torch.randn(2, 3, 12, 12)
    assert resize(images, 12) is images
    assert resize(images.half(), 6).dtype == torch.float16
    assert resize(images, (6, 8)).shape == (2, 3, 6, 8)
