from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError, MissingExtraError
from stream.instruments.feeds.feed import Feed, FeedSettings
from stream.instruments.feeds.message import RefusedError, Ticks, read_message
from tests.peers.home_rig import UdpRig, WebSocketRig, ZmqRig, as_json, as_msgpack
from tests.peers.recorded_spikes import maze
from tests.stream.instruments.served import Served

SPIKES = {"kind": "spikes", "names": ["u0..u3"]}
Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path) -> Iterator[Serve]:
    opened = []

    def make(address: str = "udp://127.0.0.1:0", **settings: Any) -> Served:
        given = {"address": address, **settings}
        opened.append(Served(Feed(FeedSettings.model_validate(given)), tmp_path))
        return opened[-1].open()

    yield make
    for one in opened:
        one.source.close()


@pytest.fixture
def udp(serve) -> Iterator[Callable[..., tuple[Served, UdpRig]]]:
    rigs = []

    def make(**settings: Any) -> tuple[Served, UdpRig]:
        got = serve(**settings)
        rigs.append(UdpRig(got.source.reader.port))
        return got, rigs[-1]

    yield make
    for rig in rigs:
        rig.stop()


def _messages(got: Served, count: int) -> Served:
    return got.until(lambda: got.counters.notes["messages"] >= count)


@pytest.mark.parametrize("write", [as_json, as_msgpack])
@pytest.mark.parametrize("transport", ["udp", "zmq", "websocket"])
def test_spikes_of_a_recording_arrive_by_every_way(transport, write, serve, shared_data) -> None:
    trial = maze(shared_data / "spikes" / "mc_maze_trials" / "trial_748_data.csv")
    rig: Any = {"zmq": ZmqRig, "websocket": WebSocketRig}.get(transport, lambda: None)()
    settings = {"kind": "spikes", "names": ["u0..u181"], "rate": "30 kHz"}
    got = serve(rig.address if rig else "udp://127.0.0.1:0", **settings)
    if rig:
        rig.wait()
    else:
        rig = UdpRig(got.source.reader.port)
    sent = []
    for number in range(100):
        end = 300 * (number + 1)
        samples, units = trial.between(end - 300, end, 30_000)
        spikes = [[int(s), int(u)] for s, u in zip(samples, units, strict=True)]
        sent += [(round(s * 1e9 / 30_000), u) for s, u in spikes]
        rig.send(write({"t": end, "seq": number, "spikes": spikes}))
    _messages(got, 100)
    rig.stop()
    assert [tuple(row) for row in got.spikes().tolist()] == sent
    assert len(sent) > 300
    assert got.packets[-1].source_end_ns == 10**9
    assert (got.counters.dropped, {p.segment for p in got.packets}) == ({}, {0})


def test_spikes_may_be_written_in_seconds_and_by_name_and_time_may_pass_without_any(udp) -> None:
    got, rig = udp(**SPIKES)
    rig.send(b'{"spikes": [[12.5, "u2"], [12.25, 0]], "t": 12.6}')
    rig.send(b' {"t": 12.9}')
    _messages(got, 2)
    assert got.spikes().tolist() == [[12_250_000_000, 0], [12_500_000_000, 2]]
    assert got.packets[-1].source_end_ns == 12_900_000_000


def test_a_rig_that_sends_only_spikes_lets_time_pass_by_the_clock_of_this_host(udp) -> None:
    got, rig = udp(**SPIKES, late="5 ms")
    rig.send(b'{"spikes": [[3.0, 1]]}')
    got.seconds(0.1)
    assert got.spikes().tolist() == [[3_000_000_000, 1]]


def test_counts_samples_and_values_become_what_the_nodes_know(udp) -> None:
    got, rig = udp(kind="counts", names=["a", "b"], width="20 ms")
    rig.send(b'{"t": 1.0, "counts": [1, 2]}')
    rig.send(b'{"t": 1.02, "counts": [0, 3]}')
    _messages(got, 2)
    assert [(p.kind, p.source_ns, p.source_end_ns, p.data.tolist()) for p in got.packets] == [
        ("counts", 1_000_000_000, 1_020_000_000, [1, 2]),
        ("counts", 1_020_000_000, 1_040_000_000, [0, 3]),
    ]

    got, rig = udp(kind="samples", names=["a", "b"], rate="1 kHz", unit="uV")
    rig.send(b'{"t": 5000, "samples": [[1, 2], [3, 4], [5, 6.5]]}')
    _messages(got, 1)
    (packet,) = got.packets
    assert packet.data.tolist() == [[1, 2], [3, 4], [5, 6.5]]
    assert (packet.source_ns, packet.source_end_ns) == (5_000_000_000, 5_003_000_000)
    assert got.source.outputs({})[""].meta == {"rate_hz": 1000.0}

    got, rig = udp(kind="values", names=["x", "y"], unit="mm")
    rig.send(b'{"t": 2, "values": {"y": 2.5, "x": -1}}')
    _messages(got, 1)
    (packet,) = got.packets
    assert (packet.kind, packet.data.tolist(), packet.source_ns) == (
        "behaviour", [-1, 2.5], 2_000_000_000,
    )  # fmt: skip
    assert all(p.data.dtype == np.float32 for p in got.packets)


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        ("spikes", b'{"t": 1, "spikes": [[0.5', "unreadable"),
        ("spikes", b"hello", "unreadable"),
        ("spikes", b"", "unreadable"),
        ("spikes", b'{"t": 1, "spike": []}', "not_a_message"),
        ("spikes", b'{"t": "now", "spikes": []}', "not_a_message"),
        ("spikes", b'{"t": 1, "spikes": [[1, 2, 3]]}', "not_a_message"),
        ("spikes", as_msgpack({"t": 1, "spikes": [[float("nan"), 1]]}), "bad_time"),
        ("spikes", b'{"t": 1e300, "spikes": []}', "bad_time"),
        ("spikes", b'{"spikes": [[0.5, 1]]}', "no_time"),
        ("spikes", b'{"t": 1, "spikes": [[0.5, 4]]}', "unknown_unit"),
        ("spikes", b'{"t": 1, "spikes": [[0.5, -1]]}', "unknown_unit"),
        ("spikes", b'{"t": 1, "spikes": [[0.5, "u9"]]}', "unknown_unit"),
        ("spikes", b'{"t": 1, "counts": [1, 2, 3, 4]}', "kind"),
        ("counts", b'{"t": 1, "counts": [1, 2, 3]}', "channels"),
        ("counts", b'{"t": 1, "counts": []}', "channels"),
        ("counts", b'{"t": 1, "counts": [1, 2, 3, -4]}', "negative"),
        ("counts", b'{"counts": [1, 2, 3, 4]}', "no_time"),
        ("samples", b'{"t": 1, "samples": [[1, 2, 3, 4], [1, 2, 3]]}', "channels"),
        ("samples", b'{"t": 1.5, "samples": [[1, 2, 3, 4]]}', "bad_time"),
        ("samples", b'{"t": 1, "samples": [[1, 2, 3, 1e300]]}', "not_finite"),
        ("values", b'{"t": 1, "values": {"u0": 1}}', "names"),
    ],
)
def test_what_does_not_fit_is_refused_and_counted_and_the_next_message_is_taken(
    udp, kind, message, reason
) -> None:
    more = {"counts": {"width": "1 s"}, "samples": {"rate": "1 kHz"}}.get(kind, {})
    got, rig = udp(kind=kind, names=["u0..u3"], **more)
    rig.send(message)
    got.dropped(reason)
    good = {
        "spikes": [[2, 1]], "counts": [1, 2, 3, 4], "samples": [[1, 2, 3, 4]],
        "values": {f"u{n}": n for n in range(4)},
    }[kind]  # fmt: skip
    rig.send(as_json({"t": 2, kind: good}))
    rig.send(as_json({"t": 2.5 if kind == "spikes" else 3, kind: good}))
    got.until(lambda: any(p.data.size > 0 for p in got.packets))
    assert got.counters.dropped == {reason: 1}
    assert got.packets[0].gap == 1


def test_missing_repeated_and_restarted_numbers_are_told_apart(udp) -> None:
    got, rig = udp(kind="values", names=["x"])
    for seq in (0, 1, 4, 3, 4, 5, 0, 1):
        rig.send(as_json({"t": seq / 1000, "seq": seq, "values": {"x": seq}}))
    _messages(got, 8)
    assert [(int(p.data[0]), p.gap, p.segment) for p in got.packets] == [
        (0, 0, 0), (1, 0, 0), (4, 2, 0), (5, 0, 0), (0, 0, 1), (1, 0, 1),
    ]  # fmt: skip
    assert got.counters.dropped == {"missing_messages": 2, "out_of_order": 2}


def test_the_time_of_missing_messages_is_not_taken_for_silence(udp) -> None:
    got, rig = udp(**SPIKES)
    for seq, t in ((0, 0.1), (1, 0.2), (5, 0.6), (6, 0.7)):
        rig.send(as_json({"t": t, "seq": seq, "spikes": [[t - 0.05, 1]]}))
    _messages(got, 4)
    holes = [
        (a.source_end_ns / 1e9, b.source_ns / 1e9)
        for a, b in itertools.pairwise(got.packets)
        if a.source_end_ns != b.source_ns
    ]
    assert holes == [(0.2, 0.55)]
    assert [t / 1e9 for t in got.spikes()[:, 0].tolist()] == [0.05, 0.15, 0.55, 0.65]
    assert sum(p.gap for p in got.packets) == 3


def test_missing_samples_are_a_gap_and_samples_that_were_there_are_refused(udp) -> None:
    got, rig = udp(kind="samples", names=["x"], rate="1 kHz")
    for first in (0, 10, 40, 35, 50):
        rig.send(as_json({"t": first, "samples": [[n] for n in range(10)]}))
    _messages(got, 5)
    assert [(p.source_ns // 10**6, p.gap) for p in got.packets] == [
        (0, 0), (10, 0), (40, 2), (50, 0),
    ]  # fmt: skip
    assert got.counters.dropped == {"overlap": 1}


@pytest.mark.parametrize("jump_s", [3600, -3600])
@pytest.mark.parametrize("kind", ["values", "spikes"])
def test_a_clock_that_jumps_by_hours_begins_a_segment(udp, kind, jump_s) -> None:
    got, rig = udp(kind=kind, names=["x"])
    for t in (5000, 5000.1, 5000 + jump_s, 5000.1 + jump_s):
        rig.send(as_json({"t": t, kind: {"x": 1} if kind == "values" else [[t - 0.01, 0]]}))
    _messages(got, 4)
    assert sorted({p.segment for p in got.packets}) == [0, 1]
    assert got.counters.notes["clock_jumps"] == 1


def test_a_second_sender_is_refused_until_the_first_falls_silent(udp) -> None:
    got, rig = udp(**SPIKES)
    other = UdpRig(got.source.reader.port)
    rig.send(b'{"t": 1}')
    _messages(got, 1)
    other.send(b'{"t": 500}')
    got.dropped("other_sender")

    def taken() -> bool:
        other.send(b'{"t": 501, "spikes": [[500.5, 1]]}')
        return len(got.spikes()) > 0

    got.until(taken)
    other.stop()
    assert got.packets[-1].segment == 1


@pytest.mark.parametrize("rig_class", [ZmqRig, WebSocketRig])
def test_a_rig_that_quits_and_comes_back_is_found_and_begins_a_segment(serve, rig_class) -> None:
    rig = rig_class()
    got = serve(rig.address, **SPIKES)
    rig.wait()
    rig.send(b'{"t": 1}')
    rig.send(b'{"t": 1.1, "spikes": [[1.05, 1]]}')
    got.until(lambda: len(got.spikes()) == 1)
    port = rig.port
    rig.stop()
    got.until(lambda: got.source.reader.outages == 1)
    rig = rig_class(port)
    rig.wait()
    rig.send(b'{"t": 7, "spikes": [[6.5, 1]]}')
    got.until(lambda: len(got.spikes()) == 2)
    rig.stop()
    assert [p.segment for p in got.packets if len(p.data)] == [0, 1]
    assert got.counters.notes["outages"] >= 1


def test_a_message_without_an_end_costs_itself_and_not_the_memory(serve) -> None:
    rig = WebSocketRig()
    got = serve(rig.address, **SPIKES)
    rig.wait()
    rig.send(b" " * 3_000_000)
    got.dropped("too_large")
    rig.wait()
    rig.send(b'{"t": 7, "spikes": [[6.5, 1]]}')
    got.until(lambda: len(got.spikes()) == 1)
    rig.stop()


def test_an_address_that_cannot_be_is_said_before_the_run(serve) -> None:
    first = serve(**SPIKES)
    with pytest.raises(ConfigError, match="another program may have it"):
        serve(f"udp://127.0.0.1:{first.source.reader.port}", **SPIKES)
    with pytest.raises(ConfigError, match="no WebSocket server answers"):
        serve("ws://127.0.0.1:1", **SPIKES)
    for wrong in ("5005", "udp://127.0.0.1", "http://127.0.0.1:80", "udp://127.0.0.1:99999"):
        with pytest.raises(ValueError, match="expected udp://"):
            FeedSettings(address=wrong, kind="spikes", names=["a"])


def test_without_its_package_a_websocket_is_refused_and_the_extra_named(serve, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.sync.client", None)
    with pytest.raises(MissingExtraError, match=r"innervate\[websocket\]"):
        serve("ws://127.0.0.1:1", **SPIKES)


@pytest.mark.parametrize(
    "settings",
    [{"kind": "counts"}, {"kind": "samples"}, {"kind": "values", "late": "1 ms"},
     {"kind": "spikes", "width": "1 ms"}],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(settings) -> None:
    with pytest.raises(ValueError, match=r"needed for|is for spikes"):
        FeedSettings.model_validate({"address": "udp://127.0.0.1:1", "names": ["a"], **settings})


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    try:
        message = read_message(data)
        Ticks(None).of(message.t)
    except RefusedError:
        return


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["t", "seq", "spikes", "values"]), inner),
                    max_leaves=10))  # fmt: skip
def test_no_map_does_more_than_be_refused(value: Any) -> None:
    try:
        data = as_msgpack(value)
    except (OverflowError, ValueError):
        return
    try:
        message = read_message(data)
        for time_, _ in message.spikes or [(message.t, 0)]:
            Ticks(30_000).of(time_)
    except RefusedError:
        return
