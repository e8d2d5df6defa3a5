from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import yaml
import zmq
import zmq.auth

from stream.errors import ConfigError
from stream.instruments.feeds.zmq_in import ZmqIn, ZmqInSettings
from stream.node import Context, StreamSpec
from stream.nodes.zmq_tap import ZmqTap, ZmqTapSettings
from stream.packet import Packet, decode
from tests.stream.instruments.served import Served

RATES = StreamSpec("rates", (3,), "float32", ("a", "b", "c"), "Hz")
LIKE_RATES = {"stream": "rates", "kind": "rates", "names": ["a", "b", "c"], "unit": "Hz"}
COMMAND = "import sys; from stream.commands import main; main()"


def _rates(seq: int, **more: Any) -> Packet:
    now_ns = time.monotonic_ns()
    given = {"data": np.arange(3, dtype=np.float32) + seq, "segment": 0, **more}
    return Packet(
        "rates", t_ns=now_ns, source_ns=seq * 5, source_end_ns=seq * 5 + 5, seq=seq, **given
    )


class Tap:
    """A tap of another run, without its run."""

    def __init__(self, folder, **settings: Any) -> None:
        given = {"bind": "tcp://127.0.0.1:*", **settings}
        self.node = ZmqTap(ZmqTapSettings.model_validate(given))
        inputs = {"rates": RATES, "rates.more": RATES}
        self.node.outputs(inputs)
        self.node.open(Context("tap", inputs, folder))
        self.address = self.node.address.replace("0.0.0.0", "127.0.0.1")

    def send(self, *packets: Packet, stream: str = "rates") -> None:
        for packet in packets:
            list(self.node.process(stream, packet))

    def close(self) -> None:
        self.node.close()


@pytest.fixture
def tap(tmp_path) -> Iterator[Callable[..., Tap]]:
    taps = []

    def make(**settings: Any) -> Tap:
        taps.append(Tap(tmp_path, **settings))
        return taps[-1]

    yield make
    for one in taps:
        one.close()


@pytest.fixture
def receive(tmp_path) -> Iterator[Callable[..., Served]]:
    opened = []

    def make(tap: Tap, **settings: Any) -> Served:
        given = {"address": tap.address, **LIKE_RATES, **settings}
        opened.append(Served(ZmqIn(ZmqInSettings.model_validate(given)), tmp_path))
        got = opened[-1].open()
        # Until the subscription has arrived nothing does; what arrives first may be any of these.
        got.until(lambda: tap.send(_rates(0)) or len(got.packets) > 0)
        last = _rates(0, data=np.full(3, 9, np.float32))
        tap.send(last)
        got.until(lambda: got.packets[-1].data.tolist() == last.data.tolist())
        got.packets.clear()
        return got

    yield make
    for one in opened:
        one.source.close()


def test_packets_of_a_tap_are_those_of_the_other_run(tap, receive) -> None:
    one = tap()
    got = receive(one)
    sent = [_rates(seq, gap=int(seq == 3), segment=4, meta={"k": [seq, "v"]}) for seq in (1, 2, 3)]
    one.send(sent[0])
    one.send(_rates(1), stream="rates.more")
    one.send(*sent[1:])
    got.until(lambda: len(got.packets) >= 3)
    for packet, before in zip(got.packets[-3:], sent, strict=True):
        assert packet.data.tolist() == before.data.tolist()
        assert packet.meta == before.meta
        assert (packet.t_ns, packet.source_ns, packet.source_end_ns, packet.gap) == (
            before.t_ns, before.source_ns, before.source_end_ns, before.gap,
        )  # fmt: skip
    assert got.counters.dropped == {}


def test_lost_packets_are_a_gap_and_another_run_is_a_segment(tap, receive) -> None:
    one = tap()
    got = receive(one)
    one.send(_rates(1), _rates(5), _rates(0), _rates(1))
    got.until(lambda: len(got.packets) >= 4)
    *_, a, b, c, d = got.packets
    assert (b.gap, c.gap, d.gap) == (3, 0, 0)
    assert (b.segment, c.segment, d.segment) == (a.segment, a.segment + 1, a.segment + 1)
    assert got.counters.dropped == {"missing_packets": 3}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (_rates(1, data=np.zeros(4, np.float32)), "wrong_shape"),
        (_rates(1, data=np.zeros(3, np.float64)), "wrong_dtype"),
        (Packet("counts", np.zeros(3, np.float32), 0, 0, 0, seq=1), "wrong_kind"),
        (_rates(1, meta={"k": "x" * 40_000}), "meta_too_large"),
    ],
)
def test_what_the_settings_do_not_say_is_refused_and_the_next_packet_is_taken(
    tap, receive, packet, reason
) -> None:
    one = tap()
    got = receive(one)
    one.send(packet, _rates(2))
    got.until(lambda: len(got.packets) >= 1 and got.packets[-1].data[0] == 2)
    assert got.counters.dropped[reason] == 1


def test_what_a_kind_needs_beyond_names_is_said_under_meta() -> None:
    given = {"stream": "raw", "kind": "samples", "names": ["ch0..ch3"], "unit": "uV"}
    node = ZmqIn(ZmqInSettings.model_validate({**given, "meta": {"rate_hz": 30_000}}))
    spec = node.outputs({})[""]
    assert (spec.shape, spec.meta) == ((None, 4), {"rate_hz": 30_000})
    for bad, message in (
        ({"shape": [4]}, "'shape' is not for samples"),
        ({"meta": {"rate_hz": [30_000]}}, "meta"),
        ({"meta": {str(i): i for i in range(33)}}, "at most 32"),
    ):
        with pytest.raises(ValueError, match=message):
            ZmqInSettings.model_validate(given | bad)


def test_a_misspelt_kind_is_refused_and_a_kind_of_ones_own_is_not() -> None:
    for kind, meant in (("ratse", "rates"), ("Counts", "counts"), ("spike", "spikes")):
        with pytest.raises(ValueError, match=f"found '{kind}'; did you mean '{meant}'"):
            ZmqInSettings.model_validate(LIKE_RATES | {"kind": kind})
    ZmqInSettings.model_validate(LIKE_RATES | {"kind": "pupil"})


def test_messages_that_are_no_packets_are_refused(tmp_path) -> None:
    with zmq.Context() as context:
        publisher = context.socket(zmq.XPUB)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        given = {"address": f"tcp://127.0.0.1:{port}", **LIKE_RATES}
        got = Served(ZmqIn(ZmqInSettings.model_validate(given)), tmp_path).open()
        assert publisher.poll(10_000)
        publisher.send_multipart([b"rates", b"half"])
        publisher.send_multipart([b"rates", b"\x81\xa1v\x01", b""])
        got.dropped("not_a_packet", 2)
        # A gigabyte that a header speaks of never comes into being.
        publisher.send_multipart([b"rates", b"x" * 200_000, b""])
        got.until(lambda: got.source.reader.outages >= 1)
        got.source.close()
        publisher.close(linger=0)


def test_a_tap_with_keys_is_read_by_those_who_may(tap, receive, tmp_path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("tap", "reader", "stranger"):
        zmq.auth.create_certificates(keys, name)
        (keys / f"{name}.key_secret").chmod(0o600)
    public, _ = zmq.auth.load_certificate(keys / "reader.key")
    (keys / "clients").write_text(public.decode() + "\n")
    one = tap(
        bind="tcp://0.0.0.0:*", curve_secret_key_file=keys / "tap.key_secret",
        curve_clients_file=keys / "clients",
    )  # fmt: skip
    mine = {"curve_server_key_file": keys / "tap.key"}
    got = receive(one, curve_secret_key_file=keys / "reader.key_secret", **mine)
    one.send(_rates(7))
    got.until(lambda: bool(got.packets) and got.packets[-1].data[0] == 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"address": "tcp://192.0.2.1:5757"}, "another host, which needs CURVE keys"),
        ({"address": "5757"}, "is no address"),
        ({"curve_server_key_file": "a.key"}, "belong together"),
        ({"curve_server_key_file": "a.key", "curve_secret_key_file": "b"}, "holds no public key"),
    ],
)
def test_an_address_or_key_that_cannot_be_used_is_said_before_the_run(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ZmqIn(ZmqInSettings.model_validate({**LIKE_RATES, **settings})).outputs({})


def test_times_of_another_host_become_times_of_this_one(tap, receive, monkeypatch) -> None:
    monkeypatch.setattr("stream.instruments.feeds.zmq_in.leaves_host", lambda *_: False)
    one = tap()
    got = receive(one)
    got.source._same_host = False
    got.source._new()
    ahead_ns = 10**15
    for seq in range(1, 4):
        packet = _rates(seq)
        packet.t_ns += ahead_ns
        one.send(packet)
    got.until(lambda: len(got.packets) >= 3)
    assert all(0 <= time.monotonic_ns() - p.t_ns < 60e9 for p in got.packets[-3:])


def test_a_run_feeds_another_run(tmp_path) -> None:
    """Spikes and bins of one pipeline, taken up by a second one, which bins the spikes again."""
    address, seen = f"ipc://{tmp_path}/first", f"ipc://{tmp_path}/second"
    node = "stream.instruments.feeds.zmq_in:ZmqIn"
    taken = {"use": node, "address": address, "names": "u0..u3", "group": "b"}
    pipelines = {
        "first": {
            "probe": {"use": "spikes.simulate", "population": "lorenz", "units": 4, "group": "a"},
            "bins": {"use": "spikes.bin", "from": "probe", "width": "10 ms", "group": "a"},
            "tap": {"use": "zmq", "from": ["bins", "probe"], "bind": address, "group": "a"},
        },
        "second": {
            "spikes": {**taken, "stream": "probe", "kind": "spikes"},
            "theirs": {**taken, "stream": "bins", "kind": "counts", "period": "10 ms"},
            "ours": {"use": "spikes.bin", "from": "spikes", "width": "10 ms", "group": "b"},
            "tap": {"use": "zmq", "from": ["ours", "theirs"], "bind": seen, "group": "b"},
        },
    }
    running = []
    for name, nodes in pipelines.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "nodes": nodes}, sort_keys=False))
        command = [sys.executable, "-c", COMMAND, "run", str(path)]
        report = ["--report", str(tmp_path / f"{name}.json")]
        running.append(subprocess.Popen(command + report, stdout=subprocess.DEVNULL))
    bins: dict[str, dict[int, list[float]]] = {"ours": {}, "theirs": {}}
    with zmq.Context() as context:
        socket = context.socket(zmq.SUB)
        socket.rcvtimeo = 60_000
        socket.subscribe("")
        socket.connect(seen)
        while min(map(len, bins.values())) < 20:
            stream, packet = decode(socket.recv_multipart())
            bins[stream][packet.source_ns] = packet.data.tolist()
        socket.close(linger=0)
    for process in reversed(running):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    # The second run's first bin begins where it joined, in the middle of one of the first run.
    offset = {start % 10_000_000 for start in bins["ours"]}
    assert len(offset) == 1
    common = bins["ours"].keys() & bins["theirs"].keys()
    assert all(bins["ours"][start] == bins["theirs"][start] for start in common)
    assert common or offset != {0}
    nodes = json.loads((tmp_path / "second.json").read_text())["nodes"]
    assert (nodes["spikes"]["dropped"], nodes["theirs"]["dropped"]) == ({}, {})
