"""Measure how a model file forgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.model_file import Contract
from stream.stability.card import UNSTABLE_ABOVE, PartMemory, Stability
from stream.stability.differences import follow, random_tangents
from stream.stability.drives import DRIVES, Inputs, cut_sequences, driven
from stream.stability.parts import ModelStep, Parts, find_parts
from stream.stability.spectrum import Spectrum

_PROBED_STEPS = 40
_WITHIN = 0.01


@dataclass(frozen=True)
class Effort:
    """How thoroughly a model is measured.

    Attributes
    ----------
    sequences, steps
        Of real input that exponents are taken over, two sequences at least. An exponent is known
        to about 1 / steps.
    warm_up
        Steps before them.
    directions
        Exponents, shared by the parts of the state; of each part at least two.
    """

    sequences: int = 3
    steps: int = 400
    warm_up: int = 50
    directions: int = 8


def measure(
    model: bytes, contract: Contract, inputs: Inputs, effort: Effort | None = None
) -> Stability | None:
    """Return how a model file forgets, or None if it has no state.

    First, parts of the state are told apart (`stream.stability.parts`). Then each is perturbed
    along one direction: parts in which that becomes exactly zero are windows, and have no exponent
    worth the name. Of the others the largest exponents are measured, with real input in several
    sequences, and of the rest of `DRIVES` in one. Each sequence goes on with the directions that
    the one before it ended with, which have turned to what fades slowest.

    Parameters
    ----------
    model, contract
        Bytes of the file, and what it says of itself. It has one input.
    inputs
        (steps, ...) real input, as the model is fed live; stretches are joined end to end.
    effort
        The default one unless given.
    """
    if not contract.states:
        return None
    effort = effort or Effort()
    step = ModelStep(model, contract)
    # What a ring holds is overwritten only after as many steps as it has rows.
    rows = max((s.shape[0] for s in contract.states if s.shape), default=0)
    length = effort.warm_up + max(effort.steps, rows + 2)
    real = cut_sequences(inputs, effort.sequences, length)
    parts = find_parts(step, real[0][:_PROBED_STEPS], real[1][-_PROBED_STEPS:])
    begin = real[0][: effort.warm_up + max(rows + 2, effort.warm_up)]
    windows = _windows(step, parts, begin, effort.warm_up)
    lasting = [i for i in range(len(parts.parts)) if i not in windows]
    real = real[:, : effort.warm_up + effort.steps]
    spectra = _spectra(step, parts, lasting, real, effort)
    memories = tuple(
        PartMemory(names=part.names, window_steps=windows[i])
        if i in windows
        else PartMemory(
            names=part.names,
            exponent=_number(spectra["real"][i].largest),
            spread=float(spectra["real"][i].spread[0]),
        )
        for i, part in enumerate(parts.parts)
    )
    largest = {
        name: max((s.largest for s in of.values()), default=-math.inf)
        for name, of in spectra.items()
    }
    facts = Stability(
        stable=not any(largest[drive] > UNSTABLE_ABOVE for drive in ("real", "noise", "zeros")),
        sequences=len(real),
        steps=effort.steps,
        window_steps=_forgotten(step, parts, windows, real, effort.warm_up) if windows else None,
        settles_steps=_settles(step, real, effort.warm_up),
        period_s=step.port.period_s,
        parts=memories,
        clocks=parts.clocks,
        not_covered=parts.left_out,
    )
    whole = _together(list(spectra["real"].values()), step.port.period_s, effort.directions)
    if whole is None:
        return facts
    return msgspec.structs.replace(
        facts,
        largest_exponent=_number(whole.largest),
        spread=float(whole.spread[0]),
        exponents=tuple(_number(v) for v in whole.mean),
        by_drive={name: _number(value) for name, value in largest.items()},
        dimension=None if math.isnan(whole.dimension) else whole.dimension,
        near_zero=whole.near_zero,
    )


def _windows(step: ModelStep, parts: Parts, inputs: Inputs, warm_up: int) -> dict[int, int]:
    """Return for each part that forgets exactly after how many steps it does."""
    recalling = [i for i, part in enumerate(parts.parts) if part.recalls]
    tangents = random_tangents(step, parts, recalling, 1, inputs)
    follow(step, parts, tangents, inputs, warm_up)
    steps = {i: tangents[i].forgotten if i in tangents else 1 for i in range(len(parts.parts))}
    return {i: n for i, n in steps.items() if n is not None}


def _spectra(
    step: ModelStep, parts: Parts, lasting: Sequence[int], real: Inputs, effort: Effort
) -> dict[str, dict[int, Spectrum]]:
    """Return the spectrum of each lasting part for each of `DRIVES`."""
    if not lasting:
        return {drive: {} for drive in DRIVES}
    k = max(2, effort.directions // len(lasting))
    tangents = random_tangents(step, parts, lasting, k, real[0][: 2 * effort.warm_up])
    # Turns random directions towards what fades slowest, and is not counted.
    follow(step, parts, tangents, real[-1], effort.warm_up)
    spectra: dict[str, dict[int, Spectrum]] = {}
    for drive in DRIVES:
        fed = driven(real, drive, step.port.kind)
        rows: dict[int, list[NDArray[np.float64]]] = {i: [] for i in lasting}
        for sequence in fed if drive == "real" else fed[:1]:
            tangents = {i: t.again(k if drive == "real" else 1) for i, t in tangents.items()}
            follow(step, parts, tangents, sequence, effort.warm_up)
            for i, tangent in tangents.items():
                rows[i].append(tangent.exponents(effort.steps))
        spectra[drive] = {
            i: Spectrum.ordered(np.array(rows[i]), step.port.period_s) for i in lasting
        }
    return spectra


def _together(spectra: Sequence[Spectrum], period_s: float | None, k: int) -> Spectrum | None:
    """Return the largest exponents of all parts."""
    if not spectra:
        return None
    every = Spectrum.ordered(np.concatenate([s.exponents for s in spectra], axis=1))
    return Spectrum(every.exponents[:, :k], period_s)


def _forgotten(
    step: ModelStep, parts: Parts, windows: dict[int, int], real: Inputs, warm_up: int
) -> int:
    """Return after how many steps outputs no longer depend on what was in the windows.

    Windows are exchanged for those of another past, and outputs compared bit by bit. Where lasting
    parts have taken up the difference meanwhile, it is the sum of lengths along the chain of parts.
    """
    limit = parts.along_paths([windows.get(i, 0) for i in range(len(parts.parts))])
    exchanged = [n for i in windows for n in parts.parts[i].names]
    one, other = step.start(), step.start()
    for x, y in zip(real[0][:warm_up], real[1][:warm_up], strict=True):
        one, other = step.states_of(step(one, x)), step.states_of(step(other, y))
    other = {**one, **{name: other[name] for name in exchanged}}
    last = 0
    for t in range(limit + 1):
        x = real[0][(warm_up + t) % len(real[0])]
        first, second = step(one, x), step(other, x)
        if any(not np.array_equal(first[p.name], second[p.name]) for p in step.contract.outputs):
            last = t + 1
        one, other = step.states_of(first), step.states_of(second)
    return min(last, limit)


def _settles(step: ModelStep, real: Inputs, warm_up: int) -> int | None:
    """Return the steps after a cold start within which outputs have become what they would be."""
    slowest = 0
    for sequence in real:
        warm, cold = step.start(), step.start()
        for x in sequence[:warm_up]:
            warm = step.states_of(step(warm, x))
        gaps, course = [], []
        for x in sequence[warm_up:]:
            first, second = step(warm, x), step(cold, x)
            warm, cold = step.states_of(first), step.states_of(second)
            values, others = (
                np.concatenate([found[p.name].ravel() for p in step.contract.outputs]).astype(
                    np.float64
                )
                for found in (first, second)
            )
            gaps.append(np.abs(values - others))
            course.append(values)
        if not np.isfinite(gaps).all():
            return None
        spread = np.array(course).std(axis=0)
        spread = np.maximum(spread, max(0.1 * float(spread.mean()), 1e-9))
        off = (np.array(gaps) > _WITHIN * spread).any(axis=1)
        last = int(np.flatnonzero(off)[-1]) + 1 if off.any() else 0
        if last >= len(gaps):
            return None
        slowest = max(slowest, last)
    return slowest


def _number(value: float) -> float:
    """Return a float that JSON has: what is forgotten at once is -100, what explodes is 100."""
    return min(max(float(value), -100.0), 100.0)
