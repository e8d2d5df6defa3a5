from __future__ import annotations

import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stream.errors import ConfigError
from stream.instruments.blackrock.packets import split
from stream.instruments.blackrock.source import Blackrock, BlackrockSettings
from tests.peers.nsp_double import NspDouble, packet, spike
from tests.peers.recorded_spikes import RecordedSpikes, every, maze
from tests.stream.instruments.served import Served


@pytest.fixture
def listen(tmp_path) -> Iterator[Callable[..., Served]]:
    opened = []

    def make(listen: str = "127.0.0.1:0", **settings: Any) -> Served:
        given = {"channels": "1..4", "listen": listen, **settings}
        opened.append(Served(Blackrock(BlackrockSettings.model_validate(given)), tmp_path))
        return opened[-1].open()

    yield make
    for one in opened:
        one.source.close()


@pytest.fixture
def nsp() -> Iterator[Callable[..., NspDouble]]:
    started = []

    def start(
        spikes: RecordedSpikes, got: Served, host: str = "127.0.0.1", **more: Any
    ) -> NspDouble:
        to = (host, got.source.reader.port)
        started.append(NspDouble(spikes, to, **more).start())
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.mark.parametrize("nanoseconds", [True, False])
def test_every_spike_of_a_recording_arrives_once_on_either_clock(
    listen, nsp, shared_data, nanoseconds
) -> None:
    trial = maze(shared_data / "spikes" / "mc_maze_trials" / "trial_748_data.csv")
    got = listen(channels=["1..182"])
    device = nsp(trial, got, nanoseconds=nanoseconds)
    got.seconds(0.7)
    device.stop()
    first_ns = got.packets[0].source_ns
    sent = [(round(sample * 1e9 / 30_000), unit) for sample, unit in device.sent]
    sent = sorted(spike for spike in sent if spike[0] >= first_ns)
    got.until(lambda: len(got.spikes()) >= len(sent))
    assert sorted(map(tuple, got.spikes().tolist())) == sent
    assert len(sent) > 200
    assert got.counters.dropped == {}
    assert got.counters.notes["device_clock_hz"] == (1e9 if nanoseconds else 30_000)
    assert got.counters.notes["other_packets"].keys() == {"continuous", "device_0x21"}


def test_time_goes_on_while_nobody_spikes_and_stands_still_without_the_device(listen, nsp) -> None:
    got = listen()
    device = nsp(RecordedSpikes(np.empty(0), np.empty(0, np.int64), 1, 1.0), got)
    got.seconds(0.3)
    device.paused.set()
    paused_ns = time.monotonic_ns()
    got.until(lambda: time.monotonic_ns() - paused_ns > 600_000_000)
    before, segment = got.covered_s(), got.packets[-1].segment
    got.until(lambda: time.monotonic_ns() - paused_ns > 700_000_000)
    assert got.covered_s() == before
    device.paused.clear()
    got.until(lambda: got.packets[-1].segment > segment)
    assert got.counters.notes["outages"] >= 1
    assert got.counters.notes["missing_s"] >= 0.5


def test_the_time_of_a_short_outage_is_not_taken_for_silence(listen, nsp) -> None:
    got = listen()
    device = nsp(every(0.002, 4), got)
    got.seconds(0.1)
    device.paused.set()
    paused_ns = time.monotonic_ns()
    got.until(lambda: time.monotonic_ns() - paused_ns > 120_000_000)
    device.paused.clear()
    got.until(lambda: "missing_s" in got.counters.notes)
    got.seconds(got.covered_s() + 0.05)
    hole = max(
        (b.source_ns - a.source_end_ns for a, b in itertools.pairwise(got.packets)), default=0
    )
    assert hole > 100_000_000


def test_lost_datagrams_are_missing_packets(listen, nsp) -> None:
    got = listen()
    device = nsp(every(0.002, 4), got)
    got.seconds(0.2)
    device.lose = 5
    got.dropped("missing_packets", 5)
    got.seconds(got.covered_s() + 0.01)
    assert sum(p.gap for p in got.packets) == got.counters.dropped["missing_packets"]


def test_a_device_that_starts_again_begins_a_segment(listen, nsp) -> None:
    got = listen()
    first = nsp(every(0.002, 4), got, first_s=5000)
    got.seconds(0.1)
    first.stop()
    nsp(every(0.002, 4), got, first_s=0.5)
    got.until(lambda: got.packets[-1].segment == 1)
    assert got.packets[-1].source_ns < 100e9


def test_a_second_device_is_refused(listen, nsp) -> None:
    got = listen("0.0.0.0:0")
    nsp(every(0.002, 4), got)
    got.seconds(0.1)
    nsp(every(0.002, 4), got, source="127.0.0.2")
    got.dropped("other_device", 10)


@pytest.mark.parametrize("key", ["device", "interface"])
def test_a_name_where_an_address_is_needed_is_refused_for_it_would_fit_no_packet(
    key, listen
) -> None:
    with pytest.raises(ValidationError, match=r"expected an IPv4 address.*found 'nsp'"):
        listen(**{key: "nsp"})


def test_packets_sent_to_a_group_are_heard(listen, nsp) -> None:
    got = listen("239.1.2.3:0", interface="127.0.0.1")
    nsp(every(0.002, 4), got, host="239.1.2.3")
    got.seconds(0.1)
    assert len(got.spikes()) > 0


def test_sorted_units_are_units_and_noise_and_other_channels_are_counted(listen, nsp) -> None:
    got = listen(channels=["1..3"], sorted=True)
    device = nsp(every(0.002, 4), got)
    device.unit = 2
    got.until(lambda: len(got.spikes()) > 20)
    assert got.source.outputs({})[""].names[:7] == (
        "1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "2.0",
    )  # fmt: skip
    assert set(got.spikes()[:, 1].tolist()) == {2, 8, 14}
    assert got.counters.dropped["other_channel"] > 0
    device.unit = 255
    got.dropped("noise", 3)
    device.unit = 77
    got.dropped("unknown_unit", 3)


def test_what_is_no_packet_is_refused_and_the_rest_is_read(listen, nsp) -> None:
    got = listen()
    device = nsp(every(0.002, 4), got)
    got.seconds(0.05)
    device.extra = struct.pack("<QHHHBB", 5, 1, 0, 65535, 0, 0)
    got.dropped("cut_off_bytes", 16)
    device.extra = packet(2**63, 1, 0)
    got.dropped("bad_time")
    device.extra = packet(10**12, 1, 0, b"abc")
    got.dropped("short_spike")
    device.extra = packet(10**12, 0x8000, 0x99) + packet(10**12, 300, 1)
    got.until(lambda: {"device_0x99", "channel_300"} <= got.counters.notes["other_packets"].keys())


@given(st.binary(max_size=200))
def test_no_datagram_does_more_than_be_refused(data: bytes) -> None:
    packets, rest = split(data)
    assert sum(16 + len(p.body) for p in packets) + rest == len(data)


def test_an_address_that_is_not_here_is_said_before_the_run(listen) -> None:
    with pytest.raises(ConfigError, match="has this host an address in the network"):
        listen("203.0.113.255:51002")
    first = listen()
    with pytest.raises(ConfigError, match="cannot be listened to"):
        listen(f"127.0.0.1:{first.source.reader.port}")
    for wrong in ({"listen": "here"}, {"channels": ["a"]}, {"channels": ["1..500"]}):
        with pytest.raises(ValueError, match=r"expected an IPv4|no number of a channel"):
            BlackrockSettings.model_validate({"channels": "1..4", **wrong})


def test_a_client_that_we_did_not_write_reads_the_double() -> None:
    """pycbsdk, the pure Python client of Blackrock's users, in its last release of that kind."""
    pytest.importorskip("pycbsdk")
    from pycbsdk.cbhw.io.datagram import CerebusDatagramProtocol
    from pycbsdk.cbhw.packet.common import CBChannelType, CBSpecialChan
    from pycbsdk.cbhw.packet.factory import CBPacketFactory

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.settimeout(10)
        device = NspDouble(every(0.002, 4), ours.getsockname()).start()
        datagrams = [ours.recv(65535) for _ in range(60)]
        device.stop()
    factory = CBPacketFactory(protocol="4.1")
    from pycbsdk.cbhw.packet.packets import CBPacketSpike

    factory.register_pktcls_by_channel_type(CBChannelType.FrontEnd, CBPacketSpike)
    reader = CerebusDatagramProtocol(None, "4.1", None)
    spikes, kinds = [], set()
    for datagram in datagrams:
        for _, channel, kind, *_, data in reader._process_datagram(datagram):
            if channel == CBSpecialChan.CONFIGURATION:
                made = factory.make_packet(data, chid=channel, pkt_type=kind)
                kinds.add(type(made).__name__)
            elif channel:
                made = factory.make_packet(
                    data, chid=channel, pkt_type=kind, chantype=CBChannelType.FrontEnd
                )
                spikes.append((made.header.time, channel, made.unit, made.nValley, len(made.wave)))
    assert len(spikes) > 20
    assert {s[2:] for s in spikes} == {(0, -100, 48)}
    assert kinds >= {"CBPacketHeartBeat", "CBPacketSysProtocolMonitor", "CBPacketComment"}
    assert spike(7, 3, 1)[:16] == struct.pack("<QHHHBB", 7, 3, 1, 28, 0, 0)
