"""`openephys`: what the ZMQ Interface of the Open Ephys GUI sends."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from stream.errors import ConfigError
from stream.instruments.open_ephys.heartbeat import Heartbeat
from stream.instruments.open_ephys.listener import Listener, ListenerSettings
from stream.instruments.open_ephys.look import look
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.units import Hertz


class OpenEphysSettings(ListenerSettings):
    """Settings of `openephys`."""

    port: int = Field(5556, ge=1, le=65_533, description="data port of the ZMQ Interface")
    rate: Hertz | None = Field(
        None, gt=0, description="samples a second, needed when no continuous channel is sent"
    )


class OpenEphys(Listener[OpenEphysSettings]):
    """Receive spikes, continuous channels and TTL edges of one stream, as its blocks come.

    A spike leaves as soon as its block is here, on the clock of the samples, which is mapped to the
    host's. What is missing is counted to the sample. The plugin is found again when it was lost;
    `segment` rises when it began another acquisition. The page docs/open-ephys.md has the rest.
    """

    use = "openephys"
    summary = "spikes, continuous channels and TTL of Open Ephys, by its ZMQ Interface"
    Settings = OpenEphysSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Listen to the plugin for a moment, and return what it sends.

        Raises
        ------
        ConfigError
            Nothing comes, or not what the settings say.
        """
        s = self.settings
        seen = look(s.host, s.port, s.stream, by_sorting=s.sorted, learn_units=s.units is None)
        if seen.rate_hz is None and s.rate is None:
            raise ConfigError(
                "no continuous channel is sent, and so no rate; choose a channel in the ZMQ"
                " Interface, which also makes spikes leave sooner, or write rate: 30 kHz."
            )
        if s.rate is not None and seen.rate_hz is not None and s.rate != seen.rate_hz:
            raise ConfigError(f"rate: the stream has {seen.rate_hz:g} Hz; leave it out.")
        about = {
            "rate_hz": seen.rate_hz or s.rate,
            "stream": s.stream or seen.streams[0],
            "blocks": bool(seen.channels),
        }
        specs = self.point_streams(seen.units, about)
        if seen.channels:
            specs["samples"] = StreamSpec(
                "samples", (None, len(seen.channels)), "float32", tuple(seen.channels.values()),
                "uV", meta={**about, "channels": list(seen.channels)},
            )  # fmt: skip
        return specs

    def open(self, context: Context) -> None:
        """Connect, so that the first messages of the run are not missed."""
        super().open(context)
        self._heartbeat = Heartbeat(self.settings.host, self.settings.port)

    def take(self, frames: list[bytes], arrived_ns: int) -> list[Packet]:
        """Take in a message."""
        return self.acquisition.take(frames, arrived_ns)

    def look_after(self, now_ns: int) -> list[Packet]:
        """Send a sign of life when it is time."""
        if now_ns >= self._heartbeat.due_ns:
            self._heartbeat.tick()
            self.context.counters.note("heartbeats_answered", self._heartbeat.answers)
        return super().look_after(now_ns)

    def close(self) -> None:
        """Disconnect."""
        super().close()
        if hasattr(self, "_heartbeat"):
            self._heartbeat.close()
