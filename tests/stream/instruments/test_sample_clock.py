import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.instruments.sample_clock import SampleClock

START_NS = 5_000_000_000_000


def _play(clock: SampleClock, ppm: float, seconds: float, seed: int = 0) -> list[float]:
    """Let blocks of 10 ms arrive with jitter; return how wrong the clock was at each, in us."""
    rng = np.random.default_rng(seed)
    wrong_us = []
    for block in range(round(seconds * 100)):
        sample = (block + 1) * 300
        taken_ns = START_NS + sample * (1e9 / 30_000) * (1 + ppm * 1e-6)
        clock.observe(sample, round(taken_ns + rng.exponential(2e6)))
        wrong_us.append((clock.host_ns(sample) - taken_ns) / 1e3)
    return wrong_us


@pytest.mark.parametrize("ppm", [0.0, 80.0, -300.0])
def test_a_drift_between_the_clocks_is_found_through_jitter(ppm: float) -> None:
    clock = SampleClock(30_000)
    wrong_us = _play(clock, ppm, 60)
    assert clock.drift_ppm == pytest.approx(ppm, abs=4)
    assert np.abs(wrong_us[2000:]).max() < 250


def test_a_stated_rate_that_is_far_from_the_real_one_shows_as_drift() -> None:
    clock = SampleClock(30_000)
    _play(clock, 200_000.0, 30)
    assert clock.drift_ppm == pytest.approx(200_000, rel=0.01)


def test_before_there_is_enough_to_tell_the_stated_rate_is_believed() -> None:
    clock = SampleClock(30_000)
    _play(clock, 50, 3)
    assert clock.drift_ppm is None


@given(st.lists(st.integers(0, 50_000_000), min_size=1, max_size=60))
def test_nothing_that_has_arrived_was_taken_later_than_that(delays_ns: list[int]) -> None:
    clock = SampleClock(1000)
    for block, delay_ns in enumerate(delays_ns):
        sample = 10 * (block + 1)
        arrived_ns = START_NS + clock.source_ns(sample) + delay_ns
        clock.observe(sample, arrived_ns)
        assert clock.host_ns(sample) <= arrived_ns + 1


@given(st.integers(-(2**52), 2**52), st.sampled_from([1000.0, 30_000.0, 44_100.0]))
def test_sample_numbers_of_years_keep_their_nanoseconds(sample: int, rate_hz: float) -> None:
    exact_ns = sample * 10**9 / int(rate_hz)
    found_ns = SampleClock(rate_hz).source_ns(sample)
    assert abs(found_ns * int(rate_hz) - sample * 10**9) <= int(rate_hz) / 2 + 1, exact_ns


def test_after_a_restart_nothing_is_left_of_what_was() -> None:
    clock = SampleClock(1000)
    clock.observe(10_000_000, START_NS)
    clock.restart()
    clock.observe(10, START_NS + 7_000_000)
    assert clock.host_ns(10) == START_NS + 7_000_000
    assert clock.away_ns(10, START_NS + 9_000_000) == 2_000_000


@pytest.mark.parametrize("ppm", [0.0, 80.0])
@pytest.mark.parametrize("rate_hz", [30_000.0, 44_100.5])
def test_the_sample_of_a_moment_is_the_last_that_was_taken_before_it(
    ppm: float, rate_hz: float
) -> None:
    clock = SampleClock(rate_hz)
    _play(clock, ppm, 30)
    for sample in (0, 299, 900_000, 12_345_678):
        assert clock.sample_at(clock.host_ns(sample) + 2000) == sample
        assert clock.sample_at(clock.host_ns(sample) - 2000) == sample - 1
