"""What tests of figures and cards share."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def forgotten_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the report are imported anew in this test, and are the old ones again after it.

    The package's attributes too: an import sets them, and who patches a module by its path would find the new one.
    """
    for name, module in list(sys.modules.items()):
        parent, _, child = name.rpartition(".")
        if parent == "lightning_wrcor.report":
            monkeypatch.setattr(sys.modules[parent], child, module)
            monkeypatch.delitem(sys.modules, name)
