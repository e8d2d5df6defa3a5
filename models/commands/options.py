"""Options that several commands read alike."""

from __future__ import annotations

from stream.errors import ConfigError
from stream.spikes.recording import Recording
from stream.units import parse_seconds

_WIDTH_S = 0.02


def bin_width_s(recording: Recording, text: str | None) -> float:
    """Read `--bin-width`; without it, the width is that of the recording's counts, or 20 ms.

    Raises
    ------
    ConfigError
        It has no unit, or is no width.
    """
    if text is None:
        return recording.width_s or _WIDTH_S
    return seconds("--bin-width", text)


def seconds(option: str, text: str) -> float:
    """Read a duration.

    Raises
    ------
    ConfigError
        It has no unit, or is no duration.
    """
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}.") from None
