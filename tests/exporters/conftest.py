"""What tests of exports share."""

from __future__ import annotations

import pytest

from exporters import stability
from stream.stability.measuring import Effort


@pytest.fixture(autouse=True)
def _measured_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports measure stability briefly: that it is measured well is tested elsewhere."""
    monkeypatch.setattr(stability, "EFFORT", Effort(sequences=2, steps=10, warm_up=6))
