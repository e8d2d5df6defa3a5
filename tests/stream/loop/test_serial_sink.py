"""The `serial` sink, with a box on a pseudoterminal at the other end."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest

from stream.errors import ConfigError, MissingExtraError
from stream.loop import serial_sink
from stream.loop.serial_sink import SerialSettings, SerialSink
from stream.node import Context, StreamSpec
from stream.packet import Packet

FIRINGS = StreamSpec("trigger", (2,), "uint8", ("fast", "slow"), period_s=0.01)
LEVELS = StreamSpec("levels", (2,), "uint8", ("fast", "slow"), period_s=0.01)
BOTH = {"go": FIRINGS, "go.state": LEVELS}
MESSAGES = {"fire": {"fast": "F"}, "levels": {"slow": ["l", "h"]}, "safe": "0"}


@pytest.fixture
def sink(tmp_path, box):
    opened = []

    def make(inputs=BOTH, **settings):
        given = {"port": str(box.link), **MESSAGES, **settings}
        node = SerialSink(SerialSettings.model_validate(given))
        assert node.outputs(inputs) == {}
        node.open(Context("stim", inputs, tmp_path))
        node.due_ns()
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def fire(*rules, age_ms=0.0):
    t_ns = time.monotonic_ns() - round(age_ms * 1e6)
    return Packet("trigger", np.array(rules, np.uint8), t_ns, 0, 0)


def level(*rules):
    return Packet("levels", np.array(rules, np.uint8), time.monotonic_ns(), 0, 0)


def ticking(node, holds):
    """Tell whether something holds once the node has had its tick."""

    def look():
        node.tick()
        return holds()

    return look


def test_a_firing_sends_its_message_and_a_level_its_changes(sink, box, wait_for):
    node = sink()
    for packet in [fire(0, 0), fire(1, 0), fire(0, 1), fire(1, 1)]:
        node.process("go", packet)
    for packet in [level(0, 0), level(1, 1), level(0, 1), level(0, 0)]:
        node.process("go.state", packet)
    wait_for(lambda: box.got == b"0FFhl")
    node.finish()
    node.close()
    wait_for(lambda: box.got == b"0FFhl00")
    assert node.context.counters.notes == {"fired": 2, "levels_set": 2, "safe_at_end": True}
    assert node.context.counters.dropped == {}


def test_a_character_is_a_byte(sink, box, wait_for):
    node = sink({"go": FIRINGS}, fire={"fast": "\x01\xff"}, levels={}, safe="\x00")
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got == b"\x00\x01\xff")


def test_a_stall_brings_the_box_to_its_safe_state_until_data_are_back(sink, box, wait_for):
    node = sink({"go": FIRINGS, "more.state": LEVELS}, stall=0.05)
    node.process("more.state", level(0, 1))
    wait_for(ticking(node, lambda: len(node._fresh.stalled) == 2))
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got.startswith(b"0h0"))
    assert node.context.counters.dropped == {"stalled": 1}, "one of two nodes is not enough"
    node.process("more.state", level(0, 1))
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got.endswith(b"hF"))
    assert node.context.counters.notes["stalls"] == {"go": 1, "more": 1}


def test_disarming_brings_the_box_to_its_safe_state_however_late_it_comes(sink, box, wait_for):
    node = sink()
    node.process("go.state", level(0, 1))
    late_ns = time.monotonic_ns() - 10_000_000_000
    for stream, kind in (("go", "trigger"), ("go.state", "levels")):
        zeros = np.zeros(2, np.uint8)
        told = Packet(kind, zeros, late_ns, 0, 0, meta={"armed": False})
        node.process(stream, told)
    node.process("go.state", level(0, 1))
    wait_for(lambda: box.got == b"0h00h")


def test_firings_of_old_data_are_not_sent(sink, box, wait_for):
    node = sink(max_age=5.0)
    node.process("go", fire(1, 0, age_ms=6000))
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got == b"0F")
    assert node.context.counters.dropped == {"too_old": 1}


def test_a_box_that_does_not_answer_goes_safe_until_it_does(sink, box, wait_for, monkeypatch):
    monkeypatch.setattr(serial_sink, "_AGAIN_NS", 10_000_000)
    box.answer = b"ok\r\n"
    node = sink(acknowledge="ok", timeout=0.25)
    notes = node.context.counters.notes
    node.process("go", fire(1, 0))
    wait_for(ticking(node, lambda: not node._waiting))
    assert "unanswered" not in notes
    box.answer = b""
    node.process("go", fire(1, 0))
    wait_for(ticking(node, lambda: notes.get("unanswered", 0) >= 2))
    sent = len(box.got)
    node.process("go", fire(1, 0))
    node.process("go.state", level(0, 1))
    assert node.context.counters.dropped == {"not_answering": 1}
    box.answer = b"hello\nok\n"
    wait_for(ticking(node, lambda: "answers_again" in notes))
    assert set(box.got[sent:]) == set(b"0"), "nothing but the safe state is sent meanwhile"
    assert notes["other_lines"] >= 1
    node.process("go", fire(1, 0))
    node.process("go.state", level(0, 1))
    wait_for(lambda: box.got.endswith(b"Fh"))
    node.close()
    assert notes["safe_at_end"] is True


def test_a_box_that_never_answers_lets_no_run_start(sink, box, monkeypatch, wait_for):
    monkeypatch.setattr(serial_sink, "_START_S", 0.2)
    monkeypatch.setattr(serial_sink, "_AGAIN_NS", 50_000_000)
    with pytest.raises(ConfigError, match="did not answer 'ok' to '0' within 200 ms"):
        sink(acknowledge="ok", timeout=0.05)
    wait_for(lambda: box.got.count(b"0") >= 2)


def test_a_port_that_is_unplugged_and_back_starts_safe(sink, box, wait_for):
    node = sink()
    for times in range(1, 3):
        node.process("go.state", level(0, 1))
        wait_for(lambda: box.got.endswith(b"h"))
        box.unplug()
        wait_for(ticking(node, lambda: not node._link.is_open))
        node.process("go", fire(1, 0))
        node.process("go.state", level(0, 1))
        assert node.context.counters.dropped == {"port_away": times}
        box.got = b""
        box.plug_in()
        wait_for(ticking(node, lambda: node._link.is_open))
        node.process("go", fire(1, 0))
        node.process("go.state", level(0, 1))
        wait_for(lambda: box.got == b"0Fh")
        assert node.context.counters.notes["port_away"] == times
        assert node.context.counters.notes["port_back"] == times
    assert node.context.counters.notes["trouble"]


def test_a_box_that_answers_has_to_do_so_again_when_it_is_back(sink, box, wait_for, monkeypatch):
    monkeypatch.setattr(serial_sink, "_AGAIN_NS", 10_000_000)
    box.answer = b"ok\n"
    node = sink(acknowledge="ok", timeout=0.25)
    wait_for(ticking(node, lambda: not node._waiting))
    os.write(box.master, b"half an answ")
    wait_for(ticking(node, lambda: node._link._rest))
    box.unplug()
    wait_for(ticking(node, lambda: not node._link.is_open))
    box.answer = b""
    box.plug_in()
    wait_for(ticking(node, lambda: node._link.is_open))
    node.process("go", fire(1, 0))
    assert node.context.counters.dropped == {"not_answering": 1}
    box.answer = b"ok\n"
    wait_for(ticking(node, lambda: node.context.counters.notes.get("answers_again")))
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got.endswith(b"F"))
    assert "other_lines" not in node.context.counters.notes, "half a line is not kept"


def test_a_run_that_ends_without_its_port_says_that_the_safe_state_was_not_sent(
    sink, box, wait_for
):
    node = sink()
    box.unplug()
    wait_for(ticking(node, lambda: not node._link.is_open))
    node.close()
    assert node.context.counters.notes["safe_at_end"] is False


def test_a_port_that_takes_no_more_is_opened_afresh(sink, box, wait_for):
    node = sink({"go": FIRINGS}, fire={"fast": "F" * 100_000}, levels={})
    box.leave.set()
    box._reader.join(10)
    node.process("go", fire(1, 0))
    assert node.context.counters.dropped == {"port_away": 1}
    wait_for(ticking(node, lambda: "port_back" in node.context.counters.notes))


def test_a_box_that_babbles_without_an_end_is_not_kept(sink, box, wait_for):
    node = sink()
    notes = node.context.counters.notes
    os.write(box.master, b"\x00" * 1000)
    wait_for(ticking(node, lambda: notes.get("bytes_without_line", 0) == 1000))
    node.process("go", fire(1, 0))
    wait_for(lambda: box.got == b"0F")


def test_a_port_belongs_to_one_sink(sink):
    sink()
    with pytest.raises(ConfigError, match=r"stim cannot be opened .*another program may have it"):
        sink()


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (BOTH, {"fire": {"fats": "F"}}, "fire: rule 'fats' is not linked; linked are fast, slow"),
        ({"go": FIRINGS}, {}, "levels: rule 'slow' is not linked; linked are none, since"),
        ({**BOTH, "on": FIRINGS}, {}, "fire: rule 'fast' is in more than one of go, on; rename"),
        (BOTH, {"levels": {}}, "levels: is missing messages for the rules of 'go.state'"),
        (BOTH, {"port": "/dev/nothing"}, "port: there is no serial port /dev/nothing; found"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(tmp_path, inputs, settings, message):
    given = {"port": str(tmp_path), **MESSAGES, **settings}
    with pytest.raises(ConfigError, match=message):
        SerialSink(SerialSettings.model_validate(given)).outputs(inputs)


@pytest.mark.parametrize(
    "settings", [{"safe": ""}, {"fire": {"fast": "€"}}, {"levels": {"slow": "lh"}}]
)
def test_what_is_no_message_is_refused(settings):
    with pytest.raises(ValueError, match=r"expected .*, found"):
        SerialSettings.model_validate({"port": "x", **MESSAGES, **settings})


def test_without_pyserial_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "serial", None)
    settings = SerialSettings.model_validate({"port": str(tmp_path), **MESSAGES})
    with pytest.raises(MissingExtraError, match=r"innervate\[loop\]"):
        SerialSink(settings).outputs(BOTH)
