"""Spikes found in arrays of samples, against simulated channels whose spikes are known."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from benchmarks._extracellular import RATE_HZ, Raw, Rig, simulate, waveform
from stream.spikes.bandpass import BandPass, undelay
from stream.spikes.detector import Detection, Detector


def found(detector: Detector, samples, step: int = 300):
    """(sample, channel) of every event, fed in pieces of `step` samples."""
    events = [detector.feed(samples[a : a + step]) for a in range(0, len(samples), step)]
    return [(int(s), int(c)) for e in events for s, c in zip(e.samples, e.channels, strict=True)]


def spikes(at, length: int, *, channel: int = 0, channels: int = 2, depth: float = 100.0):
    """White noise of 5 uV, and troughs at these samples of a channel."""
    samples = np.random.default_rng(0).standard_normal((length, channels)) * 5
    shape = depth * waveform(0.15)
    for trough in at:
        samples[trough - 20 : trough + 44, channel] += shape
    return samples.astype(np.float32)


FIXED = Detection(fixed=-50.0, reference="none")


@functools.cache
def noisy(seconds: float = 4.0, channels: int = 16) -> Raw:
    random = np.random.default_rng(5)
    times = [np.sort(random.uniform(0, seconds, round(10 * seconds))) for _ in range(channels)]
    return simulate(times, [150.0] * channels, seconds, channels, rig=Rig(artefacts=0), seed=2)


# The filter


def filtered(samples, ahead: int, rows: int = 15):
    band = BandPass(RATE_HZ, (300, 6000), (rows, samples.shape[1]), ahead)
    out = np.empty_like(samples)
    for a in range(0, len(samples), rows):
        band.block[:] = samples[a : a + rows]
        band.step(out[a : a + rows])
    return out


@pytest.mark.parametrize(("ahead", "channels"), [(0, 3), (7, 3), (15, 500), (40, 3)])
def test_the_filter_is_a_butterworth_band_pass_less_the_mean_of_what_follows(ahead, channels):
    samples = (np.random.default_rng(0).standard_normal((900, channels)) * 20).astype("f4") + 1000
    sos = np.vstack(
        [
            signal.butter(2, 300, "high", fs=RATE_HZ, output="sos"),
            signal.butter(2, 6000, "low", fs=RATE_HZ, output="sos"),
        ]
    )
    band = signal.sosfilt(sos, samples.astype(float), axis=0)
    weights = undelay(ahead, 300, RATE_HZ)
    assert weights.sum() == pytest.approx(0 if ahead else 1)
    expected = signal.lfilter(weights[::-1], 1, band, axis=0)
    np.testing.assert_allclose(filtered(samples, ahead), expected, atol=0.03)


def test_look_ahead_keeps_a_trough_nearly_as_deep_as_filtering_to_and_fro():
    spike = np.zeros((1500, 1), np.float32)
    spike[600:664, 0] = 100 * waveform(0.15)
    sos = signal.butter(2, (300, 6000), "band", fs=RATE_HZ, output="sos")
    both_ways = -signal.sosfiltfilt(sos, spike, axis=0).min()
    causal, ahead = (-filtered(spike, n).min() for n in (0, 15))
    assert causal < 0.85 * both_ways
    assert ahead > 0.9 * both_ways
    assert abs(filtered(spike, 15).argmin() - 15 - 620) <= 1


# Events


def test_a_spike_is_found_once_at_its_trough_wherever_blocks_and_packets_divide_it():
    at = list(range(600, 12_000, 97))
    samples = spikes(at, 12_300)
    for step in (1, 7, 15, 30, 690, 12_300):
        events = found(Detector(RATE_HZ, 2, FIXED), samples, step)
        assert [c for _, c in events] == [0] * len(at)
        np.testing.assert_allclose([s for s, _ in events], at, atol=2)


def assert_cutting_changes_nothing(raw, how: Detection, lengths):
    one, other = (Detector(RATE_HZ, raw.shape[1], how) for _ in range(2))
    expected = one.feed(raw)
    cuts = np.cumsum(np.resize(lengths, len(raw)))
    pieces = [other.feed(piece) for piece in np.split(raw, cuts[cuts < len(raw)])]
    assert len(expected.samples) > 20
    np.testing.assert_array_equal(np.concatenate([p.samples for p in pieces]), expected.samples)
    np.testing.assert_array_equal(np.concatenate([p.channels for p in pieces]), expected.channels)
    np.testing.assert_array_equal(one.noise.sigma, other.noise.sigma)
    assert one.searched == other.searched


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.sampled_from(["mean", "median"]))
def test_how_a_stream_is_cut_changes_nothing(lengths, kind):
    how = Detection(fixed=-40.0, reference=kind)
    assert_cutting_changes_nothing(noisy().samples[:6000], how, lengths)


def test_how_a_stream_is_cut_changes_no_level_either():
    raw = noisy().samples[:75_000]
    assert_cutting_changes_nothing(raw, Detection(), [1, 700, 16, 29, 31])


def test_nothing_before_what_is_searched_ever_follows():
    detector = Detector(RATE_HZ, 16, Detection())
    raw, searched = noisy().samples, 0
    for a in range(0, len(raw), 30):
        events = detector.feed(raw[a : a + 30])
        assert (events.samples >= searched).all()
        assert (events.samples < detector.searched).all()
        assert (np.diff(events.samples) >= 0).all()
        searched = detector.searched
    assert len(raw) - searched <= 3 * 15, "half a millisecond each: block, look-ahead, trough"


def test_known_spikes_in_realistic_noise_are_found_and_little_else():
    raw = noisy()
    detector = Detector(RATE_HZ, 16, Detection(threshold=-6.0))
    events = np.array(found(detector, raw.samples))
    hits = total = 0
    for unit, troughs in enumerate(raw.troughs):
        mine = events[events[:, 1] == raw.home[unit], 0]
        for trough in troughs[(troughs > detector.begun) & (troughs < detector.searched - 20)]:
            total += 1
            hits += bool((np.abs(mine - trough) <= 12).any())
    assert hits > 0.95 * total
    seen = np.concatenate(raw.troughs)
    false = sum(np.abs(seen - s).min() > 12 for s, _ in events)
    assert false < 0.05 * len(events)


def test_two_spikes_of_a_channel_within_the_dead_time_are_one_event():
    samples = spikes([1000, 1024, 1100], 1500)
    events = found(Detector(RATE_HZ, 2, FIXED), samples)
    assert [round(s, -1) for s, _ in events] == [1000, 1100]
    long = Detection(fixed=-50.0, reference="none", dead_s=0.01)
    assert [round(s, -1) for s, _ in found(Detector(RATE_HZ, 2, long), samples)] == [1000]


def test_an_event_is_at_the_trough_not_where_the_threshold_is_crossed():
    samples = spikes([1000], 1500, depth=1000)
    assert found(Detector(RATE_HZ, 2, FIXED), samples) == [(pytest.approx(1000, abs=1), 0)]


def test_a_trough_that_is_longer_than_the_dead_time_is_one_event():
    samples = np.zeros((3000, 1), np.float32)
    samples[900:, 0] = 900 * np.sin(np.arange(2100) * 2 * np.pi * 300 / RATE_HZ)
    how = Detection(fixed=-50.0, reference="none", dead_s=0.0005)
    events = found(Detector(RATE_HZ, 1, how), samples)
    assert len(events) > 15
    np.testing.assert_allclose(np.diff([s for s, _ in events[3:]]), 100, atol=1)


def test_a_threshold_above_0_finds_peaks():
    samples = -spikes([1000, 1200], 1500)
    up = Detection(fixed=50.0, reference="none")
    np.testing.assert_allclose(
        [s for s, _ in found(Detector(RATE_HZ, 2, up), samples)], [1000, 1200], atol=2
    )
    assert found(Detector(RATE_HZ, 2, FIXED), samples) == []


# Thresholds


def test_levels_are_those_of_the_noise_with_and_without_spikes():
    silent = spikes([], 4 * 30_000, channels=4)
    busy = spikes(range(100, 119_000, 600), 4 * 30_000, channels=4)
    for samples in (silent, busy):
        detector = Detector(RATE_HZ, 4, Detection(reference="none"))
        found(detector, samples)
        truth = np.median(np.abs(filtered(silent, 15)), axis=0) / 0.6745
        np.testing.assert_allclose(detector.noise.sigma, truth, rtol=0.1)


def test_what_many_spikes_add_to_a_level_at_first_is_lost_again():
    samples = spikes(range(100, 239_000, 300), 8 * 30_000, channels=2)
    detector = Detector(RATE_HZ, 2, Detection(reference="none"))
    found(detector, samples[:61_500])
    first = detector.noise.sigma.copy()
    found(detector, samples[61_500:])
    assert first[0] > 1.15 * first[1]
    assert detector.noise.sigma[0] < 0.96 * first[0]


def test_levels_follow_noise_that_becomes_louder_within_some_time_constants():
    samples = spikes([], 15 * 30_000, channels=1)
    samples[3 * 30_000 :] *= 1.5
    detector = Detector(RATE_HZ, 1, Detection(reference="none"))
    found(detector, samples[: 3 * 30_000])
    before = detector.noise.sigma.copy()
    found(detector, samples[3 * 30_000 : 4 * 30_000])
    assert detector.noise.sigma < 1.2 * before, "slowly"
    found(detector, samples[4 * 30_000 :])
    assert 1.25 * before < detector.noise.sigma < 1.55 * before


def test_nothing_is_found_before_levels_are_known():
    detector = Detector(RATE_HZ, 2, Detection(reference="none"))
    assert found(detector, spikes([5000], 50_000)) == []
    assert detector.begun is None
    assert len(found(detector, spikes([15_000], 20_000))) >= 1
    assert 60_000 < detector.begun < 61_000


def test_a_channel_without_noise_at_first_begins_at_the_level_of_the_others():
    samples = spikes([80_000], 90_000, channel=2, channels=5)
    samples[:70_000, 2] = 0
    detector = Detector(RATE_HZ, 5, Detection(reference="none", threshold=-8.0))
    events = found(detector, samples)
    assert [(round(s, -1), c) for s, c in events] == [(80_000, 2)]
    assert detector.flat_s[2] == pytest.approx(70_000 / 30_000 - 0.05, abs=0.01)


# What all channels share


@pytest.mark.parametrize("kind", ["mean", "median"])
def test_what_all_channels_share_is_taken_off(kind):
    random = np.random.default_rng(0)
    own = spikes([70_000], 75_000, channel=3, channels=20)
    shared = own + (random.standard_normal((75_000, 1)) * 40).astype("f4")
    events = found(Detector(RATE_HZ, 20, Detection(reference=kind, threshold=-7.0)), shared)
    assert [(round(s, -1), c) for s, c in events] == [(70_000, 3)]
    alone = Detector(RATE_HZ, 20, Detection(reference="none", threshold=-7.0))
    assert found(alone, shared) == []


def test_loud_and_dead_channels_are_no_part_of_the_reference():
    samples = spikes([], 70_000, channels=20)
    samples[:, 4] *= 50
    samples[:, 9] = 7
    detector = Detector(RATE_HZ, 20, Detection())
    found(detector, samples)
    assert np.flatnonzero(~detector.good).tolist() == [4, 9]
    assert detector.noise.sigma[0] < 6


# Artefacts and bad samples


def test_what_hits_many_channels_at_once_is_an_artefact_and_blanks_what_follows():
    samples = spikes([3000, 3600], 4000, channel=1, channels=10, depth=200)
    burst = 400 * np.exp(-np.arange(60) / 10) * np.cos(np.arange(60) / 3)
    samples[2000:2060] -= burst[:, None].astype("f4")
    detector = Detector(RATE_HZ, 10, FIXED)
    assert [(round(s, -1), c) for s, c in found(detector, samples)] == [(3000, 1), (3600, 1)]
    assert detector.artefacts >= 10
    near = spikes([2050], 4000, channel=1, channels=10, depth=200)
    near[2000:2060] -= burst[:, None].astype("f4")
    assert found(Detector(RATE_HZ, 10, FIXED), near) == []


def test_what_is_too_large_blanks_its_own_channel_only():
    samples = spikes([2000], 4000, channel=0, depth=100) + spikes(
        [2005], 4000, channel=1, depth=3000
    )
    detector = Detector(RATE_HZ, 2, Detection(fixed=-50.0, reference="none", limit=1000.0))
    assert [(round(s, -1), c) for s, c in found(detector, samples)] == [(2000, 0)]
    assert detector.artefacts >= 1


def test_samples_that_are_none_silence_their_channel_for_a_moment_and_are_counted():
    samples = spikes([1000, 2000, 3000], 4000, channel=0) + spikes([2000], 4000, channel=1)
    samples[1990:2010, 0] = np.nan
    samples[50, 1] = np.inf
    detector = Detector(RATE_HZ, 2, FIXED)
    events = found(detector, samples)
    assert [(round(s, -1), c) for s, c in events] == [(1000, 0), (2000, 1), (3000, 0)]
    assert detector.not_finite == 21


def test_clipped_samples_silence_their_channel_for_a_moment_and_are_counted():
    samples = spikes([1000, 2000, 3000], 4000, channel=0)
    samples[2000:2030] = 6000
    how = Detection(fixed=-50.0, reference="none", clipped=6000.0)
    detector = Detector(RATE_HZ, 2, how)
    assert [(round(s, -1), c) for s, c in found(detector, samples)] == [(1000, 0), (3000, 0)]
    assert detector.saturated == 60
