"""Run by test_processes.py: a search without a Trainer, by processes that it starts, or that are there already.

Arguments: how (``spawn``, ``there`` or ``trainer``), folder, and the number of the rank that dies, -1 for none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import process_toys
import search_toys

from lightning_wrcor import zero_shot_search
from lightning_wrcor.search import SearchError

torch.set_num_threads(1)
HOW, FOLDER, RANK = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])


def main() -> None:
    journal = str(FOLDER / "journal")
    proxy = process_toys.Mortal(journal, RANK, 9)
    if HOW == "trainer":
        from lightning_wrcor import ZeroShotSearch

        import toys  # which imports Lightning

        search = ZeroShotSearch(
            search_toys.Endless(60), proxy, process_toys.by_eight(), 40, attribute="net", batch_size=8, journal=journal
        )
        toys.trainer(strategy="ddp", devices=2, callbacks=[search], max_steps=1).fit(toys.Lit(), toys.loader(32))
        return
    # Where the processes are there already, each has its own batch; that of rank zero counts.
    batch = search_toys.batch(seed=int(os.environ.get("RANK", 0)))
    for budget in (24, 40):
        found = zero_shot_search(
            search_toys.Endless(60),
            batch,
            proxy,
            process_toys.by_eight(),
            budget,
            journal=journal,
            progress=False,
            devices=2,
            accelerator="cpu",
        )
    facts = {"history": [[row.key, row.score] for row in found.history], "resumed": found.funnel.resumed}
    (FOLDER / f"rank{os.environ.get('RANK', 0)}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    try:
        main()
    except SearchError as error:
        print(f"SearchError: {error}")
        raise SystemExit(3) from None
