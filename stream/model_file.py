"""The contract inside a model file: everything that the runtime must know of an `.onnx`."""

from __future__ import annotations

from typing import Any

import msgspec

METADATA_KEY = "innervate"
CONTRACT_VERSION = 1


class Port(msgspec.Struct, kw_only=True, frozen=True):
    """One streamed input or output of the graph.

    `name` is the tensor's name; `kind`, `shape` (one packet, without batch), `unit`, `period_s`
    and `channels` (names along the last axis) are what the linked stream must have. For
    `period_s`, None means any.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    unit: str
    channels: tuple[str, ...]
    period_s: float | None = None
    dtype: str = "float32"


class State(msgspec.Struct, kw_only=True, frozen=True):
    """A tensor that the graph hands to itself from one step to the next.

    `start` fills it at the start of a segment. With `in_place`, the graph was verified to give the
    same numbers when one buffer is bound as both `input` and `output`.
    """

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    start: float = 0.0
    in_place: bool = False


class Score(msgspec.Struct, kw_only=True, frozen=True):
    """A measured figure and what it was measured on."""

    metric: str
    value: float
    data: str
    split: str = ""


class Contract(msgspec.Struct, kw_only=True, frozen=True):
    """The metadata of a model file, stored as JSON under the key `innervate`.

    `delay_steps` is the fixed look-ahead: the output for bin t comes with bin t + delay_steps.
    `parity` holds the largest errors seen when the export was verified; `trained_on` names the
    data, its sha256 and its licence; `training` the settings.
    """

    name: str
    version: str
    task: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[State, ...] = ()
    delay_steps: int = 0
    preprocessing: dict[str, Any] = {}
    trained_on: dict[str, Any] = {}
    training: dict[str, Any] = {}
    scores: tuple[Score, ...] = ()
    parity: dict[str, Any] = {}
    stability: dict[str, Any] | None = None
    notes: str = ""
    contract_version: int = CONTRACT_VERSION


def to_json(contract: Contract) -> str:
    """Write a contract as it stands in the file's metadata."""
    return msgspec.json.encode(contract).decode()
