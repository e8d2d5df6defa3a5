"""Names of channels and units, of which a range can be written as its ends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_RANGE = re.compile(r"^(.*?)(\d+)\.\.(.*?)(\d+)$")
_MOST = 100_000


def expand_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names with every range, such as `A-000..A-031` or `1..96`, written out.

    Raises
    ------
    ValueError
        The ends of a range do not belong together, a name comes twice, or there is none.
    """
    expanded: list[str] = []
    for name in names:
        expanded += _expand(name)
    if not expanded:
        raise ValueError("expected at least one name")
    if len(expanded) > _MOST:
        raise ValueError(f"expected at most {_MOST} names, found {len(expanded)}")
    if len(set(expanded)) != len(expanded):
        twice = next(name for name in expanded if expanded.count(name) > 1)
        raise ValueError(f"{twice!r} is named twice")
    return tuple(expanded)


def _expand(name: str) -> list[str]:
    found = _RANGE.match(name)
    if found is None:
        return [name]
    prefix, first, prefix_again, last = found.groups()
    low, high = int(first), int(last)
    if prefix_again not in ("", prefix) or high < low or high - low >= _MOST:
        raise ValueError(f"{name!r} is no range; write 'A-000..A-031'")
    width = len(first) if first.startswith("0") else 0
    return [f"{prefix}{number:0{width}d}" for number in range(low, high + 1)]


def _listed(value: object) -> object:
    return (value,) if isinstance(value, (str, int)) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(expand_names)]
"""A setting that lists names; a range is written as its ends: `[A-000..A-031, B-000]`."""
