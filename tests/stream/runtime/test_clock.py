import socket
import time
from collections.abc import Callable

import pytest
import zmq

from stream.runtime.clock import Waiter, readable


@pytest.mark.parametrize("wait", [Waiter.wait, Waiter.watch])
def test_waiting_ends_at_the_deadline_and_not_before(wait: Callable[[Waiter, int], bool]) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind("inproc://quiet")
        waiter = Waiter()
        waiter.add(socket)
        end_ns = time.monotonic_ns() + 3_000_000
        assert not wait(waiter, end_ns)
        assert time.monotonic_ns() >= end_ns
        assert not readable(socket)


@pytest.mark.parametrize("wait", [Waiter.wait, Waiter.watch])
def test_waiting_ends_when_something_arrives_or_is_there_already(
    wait: Callable[[Waiter, int], bool],
) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as inbox,
        context.socket(zmq.PUSH) as outbox,
    ):
        inbox.bind("inproc://busy")
        outbox.connect("inproc://busy")
        waiter = Waiter()
        waiter.add(inbox)
        for number in range(20):
            outbox.send(bytes([number]))
            end_ns = time.monotonic_ns() + 60_000_000_000
            while not readable(inbox):
                assert wait(waiter, end_ns)
            assert time.monotonic_ns() < end_ns
            assert inbox.recv() == bytes([number])


def test_waiting_ends_when_a_file_can_be_read() -> None:
    ours, theirs = socket.socketpair()
    with zmq.Context() as context, context.socket(zmq.PULL) as quiet, ours, theirs:
        quiet.bind("inproc://quiet")
        waiter = Waiter()
        waiter.add(quiet)
        waiter.add_file(ours.fileno())
        assert not waiter.wait(time.monotonic_ns() + 1_000_000)
        theirs.send(b"x")
        assert waiter.wait(time.monotonic_ns() + 60_000_000_000)
