"""A look at what the ZMQ Interface sends, before anything starts."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from stream.errors import ConfigError, WireError
from stream.instruments.open_ephys.acquisition import unit_name
from stream.instruments.open_ephys.messages import Block, Data, Spike, decode
from stream.instruments.open_ephys.subscription import Subscription

LOOK_S = 3.0
"""How long to wait for messages, and how long to collect units by their spikes."""
_CONNECT_S = 1.0
_SHIFT = 2
"""How far the plugin goes on to a free port when its own is taken (`ZmqInterface.cpp`)."""


@dataclass
class Seen:
    """What was seen.

    Attributes
    ----------
    streams
        Names of all streams that messages belonged to, in the order in which they appeared.
    rate_hz
        As stated for continuous channels; None when none came.
    channels
        Number to name of the continuous channels of one block, in order.
    units
        Names of the units that spikes belonged to, in natural order.
    """

    streams: list[str] = field(default_factory=list)
    rate_hz: float | None = None
    channels: dict[int, str] = field(default_factory=dict)
    units: tuple[str, ...] = ()


def look(host: str, port: int, stream: str | None, *, by_sorting: bool, learn_units: bool) -> Seen:
    """Listen for up to 3 s, less when no units are to be learned.

    Raises
    ------
    ConfigError
        Nothing answers there, or what answers is no ZMQ Interface, sends nothing, or another
        stream. Where the plugin is when it moved on to the next free port is said.
    """
    subscription = Subscription(host, port)
    try:
        looking = _Look(stream, by_sorting)
        looking.listen(subscription, learn_units)
        if looking.seen.streams:
            looking.check_stream(subscription.address)
            return looking.result()
        looking.check_refused(subscription.address)
        if (moved := _answers(host, port + _SHIFT)) is not None:
            raise ConfigError(
                f"nothing comes from {subscription.address}, but {moved}; the ZMQ Interface moves"
                f" on by {_SHIFT} when its port is taken: write port: {port + _SHIFT}."
            )
        raise ConfigError(_silence(subscription))
    finally:
        subscription.close()


class _Look:
    """What has been seen so far."""

    def __init__(self, stream: str | None, by_sorting: bool) -> None:
        self.seen = Seen()
        self._stream = stream
        self._by_sorting = by_sorting
        self._refused = ""
        self._units: set[str] = set()
        self._blocks: list[int] = []
        self._channels: dict[int, str] = {}

    def listen(self, subscription: Subscription, learn_units: bool) -> None:
        """Listen for 3 s after the first message, or until all but units is known."""
        begin = time.monotonic()
        end = begin + LOOK_S
        while (now := time.monotonic()) < end:
            subscription.poll(min(0.1, end - now))
            subscription.watch()
            if not subscription.connected and now - begin > _CONNECT_S:
                return
            while time.monotonic() < end and (frames := subscription.receive()) is not None:
                first = not self.seen.streams
                self._take(frames)
                if first and self.seen.streams:
                    end = time.monotonic() + LOOK_S
                if len(self._blocks) == 3 and not learn_units:
                    return

    def _take(self, frames: list[bytes]) -> None:
        try:
            message = decode(frames)
        except WireError as error:
            self._refused = str(error)
            return
        content = message.spike if isinstance(message, Spike) else message.content
        if content.stream not in self.seen.streams:
            self.seen.streams.append(content.stream)
        if self._stream is not None and content.stream != self._stream:
            return
        if isinstance(message, Spike):
            spike = message.spike
            if spike.sorted_id or not self._by_sorting:
                self._units.add(unit_name(spike.electrode, spike.sorted_id, self._by_sorting))
        elif isinstance(message, Data) and len(self._blocks) < 3:
            self._take_block(message.content)

    def _take_block(self, block: Block) -> None:
        self.seen.rate_hz = block.sample_rate
        if block.sample_num not in self._blocks:
            self._blocks.append(block.sample_num)
        # Of the first block some may have been before; the third shows that the second is over.
        if len(self._blocks) == 2:
            self._channels[block.channel_num] = block.channel_name or f"CH{block.channel_num + 1}"

    def check_stream(self, address: str) -> None:
        """Refuse another stream than the one that was asked for."""
        if self._stream is not None and self._stream not in self.seen.streams:
            have = " and ".join(f"'{name}'" for name in self.seen.streams)
            raise ConfigError(
                f"stream: {address} sends {have}, not '{self._stream}'; choose the stream in the"
                " ZMQ Interface, or write its name here."
            )

    def check_refused(self, address: str) -> None:
        """Say what came when none of it was of the ZMQ Interface."""
        if "Event Broadcaster" in self._refused:
            raise ConfigError(
                f"{address} is an Event Broadcaster; write use: openephys.events, or the port of"
                " the ZMQ Interface."
            )
        if self._refused:
            raise ConfigError(f"{address} is no ZMQ Interface: {self._refused}.")

    def result(self) -> Seen:
        """Return all that was seen."""
        self.seen.channels = dict(sorted(self._channels.items()))
        self.seen.units = tuple(sorted(self._units, key=natural))
        return self.seen


def _answers(host: str, port: int) -> str | None:
    """Say in words that the plugin is at another port, if it is."""
    subscription = Subscription(host, port)
    try:
        end = time.monotonic() + _CONNECT_S
        while (now := time.monotonic()) < end:
            subscription.poll(min(0.1, end - now))
            subscription.watch()
            if (frames := subscription.receive()) is not None:
                decode(frames)
                return f"{subscription.address} sends what the plugin sends"
        return None
    except WireError:
        return None
    finally:
        subscription.close()


def _silence(subscription: Subscription) -> str:
    address = subscription.address
    if subscription.connected:
        return (
            f"{address} answers, but nothing came in {LOOK_S:g} s; start the acquisition in Open"
            " Ephys first, with a stream and channels chosen in the ZMQ Interface."
        )
    if subscription.alien:
        return (
            f"what answers at {address} publishes nothing; write the data port that the ZMQ"
            " Interface shows, not its listening port, which is one above."
        )
    return (
        f"nothing answers at {address}; start Open Ephys with a ZMQ Interface in its signal chain,"
        " and write the host and the data port that it shows."
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key to sort by, in which `Electrode 10` comes after `Electrode 9`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
