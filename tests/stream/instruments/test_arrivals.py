import select
import threading

from stream.instruments.arrivals import Arrivals


def _readable(arrivals: Arrivals[int]) -> bool:
    return bool(select.select([arrivals], (), (), 0)[0])


def test_the_descriptor_is_readable_just_while_items_wait() -> None:
    arrivals = Arrivals[int](10)
    assert not _readable(arrivals)
    assert arrivals.put(1)
    assert arrivals.put(2)
    assert _readable(arrivals)
    assert arrivals.waiting
    assert arrivals.take() == [1, 2]
    assert not _readable(arrivals)
    assert arrivals.take() == []
    arrivals.close()


def test_what_comes_when_too_many_wait_is_refused_and_the_others_stay() -> None:
    arrivals = Arrivals[int](2)
    assert [arrivals.put(i) for i in range(4)] == [True, True, False, False]
    assert arrivals.take() == [0, 1]
    assert arrivals.put(4)
    arrivals.close()


def test_everything_from_a_thread_arrives_once_and_in_order() -> None:
    arrivals = Arrivals[int](100_000)

    def write() -> None:
        for i in range(20_000):
            arrivals.put(i)

    thread = threading.Thread(target=write)
    thread.start()
    taken: list[int] = []
    while len(taken) < 20_000:
        assert select.select([arrivals], (), (), 60)[0]
        taken += arrivals.take()
    thread.join()
    assert taken == list(range(20_000))
    arrivals.close()


def test_a_thread_that_outlives_the_source_wakes_nobody_and_does_not_fail() -> None:
    arrivals = Arrivals[int](10)
    arrivals.close()
    assert arrivals.put(1)
