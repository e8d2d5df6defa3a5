"""Numbers of samples from time stamps, whatever those look like."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.instruments.lsl.irregular import Spikes
from stream.instruments.lsl.sampled import Samples

MS = 1_000_000
S = 1_000 * MS
START_NS = 5 * S


def feed(samples, stamps_ns, chunk=1, delay_ns=MS, connection=0):
    """Hand stamps over as they would come, and return the stretches."""
    stretches = []
    for k in range(0, len(stamps_ns), chunk):
        part = np.asarray(stamps_ns[k : k + chunk], np.int64)
        arrived_ns = int(part.max()) + delay_ns
        followed = samples.follow(int(part[0]), arrived_ns, connection) if len(part) == 1 else None
        stretches += [followed] if followed else samples.take(part, arrived_ns, connection)
    return stretches


def calm(rate_hz, jitter_ns=0, seconds=1.2, seed=0):
    """Samples that have been watched for long enough to know how much their stamps jitter."""
    samples = Samples(rate_hz)
    k = np.arange(int(seconds * rate_hz))
    random = np.random.default_rng(seed)
    stamps_ns = START_NS + np.round(k * 1e9 / rate_hz + random.uniform(0, 1, len(k)) * jitter_ns)
    feed(samples, stamps_ns.astype(np.int64), chunk=20)
    return samples, len(k)


@settings(max_examples=40, deadline=None)
@given(
    rate_hz=st.sampled_from([50.0, 512.0, 1000.0, 30_000.0, 24_414.0625]),
    holes=st.lists(st.integers(1, 20_000), max_size=5),
    chunk=st.integers(1, 70),
)
def test_every_hole_is_counted_to_the_sample(rate_hz, holes, chunk):
    samples, number = calm(rate_hz)
    numbers, expected = [], []
    for hole in [0, *holes]:
        numbers += range(number + hole, number + hole + 50)
        number += hole + 50
        expected += [hole] if hole else []
    stamps_ns = [START_NS + round(k * 1e9 / rate_hz) for k in numbers]
    stretches = feed(samples, stamps_ns, chunk)
    assert [s.missing for s in stretches if s.missing] == expected
    assert {s.segment for s in stretches} == {0}
    assert samples.missing == sum(expected)
    first = 0
    for stretch in stretches:
        assert abs(stretch.source_ns - stamps_ns[first]) <= 1
        first += stretch.stop - stretch.first
    assert first == len(numbers)


def test_stamps_that_jitter_are_no_holes_and_the_clock_of_the_source_does_not_jitter():
    samples, number = calm(1000.0, jitter_ns=3 * MS)
    random = np.random.default_rng(1)
    stamps_ns = START_NS + (number + np.arange(2000)) * MS + random.integers(0, 3 * MS, 2000)
    stretches = feed(samples, stamps_ns)
    assert samples.missing == 0
    assert np.all(np.diff([s.source_ns for s in stretches]) == MS)
    assert all(s.t_ns == stamp_ns for s, stamp_ns in zip(stretches, stamps_ns, strict=True))


def test_a_rate_that_is_not_as_stated_makes_no_holes():
    samples = Samples(1000.0)
    stretches = feed(samples, START_NS + np.arange(3000) * 2 * MS)
    assert samples.missing == 0
    assert stretches[-1].segment == 0


def test_a_clock_that_jumps_begins_a_segment_at_its_new_time():
    samples, number = calm(1000.0)
    hours_ns = 3600 * S
    for segment, shift_ns in ((1, 7 * hours_ns), (2, -2 * hours_ns), (3, -2 * S)):
        stamps_ns = START_NS + shift_ns + (number + np.arange(100)) * MS
        stretches = []
        for k, stamp_ns in enumerate(stamps_ns.tolist()):
            arrived_ns = START_NS + (number + k) * MS + MS
            stretches += samples.take(np.array([stamp_ns]), arrived_ns)
        assert {s.segment for s in stretches} == {segment}
        assert stretches[0].source_ns == stamps_ns[0]
        assert stretches[0].missing == 0
        number += 100
    assert samples.jumps == 3


def test_stamps_of_another_clock_are_not_taken_for_times_of_this_host():
    samples = Samples(100.0)
    unix_ns = 1_790_000_000 * S
    (stretch,) = samples.take(unix_ns + np.arange(3) * 10 * MS, START_NS)
    assert samples.foreign
    assert stretch.t_ns == START_NS
    assert stretch.source_ns == unix_ns


def test_stamps_that_lie_ahead_do_not_make_data_younger_than_their_arrival():
    samples = Samples(100.0)
    (stretch,) = samples.take(START_NS + np.arange(3) * 10 * MS, START_NS)
    assert stretch.t_ns == START_NS


@settings(deadline=None)
@given(
    times=st.lists(st.integers(0, 300), min_size=1, max_size=60),
    chunk=st.integers(1, 9),
    hold=st.integers(1, 50),
)
def test_spikes_in_order_all_come_once_sorted_and_within_their_span(times, chunk, hold):
    times_ns = np.sort(np.array(times, np.int64)) * MS
    spikes = Spikes(hold * MS)
    spikes.begin(0)
    spans = []
    for k in range(0, len(times_ns), chunk):
        part = times_ns[k : k + chunk]
        now_ns = int(part[-1])
        spikes.take(part, np.zeros(len(part), np.int64), now_ns)
        spans += spikes.release(now_ns)
    spans += spikes.release(int(times_ns[-1]) + hold * MS + 1)
    assert np.concatenate([s.times_ns for s in spans]).tolist() == times_ns.tolist()
    assert spikes.late == 0
    for before, after in pairwise(spans):
        assert before.end_ns == after.start_ns
    for span in spans:
        assert np.all((span.times_ns >= span.start_ns) & (span.times_ns < span.end_ns))
        assert span.gap == 0


def test_spikes_stamped_hours_away_set_the_clock_anew_and_lose_nothing_that_was_held():
    spikes = Spikes(10 * MS)
    spikes.begin(0)
    spikes.take(np.array([5 * MS]), np.array([1]), 5 * MS)
    spikes.take(np.array([7200 * S + 6 * MS]), np.array([2]), 6 * MS)
    spans = spikes.release(40 * MS)
    found = [(s.segment, u) for s in spans for u in s.units.tolist()]
    assert found == [(0, 1), (1, 2)]
    assert next(s.gap for s in spans if s.segment == 1) == 1
    assert spikes.jumps == 1
