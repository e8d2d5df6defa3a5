import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.units import format_seconds, parse_hertz, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5 ms", 0.005), ("5ms", 0.005), ("1.5 min", 90.0), ("2 h", 7200.0), ("1e2 us", 1e-4)],
)
def test_a_duration_with_a_unit_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["5", 5, 5.0, None, "5 parsec", "-5 ms", "ms", "5 Hz", ""])
def test_a_duration_without_a_unit_of_time_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="such as '5 ms'"):
        parse_seconds(value)


def test_a_frequency_is_read_in_hertz() -> None:
    assert parse_hertz("30 kHz") == 30_000.0


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_a_written_duration_reads_back_as_the_same(seconds: float) -> None:
    assert math.isclose(parse_seconds(format_seconds(seconds)), seconds, rel_tol=1e-5)
