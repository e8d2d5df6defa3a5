"""The `record` sink: everything that comes in, kept through crashes, closed as an NWB file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from stream.errors import ConfigError, MissingExtraError
from stream.node import CLOSED, Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.recording_log_writer import LogWriter
from stream.recording_nwb import finish_log
from stream.recording_survey import can_be_kept

_PACKAGES = ("innervate", "numpy", "pyzmq", "msgspec", "onnxruntime-gpu", "onnxruntime", "pynwb")
_PIPELINE_LIMIT_BYTES = 2**20


class RecordSettings(NodeSettings):
    """Settings of the `record` node."""

    file: Path | None = Field(
        None,
        description="NWB file to write, which must not exist; without one, a file named after"
        " pipeline, node and time in the folder of the run",
    )
    licence: str = Field(
        "", description="terms under which the recording may be used; they stand in the file"
    )


class Record(Node[RecordSettings]):
    """Appends every packet to a log beside the target and turns that into NWB at the end.

    While it runs there is `NAME.nwb.log`; `stream.recording_log` says what it guarantees. At the
    end the NWB file is written, read back and compared, and then the log is removed. When that
    does not come to pass, `innervate recover NAME.nwb.log` does the same later.

    A packet that is not what its stream should carry is refused: counted, and noted in the
    recording.
    """

    use = "record"
    summary = "keeps streams through crashes and closes them as an NWB file"
    Settings = RecordSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs: ClassVar[int | None] = None
    delivery: ClassVar[str] = "lossless"

    def __init__(self, settings: RecordSettings) -> None:
        super().__init__(settings)
        self._log: LogWriter | None = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check that the streams can be kept and the file can be written; there is no output.

        Raises
        ------
        ConfigError
            A stream's arrays vary in other axes than the first or have more than three; the file
            exists, is no `.nwb`, or its folder is not there; an earlier run left a log in its
            place.
        MissingExtraError
            pynwb is not installed.
        """
        if importlib.util.find_spec("pynwb") is None:
            raise MissingExtraError("The node 'record'", "nwb")
        for stream, spec in inputs.items():
            if not can_be_kept(spec):
                raise ConfigError(
                    f"'{stream}' carries arrays of shape {list(spec.shape)}; 'record' keeps arrays"
                    " with at most 3 axes, of which only the first may vary in length."
                )
        if self.settings.file is not None:
            _check_target(self.settings.file)
        return {}

    def writes(self) -> tuple[Path, ...]:
        """Return the file and its log, when the file is known beforehand."""
        file = self.settings.file
        return () if file is None else (file, log_path(file))

    def open(self, context: Context) -> None:
        """Create the log."""
        super().open(context)
        started = datetime.now(UTC)
        self.file = self.settings.file or context.run_dir / _default_name(context, started)
        _check_target(self.file)
        self._refused: dict[str, int] = {}
        self._log = LogWriter(
            log_path(self.file),
            context.inputs,
            {
                "pipeline": context.pipeline,
                "pipeline_text": _text(context.pipeline_path),
                "node": context.name,
                "started": started.isoformat(),
                "started_monotonic_ns": time.monotonic_ns(),
                "versions": _versions(),
                "system": platform.platform(),
                "licence": self.settings.licence,
            },
        )
        context.counters.note("file", str(self.file))

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Append a packet to the log: when this returns, a kill does not lose it.

        Raises
        ------
        RecordingError
            The disk is full or fails; what was recorded before is safe in the log.
        """
        assert self._log is not None
        reason = self.context.inputs[stream].misfit(packet)
        if reason:
            self.context.counters.drop(reason)
            self._log.write_refused(stream, packet, time.monotonic_ns(), reason)
        else:
            self._log.write(stream, packet, time.monotonic_ns())
        return ()

    def close(self) -> None:
        """Close the log and turn it into the NWB file.

        Raises
        ------
        RecordingError
            The file cannot be written; the recording is safe in the log.
        """
        if self._log is None:
            return
        log, self._log = self._log, None
        if log.failed:
            # Said already, with what to do: there is no room to finish here.
            log.abandon()
            return
        counters = self.context.counters
        log.close({"ended": datetime.now(UTC).isoformat(), "dropped": counters.dropped})
        counters.note("recorded", log.packets)
        self._progress(0.0)
        finish_log(log.path, self.file, self._progress)
        counters.note(CLOSED, 1.0)

    def _progress(self, share: float) -> None:
        self.context.counters.note(CLOSED, share)
        self.context.alive()


def log_path(file: Path) -> Path:
    """Return where the log of a recording lies: `session.nwb.log` for `session.nwb`."""
    return file.with_name(file.name + ".log")


def _check_target(file: Path) -> None:
    if file.suffix != ".nwb":
        raise ConfigError(f"a recording is an NWB file, '{file.name}' must end in '.nwb'.")
    if file.exists():
        raise ConfigError(
            f"{file} exists and is not overwritten; choose another name, or leave out 'file' to"
            " get a new one for each run."
        )
    if log_path(file).exists():
        raise ConfigError(
            f"{log_path(file)} is there: an earlier run was cut off, or still goes on. Make an NWB"
            f" file of it with `innervate recover {log_path(file)}`, or choose another name."
        )
    if not file.parent.is_dir():
        raise ConfigError(f"the folder {file.parent} is not there; create it first.")


def _default_name(context: Context, started: datetime) -> str:
    parts = (context.pipeline or "run", context.name, f"{started.astimezone():%Y%m%d-%H%M%S}")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts)) + ".nwb"


def _text(pipeline_path: str) -> str:
    if not pipeline_path:
        return ""
    try:
        with open(pipeline_path, encoding="utf-8", errors="replace") as file:
            return file.read(_PIPELINE_LIMIT_BYTES)
    except OSError as error:
        return f"{pipeline_path} could not be read: {error.strerror}"


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
