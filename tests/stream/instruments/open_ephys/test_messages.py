import contextlib
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oe_wire import data_frames, edge_frames, spike_frames

from stream.errors import WireError
from stream.instruments.open_ephys import broadcast
from stream.instruments.open_ephys.messages import Data, Event, Spike, decode, ttl_edge


def test_the_three_kinds_of_message_are_read() -> None:
    data = decode(data_frames(7, 2, 12_345_678_901, 10, channel_name="AP3"))
    assert isinstance(data, Data)
    assert (data.message_num, data.content.channel_num, data.content.channel_name) == (7, 2, "AP3")
    assert (data.content.sample_num, data.content.sample_rate) == (12_345_678_901, 30_000)
    spike = decode(spike_frames(8, 55, "Tetrode 1", 3))
    assert isinstance(spike, Spike)
    assert (spike.spike.electrode, spike.spike.sorted_id, spike.spike.sample_num) == (
        "Tetrode 1", 3, 55,
    )  # fmt: skip
    frames = edge_frames(9, 66, 5, True)
    event = decode(frames)
    assert isinstance(event, Event)
    assert ttl_edge(event, frames[2]) == (5, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_size": 2**30}, "says 1073741824 bytes and 10 samples"),
        ({"content": {"num_samples": 2**28}, "data_size": 2**30}, "header came in that is none"),
        ({"content": {"num_samples": 9}, "data_size": 36}, "payload of 40 bytes"),
        ({"content": {"sample_num": 2**62}}, "header came in that is none"),
        ({"content": {"sample_rate": 0}}, "header came in that is none"),
        ({"content": {"channel_num": -1}}, "header came in that is none"),
        ({"type": "parameter"}, "header came in that is none"),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(change: dict, says: str) -> None:
    envelope, header, payload = data_frames(1, 0, 100, 10)
    content = json.loads(header)
    content["content"] |= change.pop("content", {})
    with pytest.raises(WireError, match=says):
        decode([envelope, json.dumps({**content, **change}).encode(), payload])


def test_half_a_message_is_refused() -> None:
    envelope, header, payload = data_frames(1, 0, 100, 10)
    for frames in (
        [envelope],
        [envelope, header],
        [envelope, header[:50], payload],
        [envelope, header, payload[:-1]],
        [b"PARAM\0", header, payload],
        [envelope, b" " * 70_000, payload],
    ):
        with pytest.raises(WireError):
            decode(frames)
    envelope, header, payload = edge_frames(1, 0, 0, True)
    event = decode([envelope, header, payload])
    assert isinstance(event, Event)
    with pytest.raises(WireError, match="TTL event of 9 bytes"):
        ttl_edge(event, payload[:9])
    event.content.type = 5
    with pytest.raises(WireError, match="event of type 5"):
        ttl_edge(event, payload)


def test_the_other_plugin_is_recognised() -> None:
    with pytest.raises(WireError, match="Event Broadcaster"):
        decode([b"\0\0", b"{}"])
    with pytest.raises(WireError, match="ZMQ Interface"):
        broadcast.decode(data_frames(1, 0, 0, 1))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "content", "spike", "stream"]), inner)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())
_FRAMES = st.lists(
    st.sampled_from([b"DATA\0", b"EVENT\0", b"\0\0", b"\1\0", b""])
    | _JSON
    | st.binary(max_size=60),
    max_size=5,
)


@given(_FRAMES)
@settings(max_examples=60, deadline=None)
def test_whatever_comes_is_read_or_refused_and_nothing_else(frames: list[bytes]) -> None:
    for read in (decode, broadcast.decode):
        with contextlib.suppress(WireError):
            read(frames)


def _json(**event: object) -> bytes:
    return json.dumps({"stream": "probe", "sample_rate": 30000.0, **event}).encode()


def test_spikes_and_edges_of_the_broadcaster_are_read_in_both_forms() -> None:
    spike = _json(event_type="spike", sample_number=9, electrode="E 1", sorted_id=2, amp1=3.5)
    assert broadcast.decode([b"\1\0", spike]) == broadcast.Happened(
        "probe", 30_000, 9, electrode="E 1", sorted_id=2
    )
    for state in (True, 1):
        edge = _json(event_type="ttl", sample_number=8, line=3, state=state, channel_name="T")
        assert broadcast.decode([b"\0\0", edge]) == broadcast.Happened(
            "probe", 30_000, 8, line=3, up=True
        )
    raw = struct.pack("<BBHHHqdH", 2, 1, 101, 4, 6, 77, 0.5, 3) + bytes(20)
    assert broadcast.decode([b"\1\0", raw]) == broadcast.Happened(
        "4", None, 77, electrode="Electrode 7", sorted_id=3
    )
    raw = struct.pack("<BBHHHqdBBQ", 1, 3, 101, 4, 0, 78, 0.5, 2, 0, 0)
    assert broadcast.decode([b"\0\0", raw]) == broadcast.Happened("4", None, 78, line=2)
    for short in (raw[:20], bytes(34), struct.pack("<BBHHHqdBBQ", 1, 5, 1, 4, 0, 78, 0.5, 2, 0, 0)):
        with pytest.raises(WireError):
            broadcast.decode([b"\0\0", short])
