import itertools
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stream.node import Context, StreamSpec
from stream.spikes.recording import bin_recording, mean_in_bins
from stream.spikes.simulate import SimulateSettings, SpikesSimulate
from stream.spikes.simulation import simulate_recording

MS = 1_000_000


def simulate(**more) -> SpikesSimulate:
    node = SpikesSimulate(SimulateSettings(**{"population": "lorenz", "units": 5, **more}))
    node.outputs({})
    node.open(Context("probe", {}, Path()))
    return node


def packets_of(node: SpikesSimulate):
    node.start(0)
    while not node.finished:
        yield from node.tick()


def spikes_of(packets):
    return np.concatenate([p.data for p in packets if not p.output])


def table(recording):
    """Spikes of a recording as (n, 2), sorted by time and unit."""
    pairs = [
        (round(t * 1e9), unit)
        for unit, times_s in enumerate(recording.spike_times_s)
        for t in times_s
    ]
    return np.array(sorted(pairs))


@pytest.mark.parametrize(
    ("population", "name", "columns", "unit"),
    [
        ("lorenz", "latents", ("x", "y", "z"), "a.u."),
        ("reaches", "hand_vel", ("vel_x", "vel_y"), "m/s"),
    ],
)
def test_a_simulation_says_what_it_streams(population, name, columns, unit):
    specs = SpikesSimulate(SimulateSettings(population=population, units=3)).outputs({})
    names = ("unit000", "unit001", "unit002")
    assert specs == {
        "": StreamSpec("spikes", (None, 2), "int64", names),
        "true_rates": StreamSpec("rates", (3,), "float32", names, "Hz", 0.005),
        name: StreamSpec("behaviour", (len(columns),), "float32", columns, unit, 0.005),
    }


@pytest.mark.parametrize("population", ["lorenz", "reaches"])
def test_the_same_seed_gives_the_same_spikes_whatever_chunk_and_speed(population):
    given = {"population": population, "duration": 0.73, "seed": 4}
    first = spikes_of(packets_of(simulate(**given)))
    assert len(first)
    for chunk, speed in ((0.0003, 1.0), (0.05, "max"), (0.7, 3)):
        other = simulate(**given, chunk=chunk, speed=speed)
        assert np.array_equal(spikes_of(packets_of(other)), first)
    assert not np.array_equal(spikes_of(packets_of(simulate(**given | {"seed": 5}))), first)


@pytest.mark.parametrize("population", ["lorenz", "reaches"])
def test_offline_gives_the_spikes_rates_and_behaviour_of_the_live_node(population):
    duration_s = 1.2345
    packets = list(packets_of(simulate(population=population, duration=duration_s, seed=2)))
    offline = simulate_recording(population, 5, duration_s, seed=2)
    live = spikes_of(packets)
    assert np.array_equal(live[np.lexsort(live.T)], table(offline)[np.lexsort(table(offline).T)])
    rates = [p for p in packets if p.output == "true_rates"]
    assert np.array_equal([p.data for p in rates], offline.true_rates.values.astype(np.float32))
    assert [p.source_ns / 1e9 for p in rates] == offline.true_rates.times_s.tolist()
    assert rates[-1].source_end_ns <= duration_s * 1e9
    ((name, series),) = offline.behaviour.items()
    samples = [p for p in packets if p.output == name]
    assert np.array_equal([p.data for p in samples], series.values.astype(np.float32))
    assert [p.source_ns / 1e9 for p in samples] == series.times_s.tolist()


def test_packets_come_in_the_order_of_their_time_and_cover_it_whole():
    packets = list(packets_of(simulate(duration=0.3105, chunk=0.002)))
    ends = [p.source_end_ns for p in packets]
    assert ends == sorted(ends)
    chunks = [p for p in packets if not p.output]
    assert chunks[0].source_ns == 0
    assert chunks[-1].source_end_ns == 310.5 * MS
    assert all(a.source_end_ns == b.source_ns for a, b in itertools.pairwise(chunks))
    for chunk in chunks:
        times_ns = chunk.data[:, 0]
        assert (np.diff(times_ns) >= 0).all()
        assert ((times_ns >= chunk.source_ns) & (times_ns < chunk.source_end_ns)).all()


def test_streams_that_nobody_takes_are_not_made():
    node = SpikesSimulate(SimulateSettings(population="reaches", units=5, duration=0.1))
    node.open(Context("probe", {}, Path(), linked=frozenset({"hand_vel"})))
    packets = list(packets_of(node))
    assert {p.output for p in packets} == {"", "hand_vel"}
    assert np.array_equal(
        spikes_of(packets), spikes_of(packets_of(simulate(population="reaches", duration=0.1)))
    )


def test_without_a_duration_a_simulation_has_no_end():
    node = simulate()
    node.start(0)
    for _ in range(20):
        assert list(node.tick())
    assert not node.finished


@pytest.mark.parametrize("population", ["lorenz", "reaches"])
def test_spikes_follow_the_true_rates(population):
    recording = simulate_recording(population, 20, 120.0, seed=0, mean_rate_hz=30.0)
    binned = bin_recording(recording, 0.005)
    expected = mean_in_bins(recording.true_rates, binned.starts_ns, 5 * MS) * 0.005
    assert binned.counts.mean() / 0.005 == pytest.approx(30, rel=0.25)
    assert binned.counts.sum(axis=0) == pytest.approx(
        expected.sum(axis=0), abs=5 * np.sqrt(expected.sum(axis=0).max())
    )
    # Of a Poisson count the expected squared deviation is the mean.
    deviation = ((binned.counts - expected) ** 2).sum() / expected.sum()
    assert deviation == pytest.approx(1, abs=0.05)


def test_lorenz_latents_stay_on_the_attractor():
    latents = simulate_recording("lorenz", 1, 120.0, seed=3).behaviour["latents"].values
    assert np.abs(latents).max() < 1.05
    assert np.abs(latents.mean(axis=0)).max() < 0.1
    assert (latents.std(axis=0) > 0.25).all()


def test_reaches_go_to_sixteen_targets_and_come_back():
    recording = simulate_recording("reaches", 2, 240.0, seed=1)
    trials = recording.trials
    velocity = recording.behaviour["hand_vel"]
    out = np.hypot(trials.columns["target_x"], trials.columns["target_y"]) > 0.01
    assert (out[1:] != out[:-1]).all()
    assert set(trials.columns["condition"]) == set(range(16))
    assert trials.stop_s[-1] <= 240
    for start, go, stop, x, y in zip(
        trials.start_s, trials.columns["go_s"], trials.stop_s,
        trials.columns["target_x"], trials.columns["target_y"], strict=True,
    ):  # fmt: skip
        if start < 0 or np.hypot(x, y) < 0.01:
            continue
        during = (velocity.times_s >= start - 1e-9) & (velocity.times_s < stop - 1e-9)
        assert velocity.values[during].sum(axis=0) * 0.005 == pytest.approx([x, y], abs=1e-4)
        still = during & (velocity.times_s < go + 0.1)
        assert not velocity.values[still].any()


def test_settings_that_cannot_be_are_refused():
    for wrong in (
        {"population": "sheep"}, {"units": 0}, {"seed": -1}, {"mean_rate": 10}, {"chunk": "0 ms"},
        {"mean_rate": "0 Hz"}, {"duration": 5}, {"speed": "slow"},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            SimulateSettings.model_validate({"population": "lorenz", **wrong})


@pytest.mark.parametrize("population", ["lorenz", "reaches"])
def test_another_session_has_the_same_population_and_other_spikes(population: str) -> None:
    first, other = (
        simulate_recording(population, 20, 200.0, seed=4, session=session) for session in (0, 1)
    )
    assert first.spike_times_s is not None
    assert other.spike_times_s is not None
    assert not np.array_equal(first.spike_times_s[0][:5], other.spike_times_s[0][:5])
    counts = np.array([[len(t) for t in r.spike_times_s or ()] for r in (first, other)])
    np.testing.assert_allclose(counts[1], counts[0], rtol=0.25)
    # Tuning: each unit's rate depends on the signal in the same way on both days.
    slopes = [
        np.corrcoef(r.behaviour[name].values[:, 0], np.log(r.true_rates.values).T)[0, 1:]
        for r in (first, other)
        if r.true_rates is not None
        for name in r.behaviour
    ]
    np.testing.assert_allclose(slopes[1], slopes[0], atol=0.25)
