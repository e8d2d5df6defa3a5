from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.connectome.simulations import SpikingNetwork, switching_var
from stream.connectome.connectome import CHANGE, Connectome, ConnectomeSettings
from stream.errors import ConfigError
from stream.loop.rules import Rule
from stream.loop.values import reader
from stream.node import GAVE_NOTHING, Context, StreamSpec
from stream.packet import Packet, encode_header

WIDTH_NS = 10_000_000


def _spec(units=4, kind="counts", **more):
    names = tuple(f"u{i}" for i in range(units))
    values = {"period_s": 0.01, **more}
    return StreamSpec(kind, (units,), "float32", names, "count", **values)


def _node(spec, **settings):
    values = {"window": "2 s", "every": "100 ms", "method": "granger", **settings}
    node = Connectome(ConnectomeSettings(**values))
    outputs = node.outputs({"bins": spec})
    node.open(Context("graphs", {"bins": spec}, Path()))
    return node, outputs


def _feed(node, data, *, start=0, segment=0, kind="counts", **more):
    packets = []
    for number, row in enumerate(np.asarray(data, dtype=np.float32), start):
        packet = Packet(
            kind, row, t_ns=number + 7, source_ns=number * WIDTH_NS,
            source_end_ns=(number + 1) * WIDTH_NS, segment=segment,
            seq=number, **more,
        )  # fmt: skip
        packets += node.process("bins", packet)
    return packets


def _spikes(bins, units=4, seed=0):
    return np.random.default_rng(seed).poisson(0.5, (bins, units))


def test_a_graph_comes_every_few_bins_and_says_what_it_is_made_of():
    node, outputs = _node(_spec())
    assert outputs[""].shape == (4, 4, 3)
    assert outputs[""].names == ("u0", "u1", "u2", "u3")
    packets = [p for p in _feed(node, _spikes(500)) if not p.output]
    assert len(packets) in (48, 49)
    last = packets[-1]
    assert (last.kind, last.data.dtype, last.data.shape) == ("graph", np.float32, (4, 4, 3))
    assert (last.t_ns, last.source_ns, last.source_end_ns) == (506, 490 * WIDTH_NS, 500 * WIDTH_NS)
    assert last.meta["effective"] == 200
    assert last.meta["window_s"] == 2.0
    assert last.meta["age_s"] == 1.0
    assert last.meta["alpha"] == 0.05
    assert last.meta["method"] == "granger"
    assert last.meta["note"] == "functional, conditional on the recorded units"
    assert isinstance(last.meta["change"], float)


@pytest.mark.parametrize("fading", [False, True])
def test_graphs_can_be_sent_to_another_process(fading):
    node, _ = _node(_spec(), fading=fading)
    packets = _feed(node, _spikes(700))
    assert {p.output for p in packets} == {"", "change"}
    assert all(encode_header(packet, 0) for packet in packets)


def test_rows_do_not_reach_over_segments_gaps_or_refused_bins():
    node, _ = _node(_spec())
    data = _spikes(101)
    _feed(node, data[:30])
    _feed(node, data[30:50], start=30, segment=1)
    _feed(node, data[51:60], start=51, segment=1)
    _feed(node, [[np.nan] * 4], start=60, segment=1)
    _feed(node, [[1.0] * 3], start=61, segment=1)
    _feed(node, data[62:63], start=62, segment=1, gap=1)
    (*_, last) = (p for p in _feed(node, data[63:], start=63, segment=1) if not p.output)
    assert last.meta["effective"] == 29 + 19 + 8 + 37
    assert node.context.counters.dropped == {"not_finite": 1, "wrong_shape": 1, "incomplete": 1}


def test_a_value_too_large_to_keep_is_refused():
    node, _ = _node(_spec(kind="rates"))
    packet = Packet("rates", np.array([1e300, 0, 0, 0]), 0, 0, WIDTH_NS)
    list(node.process("bins", packet))
    assert node.context.counters.dropped == {"not_finite": 1}


def test_a_trigger_can_watch_the_change_known_or_not():
    node, outputs = _node(_spec())
    read, names = reader("graphs", outputs[""], Rule(above=10))
    graphs = [p for p in _feed(node, _spikes(500)) if not p.output]
    assert names == ("change",)
    assert np.isnan(read(graphs[0]))
    assert np.isfinite(read(graphs[-1]))


def test_a_graph_for_which_not_all_sets_were_tried_says_so_and_is_counted():
    node, _ = _node(_spec(40, kind="rates"), method="pc", delay=0, window="1 s", every="500 ms")
    random = np.random.default_rng(0)
    data = random.standard_normal((100, 40)) + 3 * random.standard_normal((100, 1))
    *_, dense = _feed(node, data, kind="rates")
    assert dense.meta["limited"] == 40
    assert node.context.counters.notes["graphs_limited"] == node.context.counters.notes["graphs"]
    *_, loose = _feed(node, random.standard_normal((100, 40)), start=100, kind="rates")
    assert loose.meta["limited"] == 0


def test_a_silent_unit_is_left_out_until_it_spikes():
    node, _ = _node(_spec())
    data = _spikes(600)
    data[:300, 2] = 0
    early = [p for p in _feed(node, data[:300]) if not p.output][-1]
    late = [p for p in _feed(node, data[300:], start=300) if not p.output][-1]
    assert early.meta["left_out"] == {"silent": [2]}
    assert np.isnan(early.data[2, :, 2]).all()
    assert late.meta["left_out"] == {}
    assert np.isfinite(late.data[..., 2]).all()


def test_graphs_that_cannot_be_made_are_counted_and_marked_as_a_gap():
    node, _ = _node(_spec())
    _feed(node, _spikes(300))
    quiet = _feed(node, np.zeros((250, 4)), start=300)
    dropped = node.context.counters.dropped["no_graph"]
    assert dropped > 0
    again = _feed(node, _spikes(60), start=550)
    first = next(p for p in again if not p.output)
    assert len(quiet) < 50
    assert first.gap >= dropped


def test_a_node_that_made_no_graph_says_why():
    node, _ = _node(_spec(), every="10 s")
    _feed(node, _spikes(300))
    assert list(node.finish()) == []
    said = node.context.counters.notes[GAVE_NOTHING]
    assert said.startswith("300 bins came, the first graph was due after 1000 ('every' is 10 s)")
    node, _ = _node(_spec())
    _feed(node, _spikes(15))
    node.finish()
    assert "take a longer window" in node.context.counters.notes[GAVE_NOTHING]
    node, _ = _node(_spec())
    _feed(node, _spikes(300))
    node.finish()
    assert GAVE_NOTHING not in node.context.counters.notes


@pytest.mark.parametrize("fading", [False, True])
def test_a_network_that_switches_is_noticed_within_half_a_window(fading):
    first, second = switching_var(8, 3000, 0)
    spec = _spec(8, "rates")
    node, _ = _node(spec, window="10 s", fading=fading)
    before = _feed(node, first.data, kind="rates")
    after = _feed(node, second.data[:500], start=3000, kind="rates")
    assert CHANGE[0] == "change"
    assert max(p.data[0] for p in before if p.output) < 10
    assert max(p.data[0] for p in after if p.output) > 10
    assert not any(p.meta["changed"] for p in before if not p.output)
    assert any(p.meta["changed"] for p in after if not p.output)
    assert node.context.counters.notes["changes"] == 1


def test_the_graph_of_a_spiking_network_is_found_live():
    network = SpikingNetwork.draw(6, 0, strength=(2.0, 3.0))
    node, _ = _node(_spec(6), window="200 s", every="10 s", method="counts")
    last = [p for p in _feed(node, network.run(20.0, 1)) if not p.output][-1]
    found = last.data[..., 0] > 0
    assert (found & network.edges).sum() >= 0.8 * network.edges.sum()
    assert (found & ~network.edges).sum() <= 2


@pytest.mark.parametrize(
    ("spec", "settings", "says"),
    [
        (_spec(300), {}, "window: 2 s are 200 bins, and 'granger' needs at least 311"),
        (_spec(), {"window": "2005 ms"}, "window: 2.005 s is no whole number of the bins"),
        (_spec(), {"every": "1 ms"}, "every: 1 ms is no whole number"),
        (_spec(), {"delay": 0}, "delay: 'granger' looks into the past"),
        (_spec(kind="rates"), {"method": "counts"}, "method: 'counts' tests spikes"),
        (_spec(2000), {"window": "60 s"}, "takes 1000 at most"),
        (_spec(period_s=None), {}, "no regular stream of units"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_run(spec, settings, says):
    with pytest.raises(ConfigError, match=says):
        _node(spec, **settings)
