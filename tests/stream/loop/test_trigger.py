from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.loop.conditions import Gate, LeastOf
from stream.loop.firing_log import FiringLog
from stream.loop.trigger import Trigger, TriggerSettings, disarms
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.pipeline import load_pipeline
from stream.schema import settings_schema

LABELS = StreamSpec("action", (2,), "float32", ("waving", "sitting"), "", 0.033)
GRAPH = StreamSpec("graph", (2, 2, 3), "float32", ("u1", "u2"), "", 0.5)
SPIKES = StreamSpec("spikes", (None, 2), "int64", ("u1", "u2"), "", 0.001)
SAMPLES = StreamSpec("samples", (None, 2), "float32", ("c1", "c2"), "uV", 0.001)


@pytest.fixture
def trigger(tmp_path, rates_spec):
    opened = []

    def make(rules, inputs=None, *, armed=True, **settings):
        given = {"rules": rules, "armed": armed, **settings}
        checked = TriggerSettings.model_validate(given, context={"from_file": True})
        # What a worker gets has been through JSON.
        plain = json.loads(checked.model_dump_json())
        node = Trigger(TriggerSettings.model_validate(plain))
        inputs = inputs or {"rates": rates_spec}
        node.specs = node.outputs(inputs)
        node.open(Context("go", inputs, tmp_path))
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def fired(node, *packets, stream="rates"):
    """Say for each packet which rules fire, and what their levels are."""
    return [
        tuple(out.data.tolist() for out in node.process(stream, packet) if out.output != "armed")
        for packet in packets
    ]


def fires(node, *packets, stream="rates"):
    return [main[0] for main, _ in fired(node, *packets, stream=stream)]


def logged(tmp_path):
    return [json.loads(line) for line in (tmp_path / "go.firings.jsonl").read_text().splitlines()]


def test_a_threshold_fires_once_and_again_only_after_its_release(trigger, rates):
    node = trigger({"fast": {"channel": "u2", "above": "40 Hz", "release": "30 Hz"}})
    values = [10, 41, 39, 45, 30, 40, 41]
    out = fired(node, *(rates(99, v, 0) for v in values))
    assert [main[0] for main, _ in out] == [0, 1, 0, 0, 0, 0, 1]
    assert [level[0] for _, level in out] == [0, 1, 1, 1, 0, 0, 1]


def test_what_goes_out_has_the_times_of_the_data_that_caused_it(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}, "slow": {"below": "1 Hz"}})
    packet = rates(50, 50, 50, at_ms=3, segment=2)
    main, state, armed = node.process("rates", packet)
    assert (main.kind, main.output, main.data.tolist()) == ("trigger", "", [1, 0])
    assert main.meta == {"fired": ["fast"]}
    assert (state.kind, state.output, state.data.tolist()) == ("levels", "state", [1, 0])
    assert (armed.kind, armed.output, armed.data.tolist()) == ("levels", "armed", [1])
    for out in (main, state, armed):
        assert out.data.dtype == np.uint8
        assert (out.t_ns, out.source_ns, out.segment) == (packet.t_ns, 3_000_000, 2)
    assert node.specs[""].names == node.specs["state"].names == ("fast", "slow")
    assert node.specs[""].period_s == 0.02


def test_below_is_the_mirror_of_above(trigger, rates):
    node = trigger({"slow": {"channel": "u1", "below": "5 Hz", "release": "10 Hz"}})
    assert fires(node, *(rates(v, 0, 0) for v in [20, 4, 6, 4, 11, 4])) == [0, 1, 0, 0, 0, 1]


def test_without_a_channel_any_of_them_counts_and_the_log_says_which(trigger, rates, tmp_path):
    node = trigger({"fast": {"above": "40 Hz"}})
    assert fires(node, rates(1, 2, 3), rates(1, 50, 3), rates(1, 2, 60)) == [0, 1, 0]
    (firing,) = logged(tmp_path)
    assert (firing["channel"], firing["value"]) == ("u2", 50)


def test_the_mean_is_of_all_channels(trigger, rates):
    node = trigger({"busy": {"mean": True, "above": "10 Hz"}})
    assert fires(node, rates(29, 0, 0), rates(15, 15, 15)) == [0, 1]


def test_a_rise_is_seen_from_the_lowest_value_within_the_window_only(trigger, rates):
    rule = {"jump": {"mean": True, "rises": "50 Hz", "within": "100 ms"}}
    slow = [rates(v, v, v, at_ms=t) for t, v in [(0, 0), (80, 30), (160, 60), (240, 90)]]
    assert fires(trigger(rule), *slow) == [0, 0, 0, 0]
    fast = [rates(v, v, v, at_ms=t) for t, v in [(0, 0), (50, 20), (100, 51), (150, 60), (200, 60)]]
    out = fired(trigger(rule), *fast)
    assert [main[0] for main, _ in out] == [0, 0, 1, 0, 0]
    assert [level[0] for _, level in out] == [0, 0, 1, 0, 0]


def test_a_fall_is_the_mirror_of_a_rise(trigger, rates, tmp_path):
    node = trigger({"drop": {"channel": "u1", "falls": "50 Hz", "within": "100 ms"}})
    assert fires(node, rates(100, 0, 0, at_ms=0), rates(40, 0, 0, at_ms=50)) == [0, 1]
    assert logged(tmp_path)[0]["value"] == 60


def test_a_label_fires_when_it_holds_with_enough_probability(trigger, rates):
    node = trigger({"wave": {"label": "waving", "above": 0.8}}, {"labels": LABELS})

    def label(name, p):
        return rates(p, 1 - p, kind="action", label=name, probability=p)

    packets = [label("waving", 0.7), label("waving", 0.9), label("sitting", 0.9)]
    assert fires(node, *packets, label("waving", 0.85), stream="labels") == [0, 1, 0, 1]
    any_probability = trigger({"wave": {"label": "waving"}}, {"labels": LABELS})
    assert fires(any_probability, *packets, stream="labels") == [1, 0, 0]


def test_a_graph_fires_by_how_much_it_has_changed(trigger):
    node = trigger({"rewired": {"above": 0.3}}, {"graph": GRAPH})

    def graph(**meta):
        data = np.zeros((2, 2, 3), np.float32)
        return Packet("graph", data, time.monotonic_ns(), 0, 0, meta=meta)

    assert fires(node, graph(), graph(change=0.2), graph(change=0.4), stream="graph") == [0, 0, 1]
    assert node.context.counters.notes["rewired"] == {"not_finite": 1, "fired": 1}


def test_every_packet_with_a_spike_of_the_unit_fires(trigger):
    node = trigger({"spike": {"channel": "u2", "above": 0}}, {"probe": SPIKES})

    def spikes(*units):
        data = np.array([(0, unit) for unit in units], np.int64).reshape(-1, 2)
        return Packet("spikes", data, time.monotonic_ns(), 0, 1_000_000)

    packets = [spikes(0), spikes(1), spikes(1, 0, 1), spikes(), spikes(1)]
    assert fires(node, *packets, stream="probe") == [0, 1, 1, 0, 1]


def test_of_a_packet_of_many_samples_the_extreme_counts(trigger):
    rules = {
        "peak": {"channel": "c2", "above": "100 uV"}, "dip": {"channel": "c1", "below": "-50 uV"},
        "mean": {"mean": True, "above": "40 uV"},
    }  # fmt: skip
    node = trigger(rules, {"raw": SAMPLES})

    def samples(*rows):
        return Packet(
            "samples", np.array(rows, np.float32).reshape(-1, 2), time.monotonic_ns(), 0, 1
        )

    out = fired(node, samples((0, 0), (-60, 0), (0, 101), (0, 0)), samples(), stream="raw")
    assert out[0] == ([1, 1, 1], [1, 1, 1])
    assert out[1] == ([0, 0, 0], [0, 0, 0]), "a packet without samples holds no level up"


def test_rules_of_several_streams_fire_on_their_own_ones(trigger, rates, rates_spec):
    rules = {
        "fast": {"stream": "rates", "above": "40 Hz"},
        "wave": {"stream": "labels", "label": "waving"},
    }
    node = trigger(rules, {"rates": rates_spec, "labels": LABELS})
    assert fired(node, rates(50, 0, 0)) == [([1, 0], [1, 0])]
    waving = rates(1, 0, kind="action", label="waving", probability=1.0)
    assert fired(node, waving, stream="labels") == [([0, 1], [1, 1])]
    assert node.specs[""].period_s is None


def test_dry_logs_and_counts_what_would_have_fired_and_gives_zeros(trigger, rates, tmp_path):
    node = trigger({"fast": {"above": "40 Hz"}}, armed=False)
    assert fired(node, rates(50, 0, 0), rates(50, 0, 0)) == [([0], [0]), ([0], [0])]
    (firing,) = logged(tmp_path)
    assert (firing["armed"], firing["fired"], firing["suppressed"]) == (False, False, None)
    assert node.context.counters.notes == {"armed": False, "fast": {"dry": 1}}
    assert not TriggerSettings(rules={"fast": {"above": "40 Hz"}}).armed, "armed only when written"


def test_a_dry_trigger_that_is_armed_fires_on_what_comes_then(trigger, rates, tmp_path):
    node = trigger({"fast": {"above": "40 Hz"}}, armed=False)
    assert fires(node, rates(50, 0, 0)) == [0]
    (told,) = node.arm(True, "somebody")
    assert (told.output, told.kind, told.data.tolist()) == ("armed", "levels", [1])
    # What held before does not fire late.
    assert fired(node, rates(60, 0, 0), rates(0, 0, 0), rates(50, 0, 0)) == [
        ([0], [0]), ([0], [0]), ([1], [1])
    ]  # fmt: skip
    assert node.arm(True, "somebody") == []
    dry, switch, fire = logged(tmp_path)
    assert (dry["armed"], fire["armed"]) == (False, True)
    assert (switch["armed"], switch["by"]) == (True, "somebody")
    assert dry["t_ns"] < switch["t_ns"] < fire["t_ns"]
    assert node.context.counters.notes["armed"] is True
    assert node.context.counters.notes["switched"] == 1


def test_a_trigger_that_is_disarmed_takes_its_levels_back_at_once_and_says_so(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}, "slow": {"below": "1 Hz"}})
    main, state, armed = node.process("rates", rates(50, 50, 50, at_ms=3, segment=2))
    assert (state.data.tolist(), armed.data.tolist()) == ([1, 0], [1])
    before_ns = time.monotonic_ns()
    main, state, armed = node.arm(False, "somebody")
    assert (main.data.tolist(), state.data.tolist(), armed.data.tolist()) == ([0, 0], [0, 0], [0])
    assert disarms(main)
    assert disarms(state)
    for out in (main, state, armed):
        assert out.t_ns >= before_ns
        assert (out.source_end_ns, out.segment) == (3_000_000, 2)
    out = node.process("rates", rates(50, 50, 50))
    assert [o.data.tolist() for o in out] == [[0, 0], [0, 0]]
    assert not any(disarms(o) for o in out)
    node.arm(True, "somebody")
    # The condition holds on; what was taken back stays so until it begins anew.
    assert fired(node, rates(50, 50, 50)) == [([0, 0], [0, 0])]


def test_a_trigger_that_is_switched_before_its_first_data_tells_it_with_them(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}}, armed=False)
    assert node.arm(True, "somebody") == []
    *_, armed = node.process("rates", rates(0, 0, 0, at_ms=7))
    assert (armed.output, armed.data.tolist(), armed.source_end_ns) == ("armed", [1], 7_000_000)


def test_refractory_time_and_limit_hold_back_and_are_logged(trigger, rates, tmp_path):
    on, off = (50, 0, 0), (0, 0, 0)

    def fire_times(**settings):
        node = trigger({"fast": {"above": "40 Hz"}}, **settings)
        return fires(node, *(rates(*v) for v in [on, off, on, off, on])), node.context.counters

    assert fire_times(refractory="1 h")[0] == [1, 0, 0, 0, 0]
    assert fire_times(refractory="1 ns")[0] == [1, 0, 1, 0, 1]
    out, counters = fire_times(limit="2 per 1 h")
    assert out == [1, 0, 1, 0, 0]
    assert counters.notes["fast"] == {"fired": 2, "limit": 1}
    assert [f["suppressed"] for f in logged(tmp_path)] == [
        None, "refractory", "refractory", None, None, None, None, None, "limit"
    ]  # fmt: skip


def test_a_rule_has_a_refractory_time_of_its_own(trigger, rates):
    rules = {"fast": {"above": "40 Hz", "refractory": "1 ns"}, "too": {"above": "40 Hz"}}
    node = trigger(rules, refractory="1 h")
    out = fired(node, rates(50, 0, 0), rates(0, 0, 0), rates(50, 0, 0))
    assert [main for main, _ in out] == [[1, 1], [0, 0], [1, 0]]
    assert out[2][1] == [1, 0], "what was held back raises no level"


def test_on_old_data_nothing_fires_and_no_level_is_held(trigger, rates, tmp_path):
    node = trigger({"fast": {"above": "40 Hz"}}, max_age="5 s")
    packets = [rates(50, 0, 0), rates(50, 0, 0, age_ms=6000), rates(50, 0, 0)]
    assert fired(node, *packets) == [([1], [1]), ([0], [0]), ([0], [1])]
    assert fires(node, rates(0, 0, 0), rates(50, 0, 0, age_ms=6000)) == [0, 0]
    assert node.context.counters.dropped == {"too_old": 2}
    last = logged(tmp_path)[-1]
    assert last["suppressed"] == "too_old"
    assert last["age_ms"] >= 6000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", [
    {"channel": "u1", "above": "40 Hz"}, {"channel": "u1", "below": "40 Hz"},
    {"channel": "u1", "rises": "1 Hz", "within": "1 s"}, {"mean": True, "above": "1 Hz"},
])  # fmt: skip
def test_what_is_not_finite_never_fires_and_is_counted(trigger, rates, rule, bad):
    node = trigger({"rule": rule})
    assert fires(node, rates(bad, 0, 0), rates(bad, 50, 50)) == [0, 0]
    assert node.context.counters.notes["rule"] == {"not_finite": 2}


def test_one_dead_channel_does_not_silence_the_others(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}})
    assert fires(node, rates(np.nan, 50, 0)) == [1]


def test_a_new_segment_starts_afresh(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}})
    assert fires(node, rates(50, 0, 0), rates(50, 0, 0), rates(50, 0, 0, segment=1)) == [1, 0, 1]
    jump = trigger({"jump": {"mean": True, "rises": "50 Hz", "within": "1 s"}})
    assert fires(jump, rates(0, 0, 0), rates(90, 90, 90, at_ms=5, segment=1)) == [0, 0]


def test_a_stall_releases_its_rules_at_once_and_says_so(trigger, rates):
    node = trigger({"fast": {"above": "40 Hz"}}, stall="20 ms")
    node.due_ns()
    assert fired(node, rates(50, 0, 0, at_ms=7, segment=1))[0][1] == [1]
    while time.monotonic_ns() < node.due_ns():
        pass
    (state,) = node.tick()
    assert (state.output, state.data.tolist(), state.source_ns) == ("state", [0], 7_000_000)
    assert state.segment == 1
    assert node.context.counters.notes["stalls"] == {"rates": 1}
    assert fired(node, rates(50, 0, 0, segment=1)) == [([1], [1])], "it goes on when data are back"


def test_a_run_without_firings_leaves_no_log(trigger, rates, tmp_path):
    node = trigger({"fast": {"above": "40 Hz"}})
    fires(node, rates(0, 0, 0))
    node.close()
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_full_disk_is_counted_and_the_loop_goes_on(trigger, rates, tmp_path):
    (tmp_path / "go.firings.jsonl").symlink_to("/dev/full")
    node = trigger({"fast": {"above": "40 Hz"}})
    assert fires(node, rates(50, 0, 0), rates(0, 0, 0), rates(50, 0, 0)) == [1, 0, 1]
    assert node.context.counters.dropped == {"firing_not_logged": 2}


def test_a_line_that_the_disk_took_half_of_spoils_no_other(tmp_path, monkeypatch):
    log = FiringLog(tmp_path / "log")
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
        log.write({"rule": "half"})
    log.write({"rule": "whole"})
    assert log.count_lost() == 1
    assert log.count_lost() == 0
    torn, whole = (tmp_path / "log").read_bytes().splitlines()
    assert len(torn) == 20
    assert json.loads(whole)["rule"] == "whole"


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.sampled_from([np.nan, -1.0, 0.0, 2.0, 7.5]),
        min_size=2, max_size=2)), min_size=1, max_size=60),
    st.integers(1, 12),
)  # fmt: skip
def test_the_least_of_a_window_is_that_of_all_its_moments(steps, span):
    least, seen, now = LeastOf(span), [], 0
    for step, values in steps:
        now += step
        seen.append((now, values))
        window = np.array([v for t, v in seen if t >= now - span])
        np.testing.assert_array_equal(
            least.push(now, np.array(values)), np.fmin.reduce(window, axis=0)
        )


@given(
    st.lists(st.integers(0, 40), max_size=80), st.integers(0, 30), st.integers(1, 4),
    st.integers(1, 200),
)  # fmt: skip
def test_no_firings_come_too_soon_or_too_many(steps, refractory, count, span):
    gate, now, fired = Gate(refractory, (count, span)), 0, []
    for step in steps:
        now += step
        reason = gate.ask(now)
        recent = [t for t in fired if now - t < span]
        if fired and now - fired[-1] < refractory:
            assert reason == "refractory"
        else:
            assert reason == ("limit" if len(recent) >= count else "")
        if not reason:
            fired.append(now)


WRONG_RULES = {
    "channel: 'probe.true_rates' has no 'u9'; it has": {"channel": "u9", "above": "40 Hz"},
    "above: expected a number in Hz, such as '40 Hz', found 40": {"above": 40},
    "above: expected a number with a unit": {"above": "40 ms"},
    "key 'above': expected a number, or one with its unit, found True": {"above": True},
    "key 'abve': found a key that no rule has; there are stream": {"abve": "40 Hz"},
    "needs one condition of above, below, rises, falls, found none": {"channel": "u1"},
    "falls, found above and below": {"above": "40 Hz", "below": "3 Hz"},
    "'rises' needs 'within'": {"rises": "4 Hz"},
    "'within' belongs to rises and falls, found 'above'": {"above": "4 Hz", "within": "1 s"},
    "release: '5 Hz' lies above the threshold, '4 Hz'": {"above": "4 Hz", "release": "5 Hz"},
    "release: '3 Hz' lies below the threshold, '4 Hz'": {"below": "4 Hz", "release": "3 Hz"},
    "looks at one value, found channel and mean": {"above": "4 Hz", "mean": True, "channel": "u"},
    "label: 'probe.true_rates' carries rates, not labels": {"label": "waving"},
    "stream: 'b' is not linked; linked are probe.true_rates": {"stream": "b", "above": 3},
    "key 'limit': expected how often in what time, such as '5 per 1 s', found '5/s'": {
        "above": "4 Hz", "limit": "5/s"
    },
    "key 'limit': '5 per 0 s' is no limit": {"above": "4 Hz", "limit": "5 per 0 s"},
    "key 'refractory': expected a number with a unit": {"above": "4 Hz", "refractory": 5},
}  # fmt: skip


def refusal(folder, rules):
    file = folder / "p.yaml"
    nodes = {
        "probe": {"use": "spikes.simulate", "population": "lorenz", "units": 3},
        "go": {"use": "trigger", "from": "probe.true_rates", "rules": rules},
    }
    file.write_text(yaml.safe_dump({"nodes": nodes}))
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file)
    assert "node 'go'" in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@pytest.mark.parametrize("message", WRONG_RULES)
def test_a_wrong_rule_is_named_with_its_key_and_what_would_do(tmp_path, message):
    told = refusal(tmp_path, {"fast": WRONG_RULES[message]})
    assert "rule 'fast'" in told
    assert message in told


def test_what_are_no_rules_is_refused(tmp_path):
    assert "expected rules by name" in refusal(tmp_path, {})
    assert "expected rules by name" in refusal(tmp_path, [1])
    assert "rule 'fast'" in refusal(tmp_path, {"fast": 3})
    assert "rule 'a b': a name starts" in refusal(tmp_path, {"a b": {"above": "4 Hz"}})


def test_a_linked_stream_that_no_rule_looks_at_is_refused(trigger, rates_spec):
    both = {"rates": rates_spec, "labels": LABELS}
    with pytest.raises(ConfigError, match="'labels' is linked, but no rule looks at it"):
        trigger({"fast": {"stream": "rates", "above": "4 Hz"}}, both)
    with pytest.raises(ConfigError, match="rule 'fast', stream: is missing; linked are rates, lab"):
        trigger({"fast": {"above": "4 Hz"}}, both)


def test_streams_without_values_to_compare_are_refused(trigger):
    frames = StreamSpec("frame", (4, 4, 3), "uint8")
    with pytest.raises(ConfigError, match=r"'cam' carries frame of shape \[4, 4, 3\], which no"):
        trigger({"bright": {"above": 3}}, {"cam": frames})
    with pytest.raises(ConfigError, match="channel: 'graph' is one value"):
        trigger({"rewired": {"channel": "u1", "above": 3}}, {"graph": GRAPH})
    with pytest.raises(ConfigError, match="label: 'labels' has no 'dancing'; it has waving, sit"):
        trigger({"dance": {"label": "dancing"}}, {"labels": LABELS})


def test_the_schema_for_editors_knows_the_rules():
    rule = settings_schema(Trigger)["$defs"]["Rule"]
    assert {"channel", "above", "within", "limit"} <= set(rule["properties"])
