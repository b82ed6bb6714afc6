from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch and NumPy are loaded, and for the processes that tests start: the tests run on all cores already, and threads
# of small networks that wait for each other take many times as long.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import torch  # noqa: E402

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, a working folder of its own, and environment variables as they were."""
    torch.set_num_threads(1)  # one that was tested may have set another number
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with warnings.catch_warnings():
        # Lightning's advice on workers, logging intervals and missing validation does not matter on toy data.
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield
    for name in set(os.environ) - set(before):  # Lightning leaves variables of its processes
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session", autouse=True)
def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@pytest.fixture
def data() -> Path:
    """The folder of real accuracies and images beside the checkout."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}")
    return DATA
