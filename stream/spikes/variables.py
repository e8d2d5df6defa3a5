"""Variables of files as a mapping names them: found, scaled, and turned to time x column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError
from stream.spikes.mapping import Variable
from stream.spikes.readers import Found, Tree, as_array, describe, find
from stream.spikes.recording import Floats

Array = NDArray[Any]


class Variables:
    """The variables of the files of an import.

    Attributes
    ----------
    parts
        The tree of every part: one stretch of time, or one array of trials.
    """

    def __init__(self, trees: list[Tree], parts: str | None) -> None:
        self._roots = trees
        self.parts = self._parts(trees, parts)

    def _parts(self, trees: list[Tree], parts: str | None) -> list[Tree]:
        if parts == "files":
            return trees
        if len(trees) > 1:
            raise ConfigError(
                f"{len(trees)} files were given, and the mapping does not say how they belong"
                " together: 'parts: files' makes each a stretch of time; 'files' names them."
            )
        if parts is None:
            return trees
        found = find(trees[0], parts)
        if len(found) == 1 and isinstance(found[0].value, list):
            return list(found[0].value)
        if len(found) > 1:
            return [f.value for f in found]
        raise self._unknown("parts", parts, trees[0], "no list")

    def _unknown(self, key: str, path: str, tree: Tree, what: str = "no variable") -> ConfigError:
        lines = "\n  ".join(describe(tree))
        return ConfigError(f"key '{key}': there is {what} '{path}'. There are:\n  {lines}")

    def look_up(self, path: str, key: str, part: Tree) -> list[Found]:
        """Return what a path leads to in a part, or else in the whole file, which parts share.

        Raises
        ------
        ConfigError
            There is nothing; the message lists what there is.
        """
        found = find(part, path)
        if not found and len(self._roots) == 1:
            found = find(self._roots[0], path)
        if not found:
            raise self._unknown(key, path, part)
        return found

    def leaf(self, found: Found, path: str, key: str) -> Array:
        """Return the array that a path led to.

        Raises
        ------
        ConfigError
            It is a group of variables.
        """
        try:
            return as_array(found.value)
        except RecordingError as error:
            raise ConfigError(f"key '{key}': '{path}' is {error}.") from None

    def read(self, variable: Variable, key: str, part: Tree) -> Array:
        """Return what a variable holds in one part, scaled, still with the axes of the file.

        Raises
        ------
        ConfigError
            It is not there, or its pieces do not fit together.
        """
        leaves = [
            self.leaf(found, path, key)
            for path in variable.variable or variable.join
            for found in self.look_up(path, key, part)
        ]
        lengths = {leaf.size for leaf in leaves}
        if len(leaves) == 1:
            array = leaves[0]
        elif variable.join:
            if len({leaf.shape[1:] for leaf in leaves}) > 1 or not all(x.ndim for x in leaves):
                raise ConfigError(
                    f"key '{key}': the variables of {variable.text} have shapes"
                    f" {', '.join(sorted({str(leaf.shape) for leaf in leaves}))}; end to end they"
                    " may differ in the first number only."
                )
            array = np.concatenate(leaves)
        elif len(lengths) > 1:
            raise ConfigError(
                f"key '{key}': the variables of {variable.text} have"
                f" {', '.join(map(str, sorted(lengths)))} values; side by side they must"
                " have equally many."
            )
        else:
            array = np.stack([leaf.ravel() for leaf in leaves], axis=1)
        return self._physical(array, variable, key)

    def _physical(self, array: Array, variable: Variable, key: str) -> Array:
        """Return the columns that a variable picks, scaled."""
        if variable.pick is not None:
            if array.ndim < 2 or max(variable.pick) >= array.shape[-1] or min(variable.pick) < 0:
                raise ConfigError(
                    f"key '{key}.pick': {list(variable.pick)} does not fit {variable.text}, which"
                    f" has shape {array.shape}; columns count from 0."
                )
            array = array[..., list(variable.pick)]
        if array.dtype.kind in "fiub" and (variable.scale != 1 or variable.offset):
            array = array * variable.scale + variable.offset
        return array

    def numbers(self, variable: Variable, key: str, part: Tree) -> Floats:
        """Return what a variable holds in one part as floats.

        Raises
        ------
        ConfigError
            It is not there, or holds something else than numbers.
        """
        array = self.read(variable, key, part)
        if array.dtype.kind not in "fiub":
            raise ConfigError(f"key '{key}': {variable.text} holds {array.dtype}, not numbers.")
        return array.astype(np.float64)

    def number(self, value: float | Variable, key: str, part: Tree) -> float:
        """Return a number that is stated in the mapping, or is the first of a variable.

        Raises
        ------
        ConfigError
            The variable is not there, or empty.
        """
        if not isinstance(value, Variable):
            return value
        numbers = self.numbers(value, key, part).ravel()
        if not len(numbers):
            raise ConfigError(f"key '{key}': {value.text} is empty, expected a number.")
        return float(numbers[0])

    def tables(
        self, variable: Variable, axes: str, key: str, parts: Sequence[Tree] | None = None
    ) -> list[Array]:
        """Return one (time, columns) array a part (of all parts by default), or a trial of a part.

        Raises
        ------
        ConfigError
            The variable is not there, or has not these axes.
        """
        words = [word.strip() for word in axes.split(" x ")]
        allowed = {"time", "trial", "unit" if "unit" in words else "column"}
        if len(set(words)) != len(words) or "time" not in words or not set(words) <= allowed:
            raise ConfigError(
                f"key '{key}.axes': '{axes}' must name each axis once, as in 'time x unit' or"
                " 'trial x time x unit' (or 'column' in place of 'unit')."
            )
        tables: list[Array] = []
        for part in self.parts if parts is None else parts:
            trials = self._listed_trials(variable, key, part) if words[0] == "trial" else []
            if trials:
                tables.extend(_ordered(each, words[1:], axes, variable, key) for each in trials)
                continue
            table = _ordered(self.read(variable, key, part), words, axes, variable, key)
            tables.extend(table if "trial" in words else [table])
        return tables

    def _listed_trials(self, variable: Variable, key: str, part: Tree) -> list[Array]:
        """Return the trials of a list of arrays, which may differ in length; none of one array."""
        if len(variable.variable) != 1:
            return []
        (path,) = variable.variable
        found = self.look_up(path, key, part)
        if len(found) == 1 and isinstance(found[0].value, list):
            found = self.look_up(f"{path}{{*}}", key, part)
        elif len(found) == 1:
            return []
        return [self._physical(self.leaf(one, path, key), variable, key) for one in found]


def _ordered(array: Array, words: list[str], axes: str, variable: Variable, key: str) -> Array:
    """Return an array whose axes are `words` with time (after trials) before the columns."""
    if array.ndim == 1 and "trial" not in words:
        array = array[:, None] if words[0] == "time" else array[None, :]
    if words == ["time", "column"] and array.ndim == 2 and len(array) == 1:
        array = array.T  # MATLAB writes one signal as a row as often as a column
    if words == ["time"] and array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != len(words):
        raise ConfigError(
            f"key '{key}': {variable.text} has shape {array.shape}; its axes cannot be"
            f" '{axes}'. State them in '{key}.axes'."
        )
    order = sorted(range(len(words)), key=lambda i: ("trial", "time").index(words[i])
                   if words[i] in ("trial", "time") else 2)  # fmt: skip
    array = array.transpose(order)
    return array if "unit" in words or "column" in words else array[..., None]
