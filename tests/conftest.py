"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real recordings beside the checkout; without it skip, in CI fail."""
    if not _REAL.is_dir():
        reason = f"needs the real recordings, which are not in {_REAL}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return _REAL
