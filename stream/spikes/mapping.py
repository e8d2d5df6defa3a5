"""The mapping: a small YAML file that says which variable of a file is what in a recording."""

from __future__ import annotations

import difflib
from collections.abc import Mapping as AnyMapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stream.errors import ConfigError
from stream.pipeline_text import Located, read_yaml
from stream.units import Hertz, Seconds

GivenIn = Literal["seconds", "bins from 0", "bins from 1"]


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number or a fraction such as '1/30000', found {value!r}")
    try:
        return float(Fraction(value) if isinstance(value, str) else value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"expected a number or a fraction such as '1/30000', found {value!r}"
        ) from None


def _named(value: object) -> object:
    """Let a variable be given by its name alone."""
    return {"variable": value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Scale = Annotated[float, BeforeValidator(_fraction)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Variable(_Part):
    """Where numbers come from, and how they become the physical quantity.

    Attributes
    ----------
    variable
        Path of one variable, or a list of them that stand side by side as columns. A path goes
        down by `.` or `/`, takes one element of a list by `{2}` (from 1, as in MATLAB), every
        element by `{*}`, and every name that fits by `unit_*`.
    join
        In place of `variable`: variables that follow each other, end to end.
    pick
        Columns to take, from 0.
    scale, offset
        value * scale + offset is the physical quantity.
    """

    variable: Names = ()
    join: Names = ()
    pick: tuple[int, ...] | None = None
    scale: Scale = 1.0
    offset: float = 0.0

    @model_validator(mode="after")
    def _one_source(self) -> Variable:
        if bool(self.variable) == bool(self.join) and not getattr(self, "labels", None):
            raise ValueError("needs either 'variable' or 'join'")
        return self

    @property
    def text(self) -> str:
        """The variable as a message calls it."""
        return " and ".join(self.variable or self.join)


AVariable = Annotated[Variable, BeforeValidator(_named)]


class Binary(_Part):
    """A file of records of one kind: `dtype` maps field to numpy type such as `<u4`."""

    dtype: dict[str, str]
    header_ends: str | None = None


class File(_Part):
    """One of several files: `match` is a pattern of its name, `many` lets several files fit."""

    match: str
    many: bool = False
    format: Literal["csv", "rows"] | None = None
    binary: Binary | None = None


class Counts(Variable):
    """Binned counts. `axes` names the axes, in order, such as `time x unit`."""

    axes: str = "time x unit"
    width: Seconds | Variable
    start: float | Variable = 0.0


class Times(Variable):
    """Spike times; `unit` is the variable that tells the unit of each, `span` what was observed."""

    unit: AVariable | None = None
    span: AVariable | None = None
    resolution: Seconds | None = None


class Units(_Part):
    """Names of the units: a list, a variable, or a pattern for what `*` or a row stood for."""

    names: tuple[str, ...] | AVariable | None = None
    format: str | None = None
    keep_silent: bool = True


class Signal(Variable):
    """A signal: one sample a bin, or sampled at a `rate`, or at the times in `time`."""

    columns: tuple[str, ...] = ()
    unit: str = ""
    axes: str = "time x column"
    rate: Hertz | None = None
    time: AVariable | None = None
    repeated_times: Literal["refuse", "keep first"] = "refuse"


class Rates(Variable):
    """True rates of simulated units, one sample a bin; `scale` brings them to Hz."""

    axes: str = "time x unit"


class Column(Variable):
    """A column of the trials table.

    `floor_divide` gives value // it; `first` takes the first value of each; `given_in` makes a
    place in the recording a time; `labels` maps a label to the variable whose trials bear it.
    """

    floor_divide: float | None = None
    first: bool = False
    given_in: GivenIn | None = None
    labels: dict[str, str] | None = None


class TrialsMap(_Part):
    """Trials: where they start and stop. Without both, every part or row of `trial` is one."""

    start: AVariable | None = None
    stop: AVariable | None = None
    given_in: GivenIn = "seconds"
    columns: dict[str, Annotated[Column, BeforeValidator(_named)]] = Field(default_factory=dict)


class Where(Signal):
    """A rule that finds where segments start: where a signal is exactly `equals`, or has moved by
    more than `steps_over` (Euclidean distance) since the sample before.
    """

    equals: float | None = None
    steps_over: float | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Where:
        if (self.equals is None) == (self.steps_over is None):
            raise ValueError("needs either 'equals' or 'steps_over'")
        return self


class Segments(_Part):
    """Where contiguous stretches start, beside the starts of parts: a variable, or a rule."""

    starts: AVariable | None = None
    given_in: GivenIn = "seconds"
    where: Where | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Segments:
        if (self.starts is None) == (self.where is None):
            raise ValueError("needs either 'starts' or 'where'")
        return self


class SessionMap(_Part):
    """What is known of the session and its subject."""

    description: str | None = None
    start: datetime | None = None
    subject_id: str | None = None
    species: str | None = None
    sex: Literal["M", "F", "O", "U"] | None = None
    age: str | None = None
    lab: str | None = None
    institution: str | None = None
    experimenter: Names = ()
    publications: Names = ()
    keywords: Names = ()


class Mapping(_Part):
    """Which variable is what.

    Attributes
    ----------
    name
        Identifier of the session; else the name of the first file.
    files
        Names for several files of different kinds; variables are then `name.variable`.
    parts
        `files` (each file is one stretch of time) or the path of a list (each element is one).
        Stretches are laid end to end in the order given, each a segment of its own.
    counts, times
        Exactly one: binned counts or spike times.
    """

    name: str | None = None
    licence: str = ""
    notes: Names = ()
    session: SessionMap = SessionMap()
    files: dict[str, File] = Field(default_factory=dict)
    parts: str | None = None
    counts: Counts | None = None
    times: Annotated[Times, BeforeValidator(_named)] | None = None
    units: Units = Units()
    behaviour: dict[str, Annotated[Signal, BeforeValidator(_named)]] = Field(default_factory=dict)
    true_rates: Annotated[Rates, BeforeValidator(_named)] | None = None
    trials: TrialsMap | None = None
    segments: Literal["parts", "one"] | Segments = "parts"

    @model_validator(mode="after")
    def _one_kind_of_spikes(self) -> Mapping:
        if (self.counts is None) == (self.times is None):
            raise ValueError("needs either 'counts' (binned) or 'times' (spike times)")
        return self


def load_mapping(path: Path) -> Mapping:
    """Read a mapping from a YAML file.

    Raises
    ------
    ConfigError
        With the file, the line, the key, what was found and what would do.
    """
    text = read_yaml(path)
    return make_mapping(text.value, str(path), text)


def make_mapping(value: Any, where: str, text: Located | None = None) -> Mapping:
    """Check a mapping given as plain values.

    Raises
    ------
    ConfigError
        With the key, what was found and what would do.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: a mapping has keys such as 'counts' or 'times'.")
    try:
        return Mapping.model_validate(value, context={"from_file": True})
    except ValidationError as error:
        raise ConfigError(_message(error, value, where, text)) from None


def _message(error: ValidationError, value: Any, where: str, text: Located | None) -> str:
    # Of a choice between kinds pydantic reports every branch; the deepest place is what was meant.
    first = max(error.errors(), key=lambda e: len(_place(e["loc"], value)))
    place = _place(first["loc"], value)
    if text is not None:
        where = f"{where}:{text.line(*place)}"
    key = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{_near(str(place[-1]), place[:-1])}."
    if first["type"] == "missing":
        return f"{where}: key '{key}' is missing."
    problem = first["msg"].removeprefix("Value error, ")
    if not place:
        return f"{where}: {problem}."
    found = "" if "found" in problem or isinstance(first["input"], dict) else (
        f", found {first['input']!r}"
    )  # fmt: skip
    return f"{where}: key '{key}': {problem}{found}."


def _place(loc: tuple[int | str, ...], value: Any) -> tuple[int | str, ...]:
    """Return the keys of a place, without the names of types that pydantic puts between."""
    place: list[int | str] = []
    for i, key in enumerate(loc):
        inside = (isinstance(value, dict) and key in value) or (
            isinstance(value, list) and isinstance(key, int) and key < len(value)
        )
        if inside:
            place.append(key)
            value = value[key]
        elif i == len(loc) - 1 and isinstance(value, AnyMapping) and "[" not in str(key):
            place.append(key)
    return tuple(place)


_MODELS: dict[str, type[BaseModel]] = {
    "counts": Counts, "times": Times, "units": Units, "behaviour": Signal, "true_rates": Rates,
    "trials": TrialsMap, "segments": Segments, "where": Where, "session": SessionMap,
    "files": File, "binary": Binary, "time": Variable, "width": Variable, "span": Variable,
}  # fmt: skip


def _near(key: str, parents: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Mapping
    for parent in parents:
        model = _MODELS.get(str(parent), model)
    if parents[:2] == ("trials", "columns"):
        model = Column
    near = difflib.get_close_matches(key, model.model_fields, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(model.model_fields)}"
