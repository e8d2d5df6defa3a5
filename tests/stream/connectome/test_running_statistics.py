from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.connectome.sliding import Fading, Sliding
from stream.connectome.statistics import Statistics
from stream.errors import GraphError


def _weighted(data, run, weights, delay):
    """Means, covariances and effective rows by definition, with a weight for each bin."""
    at = np.flatnonzero(run >= delay)
    rows = np.stack([data[t - np.arange(delay + 1)].ravel() for t in at])
    w = weights[at]
    mean = w @ rows / w.sum()
    cov = (rows - mean).T @ ((rows - mean) * w[:, None]) / w.sum()
    return w.sum() ** 2 / (w**2).sum(), mean[: data.shape[1]], cov


def _push(running, data, pieces, cuts):
    """Push in pieces, and cut at some bins; return how many bins of its stretch precede each."""
    run = np.arange(len(data))
    for cut in sorted(cuts):
        run[cut:] = np.arange(len(data) - cut)
    edges = sorted({0, len(data), *cuts, *pieces})
    for begin, end in pairwise(edges):
        if begin in cuts:
            running.cut()
        running.push(data[begin:end])
    return run


places = st.lists(st.integers(1, 118), max_size=6)


@given(places, places, st.integers(0, 3), st.integers(16, 60))
@settings(max_examples=40, deadline=None)
def test_a_sliding_window_holds_what_its_last_bins_give(pieces, cuts, delay, window):
    data = np.random.default_rng(0).poisson(0.7, (119, 3)).astype(np.float32)
    running = Sliding(3, delay, window)
    run = _push(running, data, pieces, cuts)
    inside = (np.arange(119) >= 119 - window).astype(float)
    rows, mean, cov = _weighted(data.astype(float), run, inside, delay)
    found = running.statistics()
    assert found.rows == rows
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.cov, cov, atol=1e-12)
    in_window = data[(inside > 0) & (run >= delay)]
    np.testing.assert_array_equal(found.events, (in_window != 0).sum(axis=0))


@given(places, places, st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_fading_statistics_weigh_each_bin_by_its_age(pieces, cuts, delay):
    data = np.random.default_rng(0).normal(3, 1, (119, 2)).astype(np.float32)
    running = Fading(2, delay, 40)
    run = _push(running, data, pieces, cuts)
    weights = (39 / 41) ** np.arange(119)[::-1]
    rows, mean, cov = _weighted(data.astype(float), run, weights, delay)
    found = running.statistics()
    assert found.rows == pytest.approx(rows)
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.cov, cov, atol=1e-9)


def test_a_long_stream_of_fractions_leaves_no_rounding_error():
    random = np.random.default_rng(1)
    data = random.standard_normal((3000, 2)).astype(np.float32)
    data[:1500] *= 1e6
    running = Sliding(2, 1, 100)
    running.push(data)
    exact = Statistics.of(data[-101:], 1)
    np.testing.assert_allclose(running.statistics().cov, exact.cov, rtol=1e-6, atol=1e-9)


def test_the_newest_quarter_and_the_rest_make_up_the_window():
    data = np.random.default_rng(0).poisson(0.5, (400, 3)).astype(np.float32)
    running = Sliding(3, 1, 200)
    running.push(data)
    recent, before = running.recent_and_before()
    assert (recent.rows, before.rows) == (50, 150)
    whole = running.statistics()
    np.testing.assert_allclose(0.25 * recent.mean + 0.75 * before.mean, whole.mean)


def test_statistics_before_any_bin_are_refused():
    with pytest.raises(GraphError, match="no row of units has come in yet"):
        Sliding(2, 1, 20).statistics()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros(5), "expected \\(bins, units\\)"),
        (np.array([[0.0, np.nan]] * 20), "1 of 2 units hold NaN or infinity, the first is unit 1"),
        (np.zeros((4, 2)), "too few"),
    ],
)
def test_data_without_statistics_are_refused(data, says):
    with pytest.raises(GraphError, match=says):
        Statistics.of(data, 1)
