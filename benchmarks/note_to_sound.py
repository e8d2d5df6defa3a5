"""From a note packet to the sample at the sound card, and what the synthesiser costs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks._notes import FRAMES, RATE_HZ, TAIL
from benchmarks._null_sink import RATE_HZ as SOUND_HZ
from benchmarks._null_sink import NullSink, play_into
from benchmarks._results import JsonFile, show, write_result
from benchmarks._runs import run_pipeline
from stream.errors import ConfigError
from stream.music.notes import note_on
from stream.music.sound.instruments import default_soundfont
from stream.music.sound.samples import Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import Synth

AUDIBLE = 33
"""Of 32768: a thousandth of full scale."""

WAIT_NS = 200_000_000
VOICES = (1, 16, 64)
BLOCKS = (64, 128, 256)
_RENDERED_S = 5.0


def run(
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=5.0, help="Length of the run.")] = 600.0,
    realtime: Annotated[
        bool, typer.Option(help="Ask for real-time priority of synthesiser and sound server.")
    ] = False,
    soundfont: Annotated[
        Path | None, typer.Option(help="By default that of the node 'synth'.")
    ] = None,
) -> dict[str, Any]:
    """Play a note every 0.27 s through a null sink of PulseAudio and read it at its monitor.

    A source in a process of its own sends packets of notes at 30 Hz, the node 'synth' with its
    default settings plays them in another, and `parec` reads what comes out. The delay counts from
    the time for which a packet was due to when this process had read the first audible sample, so
    the reading is part of it.
    """
    if missing := NullSink.missing():
        raise ConfigError(
            f"this benchmark needs {', '.join(missing)}; on Debian and Ubuntu: apt install"
            " pulseaudio pulseaudio-utils libasound2-plugins libportaudio2."
        )
    console = Console()
    costs = _costs(soundfont or default_soundfont())
    with tempfile.TemporaryDirectory() as name, console.status(f"{seconds:g} s of notes"):
        row = _measure(Path(name), seconds, realtime, soundfont)
    rows = [row, *costs]
    conditions = {
        "seconds": seconds, "realtime": realtime, "sample_rate_hz": SOUND_HZ,
        "soundfont": (soundfont or default_soundfont()).name,
    }  # fmt: skip
    show(rows, console, apart="what")
    return write_result("note-to-sound", conditions, rows, json_path)


def _measure(
    folder: Path, seconds: float, realtime: bool, soundfont: Path | None
) -> dict[str, Any]:
    notes = max(1, int((seconds - TAIL / RATE_HZ) * RATE_HZ / FRAMES))
    nodes: dict[str, Any] = {
        "notes": {"use": "benchmarks._notes:Notes", "notes": notes},
        "kept": {
            "use": "benchmarks._notes:Keeper", "from": "notes", "file": str(folder / "times.npy")
        },
        "sound": {"use": "synth", "from": "notes"},
    }  # fmt: skip
    if soundfont is not None:
        nodes["sound"]["soundfont"] = str(soundfont.resolve())
    pipeline = {"name": "note-to-sound", "nodes": nodes}
    if realtime:
        pipeline["realtime"] = ["notes", "sound"]
    with play_into(folder, realtime) as capture:
        report = run_pipeline(pipeline, folder, seconds + 60)
        samples, read_ns = capture.close()
    played_ns = np.load(folder / "times.npy")
    delays_ms, unsilenced = onsets(played_ns, samples, read_ns)
    told = report.nodes["sound"]["notes"]
    link = report.links["notes->sound"]
    return {
        "what": "note to sample", "notes": len(played_ns), "heard": len(delays_ms),
        **{
            f"{name}_ms": round(float(np.percentile(delays_ms, q)), 2)
            for name, q in (("p50", 50), ("p99", 99), ("max", 100))
            if len(delays_ms)
        },
        "underruns": told["underruns"], "underruns_at_ends": told.get("underruns_at_ends", 0),
        "stuck": told.get("released_at_end", 0),
        "unsilenced": unsilenced, "link_p50_ms": link["p50_us"] / 1000,
        "link_p99_ms": link["p99_us"] / 1000,
        "cpu_share": round(report.nodes["sound"]["cpu_s"] / report.duration_s, 3),
        "card_latency_ms": told["sound_card_latency_ms"],
    }  # fmt: skip


def onsets(
    played_ns: NDArray[np.int64], samples: NDArray[np.int16], read_ns: NDArray[np.int64]
) -> tuple[NDArray[np.float64], int]:
    """Return the delays in ms of the notes that were heard, and before how many it was not silent.

    A note counts as heard when something audible was read within 0.2 s after it was played.
    """
    audible = np.nonzero(np.abs(samples.astype(np.int32)) >= AUDIBLE)[0]
    audible_ns = read_ns[audible]
    delays: list[float] = []
    unsilenced = 0
    for time_ns in played_ns:
        at = int(np.searchsorted(audible_ns, time_ns))
        if at > 0 and time_ns - audible_ns[at - 1] < 20_000_000:
            unsilenced += 1
        elif at < len(audible) and audible_ns[at] - time_ns < WAIT_NS:
            delays.append((audible_ns[at] - time_ns) / 1e6)
    return np.array(delays), unsilenced


def _costs(path: Path) -> list[dict[str, Any]]:
    """Measure the share of a core that voices take, by how long each block takes to compute."""
    samples = Samples(SoundFont(path))
    samples.prepare(0, 0)
    rows = []
    for voices in VOICES:
        for block in BLOCKS:
            synth = Synth(samples, 0.1)
            out = np.zeros((block, 2), np.float32)
            took_ns: list[int] = []
            pitches = range(24, 24 + voices)
            for number in range(int(_RENDERED_S * SOUND_HZ / block)):
                # Voices that have faded would cost nothing.
                if number % (SOUND_HZ // block) == 0:
                    for pitch in pitches:
                        synth.apply(*note_on(pitch, 100))
                    while synth.sounding > voices:
                        synth.render(out)
                start_ns = time.perf_counter_ns()
                synth.render(out)
                took_ns.append(time.perf_counter_ns() - start_ns)
            block_ns = block / SOUND_HZ * 1e9
            rows.append({
                "what": "voices", "voices": voices, "block": block,
                "p50_ms": round(float(np.median(took_ns)) / 1e6, 4),
                "p99_ms": round(float(np.percentile(took_ns, 99)) / 1e6, 4),
                "real_time_factor": round(float(np.median(took_ns)) / block_ns, 4),
            })  # fmt: skip
    return rows
