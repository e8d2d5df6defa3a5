"""Lyapunov exponents of a model file's step, by central differences, without automatic gradients.

An exported step takes no batch, so each of k directions costs two runs of it; parts that do not
feed each other share them. States are float32, which bounds what can be seen: exponents below about
-7 nats a step are lost in rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.stability.drives import Inputs
from stream.stability.parts import ModelStep, Part, Parts, Values
from stream.stability.spectrum import Spectrum

_RELATIVE_STEP = 1e-3
_WIDEST = 16.0
_SEED = 0


@dataclass
class Tangent:
    """Directions in the state of a part, followed along one sequence of inputs.

    Attributes
    ----------
    part
        Of the state; n numbers.
    scale
        Size (root mean square) of the part at least; differences are taken relative to it, or to
        the size that the part has by then.
    q
        (n, k) orthonormal directions.
    logs
        (k,) logarithms of how they grew since they are counted.
    forgotten
        Step (from 1) by which every direction was exactly zero, or None.
    exploded
        Whether the state went out of the range of numbers.
    """

    part: Part
    scale: float
    q: NDArray[np.float64]
    logs: NDArray[np.float64]
    forgotten: int | None = None
    exploded: bool = False
    _size: float = 0.0

    @classmethod
    def random(cls, part: Part, size: int, k: int, scale: float) -> Tangent:
        """Return k random directions in a part with so many numbers, of that scale."""
        random = np.random.default_rng(_SEED).standard_normal((size, min(k, size)))
        return cls(part, scale, np.linalg.qr(random)[0], np.zeros(min(k, size)))

    def again(self, k: int) -> Tangent:
        """Return its first k directions, to be followed along another sequence."""
        q = self.q[:, :k]
        return Tangent(self.part, self.scale, q, np.zeros(q.shape[1]))

    def exponents(self, steps: int) -> NDArray[np.float64]:
        """Return (k,) exponents in nats a step."""
        if self.exploded:
            return np.full(len(self.logs), np.inf)
        if self.forgotten is not None:
            return np.full(len(self.logs), -np.inf)
        return self.logs / steps

    def adapt(self, state: Values) -> None:
        """Choose the length of differences from this state on."""
        whole = self.flat(state)
        now = math.sqrt(float(np.mean(whole**2)))
        self._size = _RELATIVE_STEP * max(self.scale, now) * min(math.sqrt(len(whole)), _WIDEST)

    def moved(self, state: Values, column: int, sign: int) -> Values:
        """Return the part's tensors, moved along a direction."""
        at, found = 0, {}
        column = min(column, self.q.shape[1] - 1)
        for name in self.part.names:
            old = state[name]
            way = self.q[at : at + old.size, column].reshape(old.shape)
            found[name] = (old + sign * self._size * way).astype(old.dtype)
            at += old.size
        return found

    def flat(self, state: Values) -> NDArray[np.float64]:
        """Return the part's tensors as one vector (n,)."""
        whole = [state[name].ravel() for name in self.part.names]
        return np.concatenate(whole, dtype=np.float64)

    def follow(self, images: NDArray[np.float64], step: int, *, counted: bool) -> None:
        """Go on with the images (n, k) of the directions."""
        if not np.isfinite(images).all():
            self.exploded = True
            return
        if not images.any():
            self.forgotten = step
            return
        self.q, r = np.linalg.qr(images / (2 * self._size))
        if counted:
            with np.errstate(divide="ignore"):
                self.logs += np.log(np.abs(np.diag(r)))


def random_tangents(
    step: ModelStep, parts: Parts, wanted: Sequence[int], k: int, inputs: Inputs
) -> dict[int, Tangent]:
    """Return k random directions in each wanted part.

    Differences are taken relative to the size (root mean square) that a part has when it is driven
    by inputs (steps, ...).
    """
    sizes = dict.fromkeys(wanted, 0.0)
    state = step.start()
    for x in inputs:
        state = step.states_of(step(state, x))
        for i in wanted:
            whole = np.concatenate([state[n].ravel() for n in parts.parts[i].names])
            sizes[i] = max(sizes[i], math.sqrt(np.mean(np.square(whole, dtype=np.float64))))
    return {
        i: Tangent.random(
            parts.parts[i], sum(state[n].size for n in parts.parts[i].names), k, sizes[i] or 1.0
        )
        for i in wanted
    }


def follow(
    step: ModelStep, parts: Parts, tangents: Mapping[int, Tangent], inputs: Inputs, warm_up: int
) -> None:
    """Follow directions of parts along one sequence of inputs (steps, ...), from a cold start.

    The directions are there from half of the warm-up on, and growth is counted from its end on.
    """
    settled = warm_up // 2
    state = step.start()
    for x in inputs[:settled]:
        state = step.states_of(step(state, x))
    groups = parts.together(list(tangents))
    for t, x in enumerate(inputs[settled:], 1):
        for group in groups:
            active = [
                tangents[i]
                for i in group
                if tangents[i].forgotten is None and not tangents[i].exploded
            ]
            if active:
                _push(step, active, state, x, t, counted=settled + t > warm_up)
        state = step.states_of(step(state, x))


def _push(
    step: ModelStep,
    tangents: Sequence[Tangent],
    state: Values,
    x: Inputs,
    t: int,
    *,
    counted: bool,
) -> None:
    """Move all directions of parts that do not feed each other through one step."""
    images: list[list[NDArray[np.float64]]] = [[] for _ in tangents]
    for tangent in tangents:
        tangent.adapt(state)
    for column in range(max(tangent.q.shape[1] for tangent in tangents)):
        ends = []
        for sign in (1, -1):
            moved = dict(state)
            for tangent in tangents:
                moved |= tangent.moved(state, column, sign)
            ends.append(step(moved, x))
        for tangent, columns in zip(tangents, images, strict=True):
            if column < tangent.q.shape[1]:
                with np.errstate(invalid="ignore"):  # What exploded is found in `follow`.
                    columns.append(tangent.flat(ends[0]) - tangent.flat(ends[1]))
    for tangent, columns in zip(tangents, images, strict=True):
        tangent.follow(np.stack(columns, axis=1), t, counted=counted)


def model_spectrum(
    step: ModelStep, inputs: Inputs, parts: Parts, *, k: int = 8, warm_up: int = 50
) -> Spectrum:
    """Return the k largest exponents of a whole model file, of inputs (sequences, steps, ...).

    See `stream.stability.parts` for why it is measured part by part. Directions that windows
    forget count as minus infinity.
    """
    recalling = [i for i, part in enumerate(parts.parts) if part.recalls]
    tangents = random_tangents(step, parts, recalling, k, inputs[0])
    rows = []
    for sequence in inputs:
        tangents = {i: tangent.again(k) for i, tangent in tangents.items()}
        follow(step, parts, tangents, sequence, warm_up)
        found = [tangent.exponents(len(sequence) - warm_up) for tangent in tangents.values()]
        rows.append(np.concatenate([*found, np.full(k, -np.inf)]))
    every = Spectrum.ordered(np.array(rows), step.port.period_s)
    return Spectrum(every.exponents[:, :k], every.period_s)
