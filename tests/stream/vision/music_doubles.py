"""Keyboards and notes for tests of what draws them. Workers import them by `music_doubles:Name`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from stream.music.keyboard import WHITES, KeyGrid, keyboard_spec
from stream.music.notes import events, note_off, note_on, notes_spec
from stream.node import Context, StreamSpec
from stream.paced import PacedSettings, PacedSource, Timed
from stream.packet import Packet

PERIOD_NS = 100_000_000
C4 = 60


def level_grid(left: float, right: float, top: float, bottom: float) -> KeyGrid:
    """A keyboard that a camera sees straight from above."""
    grid = np.zeros((3, WHITES + 1, 2), np.float32)
    grid[..., 0] = np.linspace(left, right, WHITES + 1)
    grid[..., 1] = np.array([top, top + 0.65 * (bottom - top), bottom])[:, None]
    return grid


def grid_packet(grid: KeyGrid, at_ns: int, state: str = "found") -> Packet:
    meta = {"state": state, "confidence": 1.0}
    return Packet("keyboard", grid, 0, at_ns, at_ns, meta=meta)


def notes_packet(at_ns: int, *messages: tuple[int, int, int], segment: int = 0) -> Packet:
    return Packet("notes", events(messages), 0, at_ns, at_ns, segment=segment)


class MovingKeyboard(PacedSource[PacedSettings]):
    """A keyboard in pictures of 320 x 120 that moves right by 2 pixels every tenth of a second.

    Each grid comes before the frame of its time does, since frames do not wait for keyboards.
    """

    use = "double.keyboard"
    Settings = PacedSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": keyboard_spec(120, 320, None)}

    def open(self, context: Context) -> None:
        super().open(context)
        self.pace(self._grids())

    def _grids(self) -> Iterator[Timed]:
        for number in range(30):
            at_ns = number * PERIOD_NS
            grid = level_grid(20 + 2 * number, 228 + 2 * number, 40, 100)
            yield max(0, at_ns - PERIOD_NS // 2), grid_packet(grid, at_ns)


class OneKey(PacedSource[PacedSettings]):
    """Plays C4 from 0.5 to 1.5 s, in a packet every tenth of a second, most of them empty."""

    use = "double.notes"
    Settings = PacedSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": notes_spec(PERIOD_NS / 1e9)}

    def open(self, context: Context) -> None:
        super().open(context)
        played = {5: [note_on(C4, 100)], 15: [note_off(C4)]}
        self.pace(
            (number * PERIOD_NS, notes_packet(number * PERIOD_NS, *played.get(number, [])))
            for number in range(30)
        )
