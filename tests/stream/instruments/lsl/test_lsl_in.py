"""What `lsl.in` makes of streams, good and bad, of a sender that has never heard of us."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest

from stream.errors import ConfigError, InnervateError
from stream.instruments.lsl.inlet import LslIn, LslInSettings

RATE = 500


@pytest.fixture(scope="module")
def probe(sender):
    return sender(
        name="probe", type="EEG", rate=RATE, channels=3, labels=["a", "b", "c"],
        unit="microvolts",
    )  # fmt: skip


@pytest.fixture(scope="module")
def spikes(sender):
    return sender(name="sorter", type="Spikes", format="int32", channels=2)


@pytest.fixture(scope="module")
def markers(sender):
    return sender(name="events", type="Markers", format="string", channels=1)


def outputs(**settings):
    return LslIn(LslInSettings(**settings)).outputs({})[""]


def values(packets):
    return np.concatenate([np.atleast_2d(p.data)[:, 0] for p in packets])


def test_a_stream_says_what_it_carries(probe, markers):
    spec = outputs(name="probe")
    assert (spec.kind, spec.shape, spec.dtype) == ("samples", (None, 3), "float32")
    assert (spec.names, spec.unit, spec.period_s) == (("a", "b", "c"), "uV", 1 / RATE)
    assert spec.meta["rate_hz"] == RATE
    assert spec.meta["lsl"]["source_id"] == probe.settings["source_id"]
    counts = outputs(type="EEG", kind="counts")
    assert (counts.kind, counts.shape, counts.unit) == ("counts", (3,), "count")
    assert outputs(source_id=markers.settings["source_id"]).kind == "markers"


def test_samples_come_each_once_with_the_time_at_which_they_were_taken(probe, listen):
    source = listen(name="probe")
    begun_ns = time.monotonic_ns()
    packets = source.until(lambda p: sum(len(q.data) for q in p) >= 200)
    numbers = values(packets)
    assert np.all(np.diff(numbers) == 1)
    first_ns = probe.base_ns + round(numbers[0] * 1e9 / RATE)
    assert first_ns > begun_ns - 1e9, "what was sent before the start is not sent on"
    for packet, following in pairwise(packets):
        stamp_ns = probe.base_ns + packet.data[-1, 0] * 1e9 / RATE
        assert abs(packet.t_ns - stamp_ns) < 1000
        assert packet.source_end_ns == following.source_ns
        assert packet.source_end_ns - packet.source_ns == len(packet.data) * 1e9 / RATE
        assert (following.gap, following.segment) == (0, 0)
    assert source.context.counters.dropped == {}
    assert source.context.counters.notes["clock_correction_us"] == 0


def test_samples_that_were_taken_late_do_not_make_later_ones_wait(probe, listen):
    source = listen(name="probe")
    source.more(3)
    for _ in range(20):
        # Ten samples come while something else keeps the process busy.
        busy_until_ns = time.monotonic_ns() + 10 * 10**9 // RATE
        while time.monotonic_ns() < busy_until_ns:
            pass
        source.more(1)
        assert source.node.due_ns() - time.monotonic_ns() <= 1e9 / RATE
    assert np.all(np.diff(values(source.packets)) == 1)


def test_a_source_that_is_alone_in_its_process_waits_for_samples_all_the_time(probe, listen):
    source = listen(name="probe", alone=True)
    for _ in range(20):
        source.more(1)
        assert source.node.due_ns() <= time.monotonic_ns()
    assert np.all(np.diff(values(source.packets)) == 1)


def test_counts_and_behaviour_come_row_by_row(probe, listen):
    counts = listen(name="probe", kind="counts").more(50)
    assert all(p.kind == "counts" and p.data.shape == (3,) for p in counts)
    spans = [(p.source_ns, p.source_end_ns) for p in counts]
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    behaviour = listen(name="probe", kind="behaviour").more(50)
    assert all(p.source_ns == p.source_end_ns for p in behaviour)
    assert np.all(np.diff(values(behaviour)) == 1)


def test_missing_samples_are_counted_and_nan_is_refused(probe, listen):
    source = listen(name="probe", kind="counts")
    # How much stamps jitter is known after a second; before that, a hole of one is none.
    source.more(RATE + 200)
    probe.order(skip=1)
    source.until(lambda p: any(q.gap for q in p))
    probe.order(skip=7)
    source.until(lambda p: sum(q.gap for q in p) >= 8)
    probe.order(value="nan")
    packets = source.until(lambda p: sum(q.gap for q in p) >= 9)
    holes = [q.gap for q in packets if q.gap]
    assert holes == [1, 7, 1]
    for before, after in pairwise(packets):
        assert after.data[0] - before.data[0] == after.gap + 1
        assert after.source_ns - before.source_end_ns == after.gap * 1e9 / RATE
    assert source.context.counters.dropped == {"not_finite": 1}
    assert {p.segment for p in packets} == {0}


def test_stamps_that_jump_by_hours_begin_a_segment_and_ages_stay_true(probe, listen):
    source = listen(name="probe", kind="counts")
    source.more(10)
    probe.order(shift_s=-7200.0)
    source.until(lambda p: p[-1].segment == 1)
    probe.order(shift_s=7200.0)
    source.until(lambda p: p[-1].segment == 2)
    source.more(300)
    packets = source.packets
    assert np.all(np.diff(values(packets)) == 1)
    assert all(abs(p.t_ns - probe.base_ns - p.data[0] * 1e9 / RATE) < 5e9 for p in packets)
    assert source.context.counters.notes["clock_jumps"] == 2


def test_spikes_come_complete_and_sorted_and_silence_moves_on(spikes, listen):
    source = listen(name="sorter", units=["1-0", "1-1", "7-0"], hold=0.4)
    source.until(lambda p: len(p) > 3)
    assert all(len(p.data) == 0 for p in source.packets)
    sent = [[-0.003, [7, 0]], [-0.002, [1, 1]], [-0.002, [1, 0]], [-0.001, [3, 0]]]
    now_ns = round(spikes.order(send=sent) * 1e9)
    packets = source.until(lambda p: p[-1].source_end_ns > now_ns)
    found = np.concatenate([p.data for p in packets])
    assert found[:, 1].tolist() == [2, 1, 0]
    assert np.abs(found[:, 0] - now_ns - [-3e6, -2e6, -2e6]).max() < 1000
    for before, after in pairwise(packets):
        assert before.source_end_ns == after.source_ns
    for packet in packets:
        assert packet.source_ns < packet.source_end_ns
        times = packet.data[:, 0]
        assert np.all((times >= packet.source_ns) & (times < packet.source_end_ns))
    assert source.context.counters.dropped == {"unit": 1}


def test_a_spike_that_comes_too_late_is_dropped_and_counted(spikes, listen):
    source = listen(name="sorter", units=["1-0"], hold=0.4)
    source.until(lambda p: p and p[-1].source_end_ns - p[0].source_ns > 200e6)
    spikes.order(send=[[-0.55, [1, 0]], [0.0, [1, 0]]])
    packets = source.until(lambda p: any(len(q.data) for q in p))
    assert sum(p.gap for p in packets) == 1
    source.until(lambda _: source.context.counters.dropped == {"late": 1})


def test_markers_are_texts_with_their_times(markers, listen):
    source = listen(type="Markers")
    texts = ["left", "übermäßig", "", "x" * 5000]
    now_ns = round(markers.order(send=[[0.001 * k, [t]] for k, t in enumerate(texts)]) * 1e9)
    packets = source.until(lambda p: len(p) >= 3)
    assert [p.meta["label"] for p in packets] == texts[:3]
    assert [bytes(p.data).decode() for p in packets] == texts[:3]
    assert abs(packets[0].t_ns - now_ns) < 1000
    source.until(lambda _: source.context.counters.dropped == {"too_long": 1})
    markers.order(send=[[0.0, ["after"]]])
    assert source.more(1)[0].gap == 1


def test_a_wrong_name_is_answered_with_the_streams_that_there_are(probe, spikes, monkeypatch):
    monkeypatch.setattr("stream.instruments.lsl.streams._LOOKED_S", 1.0)
    with pytest.raises(ConfigError, match="name 'prob' is on this network") as error:
        outputs(name="prob")
    assert "'probe' (type 'EEG'" in str(error.value)
    assert "3 channels of float32 at 500 Hz" in str(error.value)
    assert "'sorter'" in str(error.value)


def test_two_streams_of_one_name_are_both_named_and_told_apart_by_source_id(sender, monkeypatch):
    monkeypatch.undo()
    one, two = (sender(name="twin", rate=10, source_id=f"twin-{k}") for k in (1, 2))
    with pytest.raises(ConfigError, match="2 LSL streams have name 'twin'") as error:
        outputs(name="twin")
    assert "twin-1" in str(error.value)
    assert "twin-2" in str(error.value)
    assert outputs(name="twin", source_id="twin-2").meta["lsl"]["source_id"] == "twin-2"
    one.kill()
    two.kill()


def test_a_kind_that_the_stream_cannot_be_is_refused(probe, spikes):
    with pytest.raises(ConfigError, match="cannot be markers"):
        outputs(name="probe", kind="markers")
    with pytest.raises(ConfigError, match="lists no units"):
        outputs(name="sorter")
    with pytest.raises(ValueError, match="set name, type or source_id"):
        LslInSettings()


def test_a_failure_inside_of_liblsl_ends_in_a_sentence(markers, listen):
    source = listen(name="events")
    source.node._reader.failure = RuntimeError("an unknown error has occurred")
    with pytest.raises(InnervateError, match="reading the LSL stream with name 'events' failed"):
        source.node.tick()


def test_a_rate_that_is_not_as_stated_is_noted_once(sender, listen, monkeypatch, caplog):
    monkeypatch.setattr("stream.instruments.lsl.inlet._MEASURED_NS", 300_000_000)
    liar = sender(name="liar", rate=100, real_rate=200)
    source = listen(name="liar")
    source.until(lambda _: source.context.counters.notes.get("stated_hz") == 100)
    source.more(100)
    assert caplog.text.count("samples a second, not 100 Hz") == 1
    assert not any(p.gap for p in source.packets)
    liar.kill()
