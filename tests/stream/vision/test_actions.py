"""Labels that do not flicker, since when they hold, and when nothing is known."""

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.vision.actions import Actions, ActionsSettings, Debounce

MS = 1_000_000
NAMES = ("sit", "throw", "background")
SPEC = StreamSpec("probabilities", (3,), "float32", NAMES, "", 0.1)


def labels(node: Actions, rows: list[tuple[float, ...]], segment: int = 0) -> list[tuple]:
    found = []
    for number, row in enumerate(rows):
        at = number * 100 * MS
        packet = Packet("probabilities", np.array(row, np.float32), at, at, at, segment)
        for out in node.process("p", packet):
            found.append((out.meta["label"], out.meta["onset_ns"] // MS))
    return found


@pytest.fixture
def node(tmp_path) -> Actions:
    made = Actions(ActionsSettings(begin=0.6, end=0.4, hold=0.2))
    made.open(Context(name="now", inputs={"p": SPEC}, run_dir=tmp_path))
    return made


def test_an_action_begins_once_it_has_lasted_and_tells_since_when(node):
    sit, weak, none = (0.8, 0.1, 0.1), (0.5, 0.1, 0.4), (0.1, 0.1, 0.8)
    found = labels(node, [none, weak, sit, sit, sit, none, sit, none, none, none])
    assert [label for label, _ in found] == [
        "unknown", "unknown", "unknown", "unknown", "sit", "sit", "sit", "sit", "sit", "unknown",
    ]  # fmt: skip
    assert found[4] == ("sit", 100)
    assert found[9] == ("unknown", 700)
    node.finish()
    assert node.context.counters.notes == {
        "begin": 0.6, "end": 0.4, "debounce_s": 0.2, "begun": {"sit": 1},
    }  # fmt: skip


def test_background_is_unknown_and_so_is_doubt(node):
    assert {label for label, _ in labels(node, [(0.1, 0.1, 0.8)] * 5)} == {"unknown"}
    assert {label for label, _ in labels(node, [(0.5, 0.45, 0.05)] * 5)} == {"unknown"}


def test_one_action_follows_another_without_unknown_between(node):
    found = labels(node, [(0.9, 0.0, 0.1)] * 3 + [(0.2, 0.7, 0.1)] * 3)
    assert found[2] == ("sit", 0)
    assert [label for label, _ in found[3:]] == ["sit", "sit", "throw"]
    assert found[-1][1] == 300


def test_a_new_segment_starts_from_unknown(node):
    labels(node, [(0.9, 0.0, 0.1)] * 5)
    assert labels(node, [(0.9, 0.0, 0.1)], segment=1) == [("unknown", 0)]


def test_what_are_no_probabilities_is_counted(node):
    assert labels(node, [(np.nan, 0.0, 0.0), (0.5, 0.5), (-0.1, 0.6, 0.5)]) == []
    assert node.context.counters.dropped == {"not_probabilities": 3}


def test_uncertainty_is_nothing_for_one_class_and_one_when_all_are_equally_likely(node):
    def of(*row: float) -> float:
        packet = Packet("probabilities", np.array(row, np.float32), 0, 0, 0)
        (out,) = node.process("p", packet)
        return out.meta["uncertainty"]

    assert of(0.0, 1.0, 0.0) == 0.0
    assert of(1 / 3, 1 / 3, 1 / 3) == pytest.approx(1.0)
    assert of(0.5, 0.5, 0.0) == pytest.approx(np.log(2) / np.log(3))
    assert of(0.0, 0.0, 0.0) == 1.0


def test_the_threshold_of_the_model_file_holds_unless_the_pipeline_names_another(tmp_path):
    calibrated = dataclasses.replace(SPEC, meta={"threshold": 0.9})
    for settings, begin, end in (({}, 0.9, 0.6), ({"begin": 0.7, "end": 0.2}, 0.7, 0.2)):
        node = Actions(ActionsSettings(hold=0.0, **settings))
        (spec,) = node.outputs({"p": calibrated}).values()
        assert (spec.meta["begin"], spec.meta["end"]) == (begin, pytest.approx(end))
        node.open(Context(name="now", inputs={"p": calibrated}, run_dir=tmp_path))
        found = labels(node, [(begin - 0.02, 0.0, 0.0), (begin, 0.0, 0.0), (end, 0.0, 0.0)])
        assert [label for label, _ in found] == ["unknown", "sit", "sit"]


def test_silence_ends_an_action_and_says_so_once(node):
    now_ns = time.monotonic_ns()
    rows = [Packet("probabilities", np.array([0.9, 0, 0.1], np.float32), now_ns + at, at, at)
            for at in (0, 100 * MS, 200 * MS)]  # fmt: skip
    found = [out for packet in rows for out in node.process("p", packet)]
    assert found[-1].meta["label"] == "sit"
    assert node.due_ns() >= now_ns + 900 * MS
    (last,) = node.tick()
    assert (last.meta["label"], last.meta["uncertainty"]) == ("unknown", 1.0)
    assert np.isnan(last.data).all()
    assert last.source_ns == last.meta["onset_ns"]
    assert node.due_ns() is None
    (again,) = node.process("p", rows[-1])
    assert again.meta["label"] == "unknown", "what was there before the silence does not count"


def test_slow_motion_is_not_taken_for_silence(node):
    now_ns = time.monotonic_ns()
    for step in range(2):
        at = step * 100 * MS
        row = np.array([0.9, 0, 0.1], np.float32)
        list(node.process("p", Packet("probabilities", row, 20 * at, at, at)))
    assert node.due_ns() >= now_ns + 19_000 * MS


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(0, 5), st.floats(0.55, 0.9))
def test_no_label_ends_sooner_than_it_may_and_onsets_never_lie_ahead(values, hold, begin):
    decide = Debounce(2, begin, 0.4, hold * 100 * MS)
    changed = None
    before = None
    for number, p in enumerate(values):
        decide.push(number * 100 * MS, np.array([p, 1 - p]))
        assert decide.onset_ns is not None
        assert decide.onset_ns <= number * 100 * MS
        if decide.label != before:
            assert changed is None or number - changed >= hold or before is None
            changed, before = number, decide.label


def test_settings_that_cannot_work_are_one_sentence():
    (spec,) = Actions(ActionsSettings(hold=0.2)).outputs({"p": SPEC}).values()
    assert spec.meta == {"begin": 0.6, "end": 0.4, "debounce_s": 0.2}
    with pytest.raises(ConfigError, match="does not name its classes"):
        Actions(ActionsSettings()).outputs({"p": StreamSpec("probabilities", (3,), "float32")})
    with pytest.raises(ConfigError, match="above begin"):
        Actions(ActionsSettings(begin=0.6, end=0.7)).outputs({"p": SPEC})
