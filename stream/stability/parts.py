"""The parts of a model's state: which tensors drive which, found by trying.

An exported step hands several tensors to itself. Some depend on each other both ways and belong
together, such as the h and c of an LSTM; most depend on others only one way. The Jacobian of the
whole state is then block triangular, and its Lyapunov spectrum is that of its blocks together. So
each part is measured by itself, driven by the others as by an input: a ring of past bins, which
forgets all of them in the end, does not blur the exponents of a recurrent layer behind it.

A tensor whose course is the same whatever is fed, such as a position in a ring, is a clock. It
remembers no input and belongs to no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.inference import open_session
from stream.model_file import Contract
from stream.stability.drives import Inputs

Values = dict[str, NDArray[np.float32]]
_PROBES = 8


class ModelStep:
    """A model file's step as a plain function of state and input, without anything in place.

    Parameters
    ----------
    model
        Bytes of an ONNX model.
    contract
        What it says of itself; its state's `in_place` is ignored.
    """

    def __init__(self, model: bytes, contract: Contract) -> None:
        self.contract = contract
        self.session = open_session(model, "cpu", 1)[0]
        (self.port,) = contract.inputs
        self._following = {s.output: s.input for s in contract.states}
        self._names = [p.name for p in contract.outputs] + list(self._following)

    def start(self) -> Values:
        """Return the state at the start of a segment."""
        return {s.input: np.full(s.shape, s.start, s.dtype) for s in self.contract.states}

    def __call__(self, state: Mapping[str, NDArray[np.float32]], fed: Inputs) -> Values:
        """Return the outputs and the next state, both by name; the state under its old names."""
        found = self.session.run(self._names, {self.port.name: fed, **state})
        return {
            self._following.get(name, name): value
            for name, value in zip(self._names, found, strict=True)
        }

    def states_of(self, found: Values) -> Values:
        """Pick the next state out of what a step returned."""
        return {s.input: found[s.input] for s in self.contract.states}


@dataclass(frozen=True)
class Part:
    """Tensors of the state that depend on each other.

    Attributes
    ----------
    names
        Of the tensors, as inputs of the graph.
    recalls
        Whether it depends on what it was, or only on input and other parts.
    fed_by
        Positions of the parts, all before this one, that it depends on directly.
    """

    names: tuple[str, ...]
    recalls: bool
    fed_by: frozenset[int]


@dataclass(frozen=True)
class Parts:
    """All of a model's state, in an order in which no part depends on a later one.

    Attributes
    ----------
    parts
        Those that can be perturbed.
    clocks
        Tensors whose course no input changes.
    left_out
        Tensors of integers that remember input: they have no exponents.
    """

    parts: tuple[Part, ...]
    clocks: tuple[str, ...]
    left_out: tuple[str, ...]

    def together(self, wanted: Sequence[int]) -> list[list[int]]:
        """Group parts of which none feeds another directly: one step can perturb all of a group."""
        groups: list[list[int]] = []
        for i in wanted:
            for group in groups:
                if not any(i in self.parts[j].fed_by or j in self.parts[i].fed_by for j in group):
                    group.append(i)
                    break
            else:
                groups.append([i])
        return groups

    def along_paths(self, lengths: Sequence[int]) -> int:
        """Return the largest sum of lengths along a chain of parts of which each feeds the next."""
        sums: list[int] = []
        for part, own in zip(self.parts, lengths, strict=True):
            sums.append(own + max((sums[j] for j in part.fed_by), default=0))
        return max(sums, default=0)


def find_parts(step: ModelStep, one: Inputs, other: Inputs) -> Parts:
    """Find which tensors of the state depend on which.

    The step runs on two sequences of inputs (steps, ...). At several moments each tensor is
    exchanged for what it is on the other sequence, and what changes in the next state depends on
    it. What no exchange ever changed counts as independent.
    """
    names = [s.input for s in step.contract.states]
    moments = set(np.linspace(1, len(one) - 1, _PROBES).astype(int).tolist())
    first, second = step.start(), step.start()
    changing: set[str] = set()
    depends = np.zeros((len(names), len(names)), bool)  # of row on column
    for t, (x, y) in enumerate(zip(one, other, strict=True)):
        plain = step(first, x)
        different = [n for n in names if not np.array_equal(first[n], second[n])]
        changing.update(different)
        if t in moments:
            for name in different:
                found = step({**first, name: second[name]}, x)
                changed = [not np.array_equal(found[n], plain[n]) for n in names]
                depends[:, names.index(name)] |= changed
        first, second = step.states_of(plain), step.states_of(step(second, y))
    floats = {s.input for s in step.contract.states if s.dtype.startswith("float")}
    kept = [i for i, n in enumerate(names) if n in changing and n in floats]
    return Parts(
        parts=_ordered(names, depends, kept),
        clocks=tuple(n for n in names if n not in changing),
        left_out=tuple(n for n in names if n in changing and n not in floats),
    )


def _ordered(
    names: Sequence[str], depends: NDArray[np.bool_], kept: Sequence[int]
) -> tuple[Part, ...]:
    reaches = depends | np.eye(len(names), dtype=bool)
    for i in range(len(names)):  # Warshall's closure
        reaches |= reaches[:, [i]] & reaches[[i]]
    groups: list[list[int]] = []
    # What depends on more comes later; tensors of one part depend on equally many.
    for i in sorted(kept, key=lambda i: int(reaches[i].sum())):
        for group in groups:
            if reaches[i, group[0]] and reaches[group[0], i]:
                group.append(i)
                break
        else:
            groups.append([i])
    parts = []
    for group in groups:
        fed_by = [
            j for j, g in enumerate(groups) if g is not group and depends[np.ix_(group, g)].any()
        ]
        recalls = bool(depends[np.ix_(group, group)].any())
        parts.append(Part(tuple(names[i] for i in group), recalls, frozenset(fed_by)))
    return tuple(parts)
