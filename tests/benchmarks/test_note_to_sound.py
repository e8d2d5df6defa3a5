"""What `innervate bench note-to-sound` makes of what it recorded."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.note_to_sound import AUDIBLE, onsets

MS = 1_000_000
RATE_HZ = 48_000


def recorded(*sounds_ms: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return two seconds of silence, loud from and to these times, read in pieces of 1 ms."""
    samples = np.zeros(2 * RATE_HZ, np.int16)
    for start_ms, end_ms in sounds_ms:
        samples[start_ms * RATE_HZ // 1000 : end_ms * RATE_HZ // 1000] = -AUDIBLE
    pieces = np.arange(2 * RATE_HZ) * 1000 // RATE_HZ
    return samples, (pieces + 1) * MS


def test_a_delay_ends_when_the_first_audible_sample_was_read() -> None:
    played = np.array([100 * MS, 600 * MS])
    delays, unsilenced = onsets(played, *recorded((109, 300), (615, 700)))
    assert delays == pytest.approx([10, 16])
    assert unsilenced == 0


def test_notes_that_are_not_heard_or_begin_in_sound_are_not_measured() -> None:
    played = np.array([100 * MS, 600 * MS, 1100 * MS])
    delays, unsilenced = onsets(played, *recorded((500, 800), (1110, 1200)))
    assert delays == pytest.approx([11])
    assert unsilenced == 1
