"""`samples.replay`: a continuous recording sent as if it happened now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from stream.node import Context, StreamSpec
from stream.paced import Loop, PacedSettings, PacedSource, Timed, laps
from stream.packet import Packet
from stream.spikes.samples_file import SamplesFile, open_samples
from stream.units import Hertz, Seconds, to_ns


class SamplesReplaySettings(PacedSettings):
    """Settings of `samples.replay`."""

    file: Path = Field(description="NWB, .npy (samples, channels), or flat int16")
    rate: Hertz | None = Field(None, gt=0, description="samples a second; not for NWB")
    channels: int | None = Field(None, ge=1, description="how many, for flat files")
    uv_per_bit: float | None = Field(None, gt=0, description="what a bit is, for int16")
    series: str | None = Field(None, description="which ElectricalSeries, where NWB has several")
    loop: Loop = False
    chunk: Seconds = Field(0.001, ge=1e-4, le=1, description="what one packet covers")


class SamplesReplay(PacedSource[SamplesReplaySettings]):
    """Stream raw channels from a file, in packets of float32 (samples, channels), mostly in uV.

    Every lap of a loop is a new segment, on a clock that goes on.
    """

    use = "samples.replay"
    summary = "raw channels from a file (NWB, .npy, flat int16), in real time or at any speed"
    Settings = SamplesReplaySettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of samples.

        Raises
        ------
        ConfigError
            A setting is missing that this kind of file needs, or one too many.
        RecordingError
            The file cannot be read.
        """
        file = self._open()
        file.close()
        meta = {"rate_hz": file.rate_hz}
        period_s = _rows(self.settings.chunk, file.rate_hz) / file.rate_hz
        if file.range is not None:
            meta["range"] = file.range
        shape = (None, len(file.names))
        return {"": StreamSpec("samples", shape, "float32", file.names, file.unit, period_s, meta)}

    def open(self, context: Context) -> None:
        """Open the file; samples are read as they are due."""
        super().open(context)
        self._file = self._open()
        self.pace(_play(self._file, self.settings.chunk, self.settings.loop))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _open(self) -> SamplesFile:
        s = self.settings
        return open_samples(s.file, s.rate, s.channels, s.uv_per_bit, s.series)


def _rows(chunk_s: float, rate_hz: float) -> int:
    return max(1, round(chunk_s * rate_hz))


def _play(file: SamplesFile, chunk_s: float, loop: bool | int) -> Iterator[Timed]:
    rows = _rows(chunk_s, file.rate_hz)
    start_ns = to_ns(file.start_s)
    for lap in laps(loop):
        before = lap * file.samples
        for a in range(0, file.samples, rows):
            b = min(a + rows, file.samples)
            a_ns, b_ns = (to_ns((before + i) / file.rate_hz) for i in (a, b))
            yield (
                b_ns,
                Packet(
                    "samples", file.read(a, b), 0, start_ns + a_ns, start_ns + b_ns, segment=lap
                ),
            )
