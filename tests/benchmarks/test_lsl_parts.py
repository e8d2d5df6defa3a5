import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._lsl_parts import Returns, ReturnsSettings, stamp, took_ns
from stream.node import Context, StreamSpec
from stream.packet import Packet


@given(st.integers(0, 2**59), st.integers(0, 10**9))
def test_a_sample_carries_its_time_of_sending_to_the_nanosecond(sent_ns, took):
    rows = np.zeros((2, 5), np.float32)
    for row in rows:
        stamp(row, sent_ns)
    assert took_ns(rows, sent_ns + took) == [took, took]


def test_an_outage_is_told_with_what_is_missing_and_what_the_source_says_of_it(tmp_path) -> None:
    spec = StreamSpec("counts", (1,), "float32", period_s=0.001)
    node = Returns(ReturnsSettings(file=tmp_path / "returns"))
    node.open(Context("seen", {"probe": spec}, tmp_path))
    # Three samples are missing, of which the source tells two and its clock has gone on by one.
    for number, source_ns, segment, gap in ((1, 0, 0, 0), (5, 2_000_000, 1, 2)):
        data = np.array([number], np.float32)
        end_ns = source_ns + 1_000_000
        packet = Packet("counts", data, 0, source_ns, end_ns, segment=segment, gap=gap)
        node.process("probe", packet)
    node.close()
    line = json.loads((tmp_path / "returns").read_text().splitlines()[1])
    del line["now_ns"]
    assert line == {"missing": 3, "gap": 2, "clock_samples": 1, "segment": 1}
