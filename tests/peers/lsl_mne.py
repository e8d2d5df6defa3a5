"""mne-lsl, which brings a liblsl of its own, as a player and as a viewer, in a process of its own.

`python lsl_mne.py play SETTINGS` plays what sample k holds k (and k + 1000 c in channel c) in a
loop, with an annotation a second; `python lsl_mne.py view SETTINGS` reads so many samples of a
stream and says what it saw. SETTINGS is JSON.
"""

from __future__ import annotations

import json
import sys
import threading

import numpy as np


def play(name: str, rate: float, channels: int, seconds: int) -> None:
    import mne
    from mne_lsl.player import PlayerLSL

    k = np.arange(round(seconds * rate))
    info = mne.create_info([f"E{c + 1}" for c in range(channels)], rate, "eeg")
    raw = mne.io.RawArray(k + 1000.0 * np.arange(channels)[:, None], info, verbose="ERROR")
    onsets = np.arange(0.5, seconds)
    raw.set_annotations(mne.Annotations(onsets, 0.0, [f"event {o:g}" for o in onsets]))
    player = PlayerLSL(
        raw, chunk_size=5, name=name, source_id=f"{name}-1", annotations_encoding="string"
    )
    player.start()
    print("ready", flush=True)
    threading.Event().wait()


def view(name: str, samples: int) -> None:
    from mne_lsl.lsl import StreamInlet, resolve_streams

    (found,) = resolve_streams(timeout=20, name=name)
    inlet = StreamInlet(found, max_buffered=10)
    inlet.open_stream(timeout=20)
    info = inlet.get_sinfo(timeout=20)
    print("ready", flush=True)
    values: list[list[object]] = []
    stamps: list[float] = []
    while len(values) < samples:
        chunk, times = inlet.pull_chunk(timeout=1.0, max_samples=1)
        values += [list(row) for row in chunk]
        stamps += list(times)
    print(
        json.dumps(
            {
                "type": info.stype, "rate": info.sfreq, "source_id": info.source_id,
                "names": info.get_channel_names(), "units": info.get_channel_units(),
                "types": info.get_channel_types(), "stamps": stamps,
                "values": [[v if isinstance(v, str) else float(v) for v in r] for r in values],
            }
        ),
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    {"play": play, "view": view}[sys.argv[1]](**json.loads(sys.argv[2]))
