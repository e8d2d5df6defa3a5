import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks._lsl_parts import stamp, took_ns


@given(st.integers(0, 2**59), st.integers(0, 10**9))
def test_a_sample_carries_its_time_of_sending_to_the_nanosecond(sent_ns, took):
    rows = np.zeros((2, 5), np.float32)
    for row in rows:
        stamp(row, sent_ns)
    assert took_ns(rows, sent_ns + took) == [took, took]
