"""Order and augmentation of training images: functions of the seed, the epoch and the image."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_toys import Classifier, folder_data, trainer, write_splits
from torch.utils.data import DataLoader

from lightning_wrcor.data import DigitsData
from lightning_wrcor.data._seeded import Draw, EpochSampler, SeededDataset, mix

NOISY = {"auto_augment": "rand-m9-mstd0.5", "re_prob": 1.0, "re_mode": "pixel", "batch_size": 5}


class Noise(SeededDataset[tuple[int, float, float, float]]):
    """What each of the three kinds of random numbers gives for an image."""

    def __len__(self) -> int:
        return 20

    def make(self, place: int) -> tuple[int, float, float, float]:
        return place, random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture
def folders(tmp_path):
    return write_splits(tmp_path)


def places(sampler: EpochSampler) -> list[int]:
    return [draw.place for draw in sampler]


def pixels(loader: DataLoader, epochs: int = 2) -> torch.Tensor:
    """The images of the first epochs in their order."""
    seen = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        seen += [images for images, _ in loader]
    return torch.cat(seen)


def split_mix(state: int) -> int:
    """One number of SplitMix64, as published, in Python's own integers."""
    wrap = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & wrap
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & wrap
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & wrap
    return z ^ (z >> 31)


def test_split_mix_is_the_published_one() -> None:
    """The first numbers from seed 1234567, as in the reference implementation's tests."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = mix(1234567, np.arange(3))
    assert [int(number) for number in found] == [number >> 1 for number in published]
    assert split_mix(1234567) == published[0]
    step = 0x9E3779B97F4A7C15
    (copied,) = mix(99, np.array([5]), np.array([2]))
    assert int(copied) == split_mix((99 + (5 + (2 << 40)) * step) % 2**64) >> 1


def test_every_epoch_has_every_image_once_in_another_order() -> None:
    sampler = EpochSampler(50, seed=3)
    orders = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        orders.append(tuple(places(sampler)))
        assert sorted(orders[-1]) == list(range(50))
        assert orders[-1] == tuple(places(sampler)), "the same when it is asked again"
    assert len({*orders, tuple(places(EpochSampler(50, seed=4)))}) == 5


@pytest.mark.parametrize(("images", "processes", "repeats"), [(24, 3, 1), (24, 3, 3), (25, 3, 2), (2, 5, 1), (7, 2, 4)])
def test_processes_take_turns_in_the_order_of_one(images: int, processes: int, repeats: int) -> None:
    shares = [list(EpochSampler(images, 0, rank, processes, repeats)) for rank in range(processes)]
    assert {len(share) for share in shares} == {-(-images // processes)}
    alone = list(EpochSampler(images, 0, repeats=repeats))
    together = [share[turn] for turn in range(len(shares[0])) for share in shares]
    assert together[:images] == alone
    assert len(EpochSampler(images, 0, 0, processes, repeats)) == len(shares[0])


def test_repeated_images_come_with_other_random_numbers_on_other_processes() -> None:
    shares = [list(EpochSampler(24, 0, rank, 2, repeats=2)) for rank in range(2)]
    assert [draw.place for draw in shares[0]] == [draw.place for draw in shares[1]]
    assert len({draw.place for draw in shares[0]}) == 12, "half of the images, the epoch has its length"
    assert len({draw.seed for share in shares for draw in share}) == 24
    alone = places(EpochSampler(24, 0, repeats=3))
    assert Counter(alone) == dict.fromkeys(alone, 3)
    first = next(iter(EpochSampler(24, 0)))
    assert first == shares[0][0], "the first copy is the image as it is without repeats"


def test_seeds_depend_on_epoch_and_image_and_hardly_ever_agree() -> None:
    sampler = EpochSampler(10_000, seed=0)
    first = dict(sampler)
    sampler.set_epoch(1)
    second = dict(sampler)
    assert len({*first.values(), *second.values()}) == 20_000
    assert all(0 <= seed < 2**63 for seed in first.values())


def test_long_epochs_and_later_beginnings_are_the_same_list() -> None:
    sampler = EpochSampler(20_000, seed=0)
    whole = list(sampler)
    assert len(whole) == 20_000
    sampler.first = 9_001
    assert list(sampler) == whole[9_001:]
    assert list(sampler) == whole, "only the next iteration begins later"


def test_all_random_numbers_are_the_images_own() -> None:
    """One by one, in batches, in workers: the same for one draw, and the training process's own go on untouched."""
    draws = list(EpochSampler(20, seed=0))
    noise = Noise()
    alone = [noise[draw] for draw in draws]
    assert all(len({row[kind] for row in alone}) == 20 for kind in range(4))
    for workers, size in ((0, 3), (1, 8)):
        loader = DataLoader(noise, size, sampler=draws, num_workers=workers, collate_fn=list)
        assert [row for batch in loader for row in batch] == alone

    def mine() -> tuple[float, float, float, float]:
        return random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))

    def run(use: bool) -> list[tuple[float, float, float, float]]:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        found = [mine()]
        for _ in range(2):
            if use:
                noise[draws[0]]
                list(DataLoader(noise, 4, sampler=draws, collate_fn=list, generator=torch.Generator()))
            found.append(mine())
        return found

    assert run(True) == run(False)


def test_a_plain_number_takes_the_global_random_numbers() -> None:
    noise = Noise()
    torch.manual_seed(0)
    first = noise[3]
    assert noise[3][3] != first[3]
    torch.manual_seed(0)
    assert noise[3][3] == first[3]
    assert noise[Draw(3, 7)] == noise[Draw(3, 7)]


def test_the_same_pixels_whatever_the_workers_and_the_global_random_numbers(folders) -> None:
    torch.manual_seed(1)
    alone = pixels(folder_data(folders, **NOISY).train_dataloader())
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    again = pixels(folder_data(folders, **NOISY).train_dataloader())
    workers = pixels(folder_data(folders, num_workers=2, **NOISY).train_dataloader())
    other = pixels(folder_data(folders, seed=1, **NOISY).train_dataloader())
    assert torch.equal(alone, again)
    assert torch.equal(alone, workers)
    assert not torch.equal(alone, other)
    first, second = alone.chunk(2)
    same = (first.flatten(1)[:, None] == second.flatten(1)[None]).all(-1)
    assert not same.any(), "no image comes with the same augmentation again"


def test_iterating_leaves_the_training_processs_random_numbers_alone(folders) -> None:
    for data in (folder_data(folders, **NOISY), DigitsData(image_size=8, batch_size=500)):
        torch.manual_seed(0)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        list(data.train_dataloader())
        assert torch.equal(before[0], torch.get_rng_state())
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_the_seed_of_seed_everything_changes_the_order_but_not_the_split(folders, monkeypatch) -> None:
    def first(seed: int) -> torch.Tensor:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        return next(iter(DigitsData(image_size=8).train_dataloader()))[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    val = DigitsData(image_size=8)._get("val").labels
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    assert torch.equal(val, DigitsData(image_size=8)._get("val").labels)


def test_processes_that_share_one_model_get_the_same_images() -> None:
    """Tensor parallelism: 8 processes, of which each 4 train on the same images."""
    data = DigitsData(image_size=8, batch_size=16)
    told = {"num_replicas": 2, "rank": 1}
    data.trainer = SimpleNamespace(world_size=8, global_rank=5, distributed_sampler_kwargs=told, current_epoch=0)
    sampler = data.train_dataloader().sampler
    assert (sampler.rank, sampler.num_replicas) == (1, 2)
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, distributed_sampler_kwargs=None, current_epoch=0)
    assert data.train_dataloader().sampler.num_replicas == 1


def test_a_loader_that_is_made_before_the_processes_meet_shares_the_images_too(monkeypatch) -> None:
    """As in ``fit(module, train_dataloaders=data.train_dataloader())``: Lightning leaves the sampler alone."""
    sampler = DigitsData(image_size=8, batch_size=16).train_dataloader().sampler
    alone = list(sampler)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert len(sampler) == -(-len(alone) // 3)
    assert list(sampler) == alone[1::3]
    told = EpochSampler(9, 0, rank=0, processes=1)
    assert len(told) == len(list(told)) == 9


def test_overfitting_on_a_few_batches(folders, tmp_path) -> None:
    """Lightning makes the loader again, with a sampler of its own."""
    module = Classifier(3 * 16 * 16, 3)
    trainer(tmp_path, max_epochs=2, overfit_batches=2, limit_val_batches=0).fit(module, datamodule=folder_data(folders))
    assert module.batch_sizes == [4] * 4


def test_repeats_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"repeats, .*1 or more; got 0"):
        folder_data("nowhere", repeats=0)
