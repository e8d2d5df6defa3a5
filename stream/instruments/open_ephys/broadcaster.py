"""`openephys.events`: what the Event Broadcaster of the Open Ephys GUI sends."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pydantic import Field

from stream.errors import ConfigError, WireError
from stream.instruments.open_ephys.acquisition import unit_name
from stream.instruments.open_ephys.broadcast import Happened, decode
from stream.instruments.open_ephys.listener import Listener, ListenerSettings
from stream.instruments.open_ephys.look import LOOK_S, natural
from stream.instruments.open_ephys.subscription import Subscription
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.units import Hertz


class OpenEphysEventsSettings(ListenerSettings):
    """Settings of `openephys.events`."""

    port: int = Field(5557, ge=1, le=65_535, description="port of the Event Broadcaster")
    rate: Hertz | None = Field(
        None, gt=0, description="samples a second, needed for the raw binary format"
    )


class OpenEphysEvents(Listener[OpenEphysEventsSettings]):
    """Receive spikes and TTL edges of one stream, in JSON or raw binary.

    These messages have no numbers: what is lost on the way cannot be noticed. Nor do they tell
    when a block is over, so that spikes are held back until they are 60 ms old. The ZMQ Interface
    has neither fault.
    """

    use = "openephys.events"
    summary = "spikes and TTL of Open Ephys, by its Event Broadcaster; losses cannot be noticed"
    Settings = OpenEphysEventsSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Listen to the plugin for 3 s, and return what it sends.

        Raises
        ------
        ConfigError
            Nothing comes, or not what the settings say.
        """
        seen = self._look()
        streams = list(dict.fromkeys(happened.stream for happened in seen))
        have = " and ".join(f"'{name}'" for name in streams)
        stream = self.settings.stream or streams[0]
        if self.settings.stream is None and len(streams) > 1:
            raise ConfigError(f"several streams are sent; write stream: one of {have}.")
        if stream not in streams:
            raise ConfigError(f"stream: there is {have}, not '{stream}'.")
        ours = [happened for happened in seen if happened.stream == stream]
        rate_hz = ours[0].rate_hz or self.settings.rate
        if rate_hz is None:
            raise ConfigError("the raw format does not say the rate; write rate: 30 kHz.")
        if self.settings.rate not in (None, rate_hz):
            raise ConfigError(f"rate: the stream has {rate_hz:g} Hz; leave it out.")
        by_sorting = self.settings.sorted
        units = {
            unit_name(happened.electrode, happened.sorted_id, by_sorting)
            for happened in ours
            if happened.electrode and (happened.sorted_id or not by_sorting)
        }
        about = {"rate_hz": rate_hz, "stream": stream, "blocks": False}
        return self.point_streams(sorted(units, key=natural), about)

    def open(self, context: Context) -> None:
        """Connect, so that the first messages of the run are not missed."""
        super().open(context)
        context.counters.note("losses", "cannot be noticed with the Event Broadcaster")

    def take(self, frames: list[bytes], arrived_ns: int) -> list[Packet]:
        """Take in a message; what it says leaves when time has passed."""
        try:
            happened = decode(frames)
        except WireError as error:
            self.acquisition.refuse("unreadable", f"sent what is no message: {error}")
            return []
        stream, sample = happened.stream, happened.sample
        if happened.electrode:
            self.acquisition.spike(
                stream, happened.electrode, happened.sorted_id, sample, arrived_ns
            )
        else:
            self.acquisition.edge(stream, happened.line, happened.up, sample, arrived_ns)
        return []

    def _look(self) -> list[Happened]:
        subscription = Subscription(self.settings.host, self.settings.port)
        seen: list[Happened] = []
        refused = ""
        try:
            end = time.monotonic() + LOOK_S
            while (now := time.monotonic()) < end:
                subscription.poll(min(0.1, end - now))
                subscription.watch()
                while time.monotonic() < end and (frames := subscription.receive()) is not None:
                    try:
                        seen.append(decode(frames))
                    except WireError as error:
                        refused = str(error)
            if seen:
                return seen
            raise ConfigError(self._silence(subscription, refused))
        finally:
            subscription.close()

    def _silence(self, subscription: Subscription, refused: str) -> str:
        address = subscription.address
        if "ZMQ Interface" in refused:
            return f"{address} is a ZMQ Interface; write use: openephys."
        if refused:
            return f"{address} is no Event Broadcaster: {refused}."
        if subscription.connected:
            return (
                f"{address} answers, but no spike and no TTL edge came in {LOOK_S:g} s; start the"
                " acquisition in Open Ephys first."
            )
        if subscription.alien:
            return (
                f"what answers at {address} publishes nothing; it may be the listening port of a"
                " ZMQ Interface, and then the Event Broadcaster shows another port."
            )
        return f"nothing answers at {address}; write the port that the Event Broadcaster shows."
