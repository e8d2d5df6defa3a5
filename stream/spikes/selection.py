"""Which units, in which order: selection by name, the same wherever units are chosen."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError


def select_units(
    names: Sequence[str], wanted: Sequence[str] | None, where: str, what: str = "unit"
) -> NDArray[np.int64]:
    """Return the positions in `names` of the units in `wanted`, in that order; all for None.

    `where` says in a message whose units these are, `what` what they are (its plural is the key).

    Raises
    ------
    ConfigError
        `wanted` is empty, names a unit twice, or names one that is not there.
    """
    if wanted is None:
        return np.arange(len(names), dtype=np.int64)
    position = {name: i for i, name in enumerate(names)}
    if not wanted:
        raise ConfigError(f"{what}s: names no {what}; leave it out to take all of them.")
    seen: set[str] = set()
    for name in wanted:
        if name in seen:
            raise ConfigError(f"{what}s: names '{name}' twice.")
        if name not in position:
            near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
            hint = (
                f"did you mean {' or '.join(repr(n) for n in near)}?"
                if near
                else f"it has {', '.join(names[:5])}{' and so on' if len(names) > 5 else ''}."
            )
            raise ConfigError(f"{what}s: there is no '{name}' in {where}; {hint}")
        seen.add(name)
    return np.array([position[name] for name in wanted], dtype=np.int64)
