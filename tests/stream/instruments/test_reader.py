import threading
import time

import pytest

from stream.errors import InnervateError
from stream.instruments.live import LiveSource
from stream.instruments.reader import Reader
from stream.node import NodeSettings
from tests.stream.instruments.served import Served


class Fickle(Reader):
    """Gives one number a connection, and is lost then; some attempts fail."""

    def __init__(self, source: "Source", refuses: int, fault: bool) -> None:
        super().__init__("the fickle one")
        self.source, self.refuses, self.fault = source, refuses, fault
        self.given = 0

    def connect(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError("not yet")

    def read(self) -> None:
        self.given += 1
        self.source.arrivals.put(self.given)
        if self.fault:
            raise KeyError("a fault in here")

    def disconnect(self) -> None:
        pass

    def on_lost(self) -> None:
        self.source.arrivals.put(-1)


class Source(LiveSource[NodeSettings, int]):
    refuses = 0
    fault = False

    def open(self, context) -> None:
        super().open(context)
        self.taken: list[int] = []
        self.reader = Fickle(self, self.refuses, self.fault)
        self.reader.connect() if not self.refuses else None

    def start(self, start_ns: int) -> None:
        super().start(start_ns)
        self.reader.start(connected=False)

    def take(self, item: int):
        self.taken.append(item)
        return ()


def test_an_instrument_is_tried_again_until_it_is_back_and_the_losses_lie_in_between(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("stream.instruments.reader.PAUSE_S", 0.001)
    source = Source(NodeSettings())
    source.refuses = 5
    got = Served(source, tmp_path).open()
    got.until(lambda: len(source.taken) >= 6)
    source.close()
    assert source.taken[:6] == [1, -1, 2, -1, 3, -1]
    notes = got.counters.notes
    assert notes["outages"] >= 3
    assert notes["attempts"] >= notes["outages"] + 5
    assert sum("is not back" in r.message for r in caplog.records) == 3
    assert not any(thread.name == "reader" for thread in threading.enumerate())


def test_a_fault_of_our_own_fails_the_source_and_is_no_silence(tmp_path) -> None:
    source = Source(NodeSettings())
    source.fault = True
    got = Served(source, tmp_path).open()
    with pytest.raises(InnervateError, match="reading the fickle one has failed"):
        got.until(lambda: False)
    source.close()


def test_a_source_that_hears_nothing_says_so_once(tmp_path, caplog) -> None:
    source = Source(NodeSettings())
    source.refuses = 10**9
    got = Served(source, tmp_path).open()
    source._missed_ns = time.monotonic_ns()
    for _ in range(3):
        got.once()
    source.close()
    assert sum("nothing has come" in r.message for r in caplog.records) == 1
    assert got.counters.notes["heard"] is False
