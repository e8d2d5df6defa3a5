"""Ways to filter 384 channels as they come: what a second of signal costs on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy import signal

from benchmarks._extracellular import RATE_HZ
from benchmarks._one_core import bind_to_one_core
from benchmarks._results import JsonFile, show, write_result
from stream.spikes.bandpass import BandPass

Samples = NDArray[np.float32]
Way = Callable[[Samples], Samples]
LOW_HZ, HIGH_HZ = 300.0, 6000.0
TAPS = 256
"""Of filters of finite length: what is left of the response after them is below .1 %."""


def run(
    json_path: JsonFile = None,
    channels: Annotated[int, typer.Option(help="Channels.")] = 384,
    rounds: Annotated[int, typer.Option(help="Rounds; in each, every way has its turn.")] = 5,
) -> dict[str, Any]:
    """Filter the same second of white noise in every way, in turns, and compare what comes out.

    All but the moving averages are the same causal Butterworth filters of 2nd order at 300 Hz and
    6 kHz; the last row has the look-ahead of `spikes.detect` too. Times are CPU time.
    """
    bind_to_one_core()
    samples = np.random.default_rng(0).standard_normal((round(RATE_HZ), channels)) * 20
    samples = samples.astype(np.float32)
    sections = np.vstack(
        [
            signal.butter(2, LOW_HZ, "high", fs=RATE_HZ, output="sos"),
            signal.butter(2, HIGH_HZ, "low", fs=RATE_HZ, output="sos"),
        ]
    )
    truth = signal.sosfilt(sections, samples.astype(np.float64), axis=0)
    ways: dict[tuple[str, int], Callable[[], Way]] = {
        **{("scipy sosfilt, float32", n): lambda: _sosfilt(sections, channels) for n in (30, 690)},
        ("numpy, sample by sample", 30): lambda: _loop(sections, channels),
        **{("overlap-save, numpy FFT", n): lambda: _fft(sections, channels) for n in (30, 690)},
        ("256 taps by matrix product", 30): lambda: _taps(sections, channels, 30),
        **{("moving averages, cumsum", n): lambda: _averages(channels) for n in (30, 690)},
        ("state space by matrix product", 15): lambda: _space(channels, 0),
        ("the same with look-ahead", 15): lambda: _space(channels, 15),
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in ways}
    errors: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for key, make in ways.items():
            way, rows = make(), key[1]
            pieces = [samples[a : a + rows] for a in range(0, len(samples) - rows + 1, rows)]
            began = time.thread_time()
            filtered = [way(piece) for piece in pieces]
            times[key].append((time.thread_time() - began) / (len(pieces) * rows / RATE_HZ))
            out = np.concatenate(filtered)
            errors[key] = float(np.abs(out - truth[: len(out)]).max())
    rows_out = [
        {
            "way": way, "block_samples": block, "cpu_s_per_s": float(np.median(times[way, block])),
            "largest_difference_uv": errors[way, block],
        }
        for way, block in ways
    ]  # fmt: skip
    conditions = {"rate_hz": RATE_HZ, "channels": channels, "rounds": rounds}
    show(rows_out, Console(width=120))
    return write_result("band-pass", conditions, rows_out, json_path)


def _sosfilt(sections: NDArray[np.float64], channels: int) -> Way:
    single = sections.astype(np.float32)
    state = np.zeros((len(sections), 2, channels), np.float32)

    def way(piece: Samples) -> Samples:
        out, state[:] = signal.sosfilt(single, piece, axis=0, zi=state)
        return out

    return way


def _loop(sections: NDArray[np.float64], channels: int) -> Way:
    state = np.zeros((len(sections), 2, channels), np.float32)
    constants = [[np.float32(x) for x in section] for section in sections]

    def way(piece: Samples) -> Samples:
        out = np.empty_like(piece)
        for row, value in enumerate(piece):
            passed = value
            for (b0, b1, b2, _, a1, a2), z in zip(constants, state, strict=True):
                given, passed = passed, b0 * passed + z[0]
                z[0] = b1 * given - a1 * passed + z[1]
                z[1] = b2 * given - a2 * passed
            out[row] = passed
        return out

    return way


def _response(sections: NDArray[np.float64]) -> NDArray[np.float64]:
    return signal.sosfilt(sections, np.eye(1, TAPS)[0])


def _fft(sections: NDArray[np.float64], channels: int) -> Way:
    response = _response(sections)
    past = np.zeros((TAPS - 1, channels), np.float32)

    def way(piece: Samples) -> Samples:
        joined = np.concatenate([past, piece])
        past[:] = joined[-(TAPS - 1) :]
        size = 1 << (len(joined) - 1).bit_length()
        spectrum = np.fft.rfft(joined, size, axis=0) * np.fft.rfft(response, size)[:, None]
        out = np.fft.irfft(spectrum, size, axis=0)[TAPS - 1 : len(joined)]
        return out.astype(np.float32)

    return way


def _taps(sections: NDArray[np.float64], channels: int, rows: int) -> Way:
    matrix = np.zeros((rows, rows + TAPS - 1), np.float32)
    for i in range(rows):
        matrix[i, i : i + TAPS] = _response(sections)[::-1]
    joined = np.zeros((rows + TAPS - 1, channels), np.float32)

    def way(piece: Samples) -> Samples:
        joined[: TAPS - 1] = joined[rows:].copy()
        joined[TAPS - 1 :] = piece
        return matrix @ joined

    return way


def _averages(channels: int, long: int = 50, short: int = 3) -> Way:
    past = np.zeros((long, channels), np.float32)

    def way(piece: Samples) -> Samples:
        joined = np.concatenate([past, piece])
        past[:] = joined[-long:]
        sums = np.cumsum(joined, axis=0, dtype=np.float64)
        smooth = (sums[long:] - sums[long - short : -short]) / short
        return (smooth - (sums[long:] - sums[:-long]) / long).astype(np.float32)

    return way


def _space(channels: int, ahead: int) -> Way:
    band = BandPass(RATE_HZ, (LOW_HZ, HIGH_HZ), (15, channels), ahead)

    def way(piece: Samples) -> Samples:
        band.block[:] = piece
        out = np.empty_like(piece)
        band.step(out)
        return out

    return way
