import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.instruments.intan.records import (
    FRAMES_PER_BLOCK,
    SPIKE,
    SPIKE_MAGIC,
    Unwrap,
    spikes,
    waveforms,
)

MAGIC = SPIKE_MAGIC.to_bytes(4, "little")


def _written(count: int) -> bytes:
    records = np.zeros(count, SPIKE)
    records["magic"] = SPIKE_MAGIC
    records["channel"] = [f"A-{n % 128:03}" for n in range(count)]
    records["timestamp"] = np.arange(count) * 7
    records["id"] = 1
    return records.tobytes()


@given(st.integers(0, 40), st.lists(st.integers(0, 600), max_size=30))
def test_records_that_are_split_anywhere_are_read_whole(count: int, cuts: list[int]) -> None:
    data, records = _written(count), spikes()
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    read = [records.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(read).tobytes() == data
    assert records.skipped_bytes == 0


@given(
    st.binary(max_size=60).filter(lambda b: MAGIC[:1] not in b),
    st.integers(0, 5),
    st.integers(1, 5),
    st.integers(1, 13),
)
def test_after_garbage_reading_goes_on_at_the_next_magic_number(
    garbage: bytes, before: int, after: int, step: int
) -> None:
    data = _written(before) + garbage + _written(after)
    records = spikes()
    read = [records.feed(data[at : at + step]) for at in range(0, len(data), step)]
    assert len(np.concatenate(read)) == before + after
    assert records.skipped_bytes == len(garbage)


def test_a_record_that_lost_a_byte_costs_itself_only() -> None:
    data = _written(10)
    records = spikes()
    read = records.feed(data[: 3 * 14 + 9] + data[3 * 14 + 10 :])
    # Its last byte is now the first of the next one, which cannot be told from it.
    assert 8 <= len(read) <= 9
    assert (np.isin(read["timestamp"], np.arange(10) * 7)).sum() >= 8
    assert records.skipped_bytes == 13


@given(st.binary(max_size=3000), st.integers(1, 200))
def test_whatever_comes_is_bounded_and_nothing_else_is_read(data: bytes, step: int) -> None:
    records = spikes()
    read = [records.feed(data[at : at + step]) for at in range(0, len(data), step)]
    used = 14 * sum(map(len, read)) + records.skipped_bytes + len(records._rest)
    assert used == len(data)
    assert len(records._rest) < 14


def test_blocks_of_waveforms_are_read_with_and_without_channels() -> None:
    for words in (0, 3):
        records = waveforms(words)
        block = np.zeros(2, records._dtype)
        block["magic"] = records._magic
        block["frames"]["timestamp"] = np.arange(2 * FRAMES_PER_BLOCK).reshape(2, -1)
        block["frames"]["words"] = 33_000
        data = block.tobytes()
        assert len(records.feed(data[:700])) == (words == 0)
        (last,) = records.feed(data[700:])[-1:]
        assert last["frames"]["timestamp"][-1] == 255
        assert last["frames"]["words"].shape == (FRAMES_PER_BLOCK, words)


@given(st.integers(0, 2**33), st.lists(st.integers(-100, 20_000), min_size=1, max_size=50))
def test_time_stamps_go_on_where_32_bits_begin_again(start: int, steps: list[int]) -> None:
    unwrap = Unwrap(30_000)
    start %= 2**32
    exact = start + np.cumsum(np.abs(steps))
    found = [
        unwrap.feed((exact[i : i + 7] % 2**32).astype(np.uint32)) for i in range(0, len(exact), 7)
    ]
    shift = exact[0] - exact[0] % 2**32
    assert np.concatenate(found).tolist() == (exact - shift).tolist()


def test_a_controller_that_starts_again_at_zero_is_no_wrap() -> None:
    for last in (1_000_000, 3_000_000_000, 2**32 - 40_000):
        unwrap = Unwrap(30_000)
        unwrap.feed(np.array([last], np.uint32))
        assert unwrap.feed(np.array([0, 128], np.uint32)).tolist() == [0, 128]
