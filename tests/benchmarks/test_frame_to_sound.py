"""What `innervate bench frame-to-sound` makes of what it recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.frame_to_sound import pipeline, row_of
from benchmarks.note_to_sound import AUDIBLE
from stream.runtime.report import Report

MS = 1_000_000
RATE_HZ = 48_000


def report(**sound: int) -> Report:
    return Report(
        pipeline="frame-to-sound", exit=0, message="", duration_s=2.0, models={}, processes={},
        versions={}, machine={}, run_dir="", refused=0,
        nodes={"sound": {"notes": {"underruns": 0, "sound_card_latency_ms": 8.0, **sound}}},
        links={"camera->keys": {"dropped": 0}},
        end_to_end={"camera->notes": {"p50_us": 3000.0, "p99_us": 8000.0}},
    )  # fmt: skip


def recorded(*sounds_ms: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return two seconds of silence, loud from and to these times, read in pieces of 1 ms."""
    samples = np.zeros(2 * RATE_HZ, np.int16)
    for start_ms, end_ms in sounds_ms:
        samples[start_ms * RATE_HZ // 1000 : end_ms * RATE_HZ // 1000] = AUDIBLE
    return samples, (np.arange(2 * RATE_HZ) * 1000 // RATE_HZ + 1) * MS


def test_only_notes_that_begin_in_silence_well_after_others_are_timed():
    # A chord, a note right after it, one while that sounds still, one alone, one never heard.
    noted_ns = np.array([100, 100, 133, 400, 800, 1400]) * MS
    row = row_of(report(), noted_ns, *recorded((114, 410), (815, 900)))
    assert (row["notes"], row["frames_with_notes"]) == (6, 5)
    assert (row["used"], row["heard"]) == (3, 2)
    assert row["p50_ms"] == pytest.approx(15.5)
    assert row["max_ms"] == pytest.approx(16)
    assert (row["to_note_p50_ms"], row["to_note_p99_ms"]) == (3, 8)
    assert row["silent_at_end"]


def test_what_sounds_at_the_end_is_told():
    noted_ns = np.array([100]) * MS
    row = row_of(report(released_at_end=1), noted_ns, *recorded((110, 2000)))
    assert not row["silent_at_end"]
    assert row["stuck"] == 1


def test_the_pipeline_is_that_of_the_configuration_but_for_its_files(tmp_path):
    made = pipeline(Path("/clips/a.mp4"), tmp_path / "times.npy", True, 10.0)
    nodes = made["nodes"]
    assert list(nodes) == ["camera", "grid", "keys", "press", "notes", "sound", "kept"]
    assert nodes["camera"] == {"use": "video", "file": "/clips/a.mp4", "loop": True}
    assert Path(nodes["press"]["file"]).exists()
    assert nodes["sound"]["latency"] == "10 ms"
    assert made["realtime"] == ["camera", "play", "sound"]
    assert "realtime" not in pipeline(Path("a.mp4"), tmp_path / "times.npy", False, None)
