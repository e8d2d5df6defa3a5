"""Senders that vanish, come back, and come back as something else."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

import numpy as np

RATE = 500


def test_a_sender_that_was_away_is_found_again_with_what_is_missing_counted(sender, listen):
    probe = sender(name="away", type="EEG", rate=RATE)
    source = listen(name="away", kind="counts")
    source.more(RATE + 100)
    for outage in (1, 2):
        probe.kill()
        source.until(lambda _: source.node._reader.lost_ns is not None)
        probe.start()
        packets = source.until(lambda p, n=outage: p[-1].segment == n)
        source.more(20)
        before, after = next(
            pair for pair in pairwise(packets) if [p.segment for p in pair] == [outage - 1, outage]
        )
        assert after.gap == after.data[0] - before.data[0] - 1 > 0
        assert after.source_ns - before.source_end_ns == after.gap * 1e9 / RATE
    missing, notes = sum(p.gap for p in packets), source.context.counters.notes
    source.until(lambda _: notes.get("samples_missing") == missing)
    assert notes["outages"] == 2


def test_what_comes_back_with_other_channels_or_rate_is_refused_until_the_old_one_is_there(
    sender, listen, caplog
):
    probe = sender(name="changed", rate=RATE, channels=3)
    source = listen(name="changed")
    source.more(3)
    changes = ({"channels": 2}, {"rate": 250}, {"labels": ["x", "y", "z"]})
    for refused, change in enumerate(changes):
        probe.kill()
        probe.start(**change)
        source.until(lambda _, n=refused: source.node._reader.refused > n)
    assert "2 channels of float32 at 500 Hz" in caplog.text
    assert "is not what it was before (3 channels of float32 at 500 Hz)" in caplog.text
    assert "3 channels of float32 at 250 Hz" in caplog.text
    assert "channel 'ch1' and maybe more have other labels" in caplog.text
    assert {p.data.shape[1] for p in source.packets} == {3}
    probe.kill()
    probe.start()
    source.until(lambda p: p[-1].segment == 1)


def test_spikes_held_back_are_sent_on_and_silence_is_not_claimed_while_the_sender_is_away(
    sender, listen
):
    sorter = sender(name="away sorter", format="int32")
    source = listen(name="away sorter", units=["5-1"], hold=0.5)
    source.more(1)
    now_ns = round(sorter.order(send=[[0.0, [5, 1]]]) * 1e9)
    # Held for half a second, in which the sender goes.
    source.until(lambda _: source.node._spikes._spikes._times)
    sorter.kill()
    source.until(lambda _: source.node._reader.lost_ns is not None)
    known_ns = source.packets[-1].source_end_ns
    time_ns = time.monotonic_ns()
    sorter.start()
    packets = source.until(lambda p: p[-1].segment == 1)
    held = [p for p in packets if len(p.data)]
    assert [p.segment for p in held] == [0]
    assert np.abs(held[0].data[0] - [now_ns, 0]).max() < 1000
    last = max(p.source_end_ns for p in packets if p.segment == 0)
    assert known_ns <= last <= now_ns + 1000
    first = next(p for p in packets if p.segment == 1)
    assert first.gap == 1
    assert first.source_ns > time_ns


def test_one_that_takes_the_place_of_a_sender_that_hangs_is_found(sender, listen):
    hanging = sender(name="hanging", rate=RATE)
    source = listen(name="hanging", kind="counts")
    source.more(20)
    hanging.process.send_signal(signal.SIGSTOP)
    # What it had still sent is taken before the other starts, which can be later than a second: one
    # that was taken that late would make its time a jump of the clock.
    while packets := source.node.tick():
        source.packets += packets
    other = sender(**hanging.settings)
    packets = source.until(lambda p: p[-1].segment == 1)
    before, after = next(p for p in pairwise(packets) if p[1].segment == 1)
    assert after.gap == after.data[0] - before.data[0] - 1
    hanging.kill()
    other.kill()
