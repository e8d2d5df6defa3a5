"""Packets of several streams in the order of their times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream.music.timeline import Timeline

SECOND = 1_000_000_000


def times(moments):
    return [time_ns for time_ns, _ in moments]


def test_one_stream_is_handed_on_at_once():
    line = Timeline(["a"])
    assert times(line.add("a", 5, [])) == [5]
    assert times(line.add("a", 9, [])) == [9]


def test_two_streams_are_put_in_order():
    line = Timeline(["a", "b"])
    assert times(line.add("a", 10, [])) == []
    assert times(line.add("b", 4, [])) == [4]
    assert times(line.add("b", 12, [])) == [10]
    assert times(line.rest()) == [12]


def test_a_stream_that_says_nothing_holds_the_other_back_for_a_second():
    line = Timeline(["a", "b"])
    assert times(line.add("a", 0, [])) == []
    assert times(line.add("a", 3 * SECOND, [])) == [0]
    assert times(line.rest()) == [3 * SECOND]


def test_a_clock_that_goes_back_goes_on_from_where_it_was():
    line = Timeline(["a"])
    for time_ns in (0, 10 * SECOND, 0, SECOND):
        found = times(line.add("a", time_ns, []))
    assert found == [11 * SECOND]
    assert line.clock_jumps == 1


def test_what_comes_a_little_late_counts_as_of_now():
    line = Timeline(["a"])
    list(line.add("a", SECOND, []))
    assert times(line.add("a", SECOND - 5, [])) == [SECOND]
    assert line.out_of_order == 1
    assert line.clock_jumps == 0


@given(
    given_packets=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(-5 * SECOND, 5 * SECOND)), max_size=60
    )
)
def test_nothing_is_lost_or_doubled_and_times_never_go_back(given_packets):
    line = Timeline("abc")
    found = []
    for number, (stream, time_ns) in enumerate(given_packets):
        found += line.add(stream, time_ns, [(0x90, number, 1)])
    found += line.rest()
    assert times(found) == sorted(times(found))
    numbers = [message[1] for _, messages in found for message in messages]
    assert sorted(numbers) == list(range(len(given_packets)))
