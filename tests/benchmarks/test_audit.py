from pathlib import Path

import numpy as np

from benchmarks._audit import Audit
from stream.node import Context, NodeSettings
from stream.packet import Packet


def audit(*bins):
    """Bins given as (start, segment, gap) in widths of 5."""
    node = Audit(NodeSettings())
    context = Context("sink", {}, Path())
    node.open(context)
    for start, segment, gap in bins:
        packet = Packet("rates", np.zeros(1), 2**62, start, start + 5, segment=segment, gap=gap)
        node.process("rates", packet)
    node.finish()
    return {key: n for key, n in context.counters.notes["audit"].items() if n}


def test_bins_in_order_pass_also_over_the_rest_of_a_segment():
    assert audit((0, 0, 0), (5, 0, 0), (13, 1, 0)) == {"bins": 3, "segments": 2}


def test_missing_doubled_and_incomplete_bins_are_found():
    assert audit((0, 0, 0), (15, 0, 1), (15, 0, 0), (20, 0, 0)) == {
        "bins": 4, "segments": 1, "lost": 2, "doubled": 1, "incomplete": 1,
    }  # fmt: skip
    assert audit((0, 0, 0), (27, 1, 0))["lost"] == 4


def test_bins_that_come_after_the_next_has_ended_are_late():
    node = Audit(NodeSettings())
    context = Context("sink", {}, Path())
    node.open(context)
    node.process("rates", Packet("rates", np.zeros(1), 0, 0, 5))
    assert node.found["late"] == 1
