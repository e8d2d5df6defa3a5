"""Which links of a group are served before its own nodes, and which after them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from stream.plan import Plan
from stream.runtime.messages import Setup
from stream.runtime.running import Output
from stream.runtime.wiring import wire

TICKER, ECHO = "toy_nodes:Ticker", "toy_nodes:Echo"


@pytest.fixture
def wired(make_plan: Callable[..., Plan]) -> Iterator[Callable[..., Output]]:
    """Return what wires a source, a node beside it, one elsewhere, and two that only watch."""
    made: list[Any] = []
    with zmq.Context() as context:

        def make(**source: Any) -> Output:
            plan = make_plan(
                source={"use": TICKER, "group": "loop", **source},
                model={"use": ECHO, "from": "source", "group": "loop"},
                view={"use": "console", "from": "source"},
                tap={"use": "zmq", "from": "source", "bind": "tcp://127.0.0.1:*"},
                far={"use": ECHO, "from": "source"},
            )
            setup = Setup(b"", "00" * 16, "inproc://wiring-", "", {})
            wiring = wire("loop", plan, setup, context)
            made.extend(wiring.senders)
            return wiring.nodes["source"].outputs[""]

        yield make
        for sender in made:
            sender.abandon()
            sender.close()


def targets(senders: list[Any]) -> list[str]:
    return sorted(sender.link.target for sender in senders)


def test_those_that_only_watch_come_last(wired: Callable[..., Output]) -> None:
    output = wired()
    assert targets(output.senders) == ["far"]
    assert targets(output.locals) == ["model"]
    assert targets(output.views) == ["tap", "view"]


def test_a_large_array_is_written_once_and_goes_to_all_at_the_same_time(
    wired: Callable[..., Output],
) -> None:
    output = wired(shape=[100_000])
    assert targets(output.senders) == ["far", "tap", "view"]
    assert output.views == []
