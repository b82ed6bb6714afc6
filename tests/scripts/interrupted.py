"""Run by test_processes.py: two searches in processes of their own, one of which fails and one of which is interrupted."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import process_toys
import search_toys

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import SearchError

torch.set_num_threads(1)


def search(proxy: search_toys.Noise, journal: str | None) -> None:
    zero_shot_search(
        search_toys.Widths(40),
        search_toys.BATCH,
        proxy,
        budget=40,
        journal=journal,
        progress=False,
        devices=2,
        accelerator="cpu",
    )


if __name__ == "__main__":
    try:
        search(process_toys.Unlucky(None), None)
    except SearchError as error:
        print(error, flush=True)
    try:
        search(process_toys.Slow(), sys.argv[1])
    except KeyboardInterrupt:
        print(f"left: {multiprocessing.active_children()}", flush=True)
        raise SystemExit(4) from None
