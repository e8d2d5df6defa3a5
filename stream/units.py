"""Quantities with units as users write them: `5 ms`, `30 Hz`, `2 MiB`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

_QUANTITY = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ]+)\s*$")
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0,
}  # fmt: skip
_MOST = 1e9
"""Seconds (32 years) and hertz: far more than is meant, and little enough for ns in 64 bits."""
_HERTZ = {"mHz": 1e-3, "Hz": 1.0, "kHz": 1e3, "MHz": 1e6}


def _pattern(units: dict[str, float]) -> str:
    return rf"^\s*[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?\s*({'|'.join(units)})\s*$"


SECONDS_PATTERN = _pattern(_SECONDS)
HERTZ_PATTERN = _pattern(_HERTZ)


def _parse(value: object, units: dict[str, float], example: str) -> float:
    if isinstance(value, str) and (found := _QUANTITY.match(value)):
        number, unit = found.groups()
        if unit in units:
            if (quantity := float(number) * units[unit]) > _MOST:
                raise ValueError(f"{value!r} is more than anything here can be")
            return quantity
    raise ValueError(
        f"expected a number with a unit ({', '.join(units)}), such as '{example}', found {value!r}"
    )


def parse_seconds(value: object) -> float:
    """Return the seconds that a text such as `5 ms` or `1.5 min` stands for.

    Raises
    ------
    ValueError
        The text has no unit of time, or is no number: a bare number is refused, since its unit
        would be a guess.
    """
    return _parse(value, _SECONDS, "5 ms")


def parse_hertz(value: object) -> float:
    """Return the hertz that a text such as `30 Hz` or `1 kHz` stands for.

    Raises
    ------
    ValueError
        The text has no unit of frequency, or is no number.
    """
    return _parse(value, _HERTZ, "30 Hz")


def format_seconds(seconds: float) -> str:
    """Write a duration in the unit that reads best, such as `5 ms`."""
    if not seconds:
        return "0 s"
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size and (unit not in ("h", "min") or seconds % size == 0):
            return f"{seconds / size:g} {unit}"
    return f"{seconds * 1e9:g} ns"


def format_hertz(hertz: float) -> str:
    """Write a frequency in the unit that reads best, such as `30 kHz`."""
    unit, size = next(
        ((u, s) for u, s in reversed(_HERTZ.items()) if hertz >= s), ("Hz", 1.0)
    )  # fmt: skip
    return f"{hertz / size:g} {unit}"


def to_ns(seconds: float) -> int:
    """Round a duration or a time in seconds to whole nanoseconds."""
    return round(seconds * 1e9)


def _setting(parse: Callable[[object], float], pattern: str, example: str) -> tuple[object, ...]:
    def read(value: object, info: ValidationInfo) -> float:
        # Code may give plain seconds or hertz; a file must name the unit, else it is a guess.
        if isinstance(value, float) and not (info.context and info.context.get("from_file")):
            return value
        return parse(value)

    return (
        BeforeValidator(read),
        WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]}),
    )


Seconds = Annotated[float, *_setting(parse_seconds, SECONDS_PATTERN, "5 ms")]
"""A setting in seconds, written with its unit in a pipeline file."""

Hertz = Annotated[float, *_setting(parse_hertz, HERTZ_PATTERN, "30 Hz")]
"""A setting in hertz, written with its unit in a pipeline file."""
