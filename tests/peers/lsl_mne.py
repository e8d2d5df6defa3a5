"""mne-lsl, which brings a liblsl of its own, as a player and a viewer: `python lsl_mne.py`.

Orders come as lines of JSON on stdin, answers as lines of JSON on stdout. `play` plays a recording
in a loop, of which sample k of channel c is k + 1000 c, with an annotation a second; `view` reads
so many samples of a stream, says `viewing` when it is connected, and what it `saw` at the end.
"""

from __future__ import annotations

import json
import sys
import threading

import mne
import numpy as np
from mne_lsl.lsl import StreamInlet, resolve_streams
from mne_lsl.player import PlayerLSL


def say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def play(name: str, rate: float, channels: int, seconds: int) -> None:
    k = np.arange(round(seconds * rate))
    info = mne.create_info([f"E{c + 1}" for c in range(channels)], rate, "eeg")
    raw = mne.io.RawArray(k + 1000.0 * np.arange(channels)[:, None], info, verbose="ERROR")
    onsets = np.arange(0.5, seconds)
    raw.set_annotations(mne.Annotations(onsets, 0.0, [f"event {o:g}" for o in onsets]))
    player = PlayerLSL(
        raw, chunk_size=5, name=name, source_id=f"{name}-1", annotations_encoding="string"
    )
    player.start()
    say(playing=name)
    threading.Event().wait()


def view(name: str, samples: int) -> None:
    (found,) = resolve_streams(timeout=60, name=name)
    inlet = StreamInlet(found, max_buffered=10)
    inlet.open_stream(timeout=20)
    info = inlet.get_sinfo(timeout=20)
    say(viewing=name)
    values: list[list[float]] = []
    stamps: list[float] = []
    while len(values) < samples:
        chunk, times = inlet.pull_chunk(timeout=1.0, max_samples=1)
        values += [[float(v) for v in row] for row in chunk]
        stamps += list(times)
    say(
        saw=name, type=info.stype, rate=info.sfreq, source_id=info.source_id, values=values,
        names=info.get_channel_names(), units=info.get_channel_units(), stamps=stamps,
    )  # fmt: skip


if __name__ == "__main__":
    for line in sys.stdin:
        order = json.loads(line)
        work = {"play": play, "view": view}[order.pop("do")]
        threading.Thread(target=work, kwargs=order, daemon=True).start()
