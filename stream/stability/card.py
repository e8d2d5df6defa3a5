"""What a model file says of its memory and its stability."""

from __future__ import annotations

import math

import msgspec

from stream.units import format_seconds

UNSTABLE_ABOVE = 0.01
"""Largest exponent, in nats a step, from which a model is refused."""
_NO_DIFFERENCE = 1e-3
_WORDS = {
    "real": "real input",
    "noise": "more noise",
    "zeros": "silence",
    "twice": "twice the input",
}


class PartMemory(msgspec.Struct, kw_only=True, frozen=True):
    """Memory of one part of the state.

    Either `window_steps`, after which it is as if it had never been another, or `exponent`, the
    largest one, in nats a step, and its `spread`.
    """

    names: tuple[str, ...]
    window_steps: int | None = None
    exponent: float | None = None
    spread: float | None = None


class Stability(msgspec.Struct, kw_only=True, frozen=True):
    """How a model file forgets, as measured on the exported step.

    Attributes
    ----------
    stable
        Whether it passed: no largest exponent above `UNSTABLE_ABOVE` with real input, with more
        noise, or in silence.
    largest_exponent, spread
        Nats a step with real input, mean and standard deviation over sequences; None if all memory
        is a window, which has none.
    exponents
        The largest ones, means over sequences.
    by_drive
        Largest exponent by what it was fed; see `stream.stability.drives`.
    dimension
        Kaplan-Yorke, of an unstable model; None if more exponents are needed for it.
    near_zero
        How many of `exponents` are above -0.01.
    window_steps
        Steps after which windows have forgotten everything.
    settles_steps
        Steps from a cold start until outputs stay within a hundredth of their spread from what
        they would have been; None if that was not reached.
    period_s
        Length of a step, None if it has no fixed one.
    sequences, steps
        What was measured on.
    parts
        Of the state.
    clocks
        Tensors that no input changes.
    not_covered
        Tensors of integers that remember input, which have no exponents.
    allowed
        Whether it was exported in spite of being unstable.
    """

    stable: bool
    sequences: int
    steps: int
    largest_exponent: float | None = None
    spread: float | None = None
    exponents: tuple[float, ...] = ()
    by_drive: dict[str, float] = {}
    dimension: float | None = None
    near_zero: int = 0
    window_steps: int | None = None
    settles_steps: int | None = None
    period_s: float | None = None
    parts: tuple[PartMemory, ...] = ()
    clocks: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    allowed: bool = False


def stability_lines(found: Stability) -> dict[str, str]:
    """Return the lines of a card by their titles."""
    verdict = "pass" if found.stable else "FAIL: it amplifies what it should forget"
    if found.allowed:
        verdict += "; exported all the same"
    lines = {"stability": verdict}
    if found.largest_exponent is not None:
        spread = found.spread or 0.0
        rate = (
            ""
            if found.period_s is None
            else f" ({found.largest_exponent / found.period_s:+.2f} a second)"
        )
        lines["largest exponent"] = (
            f"{found.largest_exponent:+.4f} ± {spread:.4f} nats a step{rate}, {found.sequences}"
            f" sequences of {found.steps} steps of real input"
        )
        lines["driven by"] = _drives(found)
        lines["exponents near zero"] = f"{found.near_zero} of the largest {len(found.exponents)}"
        if found.largest_exponent > 0:
            size = "more than was measured" if found.dimension is None else f"{found.dimension:.1f}"
            lines["dimension"] = f"{size} (Kaplan-Yorke)"
    lines["memory"] = _memory(found)
    if found.settles_steps is not None:
        lines["after a restart"] = (
            f"outputs are within 1 % after {_time(found.settles_steps, found.period_s)}"
        )
    elif found.parts:
        lines["after a restart"] = (
            f"some output is not yet within 1 % after {_time(found.steps, found.period_s)}"
        )
    if found.not_covered:
        lines["not covered"] = f"{', '.join(found.not_covered)}, integers that remember input"
    return lines


def _drives(found: Stability) -> str:
    values = found.by_drive
    if max(values.values()) - min(values.values()) < _NO_DIFFERENCE:
        return "the same whatever is fed: it is fixed by construction"
    return ", ".join(f"{_WORDS.get(name, name)} {value:+.4f}" for name, value in values.items())


def _memory(found: Stability) -> str:
    """Say when it has forgotten; what windows do is told apart from what fades."""
    exponent, told = found.largest_exponent, []
    if found.window_steps:
        after = _time(found.window_steps, found.period_s)
        told.append(f"forgets after {after}, by construction")
    if exponent is not None:
        fades = "does not fade"
        if exponent < 0:
            fades = f"fades by e in {_time(-1 / exponent, found.period_s)}"
        told.append(fades)
    if len(told) < 2:
        return told[0] if told else "none"
    windows, lasting = (
        [n for p in found.parts if (p.window_steps is not None) is exact for n in p.names]
        for exact in (True, False)
    )
    return f"{_named(windows)} {told[0]}; {_named(lasting)} {told[1]}"


def _named(names: list[str]) -> str:
    return f"'{names[0]}'" if len(names) == 1 else f"what {len(names)} tensors hold"


def _time(steps: float, period_s: float | None) -> str:
    if math.isinf(steps):
        return "no number of steps"
    count = f"{steps:.0f} steps" if steps >= 10 else f"{steps:.1f} steps"
    if float(steps).is_integer():
        count = f"{int(steps)} step" + "s" * (int(steps) != 1)
    if period_s is None:
        return count
    return f"{count} ({format_seconds(float(f'{steps * period_s:.3g}'))})"
