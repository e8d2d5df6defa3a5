"""Clips of three kinds of movement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.labelling.clips import Clips, load_session_clips


@pytest.fixture(scope="session")
def folder(
    tmp_path_factory: pytest.TempPathFactory, write_clips: Callable[[Path, int], Path]
) -> Path:
    """Return a folder of 24 clips."""
    return write_clips(tmp_path_factory.mktemp("clips"), 8)


@pytest.fixture(scope="session")
def clips(folder: Path) -> Clips:
    """Return those clips."""
    return load_session_clips([folder], None)
