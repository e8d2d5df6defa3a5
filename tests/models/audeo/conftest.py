"""Notes for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.audeo.notes import Note, Notes, write_midi


@pytest.fixture
def tune() -> Notes:
    """Return seven notes, of white and black keys in several zones, two of them at once."""
    return (
        Note(60, 0.5, 0.9), Note(61, 1.0, 1.2), Note(40, 1.0, 2.0), Note(90, 1.5, 1.7),
        Note(60, 2.0, 2.4), Note(66, 2.5, 2.6), Note(72, 3.0, 3.8),
    )  # fmt: skip


@pytest.fixture
def tune_file(tune: Notes, tmp_path: Path) -> Path:
    """Return these notes as a MIDI file."""
    write_midi(tune, tmp_path / "tune.mid")
    return tmp_path / "tune.mid"
