"""Continuous recordings on disk, read piece by piece: NumPy, flat binary, and NWB files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError
from stream.files import check_pynwb, check_there, first_line

Samples = NDArray[np.float32]
_JITTER = 0.5
"""How far a timestamp may be from that of a steady rate, in samples: none is missing or doubled."""

_TIMES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class SamplesFile:
    """A continuous recording that is read on demand.

    Attributes
    ----------
    samples, rate_hz, names
        How many samples a channel, how many a second, what the channels are called.
    unit
        Of what `read` returns: `uV`, or empty where the file does not say.
    start_s
        When the first sample was taken, on the clock of the recording.
    range
        The magnitude from which samples are clipped, in `unit`; None where that is not known.
    read
        Returns samples [a, b) as float32 (samples, channels).
    close
        Releases the file; nothing is read after it.
    """

    samples: int
    rate_hz: float
    names: tuple[str, ...]
    unit: str
    start_s: float
    range: float | None
    read: Callable[[int, int], Samples]
    close: Callable[[], None] = lambda: None


def open_samples(
    path: Path,
    rate_hz: float | None,
    channels: int | None,
    uv_per_bit: float | None,
    series: str | None,
) -> SamplesFile:
    """Open a recording by its ending: `.npy`, `.nwb`, else flat little-endian int16.

    `.npy` holds (samples, channels), floats in uV or int16; flat files hold all channels of a
    sample side by side.

    Raises
    ------
    ConfigError
        A setting is missing that this kind of file needs, or given that the file itself tells.
    RecordingError
        The file cannot be read as what it is called, or does not fit the settings.
    MissingExtraError
        It is NWB, and the extra is not installed.
    """
    check_there(path)
    if path.suffix.lower() == ".nwb":
        _refuse(
            path,
            "the file says that itself",
            rate=rate_hz,
            channels=channels,
            uv_per_bit=uv_per_bit,
        )
        return _open_nwb(path, series)
    _refuse(path, "it has only one", series=series)
    if rate_hz is None:
        raise ConfigError(f"rate: {path.name} does not say how many samples it has a second.")
    if path.suffix.lower() == ".npy":
        _refuse(path, "the file says that itself", channels=channels)
        data = _map_npy(path)
    else:
        data = _map_flat(path, channels)
    return _from_array(path, data, rate_hz, uv_per_bit)


def _refuse(path: Path, why: str, **given: object) -> None:
    for key, value in given.items():
        if value is not None:
            raise ConfigError(f"{key}: leave it out for {path.name}, {why}.")


def _map_npy(path: Path) -> NDArray[Any]:
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingError(f"{path} cannot be read as .npy ({first_line(error)}).") from error
    if not isinstance(data, np.ndarray) or data.ndim != 2 or not data.size:
        raise RecordingError(f"{path} must hold an array of (samples, channels).")
    if data.dtype != np.int16 and data.dtype.kind != "f":
        raise RecordingError(f"{path} holds {data.dtype}; it must be int16, or floats in uV.")
    return data


def _map_flat(path: Path, channels: int | None) -> NDArray[Any]:
    if channels is None:
        raise ConfigError(f"channels: {path.name} does not say how many it has.")
    size = path.stat().st_size
    if not size or size % (2 * channels):
        raise RecordingError(
            f"{path} has {size} bytes, which is no whole number of samples of {channels} channels"
            " of int16."
        )
    return np.memmap(path, "<i2", "r", shape=(size // (2 * channels), channels))


def _from_array(
    path: Path, data: NDArray[Any], rate_hz: float, uv_per_bit: float | None
) -> SamplesFile:
    whole = data.dtype.kind == "i"
    if whole and uv_per_bit is None:
        raise ConfigError(f"uv_per_bit: {path.name} holds int16 and does not say what a bit is.")
    if not whole:
        _refuse(path, "it holds floats, in uV", uv_per_bit=uv_per_bit)
    scale = np.float32(uv_per_bit or 1.0)

    def read(a: int, b: int) -> Samples:
        piece = data[a:b].astype(np.float32)
        return piece * scale if whole else piece

    return SamplesFile(
        samples=len(data),
        rate_hz=rate_hz,
        names=tuple(f"ch{i}" for i in range(data.shape[1])),
        unit="uV",
        start_s=0.0,
        range=float(scale) * np.iinfo(np.int16).max if whole else None,
        read=read,
    )


def _open_nwb(path: Path, name: str | None) -> SamplesFile:
    check_pynwb("Reading NWB files")
    from pynwb import NWBHDF5IO
    from pynwb.ecephys import ElectricalSeries

    try:
        # It stays open for as long as samples are read from it.
        io = NWBHDF5IO(str(path), "r", load_namespaces=True)
        content = io.read()
    except Exception as error:
        raise RecordingError(f"{path} cannot be read as NWB ({first_line(error)}).") from error
    found = {o.name: o for o in content.acquisition.values() if isinstance(o, ElectricalSeries)}
    if name is None and len(found) == 1:
        (name,) = found
    if name not in found:
        there = ", ".join(sorted(found)) or "none"
        raise ConfigError(
            f"series: of ElectricalSeries under acquisition, {path.name} has {there}."
        )
    series = found[name]
    if series.data.ndim != 2:
        raise RecordingError(f"'{name}' in {path.name} must have samples of (time, channels).")
    if series.rate is None:
        rate_hz, start_s = _steady(f"'{name}' in {path.name}", series.timestamps, len(series.data))
    else:
        rate_hz, start_s = float(series.rate), float(series.starting_time or 0.0)
    gain = np.full(series.data.shape[1], series.conversion * 1e6, np.float32)
    if series.channel_conversion is not None:
        gain *= np.asarray(series.channel_conversion[:], np.float32)
    offset = np.float32(series.offset * 1e6)
    whole = series.data.dtype == np.int16

    def read(a: int, b: int) -> Samples:
        piece: Samples = series.data[a:b].astype(np.float32) * gain + offset
        return piece

    return SamplesFile(
        samples=len(series.data),
        rate_hz=rate_hz,
        names=_electrode_names(series),
        unit="uV",
        start_s=start_s,
        range=float(gain.min() * np.iinfo(np.int16).max - abs(offset)) if whole else None,
        read=read,
        close=io.close,
    )


def _steady(what: str, times: Any, samples: int) -> tuple[float, float]:
    """Return rate (Hz) and start (s) of samples that have timestamps in place of a rate.

    Raises
    ------
    RecordingError
        There is not one for each, or one is further than `_JITTER` from where a steady rate has it.
    """
    if times is None or len(times) != samples or samples < 2:
        found = "no" if times is None else len(times)
        raise RecordingError(
            f"{what} has {found} timestamps for {samples} samples; it needs a rate, or a timestamp"
            " for each of two samples or more."
        )
    start_s, end_s = float(times[0]), float(times[samples - 1])
    interval_s = (end_s - start_s) / (samples - 1)
    if not 0 < interval_s < math.inf:
        raise RecordingError(
            f"{what} has timestamps from {start_s:g} to {end_s:g} s, which tell no time; they must"
            " rise."
        )
    for first in range(0, samples, _TIMES_AT_ONCE):
        some = np.asarray(times[first : first + _TIMES_AT_ONCE], np.float64)
        steady = start_s + interval_s * np.arange(first, first + len(some))
        # Written so that what is not finite is found too.
        off = ~(np.abs(some - steady) <= _JITTER * interval_s)
        if off.any():
            at = int(np.argmax(off))
            raise RecordingError(
                f"{what} has no steady rate: at {1 / interval_s:g} Hz, sample {first + at} would be"
                f" at {steady[at]:.6f} s, its timestamp says {some[at]:.6f} s; cut it into steady"
                " parts, or resample it."
            )
    return 1 / interval_s, start_s


def _electrode_names(series: Any) -> tuple[str, ...]:
    table = series.electrodes.table
    rows = series.electrodes.data[:]
    for column in ("channel_name", "electrode_name", "label"):
        if column in table.colnames:
            names = tuple(str(table[column][int(row)]) for row in rows)
            if len(set(names)) == len(names):
                return names
    return tuple(f"ch{table.id[int(row)]}" for row in rows)
