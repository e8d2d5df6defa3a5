"""The server of the page, asked by clients that are no browser."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
import pytest

from stream.errors import ConfigError
from stream.page.server import PageServer, Show, check_server

client = pytest.importorskip("websockets.sync.client", reason="needs the extra 'page'")
exceptions = pytest.importorskip("websockets.exceptions")

DEPTHS = {"spikes": 5, "rates": 1}


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer(0, "a-token-for-tests", {"pipeline": "p"}, DEPTHS)
    yield made
    made.close({})


@contextlib.contextmanager
def connected(server: PageServer, **options):
    address = server.address.replace("http", "ws") + "live"
    with client.connect(address, proxy=None, **options) as page:
        assert hear(page) == {"about": {"pipeline": "p"}}
        yield page


def hear(page) -> dict:
    return msgspec.msgpack.decode(page.recv(timeout=60))


def publish(server: PageServer, *numbers: int) -> None:
    for number in numbers:
        server.publish({name: {"k": number} for name in DEPTHS})


def shown(update: dict, stream: str) -> list[int]:
    return [chunk["k"] for chunk in update["streams"].get(stream, [])]


def test_who_comes_late_gets_what_is_kept_and_has_missed_nothing(server, wait_for) -> None:
    publish(server, *range(8))
    with connected(server) as page:
        wait_for(lambda: server.clients == 1)
        update = hear(page)
        while not shown(update, "spikes") or shown(update, "spikes")[-1] < 7:
            page.send("drawn")
            update = hear(page)
        assert shown(update, "rates") == [7]
        assert update["skipped"] == server.skipped == 0


def test_who_has_not_drawn_gets_nothing_and_then_the_newest_with_what_was_missed(server) -> None:
    with connected(server) as page, connected(server) as quick:
        publish(server, 0)
        assert shown(hear(page), "spikes") == [0]
        # Another one sees all of it meanwhile, so that all of it has been there.
        seen = shown(hear(quick), "spikes")
        for number in range(1, 20):
            publish(server, number)
            quick.send("drawn")
            seen += shown(hear(quick), "spikes")
        assert seen == list(range(20))
        with pytest.raises(TimeoutError):
            page.recv(timeout=0)
        page.send("drawn")
        update = hear(page)
        assert shown(update, "spikes") == [15, 16, 17, 18, 19]
        assert shown(update, "rates") == [19]
        assert update["skipped"] == server.skipped == 14


def test_the_end_reaches_also_who_has_not_drawn_and_nobody_after_it(server) -> None:
    with connected(server) as page:
        publish(server, 0)
        assert "end" not in hear(page)
        publish(server, 1)
        server.close({"message": "it broke"})
        update = hear(page)
        assert shown(update, "rates") == [1]
        assert update["end"] == {"message": "it broke"}
        with pytest.raises(exceptions.ConnectionClosedOK):
            page.recv(timeout=60)
    with pytest.raises(OSError, match="refused"):
        client.connect(server.address.replace("http", "ws") + "live", proxy=None)


def test_who_sleeps_keeps_nobody_from_the_end(server, wait_for) -> None:
    url = urlsplit(server.address)
    with socket.create_connection((url.hostname, url.port)) as sleeper:
        sleeper.sendall(
            f"GET {url.path}live HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        wait_for(lambda: server.clients == 1)
        server.publish({"rates": {"k": "x" * 50_000_000}})
        server.close({})
        assert not any(thread.name == "page" for thread in threading.enumerate())
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((url.hostname, url.port))


def test_who_talks_too_much_is_sent_away_and_the_others_stay(server, wait_for) -> None:
    with connected(server) as other:
        with connected(server) as page:
            page.send(b"x" * 100_000)
            with pytest.raises(exceptions.ConnectionClosedError, match="1009"):
                page.recv(timeout=60)
        wait_for(lambda: server.clients == 1)
        publish(server, 3)
        assert shown(hear(other), "rates") == [3]


def test_wishes_are_kept_for_the_node_and_what_is_none_is_counted(server, wait_for) -> None:
    with connected(server) as page:
        for said in (
            '{"type": "Show", "stream": "raw", "channels": [3, 1]}', '{"type": "Show"}', "{", b"x",
            '{"type": "Show", "stream": "raw", "channels": ["3"]}', '{"type": "Shout"}',
        ):  # fmt: skip
            page.send(said)
        wait_for(lambda: server.refused == 5)
        assert list(server.wishes()) == [Show("raw", [3, 1])]
        for _ in range(100):
            page.send('{"type": "Show", "stream": "raw", "channels": []}')
        wait_for(lambda: server.refused == 41)
        assert len(list(server.wishes())) == 64


def test_no_more_than_eight_watch_at_a_time(server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connected(server))
        with pytest.raises(exceptions.InvalidStatus, match="503"):
            stack.enter_context(connected(server))
        assert server.refused == 1


def test_a_taken_port_is_refused_before_anything_starts(server) -> None:
    port = int(server.address.split(":")[2].split("/")[0])
    with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
        check_server(port)
