import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.runtime.latency import Latency


@given(st.lists(st.integers(1, 3_600_000_000_000), min_size=1, max_size=300))
def test_percentiles_are_true_to_one_percent_and_the_maximum_is_exact(took: list[int]) -> None:
    latency = Latency()
    for duration_ns in took:
        latency.add(duration_ns)
    found = latency.summary()
    assert found["max_us"] == max(took) / 1e3
    for key, share in (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)):
        exact = sorted(took)[int(np.ceil(share * len(took))) - 1] / 1e3
        assert found[key] == pytest.approx(exact, rel=0.01)


def test_nothing_gives_zeros_and_what_is_out_of_range_still_counts() -> None:
    latency = Latency()
    assert set(latency.summary().values()) == {0.0}
    latency.add(-5)
    latency.add(10**16)
    assert latency.count == 2
    assert latency.summary()["max_us"] == 10**13
