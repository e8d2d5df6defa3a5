from __future__ import annotations

import logging
import time

import numpy as np
import pytest

from stream.loop.freshness import Freshness, OutputSettings
from stream.node import Context, StreamSpec
from stream.packet import Packet

RATES = StreamSpec("rates", (1,), "float32", ("u1",), "Hz", 0.02)
SLOW = StreamSpec("graph", (1, 1, 3), "float32", ("u1",), "", 2.0)
MS = 1_000_000


def packet(age_ms: float = 0.0) -> Packet:
    t_ns = time.monotonic_ns() - round(age_ms * MS)
    return Packet("rates", np.zeros(1, np.float32), t_ns, 0, 0)


def until_due(fresh):
    """Let the time pass after which the next stream has stalled."""
    while time.monotonic_ns() < fresh.due_ns():
        pass


@pytest.fixture
def watch(tmp_path):
    def make(inputs=None, **settings):
        context = Context("out", inputs or {"rates": RATES}, tmp_path)
        return Freshness(OutputSettings(**settings), context), context.counters

    return make


def test_a_stream_that_brings_nothing_has_stalled_and_is_back_with_its_next_packet(watch, caplog):
    fresh, counters = watch(stall=0.02)
    for _ in range(3):
        until_due(fresh)
        assert fresh.stalls() == ["rates"]
        assert fresh.stalls() == [], "it is told once"
        assert fresh.stalled == {"rates"}
        assert fresh.due_ns() is None
        assert fresh.take("rates", packet())
        assert not fresh.stalled
    assert counters.notes["stalls"] == {"rates": 3}
    assert counters.notes["stalled_s"] >= 0.06
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == 2, "the first stall and the first return are logged, the rest is counted"
    assert "out: 'rates' brings nothing fresh for 20 ms: to the safe state" in told


def test_data_that_are_too_old_are_refused_counted_and_do_not_keep_a_stream_alive(watch, caplog):
    fresh, counters = watch(stall=0.02, max_age=1.0)
    fresh.due_ns()
    assert fresh.take("rates", packet(10))
    assert not fresh.take("rates", packet(1100))
    until_due(fresh)
    assert not fresh.take("rates", packet(1100))
    assert fresh.stalls() == ["rates"]
    assert counters.dropped == {"too_old": 2}
    (told,) = (m for m in caplog.messages if "old" in m)
    assert told.endswith("old, not to be acted on (max_age 1 s); more are only counted")


def test_times_that_lie_ahead_by_hours_are_refused_too(watch):
    fresh, counters = watch()
    assert not fresh.take("rates", packet(-3_600_000))
    assert counters.dropped == {"from_the_future": 1}


def test_a_node_that_says_something_on_one_of_its_streams_has_not_stalled(watch):
    fresh, counters = watch({"go": RATES, "go.state": RATES, "rates": RATES}, stall=0.2)
    until_due(fresh)
    assert fresh.take("go.state", packet())
    assert fresh.stalls() == ["rates"]
    until_due(fresh)
    assert fresh.stalls() == ["go", "go.state"]
    assert fresh.take("go", packet())
    assert fresh.stalled == {"rates"}
    assert counters.notes["stalls"] == {"rates": 1, "go": 1}


def test_nodes_are_watched_one_by_one_and_a_slow_one_has_five_periods(watch):
    fresh, _ = watch({"rates": RATES, "graph": SLOW}, stall=None)
    now_ns = time.monotonic_ns()
    assert fresh.due_ns() - now_ns < 1_500 * MS
    fresh, _ = watch({"graph": SLOW})
    assert fresh.due_ns() - now_ns > 9_900 * MS
    fresh, _ = watch({"rates": RATES, "graph": SLOW}, stall=0.2)
    until_due(fresh)
    fresh.take("graph", packet())
    assert fresh.stalls() == ["rates"]


def test_the_time_before_the_start_of_the_run_is_no_stall(watch):
    fresh, _ = watch(stall=0.001)
    end_ns = time.monotonic_ns() + 2 * MS
    while time.monotonic_ns() < end_ns:
        pass
    assert fresh.stalls() == []
