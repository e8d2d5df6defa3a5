import numpy as np

from benchmarks._extracellular import Raw
from benchmarks.detect import Scored, match


def test_a_spike_and_an_event_are_paired_once_and_only_when_near():
    spikes, events = np.array([100, 200, 210, 400]), np.array([95, 205, 413, 900])
    assert match(spikes, events) == [-5, 5]
    assert match(spikes, np.array([205, 206])) == [5, -4]
    assert match(spikes, np.empty(0, np.int64)) == []


def test_events_are_explained_by_what_can_be_seen_on_their_channel():
    n = 200_000
    first, second = np.arange(80_000, 180_000, 1000), np.arange(80_500, 180_500, 1000)
    raw = Raw(
        np.zeros((n, 2), np.float32), [first, second], np.array([0, 1]),
        np.array([[50.0, 10.0], [2.0, 40.0]]), np.array([120_020]),
    )  # fmt: skip
    strange = np.array([90_100, 120_100])
    found = [np.sort(np.concatenate([first[::2], strange])), np.concatenate([second, first])]
    scored = Scored(raw, [np.sort(f) for f in found], np.array([5.0, 5.0]))
    assert scored.units == [(10.0, 100, 50), (8.0, 100, 100)]
    assert scored.events == 252
    assert scored.explained == 250
    assert scored.struck == 1
