"""The `osc` sink over real UDP, read with the server of python-osc."""

from __future__ import annotations

import socket
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_packet import OscPacket

from stream.errors import ConfigError, MissingExtraError
from stream.loop.osc import Osc, OscSettings, datagram
from stream.loop.osc_messages import StreamMessages
from stream.music.notes import SUSTAIN, control, events, note_off, note_on, notes_spec
from stream.node import Context, StreamSpec
from stream.packet import Packet

FIRINGS = StreamSpec("trigger", (2,), "uint8", ("fast", "slow"))
LEVELS = StreamSpec("levels", (2,), "uint8", ("fast", "slow"))
LABELS = StreamSpec("action", (2,), "float32", ("waving", "sitting"))


class Receiver:
    """A UDP port, and what has come to it."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def read(self):
        """Return the messages of the datagrams that are there, each a list of address and value."""
        self.socket.settimeout(10)
        found = [self._datagram()]
        self.socket.setblocking(False)
        try:
            while True:
                found.append(self._datagram())
        except BlockingIOError:
            return found

    def _datagram(self):
        data = self.socket.recv(65535)
        return [[m.message.address, *m.message.params] for m in OscPacket(data).messages]


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.socket.close()


@pytest.fixture
def osc(tmp_path, receiver):
    opened = []

    def make(inputs, **settings):
        node = Osc(OscSettings(port=receiver.port, **settings))
        assert node.outputs(inputs) == {}
        node.open(Context("out", inputs, tmp_path))
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def now(kind, data, **meta):
    return Packet(kind, np.asarray(data), time.monotonic_ns(), 0, 0, meta=meta)


def test_rates_are_the_arguments_of_one_message(osc, receiver, rates, rates_spec):
    osc({"rates": rates_spec}).process("rates", rates(1, 2.5, 0))
    assert receiver.read() == [[["/rates", 1.0, 2.5, 0.0]]]


def test_with_a_name_in_the_address_each_channel_has_its_own(osc, receiver, rates, rates_spec):
    node = osc({"rates.all": rates_spec}, address="/lab/{stream}/{name}/hz")
    node.process("rates.all", rates(1, 2.5, 0))
    (bundle,) = receiver.read()
    assert bundle == [
        ["/lab/rates.all/u1/hz", 1.0], ["/lab/rates.all/u2/hz", 2.5], ["/lab/rates.all/u3/hz", 0.0]
    ]  # fmt: skip


def test_a_firing_names_its_rule_and_the_age_of_its_data(osc, receiver):
    node = osc({"go": FIRINGS})
    node.process("go", now("trigger", np.array([0, 0], np.uint8)))
    node.process("go", now("trigger", np.array([0, 1], np.uint8)))
    (((address, rule, age_ms),),) = receiver.read()
    assert (address, rule) == ("/go", "slow")
    assert 0 <= age_ms < 500
    named = osc({"go": FIRINGS}, address="/{stream}/{name}")
    named.process("go", now("trigger", np.array([1, 1], np.uint8)))
    (bundle,) = receiver.read()
    assert [message[0] for message in bundle] == ["/go/fast", "/go/slow"]


def test_labels_and_levels_are_told(osc, receiver):
    node = osc({"labels": LABELS, "go.state": LEVELS})
    p = np.array([0.75, 0.25], np.float32)
    node.process("labels", now("action", p, label="waving", probability=0.75))
    node.process("go.state", now("levels", np.array([0, 1], np.uint8)))
    assert receiver.read() == [[["/labels", "waving", 0.75]], [["/go.state", 0, 1]]]


def test_notes_are_pitch_velocity_and_channel(osc, receiver):
    node = osc({"notes": notes_spec(None)})
    sent = [note_on(60, 90), note_off(60), control(SUSTAIN, 127, 3)]
    node.process("notes", now("notes", events(sent)))
    assert receiver.read() == [
        [
            ["/notes", "note", 60, 90, 0],
            ["/notes", "note", 60, 0, 0],
            ["/notes", "control", 64, 127, 3],
        ]
    ]


def test_a_stall_sends_the_safe_state_once_and_says_when_data_are_back(osc, receiver):
    inputs = {"labels": LABELS, "go.state": LEVELS, "notes": notes_spec(None)}
    node = osc(inputs, stall=0.02)
    node.due_ns()
    waving = now("action", np.ones(2, np.float32), label="waving", probability=1.0)
    node.process("labels", waving)
    node.process("go.state", now("levels", np.ones(2, np.uint8)))
    node.process("notes", now("notes", events([note_on(60, 90)])))
    assert len(receiver.read()) == 3
    while len(node._fresh.stalled) < 3:
        node.tick()
    told = sorted(receiver.read())
    assert told == [
        [["/go.state", 0, 0], ["/go.state/stalled", 1]],
        [["/labels", "unknown", 0.0], ["/labels/stalled", 1]],
        [["/notes", "note", 60, 0, 0], ["/notes/stalled", 1]],
    ]
    node.process("go.state", now("levels", np.array([1, 0], np.uint8)))
    assert receiver.read() == [[["/go.state/stalled", 0]], [["/go.state", 1, 0]]]


def test_the_end_sends_the_safe_state_even_when_nothing_was_finished(osc, receiver):
    node = osc({"go.state": LEVELS})
    node.process("go.state", now("levels", np.ones(2, np.uint8)))
    receiver.read()
    node.close()
    assert receiver.read() == [[["/go.state", 0, 0], ["/go.state/stalled", 1]]]
    node.close()


def test_old_data_and_values_that_are_none_are_not_sent(osc, receiver, rates, rates_spec):
    node = osc({"rates": rates_spec}, max_age=5.0)
    node.process("rates", rates(1, 2, 3, age_ms=6000))
    node.process("rates", rates(1, np.nan, 3))
    node.process("rates", rates(4, 5, 6))
    assert receiver.read() == [[["/rates", 4.0, 5.0, 6.0]]]
    assert node.context.counters.dropped == {"too_old": 1, "not_finite": 1}
    assert node.context.counters.notes["datagrams"] == 1


def test_what_is_too_large_for_a_datagram_is_counted_and_the_sink_goes_on(osc, receiver):
    wide = StreamSpec("rates", (30_000,), "float32", (), "Hz")
    node = osc({"wide": wide, "go.state": LEVELS})
    node.process("wide", now("rates", np.ones(30_000, np.float32)))
    node.process("go.state", now("levels", np.ones(2, np.uint8)))
    assert receiver.read() == [[["/go.state", 1, 1]]]
    assert node.context.counters.dropped == {"not_sent": 1}


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        ({"rates": "rates"}, {"address": "rates"}, "'rates' is no OSC address"),
        ({"rates": "rates"}, {"address": "/{unit}"}, "'/{unit}' is no OSC address"),
        ({"rates": "rates", "more": "rates"}, {"address": "/r"}, "'rates' and 'more' would both"),
        ({"twins": "twins"}, {"address": "/{name}"}, "two channels of 'twins' would be /a_b"),
        ({"cam": "cam"}, {}, r"'cam' carries frame of shape \[4, 4, 3\]; 'osc' sends labels"),
    ],
)
def test_what_cannot_be_sent_is_refused(rates_spec, inputs, settings, message):
    specs = {
        "rates": rates_spec, "cam": StreamSpec("frame", (4, 4, 3), "uint8"),
        "twins": StreamSpec("rates", (2,), "float32", ("a b", "a#b"), "Hz"),
    }  # fmt: skip
    linked = {name: specs[kind] for name, kind in inputs.items()}
    with pytest.raises(ConfigError, match=message):
        Osc(OscSettings(port=9, **settings)).outputs(linked)


@given(stream=st.text(min_size=1), names=st.lists(st.text(), max_size=3))
def test_whatever_the_names_are_a_receiver_understands_the_address(stream, names):
    spec = StreamSpec("rates", (len(names),), "float32", tuple(names), "Hz")
    try:
        made = StreamMessages("/{stream}/{name}", stream, spec)
    except ConfigError as error:
        assert "would be" in str(error), "two of these names look alike in an address"  # noqa: PT017
        return
    packet = now("rates", np.ones(len(names), np.float32))
    for address, values in made.of(packet):
        (read,) = OscPacket(datagram([(address, values)])).messages
        assert read.message.address == address
        assert read.message.params == [1.0]


def test_without_python_osc_the_extra_is_named(monkeypatch, rates_spec):
    monkeypatch.setitem(sys.modules, "pythonosc", None)
    with pytest.raises(MissingExtraError, match=r"innervate\[loop\]"):
        Osc(OscSettings(port=9)).outputs({"rates": rates_spec})


def test_a_host_that_is_none_is_refused(tmp_path, rates_spec):
    node = Osc(OscSettings(port=9, host="no-such-host.invalid"))
    with pytest.raises(ConfigError, match=r"host: 'no-such-host.invalid' cannot be found"):
        node.open(Context("out", {"rates": rates_spec}, tmp_path))
    node.close()
