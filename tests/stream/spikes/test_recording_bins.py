"""Bins of a recording: what training sees, and by the same rule the live path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.errors import RecordingError
from stream.spikes.recording import (
    Recording,
    Series,
    bin_edges_ns,
    bin_recording,
    mean_in_bins,
    segment_bounds_ns,
)

NS = 1_000_000_000
times_ns = st.lists(st.integers(0, 2 * NS), max_size=60).map(sorted)


def spikes(units: list[list[float]], starts=(0.0,), stop_s=2.0, stops=None) -> Recording:
    return Recording(
        name="r",
        units=tuple(f"u{i}" for i in range(len(units))),
        start_s=starts[0],
        stop_s=stop_s,
        segment_starts_s=np.array(starts),
        segment_stops_s=None if stops is None else np.array(stops),
        spike_times_s=tuple(np.array(u, dtype=np.float64) for u in units),
    )


def counted(counts, width_s=0.05, starts=(0.0,), stops=None) -> Recording:
    counts = np.asarray(counts)
    return Recording(
        name="r",
        units=tuple(f"u{i}" for i in range(counts.shape[1])),
        start_s=starts[0],
        stop_s=starts[0] + len(counts) * width_s,
        segment_starts_s=np.array(starts),
        segment_stops_s=None if stops is None else np.array(stops),
        counts=counts,
        width_s=width_s,
    )


@given(st.lists(times_ns, min_size=1, max_size=3), st.integers(1, NS))
def test_every_spike_in_a_whole_bin_is_counted_once_in_that_bin(units, width_ns):
    width_ns = max(width_ns, 1_000_000)
    binned = bin_recording(spikes([[t / NS for t in unit] for unit in units]), width_ns / NS)
    expected = np.zeros_like(binned.counts)
    for unit, times in enumerate(units):
        for t in times:
            if t // width_ns < len(expected):
                expected[t // width_ns, unit] += 1
    assert np.array_equal(binned.counts, expected)
    assert len(expected) == 2 * NS // width_ns


def test_bins_are_half_open():
    binned = bin_recording(spikes([[0.0, 0.05, 0.1 - 1e-9, 0.1]], stop_s=0.15), 0.05)
    assert binned.counts[:, 0].tolist() == [1, 2, 1]


@given(
    st.lists(st.integers(1, NS), min_size=1, max_size=6),
    st.integers(10_000_000, 300_000_000),
)
def test_no_bin_reaches_over_the_end_of_its_segment(lengths_ns, width_ns):
    starts = np.concatenate([[0], np.cumsum(lengths_ns)])
    recording = spikes([[0.0]], starts=[s / NS for s in starts[:-1]], stop_s=starts[-1] / NS)
    whole = [length // width_ns for length in lengths_ns]
    if not sum(whole):
        with pytest.raises(RecordingError, match="choose a smaller width"):
            bin_recording(recording, width_ns / NS)
        return
    binned = bin_recording(recording, width_ns / NS)
    assert np.bincount(binned.segment, minlength=len(whole)).tolist() == whole
    first_of = starts[:-1][binned.segment]
    assert ((binned.starts_ns - first_of) % width_ns == 0).all()
    assert (binned.starts_ns + width_ns <= starts[1:][binned.segment]).all()


@given(st.integers(1, 7), st.integers(1, 40), st.integers(1, 5))
def test_counts_are_summed_into_wider_bins(factor, n_bins, n_units):
    counts = np.random.default_rng(0).poisson(1.0, (n_bins * factor, n_units))
    binned = bin_recording(counted(counts), 0.05 * factor)
    assert np.array_equal(binned.counts, counts.reshape(n_bins, factor, n_units).sum(axis=1))


@settings(max_examples=20)
@given(st.floats(0, 1e5), st.sampled_from([0.001, 0.005, 0.02, 0.05, 1 / 60]))
def test_no_bin_of_a_long_recording_is_lost_to_rounding(start_s, width_s):
    counts = np.ones((50_000, 1), np.uint8)
    recording = counted(counts, width_s=width_s, starts=(start_s,))
    binned = bin_recording(recording, width_s)
    assert len(binned.counts) == len(counts)
    starts = start_s + width_s * np.array([0, 11, 12_345, 49_999])
    pieces = bin_recording(counted(counts, width_s=width_s, starts=starts), width_s)
    assert np.bincount(pieces.segment).tolist() == [11, 12_334, 37_654, 1]


def test_time_that_was_not_observed_has_no_bins():
    recording = spikes([[0.01, 0.95, 1.01]], starts=(0.0, 1.0), stops=(0.5, 1.5), stop_s=1.5)
    binned = bin_recording(recording, 0.1)
    assert binned.segment.tolist() == [0] * 5 + [1] * 5
    assert binned.counts.sum() == 2


def test_segments_of_counts_lie_on_the_grid_of_the_bins():
    with pytest.raises(RecordingError, match=r"inside a bin of 50 ms"):
        segment_bounds_ns(counted(np.ones((10, 1), int), starts=(0.0, 0.12)))


def test_counts_cannot_be_cut_into_other_bins():
    with pytest.raises(RecordingError, match=r"ask for a multiple of 50 ms"):
        bin_recording(counted(np.ones((10, 1), int)), 0.02)


def test_a_bin_of_no_width_is_refused():
    with pytest.raises(RecordingError, match="longer than 0 s"):
        bin_recording(spikes([[0.1]]), 0.0)


def test_edges_leave_out_the_remainder():
    assert bin_edges_ns(5, 29, 10).tolist() == [5, 15, 25]
    assert bin_edges_ns(5, 5, 10).tolist() == [5]
    assert bin_edges_ns(5, 4, 10).tolist() == [5]


values = st.one_of(st.floats(-100, 100), st.just(float("nan")))


@given(
    st.dictionaries(st.integers(0, 2 * NS), values, max_size=60),
    st.integers(20_000_000, 500_000_000),
)
def test_a_signal_is_the_mean_in_its_bin_or_the_newest_value_before(samples, width_ns):
    t = sorted(samples)
    series = Series(
        times_s=np.array(t, dtype=np.float64) / NS,
        values=np.array([[samples[k], -samples[k]] for k in t]).reshape(-1, 2),
        columns=("a", "b"),
    )
    starts = bin_edges_ns(0, 2 * NS, width_ns)[:-1]
    found = mean_in_bins(series, starts, width_ns)
    for row, start in zip(found, starts, strict=True):
        inside = [samples[k] for k in t if start <= k < start + width_ns]
        before = [samples[k] for k in t if k < start]
        expected = np.mean(inside) if inside else (before[-1] if before else np.nan)
        assert np.allclose(row, [expected, -expected], equal_nan=True, rtol=1e-9, atol=1e-9)


def test_a_missing_sample_spoils_its_own_bin_only():
    series = Series(
        np.arange(8) * 0.1, np.array([[1], [2], [np.nan], [3], [4], [5], [6], [7.0]]), ("x",)
    )
    found = mean_in_bins(series, np.arange(4) * 200_000_000, 200_000_000)
    assert np.allclose(found[:, 0], [1.5, np.nan, 4.5, 6.5], equal_nan=True)


def test_a_signal_is_not_held_over_from_the_segment_before():
    recording = spikes([[0.1]], starts=(0.0, 1.0))
    series = Series(np.array([0.5, 1.3]), np.array([[5.0], [7.0]]), ("x",))
    recording = Recording(**(recording.__dict__ | {"behaviour": {"pos": series}}))
    found = bin_recording(recording, 0.25).behaviour["pos"][:, 0]
    nan = np.nan
    assert np.array_equal(found, [nan, nan, 5, 5, nan, 7, 7, 7], equal_nan=True)


def test_a_signal_without_samples_is_missing_everywhere():
    series = Series(np.empty(0), np.empty((0, 2)), ("x", "y"))
    assert np.isnan(mean_in_bins(series, np.arange(3) * NS, NS)).all()
