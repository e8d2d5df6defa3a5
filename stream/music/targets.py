"""What the sinks of music have in common: which streams they take and which files they write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream.errors import ConfigError
from stream.music.held import Message
from stream.music.notes import are_events, check_notes
from stream.node import Counters, StreamSpec
from stream.packet import Packet


def check_inputs(use: str, inputs: Mapping[str, StreamSpec]) -> None:
    """Refuse streams that carry no notes.

    Raises
    ------
    ConfigError
        One carries something else.
    """
    for name, spec in inputs.items():
        check_notes(use, name, spec)


def check_target(file: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a file that cannot be begun.

    Raises
    ------
    ConfigError
        Its ending is another, it exists, or its folder does not.
    """
    if file.suffix.lower() not in suffixes:
        raise ConfigError(f"file: {file.name} does not end in {' or '.join(suffixes)}.")
    if file.exists():
        raise ConfigError(f"{file} exists and is not overwritten; choose another name.")
    if not file.parent.is_dir():
        raise ConfigError(f"the folder {file.parent} is not there; create it first.")


def messages_of(packet: Packet, counters: Counters) -> list[Message] | None:
    """Return the messages of a packet; None, and counted as `not_notes`, where it holds others."""
    if not are_events(packet.data):
        counters.drop("not_notes")
        return None
    return [(int(status), int(number), int(value)) for status, number, value in packet.data]
