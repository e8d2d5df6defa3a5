from __future__ import annotations

import time

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.loop.trigger_notes import VELOCITY, TriggerNotes, TriggerNotesSettings
from stream.node import Context, StreamSpec
from stream.packet import Packet

FIRINGS = StreamSpec("trigger", (2,), "uint8", ("fast", "slow"), period_s=0.01)
ON, OFF = [0x90, 60, VELOCITY], [0x80, 60, 64]


@pytest.fixture
def player(tmp_path):
    def make(**settings):
        node = TriggerNotes(TriggerNotesSettings(notes={"fast": 60}, **settings))
        assert node.outputs({"go": FIRINGS})[""].kind == "notes"
        node.open(Context("play", {"go": FIRINGS}, tmp_path))
        node.due_ns()
        return node

    return make


def fire(*rules, age_ms=0.0):
    t_ns = time.monotonic_ns() - round(age_ms * 1e6)
    return Packet("trigger", np.array(rules, np.uint8), t_ns, 0, 5_000_000, segment=1)


def played(packets):
    return [packet.data.tolist() for packet in packets]


def test_a_firing_plays_a_note_that_ends_when_its_time_is_over(player):
    node = player(length=0.01)
    assert played(node.process("go", fire(0, 1))) == [[]], "no note, and yet a sign of life"
    assert played(node.process("go", fire(1, 0))) == [[ON]]
    while time.monotonic_ns() < node.due_ns():
        pass
    (end,) = node.tick()
    assert end.data.tolist() == [OFF]
    assert end.source_ns >= 15_000_000, "10 ms later on the clock of the source too"
    assert end.segment == 1
    assert played(node.tick()) == []


def test_a_note_that_sounds_is_played_anew_and_the_end_ends_it(player):
    node = player(length=10.0)
    node.process("go", fire(1, 0))
    assert played(node.process("go", fire(1, 0))) == [[OFF, ON]]
    assert played(node.finish()) == [[OFF]]
    assert played(node.finish()) == []


def test_disarming_ends_every_note(player):
    node = player(length=3600.0)
    assert played(node.process("go", fire(1, 0))) == [[ON]]
    told = fire(0, 0, age_ms=60_000)
    told.meta = {"armed": False}
    assert played(node.process("go", told)) == [[OFF]]
    assert played(node.finish()) == []


def test_of_old_data_nothing_is_played(player):
    node = player(max_age=5.0)
    assert played(node.process("go", fire(1, 0, age_ms=6000))) == [[]]
    assert node.context.counters.dropped == {"too_old": 1}


def test_a_note_for_a_rule_that_is_not_there_is_refused():
    node = TriggerNotes(TriggerNotesSettings(notes={"fats": 60}))
    with pytest.raises(ConfigError, match="notes: 'go' has no rule 'fats'; it has fast, slow"):
        node.outputs({"go": FIRINGS})
