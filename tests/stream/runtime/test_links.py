import itertools
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.node import StreamSpec
from stream.packet import Packet
from stream.plan import Delivery, Link
from stream.runtime.link_messages import pack
from stream.runtime.links import Receiver, Sender

TOKEN = bytes(range(16))
SPEC = StreamSpec("rates", (None,), "float32")
addresses = (f"inproc://link-{number}" for number in itertools.count())
Pair = tuple[Sender, Receiver, str]


def numbered(seq: int, t_ns: int = 0) -> Packet:
    return Packet("rates", np.full(3, seq, np.float32), t_ns, 0, 0, seq=seq)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def connect(context: zmq.Context[Any]) -> Iterator[Callable[..., Pair]]:
    pairs: list[Pair] = []

    def make(policy: str = "lossless", depth: int = 1, max_age_s: float | None = None) -> Pair:
        address = next(addresses)
        link = Link("s", "s", "", "t", Delivery(policy, depth, max_age_s))  # type: ignore[arg-type]
        receiver = Receiver(context, address, link=link, spec=SPEC, token=TOKEN, shared_fd=None)
        sender = Sender(context, address, link=link, spec=SPEC, token=TOKEN, release=int)
        pairs.append((sender, receiver, address))
        until(lambda: receiver.greet() or receiver.connected, receiver.socket)
        until(lambda: sender.pump() or sender.connected, sender.back)
        return pairs[-1]

    yield make
    for sender, receiver, _ in pairs:
        sender.abandon()
        sender.close()
        receiver.close()


def until(condition: Callable[[], object], *sockets: zmq.Socket[Any]) -> None:
    """Try again each time that something happens on one of the sockets."""
    while not condition():
        if not any(socket.poll(0) for socket in sockets):
            assert select.select(sockets, (), (), 10)[0]


def send(sender: Sender, seq: int, t_ns: int = 0) -> bool:
    return sender.offer(pack(TOKEN, numbered(seq, t_ns), time.monotonic_ns()), None)


def take(receiver: Receiver) -> int | None:
    packet = receiver.next()
    if packet is None:
        return None
    receiver.done()
    receiver.give_back()
    assert (packet.data == packet.seq).all()
    return packet.seq


def take_all(sender: Sender, receiver: Receiver) -> list[int]:
    got: list[int] = []

    def turn() -> bool:
        sender.pump()
        while (seq := take(receiver)) is not None:
            got.append(seq)
        receiver.give_back()
        return receiver.ended

    until(turn, sender.back, receiver.socket)
    return got


def test_a_lossless_link_waits_when_its_receiver_does_not_take(connect: Any) -> None:
    sender, receiver, _ = connect()
    sent = 0
    while send(sender, sent):
        sent += 1
    assert sent == 256
    for _ in range(101):
        until(lambda: take(receiver) is not None, receiver.socket)
    until(lambda: send(sender, sent), sender.back)
    sender.end(sent + 1, 0)
    assert take_all(sender, receiver) == list(range(101, sent + 1))
    assert (receiver.packets, receiver.missing, receiver.refused) == (sent + 1, 0, 0)


@pytest.mark.parametrize("depth", [1, 4])
def test_a_queue_keeps_the_newest_and_both_ends_count_the_rest(connect: Any, depth: int) -> None:
    sender, receiver, _ = connect("queue" if depth > 1 else "latest", depth)
    for seq in range(50):
        assert send(sender, seq)
    sender.end(50, 0)
    got = take_all(sender, receiver)
    assert got[-depth:] == list(range(50 - depth, 50))
    assert got == sorted(set(got))
    assert len(got) == receiver.packets
    assert len(got) + sender.dropped + receiver.dropped == 50
    assert receiver.missing == sender.dropped


def test_latest_hands_out_what_is_newest_when_its_receiver_comes_free(connect: Any) -> None:
    sender, receiver, _ = connect("latest")
    send(sender, 0)
    until(lambda: take(receiver) == 0, receiver.socket)
    until(lambda: sender.pump() or sender._credit, sender.back)
    send(sender, 1)
    for seq in range(2, 9):
        send(sender, seq)
    sender.end(9, 0)
    assert take_all(sender, receiver) == [1, 8]


def test_packets_that_are_too_old_are_dropped_where_they_arrive(connect: Any) -> None:
    sender, receiver, _ = connect(max_age_s=60.0)
    now_ns = time.monotonic_ns()
    for seq in range(6):
        send(sender, seq, now_ns - (seq % 2) * 61 * 10**9)
    sender.end(6, 0)
    assert take_all(sender, receiver) == [0, 2, 4]
    assert receiver.dropped == 3


def test_a_jump_in_the_numbers_is_counted(connect: Any) -> None:
    sender, receiver, _ = connect()
    for seq in (0, 1, 5, 6):
        send(sender, seq)
    sender.end(9, 0)
    assert take_all(sender, receiver) == [0, 1, 5, 6]
    assert receiver.missing == 5


def test_knocks_are_bounded_and_change_nothing(connect: Any) -> None:
    sender, receiver, _ = connect()
    said = []
    sender._say, say = lambda kind: (said.append(kind), say(kind)), sender._say
    for seq in range(3):
        for _ in range(20):
            sender._sent_ns = 0
            sender.knock()
        send(sender, seq)
    assert said == ["knock"] * 12
    sender.end(3, 0)
    assert take_all(sender, receiver) == [0, 1, 2]
    assert (receiver.packets, receiver.missing, receiver.refused) == (3, 0, 0)


def test_a_way_that_is_awake_is_not_knocked_at(connect: Any) -> None:
    sender, receiver, _ = connect()
    send(sender, 0)
    sender.knock()
    until(lambda: take(receiver) == 0, receiver.socket)
    assert not receiver.socket.poll(0)


def test_a_sender_whose_receiver_is_gone_drops_and_counts(connect: Any) -> None:
    sender, _, _ = connect()
    sender.abandon()
    assert send(sender, 0)
    assert sender.dropped == 1
    assert sender.flushed


def well_formed(seq: int = 0, **change: Any) -> bytes:
    return pack(TOKEN, msgspec.structs.replace(numbered(seq), **change), 0)


fuzz = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_a_strangers_bytes_are_refused_and_counted_and_the_link_goes_on(
    connect: Any, context: zmq.Context[Any], messages: list[bytes]
) -> None:
    sender, receiver, address = connect()
    with context.socket(zmq.PUSH) as stranger:
        stranger.connect(address)
        for message in messages:
            stranger.send(message)
        until(lambda: receiver.next() or receiver.refused == len(messages), receiver.socket)
    assert receiver.packets == 0
    send(sender, 0)
    until(lambda: take(receiver) == 0, receiver.socket)


def test_a_stranger_who_never_stops_does_not_keep_a_receiver(
    connect: Any, context: zmq.Context[Any]
) -> None:
    _, receiver, address = connect()
    with context.socket(zmq.PUSH) as stranger:
        stranger.set_hwm(0)
        stranger.connect(address)
        for _ in range(3000):
            stranger.send(b"me again")
        refused = []
        while not refused or refused[-1] < 3000:
            until(lambda: receiver.socket.poll(0), receiver.socket)
            assert receiver.next() is None
            refused.append(receiver.refused)
    assert len(refused) >= 3


damaged = st.one_of(
    st.binary(max_size=100).map(lambda tail: TOKEN + tail),
    st.tuples(st.integers(16, 199), st.integers(1, 255)).map(
        lambda at: bytes(
            byte ^ (at[1] if place == at[0] % len(well_formed()) else 0)
            for place, byte in enumerate(well_formed())
        )
    ),
    st.integers(16, 200).map(lambda n: well_formed()[:n]),
    st.just(pack(TOKEN, numbered(0), 0, {"slot": 0, "offset": 0, "capacity": 4096})),
)


@fuzz
@given(damaged)
def test_a_damaged_packet_is_refused_or_read_and_never_stops_the_receiver(
    connect: Any, context: zmq.Context[Any], message: bytes
) -> None:
    _, receiver, address = connect()
    with context.socket(zmq.PUSH) as stranger:
        stranger.connect(address)
        stranger.send(message)
        until(lambda: receiver.socket.poll(0), receiver.socket)
        packet = receiver.next()
    assert packet is None or packet.data.dtype == np.float32 or packet.data.size <= 12


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_a_strangers_bytes_on_the_way_back_are_refused(message: bytes) -> None:
    with zmq.Context() as context:
        address = next(addresses)
        link = Link("s", "s", "", "t", Delivery())
        sender = Sender(context, address, link=link, spec=SPEC, token=TOKEN, release=int)
        with context.socket(zmq.PUSH) as stranger:
            stranger.connect(f"{address}-back")
            stranger.send(message)
            until(lambda: sender.back.poll(0), sender.back)
        sender.pump()
        assert not sender.connected
        sender.abandon()
        sender.close()


def test_a_queue_gives_room_back_in_batches_that_wake_the_sender_seldom(connect: Any) -> None:
    sender, receiver, _ = connect("queue", 64)
    for seq in range(16):
        assert not sender.back.poll(0)
        send(sender, seq)
        until(lambda: take(receiver) is not None, receiver.socket)
    until(lambda: sender.back.poll(0), sender.back)
    assert sender.dropped == receiver.dropped == 0
