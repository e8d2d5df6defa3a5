"""From the log of a recording to an NWB file, in two passes that hold little in memory.

The layout is that of `stream.spikes.nwb`, so that a recording can be replayed and trained on; the
processing module `run` adds how the packets got there. `docs/recording.md` describes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stream.errors import RecordingError
from stream.files import check_pynwb, format_bytes, free_space
from stream.recording_content import Sink
from stream.recording_layout import write_skeleton
from stream.recording_log import Logged, LogReader, Progress, watched
from stream.recording_survey import Survey


@dataclass(frozen=True)
class Conversion:
    """What became of a log.

    Attributes
    ----------
    file
        The NWB file.
    packets
        Stream name to the number of its packets in the file.
    missing
        Stream name to the packets known to be lost, however that came.
    lost_bytes, damaged
        Bytes of the log that belong to no intact record, and the stretches of them before its end.
    cut_off
        Whether the recorder was stopped before it could close the log.
    """

    file: Path
    packets: Mapping[str, int]
    missing: Mapping[str, int]
    lost_bytes: int
    damaged: int
    cut_off: bool


def log_to_nwb(log: Path, target: Path, progress: Progress = lambda share: None) -> Conversion:
    """Turn the log of a recording into an NWB file, which appears only when it is complete.

    What was written is read back, compared with the log, and checked by the NWB validator before
    the file gets its name. The log is left as it is. `progress` is called several times a second
    with the share of the work that is done.

    Raises
    ------
    RecordingError
        The log holds nothing, `target` exists, or the file cannot be written.
    MissingExtraError
        pynwb is not installed.
    """
    check_pynwb("Writing NWB files")
    if target.exists():
        raise RecordingError(f"{target} exists and is not overwritten; choose another name.")
    reader = LogReader(log)
    part = target.with_name(f".{target.stem}.part.nwb")
    try:
        part.unlink(missing_ok=True)
        survey = Survey(reader, watched(reader, progress, 0.0, 0.35))
        sinks = write_skeleton(survey, part)
        _fill(watched(reader, progress, 0.35, 0.5), sinks, part)
        _verify(sinks, part, progress)
        if target.exists():
            raise RecordingError(f"{target} came into being meanwhile and is not overwritten.")
        part.rename(target)
        _sync(target.parent)
    except RecordingError:
        part.unlink(missing_ok=True)
        raise
    except Exception as error:  # h5py and hdmf raise many kinds, for a full disk too
        room = free_space(target)
        part.unlink(missing_ok=True)
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecordingError(
            f"{target} could not be written: {first_line.rstrip('.')} ({room}, the log takes"
            f" {format_bytes(reader.size)}). The recording is safe in {log}: make room, then run"
            f" `innervate recover {log}`."
        ) from error
    return Conversion(
        file=target,
        packets={name: s.packets for name, s in survey.streams.items()},
        missing={name: s.missing + s.gaps + s.refused for name, s in survey.streams.items()},
        lost_bytes=survey.lost_bytes,
        damaged=survey.damaged,
        cut_off=survey.end is None,
    )


def finish_log(log: Path, target: Path, progress: Progress = lambda share: None) -> Conversion:
    """Turn a log into an NWB file and remove it, unless it is damaged other than at its end.

    Raises
    ------
    RecordingError, MissingExtraError
        As `log_to_nwb`; the log is kept.
    """
    done = log_to_nwb(log, target, progress)
    if not done.damaged:
        log.unlink()
    return done


def _fill(items: Iterable[Logged], sinks: list[Sink], part: Path) -> None:
    import h5py

    by_stream = {sink.found.name: sink for sink in sinks}
    with h5py.File(part, "r+", rdcc_nbytes=2**19) as file:
        for item in items:
            if item.stream in by_stream:
                by_stream[item.stream].take(file, item)
        for sink in sinks:
            sink.finish(file)
    _sync(part)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _verify(sinks: list[Sink], part: Path, progress: Progress) -> None:
    import h5py
    import pynwb

    datasets = [dataset for sink in sinks for dataset in sink.datasets()]
    with h5py.File(part, "r") as file:
        for number, dataset in enumerate(datasets):
            dataset.verify(file)
            progress(0.85 + 0.1 * number / len(datasets))
    problems = pynwb.validate(path=str(part))
    if problems:
        raise RecordingError(f"{part} is no valid NWB file: {problems[0]}; the log is kept.")
