"""Instruments of General MIDI by number or name."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from stream.errors import MissingExtraError

_FONT = "TimGM6mb.sf2"
_EXPECTED = "expected an instrument of General MIDI, its number (0 to 127) or its name"


def _instrument(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 127:
        return value
    if not isinstance(value, str):
        raise ValueError(f"{_EXPECTED}, found {value!r}")
    names = instrument_names()
    plain = [name.casefold() for name in names]
    wanted = value.casefold().strip()
    if wanted in plain:
        return plain.index(wanted)
    within = [number for number, name in enumerate(plain) if wanted and wanted in name]
    if len(within) == 1:
        return within[0]
    near = [names[number] for number in within[:5]] or [
        names[plain.index(name)] for name in difflib.get_close_matches(wanted, plain, 3, 0.4)
    ]
    hint = f", such as {' or '.join(map(repr, near))}" if near else ""
    raise ValueError(f"{_EXPECTED}{hint}, found {value!r}")


Instrument = Annotated[
    int,
    BeforeValidator(_instrument, json_schema_input_type=int | str),
    Field(ge=0, le=127),
]
"""The setting `instrument`: 0 to 127, or a name such as `Acoustic Grand Piano` or `violin`."""


def instrument_names() -> tuple[str, ...]:
    """Return the 128 names, in their order.

    Raises
    ------
    MissingExtraError
        pretty_midi, which knows them, is not installed.
    """
    try:
        from pretty_midi.constants import INSTRUMENT_MAP
    except ModuleNotFoundError as error:
        raise MissingExtraError("The name of an instrument", "audio") from error
    return tuple(INSTRUMENT_MAP)


def default_soundfont() -> Path:
    """Return TimGM6mb.sf2 (Tim Brechbill, GPL-2), which lies in the package pretty_midi.

    Raises
    ------
    MissingExtraError
        That is not installed.
    """
    spec = importlib.util.find_spec("pretty_midi")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / _FONT).is_file():
            return path
    raise MissingExtraError("The SoundFont of the node 'synth'", "audio")
