"""Reading all images of a source once, to find those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset

from lightning_wrcor.data._source import Source


class _Problems(Dataset[tuple[int, str | None]]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> tuple[int, str | None]:
        return row, self.source.problem(row)


def find_problems(source: Source, num_workers: int, title: str | None = None) -> Iterator[tuple[int, str]]:
    """Places of the images that cannot be read, and why; with a title there is a progress bar."""
    from tqdm.auto import tqdm

    loader = DataLoader(_Problems(source), batch_size=64, num_workers=num_workers, collate_fn=list)
    with tqdm(total=len(source), desc=title, unit="image", disable=title is None) as bar:
        for batch in loader:
            bar.update(len(batch))
            for row, problem in batch:
                if problem is not None:
                    yield row, problem
