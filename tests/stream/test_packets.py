import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stream.errors import WireError
from stream.packet import Packet, decode, encode

numeric = st.sampled_from(["u1", "i1", "<u2", "<i4", "<i8", "<f2", "<f4", "<f8", "?"])


@given(
    hnp.arrays(numeric.map(np.dtype), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)),
    st.integers(0, 2**62 - 1),
    st.text(max_size=20),
)
def test_a_packet_survives_the_wire_unchanged(data: np.ndarray, t_ns: int, stream: str) -> None:
    sent = Packet("counts", data, t_ns, t_ns - 5, t_ns, segment=3, gap=2, seq=7, meta={"a": [1]})
    frames = [bytes(frame) for frame in encode(stream, sent, sent_ns=t_ns + 1)]
    name, got = decode(frames)
    assert name == stream
    assert got.data.dtype == data.dtype
    np.testing.assert_array_equal(got.data, data)
    for field in ("kind", "t_ns", "source_ns", "source_end_ns", "segment", "gap", "seq", "meta"):
        assert getattr(got, field) == getattr(sent, field)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_a_strangers_bytes_are_refused_and_never_crash(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(frames)


@given(st.data())
def test_a_damaged_header_is_refused_or_still_describes_its_payload(data: st.DataObject) -> None:
    frames = [bytes(f) for f in encode("s", Packet("rates", np.zeros(4, "f4"), 1, 0, 1), 2)]
    at = data.draw(st.integers(0, len(frames[1]) - 1))
    damaged = bytearray(frames[1])
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        _, packet = decode([frames[0], bytes(damaged), frames[2]])
    except WireError:
        return
    assert packet.data.nbytes == len(frames[2])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 2}, "format 2"),
        ({"dtype": "|O"}, "dtype"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [2**40, 2**40]}, "limit"),
        ({"shape": [5]}, "payload"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"gap": -1}, "gap"),
        ({"gap": 2**62}, "gap"),
        ({"segment": 2**48}, "segment"),
        ({"t_ns": 2**63}, "t_ns"),
        ({"source_ns": -(2**63)}, "source_ns"),
    ],
)
def test_a_header_that_lies_is_refused_with_what_is_wrong(change: dict, says: str) -> None:
    frames = [bytes(f) for f in encode("s", Packet("rates", np.zeros(4, "f4"), 1, 0, 1), 2)]
    header = msgspec.msgpack.decode(frames[1]) | change
    with pytest.raises(WireError, match=says):
        decode([frames[0], msgspec.msgpack.encode(header), frames[2]])
