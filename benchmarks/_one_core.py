"""One core for all processes of a benchmark."""

from __future__ import annotations

import os

from stream.errors import ConfigError


def bind_to_one_core() -> None:
    """Bind this process to its last core; those that it starts inherit that.

    Raises
    ------
    ConfigError
        This system cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("this benchmark binds processes to a core, which this system cannot do.")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
