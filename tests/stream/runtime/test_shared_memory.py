import os
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from stream.errors import WireError
from stream.runtime import shared_memory
from stream.runtime.shared_memory import SlotReader, SlotWriter, anonymous_file


@pytest.fixture
def file() -> Iterator[int]:
    fd = anonymous_file("test")
    yield fd
    os.close(fd)


def announce(writer: SlotWriter, data: np.ndarray, holders: int = 1) -> dict[str, int]:
    place = writer.put(data, holders)
    assert place is not None
    return msgspec.structs.asdict(place)


def test_an_array_is_seen_as_it_was_written_without_a_copy(file: int) -> None:
    writer, reader = SlotWriter(file), SlotReader(file)
    data = np.arange(60_000, dtype="<u2").reshape(3, 200, 100)
    got = reader.view(announce(writer, data[:, ::-1]), "<u2", data.shape)
    np.testing.assert_array_equal(got, data[:, ::-1])
    assert not got.flags.writeable


def test_a_slot_is_used_again_only_when_nothing_views_it_any_more(file: int) -> None:
    writer, reader = SlotWriter(file), SlotReader(file)
    first = announce(writer, np.full(70_000, 1, np.uint8))
    view = reader.view(first, "|u1", (70_000,))
    part = view[10:20]
    del view
    assert reader.returned == []
    assert announce(writer, np.full(70_000, 2, np.uint8)) != first
    assert (part == 1).all()
    del part
    assert reader.returned == [first["slot"]]
    writer.release(reader.returned.pop())
    assert announce(writer, np.full(70_000, 3, np.uint8)) == first


def test_a_slot_stays_while_one_of_its_links_holds_it(file: int) -> None:
    writer = SlotWriter(file)
    first = announce(writer, np.zeros(10, np.uint8), holders=2)
    writer.release(first["slot"])
    assert announce(writer, np.zeros(10, np.uint8)) != first
    writer.release(first["slot"])
    assert announce(writer, np.zeros(10, np.uint8)) == first


def test_beyond_its_limit_an_array_is_left_to_the_message(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "LIMIT_BYTES", 10_000)
    writer = SlotWriter(file)
    assert writer.put(np.zeros(4096, np.uint8), 1) is not None
    assert writer.put(np.zeros(4097, np.uint8), 1) is None


@pytest.mark.parametrize(
    "shared",
    [
        {}, {"slot": 0}, {"slot": "a", "offset": 0, "capacity": 4096},
        {"slot": 0, "offset": 1 << 40, "capacity": 4096},
        {"slot": 0, "offset": -4096, "capacity": 4096},
        {"slot": 0, "offset": 0, "capacity": 0},
        {"slot": 9, "offset": 1, "capacity": 4000},
        {"slot": 9, "offset": 0, "capacity": 100},
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(file: int, shared: dict[str, object]) -> None:
    writer, reader = SlotWriter(file), SlotReader(file)
    announce(writer, np.zeros(4096, np.uint8))
    with pytest.raises(WireError):
        reader.view(shared, "|u1", (4096,))
