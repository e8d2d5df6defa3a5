"""The log of a recording gives back what was written, whatever happens to the file after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.errors import RecordingError
from stream.node import StreamSpec
from stream.packet import Packet
from stream.recording_log import Logged, LogReader, is_being_written, read_log
from stream.recording_log_writer import LogWriter
from stream.recording_nwb import finish_log

SPEC = StreamSpec("rates", (4,), "float32", ("a", "b", "c", "d"), "Hz", 0.005, {"model": {"n": 1}})
N = 12


def packet(k: int) -> Packet:
    data = np.arange(4, dtype=np.float32) + k
    return Packet("rates", data, 100 + k, k * 5, k * 5 + 5, segment=k // 6, gap=k % 2, seq=k)


def written(path: Path, n: int = N, *, end: bool = True) -> list[int]:
    """Write a log and return where each record ends."""
    writer = LogWriter(path, {"rates": SPEC}, {"pipeline": "demo"})
    ends = [writer.bytes]
    for k in range(n):
        writer.write("rates", packet(k), 1000 + k)
        ends.append(writer.bytes)
    if end:
        writer.close({"dropped": {}})
    else:
        writer.abandon()
    return ends


def same(item: Logged, k: int) -> bool:
    want = packet(k)
    got = item.packet
    return (
        item.stream == "rates"
        and item.arrival_ns == 1000 + k
        and (got.seq, got.t_ns, got.source_ns, got.source_end_ns, got.segment, got.gap)
        == (want.seq, want.t_ns, want.source_ns, want.source_end_ns, want.segment, want.gap)
        and np.array_equal(got.data, want.data)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[bytes, list[int]]:
    path = tmp_path_factory.mktemp("log") / "x.nwb.log"
    ends = written(path)
    return path.read_bytes(), ends


def read_back(path: Path, content: bytes) -> tuple[LogReader, list[Logged]]:
    path.write_bytes(content)
    reader = read_log(path)
    return reader, list(reader)


def test_a_log_gives_back_every_packet_and_describes_itself(tmp_path):
    path = tmp_path / "x.nwb.log"
    written(path)
    reader = read_log(path)
    items = list(reader)
    assert all(same(item, k) for k, item in enumerate(items))
    assert len(items) == reader.packets == N
    assert reader.streams == {"rates": SPEC}
    assert reader.start["pipeline"] == "demo"
    assert reader.end == {"dropped": {}}
    assert (reader.lost_bytes, reader.torn_bytes, reader.damaged) == (0, 0, 0)
    assert len(list(reader)) == N


def test_a_log_can_be_read_while_it_is_written(tmp_path):
    path = tmp_path / "x.nwb.log"
    writer = LogWriter(path, {"rates": SPEC}, {})
    writer.write("rates", packet(0), 1000)
    assert [same(item, 0) for item in read_log(path)] == [True]
    assert is_being_written(path)
    writer.close({})
    assert not is_being_written(path)


def test_a_log_is_never_overwritten(tmp_path):
    path = tmp_path / "x.nwb.log"
    written(path, 1)
    content = path.read_bytes()
    with pytest.raises(RecordingError, match="innervate recover"):
        LogWriter(path, {}, {})
    assert path.read_bytes() == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_log_cut_anywhere_gives_what_came_whole_before_the_cut(tmp_path, whole, data):
    content, ends = whole
    cut = data.draw(st.integers(ends[0], len(content) - 1))
    reader, items = read_back(tmp_path / "cut.nwb.log", content[:cut])
    intact = sum(end <= cut for end in ends[1:])
    assert [same(item, k) for k, item in enumerate(items)] == [True] * intact
    assert reader.torn_bytes == reader.lost_bytes == cut - ends[intact]
    assert reader.damaged == 0
    assert reader.end is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_flipped_bytes_cost_the_packets_they_hit_and_no_other(tmp_path, whole, data):
    content, ends = whole
    places = data.draw(st.sets(st.integers(ends[0], ends[-1] - 1), min_size=1, max_size=4))
    spoilt = bytearray(content)
    for place in places:
        spoilt[place] ^= data.draw(st.integers(1, 255))
    reader, items = read_back(tmp_path / "flip.nwb.log", bytes(spoilt))
    hit = {next(k for k in range(N) if place < ends[k + 1]) for place in places}
    assert [item.packet.seq for item in items] == [k for k in range(N) if k not in hit]
    assert all(same(item, item.packet.seq) for item in items)
    assert reader.lost_bytes == sum(ends[k + 1] - ends[k] for k in hit)
    assert reader.damaged >= 1
    assert reader.end is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=st.binary(max_size=60), inside=st.binary(max_size=60), after=st.binary(max_size=60))
def test_foreign_bytes_between_records_are_stepped_over(tmp_path, whole, before, inside, after):
    content, ends = whole
    middle = ends[5]
    reader, items = read_back(
        tmp_path / "x.nwb.log", before + content[:middle] + inside + content[middle:] + after
    )
    assert [same(item, k) for k, item in enumerate(items)] == [True] * N
    assert reader.lost_bytes == len(before) + len(inside) + len(after)
    assert reader.torn_bytes == len(after)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300))
def test_a_file_that_is_no_log_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "x.nwb.log"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"is empty|is no log"):
        read_log(path)


def test_a_log_whose_description_is_damaged_still_becomes_a_recording(tmp_path):
    path = tmp_path / "x.nwb.log"
    ends = written(path)
    content = bytearray(path.read_bytes())
    content[ends[0] - 3] ^= 0xFF
    path.write_bytes(content)
    reader = read_log(path)
    assert reader.streams == {}
    done = finish_log(path, tmp_path / "x.nwb")
    assert done.packets == {"rates": N}
    assert done.damaged == 1
    # What may still be wanted of a damaged log stays where it is.
    assert path.exists()


def test_a_directory_or_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="cannot be read"):
        read_log(tmp_path)
    with pytest.raises(RecordingError, match="cannot be read"):
        read_log(tmp_path / "none.nwb.log")


def test_a_log_that_cannot_be_begun_leaves_nothing_behind(tmp_path):
    with pytest.raises(RecordingError, match="cannot be created"):
        LogWriter(tmp_path / "none" / "x.nwb.log", {}, {})


@pytest.mark.parametrize(
    ("spec", "data", "says"),
    [
        (SPEC, np.zeros(4, np.float32), ""),
        (SPEC, np.zeros(5, np.float32), "wrong_shape"),
        (SPEC, np.zeros((4, 1), np.float32), "wrong_shape"),
        (SPEC, np.zeros(4, np.float64), "wrong_dtype"),
        (StreamSpec("rates", (None, 2), "int64"), np.zeros((7, 2), np.int64), ""),
        (StreamSpec("rates", (None, 2), "int64"), np.zeros((7, 3), np.int64), "wrong_shape"),
        (StreamSpec("counts", (4,), "float32"), np.zeros(4, np.float32), "wrong_kind"),
    ],
)
def test_a_packet_unlike_its_stream_is_told_from_one_that_fits(spec, data, says):
    assert spec.misfit(Packet("rates", data, 0, 0, 0)) == says
