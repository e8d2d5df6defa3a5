"""liblsl by pylsl, which the extra `lsl` brings, and its clock on this host's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stream.errors import ConfigError, MissingExtraError

_TRIES = 50
# What one reading of a clock may be off: LSL counts in float seconds, exact to 2 ns in a year.
_EXACT_NS = 100


def load_pylsl() -> Any:
    """Return the module `pylsl`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    ConfigError
        It is, but finds no liblsl: its packages for other systems than Linux on x86-64 bring none.
    """
    try:
        import pylsl
    except ImportError:
        raise MissingExtraError("Lab Streaming Layer", "lsl") from None
    except RuntimeError as error:
        message = str(error).splitlines()[0] if str(error) else "no reason given"
        raise ConfigError(
            f"pylsl finds no liblsl ({message}); install it from"
            " https://github.com/sccn/liblsl/releases or set PYLSL_LIB to its path."
        ) from None
    return pylsl


class LslClock:
    """LSL's clock of this host, in seconds, beside `time.monotonic_ns`.

    Where both are the same clock, as on Linux, times are mapped exactly; elsewhere by an offset
    that `measure` finds anew.

    Attributes
    ----------
    offset_ns
        What to add to LSL's time; 0 where it is the same clock.
    """

    def __init__(self, local_clock: Callable[[], float]) -> None:
        self._local_clock = local_clock
        self.offset_ns = 0
        self.measure()

    def measure(self) -> None:
        """Compare the two clocks."""
        narrowest_ns = offset_ns = 0
        for _ in range(_TRIES):
            before_ns = time.monotonic_ns()
            lsl_s = self._local_clock()
            after_ns = time.monotonic_ns()
            if not narrowest_ns or after_ns - before_ns < narrowest_ns:
                narrowest_ns = max(1, after_ns - before_ns)
                offset_ns = (before_ns + after_ns) // 2 - round(lsl_s * 1e9)
        self.offset_ns = 0 if abs(offset_ns) <= narrowest_ns + _EXACT_NS else offset_ns

    def host_ns(self, lsl_s: float) -> int:
        """Return a time of LSL's on `time.monotonic_ns`."""
        return round(lsl_s * 1e9) + self.offset_ns

    def lsl_s(self, host_ns: int) -> float:
        """Return a time of `time.monotonic_ns` on LSL's clock."""
        return (host_ns - self.offset_ns) / 1e9
