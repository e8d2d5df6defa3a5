"""The setting `loop` of what can be played again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator


def _loop(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError(f"expected true, false or a number of laps from 1, found {value!r}")


Loop = Annotated[bool | int, BeforeValidator(_loop)]
"""True for ever, or how many times in all."""


def laps(loop: bool | int) -> Iterable[int]:
    """Return the numbers of the laps, from 0."""
    return itertools.count() if loop is True else range(int(loop) or 1)
