"""Run by test_processes.py: a search that kills itself after a number of candidates, as a power cut would."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning_wrcor import zero_shot_search
from lightning_wrcor.proxies import Context, Measurement, WRCor

import toys

torch.set_num_threads(1)


class Mortal(WRCor):
    count = 0

    def measure(self, context: Context) -> Measurement:
        Mortal.count += 1
        if Mortal.count > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(context)

    def config(self) -> dict[str, object]:
        return WRCor().config()  # the same search as one that nobody kills


if __name__ == "__main__":
    zero_shot_search(toys.CELLS, toys.batch(), proxy=Mortal(), budget=10, journal=sys.argv[1], progress=False)
