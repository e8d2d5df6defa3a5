import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream.vision.smoothing import OneEuro

MS = 1_000_000


def run(values, rate_hz=30, cutoff_hz=1.0, beta=6.0, scale=1.0):
    smoother = OneEuro(cutoff_hz, beta)
    step_ns = round(1e9 / rate_hz)
    return np.array(
        [
            smoother.filter(np.asarray(value, np.float32), i * step_ns, scale)
            for i, value in enumerate(values)
        ]
    )


def test_what_stands_still_becomes_calmer():
    noise = 1 + 0.002 * np.random.default_rng(0).normal(size=(300, 5))
    assert run(noise)[30:].std() < 0.4 * noise[30:].std()


def test_what_moves_fast_is_followed():
    ramp = np.arange(60)[:, None] / 30 * 2.0  # two body sizes a second
    assert abs(run(ramp)[-1] - ramp[-1]) < 0.04


def test_the_same_movement_is_filtered_alike_at_any_frame_rate():
    def at_half_a_second(rate_hz):
        times_s = np.arange(int(rate_hz)) / rate_hz
        return run(np.sin(2 * times_s)[:, None], rate_hz)[int(rate_hz / 2), 0]

    assert at_half_a_second(60) == pytest.approx(at_half_a_second(30), abs=0.02)
    assert at_half_a_second(120) == pytest.approx(at_half_a_second(30), abs=0.02)


def test_whoever_comes_back_begins_afresh():
    smoothed = run([[0.0], [np.nan], [5.0], [5.0]])
    assert smoothed[0] == 0
    assert np.isnan(smoothed[1])
    assert smoothed[2] == 5
    assert smoothed[3] == 5


def test_after_a_reset_or_a_clock_that_went_back_a_sample_passes_as_it_is():
    smoother = OneEuro(1.0, 0.0)
    one, two = np.float32([1.0]), np.float32([2.0])
    smoother.filter(one, 0, 1.0)
    assert 1 < smoother.filter(two, 10 * MS, 1.0)[0] < 2
    assert smoother.filter(two, 5 * MS, 1.0)[0] == 2
    smoother.reset()
    assert smoother.filter(one, 6 * MS, 1.0)[0] == 1


@given(arrays(np.float32, (12, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_a_filtered_value_never_leaves_the_range_of_its_past(values):
    smoothed = run(values)
    slack = 1e-3 * (1 + np.abs(values).max())
    for i in range(len(values)):
        assert (smoothed[i] <= values[: i + 1].max(0) + slack).all()
        assert (smoothed[i] >= values[: i + 1].min(0) - slack).all()
