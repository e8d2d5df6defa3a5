"""Rules as they stand in a pipeline file: what they look at, when they fire, and how often."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StrictFloat, ValidationError, model_validator
from pydantic import ValidationInfo as Info

from stream.errors import ConfigError
from stream.node import NodeSettings
from stream.units import Seconds, parse_hertz, parse_seconds

_LIMIT = re.compile(r"^\s*([1-9][0-9]{0,5}) per (.+)$")
_AMOUNT = re.compile(r"^\s*([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\S+)\s*$")
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")

CONDITIONS = ("above", "below", "rises", "falls")

Amount = Annotated[StrictFloat, Field(allow_inf_nan=False)] | str
"""A threshold: a number, or a text with the unit of the stream, such as `40 Hz`."""


def parse_limit(text: str) -> tuple[int, float]:
    """Return how often in how many seconds, from a text such as `5 per 1 s`.

    Raises
    ------
    ValueError
        It says neither.
    """
    if not (found := _LIMIT.match(text)):
        raise ValueError(f"expected how often in what time, such as '5 per 1 s', found {text!r}")
    seconds = parse_seconds(found[2])
    if not seconds:
        raise ValueError(f"'{text}' is no limit, since no time has passed after {found[2]}")
    return int(found[1]), seconds


def _checked_limit(text: str) -> str:
    parse_limit(text)
    return text


Limit = Annotated[
    str,
    AfterValidator(_checked_limit),
    Field(pattern=r"^\s*[1-9][0-9]{0,5} per .+$", examples=["5 per 1 s"]),
]
"""A setting that says how often at most, such as `5 per 1 s`."""


class Rule(NodeSettings):
    """One rule: a value of a stream, one condition on it, and how often it may fire."""

    stream: str | None = Field(
        None, description="the stream to look at; needed where several are linked"
    )
    channel: str | None = Field(
        None, description="the unit, column or class to look at; by default any of them"
    )
    mean: bool = Field(False, description="look at the mean of all channels")
    label: str | None = Field(
        None, description="look at the probability of this label, 0 while another one holds"
    )
    above: Amount | None = Field(None, description="fire when the value goes above this")
    below: Amount | None = Field(None, description="fire when the value goes below this")
    rises: Amount | None = Field(None, description="fire when it rises by more than this `within`")
    falls: Amount | None = Field(None, description="fire when it falls by more than this `within`")
    within: Seconds | None = Field(None, gt=0, description="time of a rise or fall")
    release: Amount | None = Field(
        None,
        description="fire again only after the value (of rises and falls, the change) was back"
        " here; by default at the threshold",
    )
    refractory: Seconds | None = Field(
        None, ge=0, description="shortest time between two firings; by default that of the node"
    )
    limit: Limit | None = Field(
        None, description="how often it may fire at most; by default that of the node"
    )

    @property
    def condition(self) -> str:
        """Which of `CONDITIONS` it has."""
        return next((c for c in CONDITIONS if getattr(self, c) is not None), "above")

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        given = [c for c in CONDITIONS if getattr(self, c) is not None]
        if len(given) > 1 or not (given or self.label is not None):
            raise ValueError(
                f"needs one condition of {', '.join(CONDITIONS)}, found"
                f" {' and '.join(given) or 'none'}"
            )
        looks = [k for k in ("channel", "mean", "label") if getattr(self, k)]
        if len(looks) > 1:
            raise ValueError(f"looks at one value, found {' and '.join(looks)}")
        changes = self.condition in ("rises", "falls")
        if changes and self.within is None:
            raise ValueError(f"'{self.condition}' needs 'within', such as 'within: 100 ms'")
        if not changes and self.within is not None:
            raise ValueError(f"'within' belongs to rises and falls, found '{self.condition}'")
        return self


def read_rules(given: object, info: Info) -> dict[str, Rule]:
    """Read the rules of a pipeline file, so that an error names the rule and the key.

    Raises
    ------
    ValueError
        There is none, or what one says is no rule.
    """
    if not isinstance(given, dict) or not given:
        raise ValueError(
            f"expected rules by name, such as {{fast: {{above: 40 Hz}}}}, found {given!r}"
        )
    rules: dict[str, Rule] = {}
    for name, keys in given.items():
        if not _NAME.match(str(name)):
            raise ValueError(
                f"rule {name!r}: a name starts with a letter and has only letters, digits, '-' and"
                " '_', 64 at most"
            )
        try:
            rules[str(name)] = Rule.model_validate(keys, context=info.context)
        except ValidationError as error:
            raise ValueError(f"rule '{name}'{_what(error)}") from None
    return rules


def _what(error: ValidationError) -> str:
    # Of a misspelt key and the one that is missing for it, the misspelling is what helps.
    first: Any = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = f", key '{first['loc'][0]}'" if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"{key}: found a key that no rule has; there are {', '.join(Rule.model_fields)}"
    if key and first["loc"][0] in (*CONDITIONS, "release"):
        return f"{key}: expected a number, or one with its unit, found {first['input']!r}"
    message = first["msg"].removeprefix("Value error, ")
    found = "" if "found" in message or not key else f", found {first['input']!r}"
    return f"{key}: {message[0].lower()}{message[1:]}{found}"


def amount_in(unit: str, amount: float | str, key: str) -> float:
    """Return a threshold as a number in the unit of a stream.

    Raises
    ------
    ConfigError
        It is no number, or has another unit or none where the stream has one.
    """
    if isinstance(amount, str) and unit == "Hz":
        try:
            return parse_hertz(amount)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}.") from None
    if isinstance(amount, str) and (found := _AMOUNT.match(amount)) and found[2] == unit:
        return float(found[1])
    if not isinstance(amount, str) and unit in ("", "count"):
        return amount
    expected = f"a number in {unit}, such as '40 {unit}'" if unit else "a number without a unit"
    raise ConfigError(f"{key}: expected {expected}, found {amount!r}.")
