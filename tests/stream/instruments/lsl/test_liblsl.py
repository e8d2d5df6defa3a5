from __future__ import annotations

import sys
import time

import pytest

from stream.errors import MissingExtraError
from stream.instruments.lsl.liblsl import LslClock, load_pylsl


def test_times_of_lsl_on_this_host_are_mapped_exactly() -> None:
    clock = LslClock(load_pylsl().local_clock)
    assert sys.platform != "linux" or clock.offset_ns == 0
    for host_ns in (0, 1, 123_456_789, 86_400 * 10**9 + 7):
        assert clock.host_ns(clock.lsl_s(host_ns)) == host_ns


def test_a_clock_that_is_another_is_mapped_by_its_offset() -> None:
    clock = LslClock(lambda: time.monotonic_ns() / 1e9 + 5.0)
    assert clock.offset_ns == pytest.approx(-5_000_000_000, abs=1_000_000)
    assert clock.lsl_s(clock.host_ns(7.0)) == pytest.approx(7.0)


def test_without_pylsl_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(MissingExtraError, match=r"innervate\[lsl\]"):
        load_pylsl()
