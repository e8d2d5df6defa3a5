"""What a node is: a small class with typed settings, inputs and outputs. No sockets in here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from stream.packet import Packet


class NodeSettings(BaseModel):
    """Settings of a node: the keys it has in a pipeline file beside `use`, `from` and `group`.

    Unknown keys are refused. Field descriptions are what `innervate nodes` and the JSON Schema
    show. Paths are taken from the folder of the pipeline file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


@dataclass(frozen=True)
class StreamSpec:
    """What a stream carries, known before anything runs.

    Attributes
    ----------
    kind
        As `Packet.kind`.
    shape
        Of each array; None where it varies (the number of spikes).
    dtype
        A numpy dtype name.
    names
        Names along the last axis: units, channels, behaviour columns. For `spikes`, the names that
        unit indices stand for. Empty where nothing has a name.
    unit
        Physical unit of the values, such as `Hz` or `count`.
    period_s
        Bin width or sample interval in seconds; None for irregular streams.
    meta
        What the kind needs beyond that; `on_change` where packets come only with a change, so that
        silence tells nothing.
    """

    kind: str
    shape: tuple[int | None, ...]
    dtype: str
    names: tuple[str, ...] = ()
    unit: str = ""
    period_s: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def misfit(self, packet: Packet) -> str:
        """Return in what a packet differs from what the stream carries, "" when in nothing."""
        data = packet.data
        if packet.kind != self.kind:
            return "wrong_kind"
        if data.dtype != self.dtype:
            return "wrong_dtype"
        if data.shape == self.shape or (
            data.ndim == len(self.shape)
            and all(size in (None, n) for size, n in zip(self.shape, data.shape, strict=True))
        ):
            return ""
        return "wrong_shape"


CLOSED = "closed"
"""Key of the note with the share (0 to 1) of its closing that a node has done, if it takes long."""

GAVE_NOTHING = "gave_nothing"
"""Key of the note in which a node says why it has come to its end without what it is there for."""


TROUBLE = "trouble"
"""Key of the note in which a node says what is wrong and what to do; empty once that is over."""


class Counters:
    """What a node counts about itself; the run report shows it."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.notes: dict[str, Any] = {}

    def drop(self, reason: str, count: int = 1) -> None:
        """Count input that was refused or dropped, under a short reason such as `late`."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def note(self, key: str, value: Any) -> None:
        """Leave a fact for the report under `key`; a later one replaces an earlier one."""
        self.notes[key] = value

    def note_rare(self, **facts: Any) -> None:
        """Leave facts that are only worth a word when there is something: not 0, empty or None."""
        self.notes |= {k: v for k, v in facts.items() if v or k in self.notes}

    def count(self, key: str, number: float = 1) -> None:
        """Count what is no loss, such as outages, for the report."""
        self.notes[key] = round(self.notes.get(key, 0) + number, 3)


@dataclass
class Context:
    """What the runtime hands to a node when it opens.

    Attributes
    ----------
    name
        The node's name in the pipeline.
    inputs
        The streams linked to it: full stream name (`bins`, `probe.behaviour`) to spec.
    run_dir
        Folder of this run, for what a node writes besides its own output files.
    counters
        Where to count refused input.
    pipeline, pipeline_path, status_address
        Name of the pipeline and its file; ZeroMQ address on which the run publishes its
        statistics. Each may be empty.
    linked
        The outputs of the node that any other takes, so that a source need not make the rest; None
        where that is not known.
    outputs
        What `outputs` returned when the pipeline was validated, so that a source that looked at an
        instrument then sticks to what it saw.
    alone
        Whether nothing else in its process waits for anything from outside: then a source may
        itself wait in `tick`, for a few ms at a time.
    give_way
        To be called, once, when nothing waits for what the node does any more: its process then
        lets others go first, if all nodes in it have said so.
    """

    name: str
    inputs: Mapping[str, StreamSpec]
    run_dir: Path
    counters: Counters = field(default_factory=Counters)
    pipeline: str = ""
    pipeline_path: str = ""
    status_address: str = ""
    alive: Callable[[], None] = lambda: None
    linked: frozenset[str] | None = None
    outputs: Mapping[str, StreamSpec] = field(default_factory=dict)
    alone: bool = False
    give_way: Callable[[], None] = lambda: None


S = TypeVar("S", bound=NodeSettings)


class Node(Generic[S]):
    """One stage of a pipeline.

    A subclass names itself with `use`, its settings class with `Settings`, and what it takes with
    `accepts` (kinds of stream; empty for a source, `*` for any). `delivery` is the policy of links
    into it when the pipeline names none; empty means by kind: frames `latest`, all else
    `lossless`. With `can_arm`, it can be armed and disarmed while it runs, by `arm`, and says in
    its note `armed` which it is. The life of a node: made with its settings
    (cheap, reads nothing but what `outputs` needs), `outputs` while the pipeline is validated,
    then in its own process `open`, any number of `process` and `tick`, `finish` when every input
    has ended, `close`.
    """

    use: ClassVar[str]
    summary: ClassVar[str] = ""
    Settings: ClassVar[type[NodeSettings]] = NodeSettings
    accepts: ClassVar[frozenset[str]] = frozenset()
    max_inputs: ClassVar[int | None] = 1
    delivery: ClassVar[str] = ""
    can_arm: ClassVar[bool] = False
    gathers: ClassVar[bool] = False
    """Whether its process need not be woken for each packet: what came is taken when it is due."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return what this node emits for these inputs: output name ("" is the main one) to spec.

        Raises
        ------
        ConfigError
            The inputs do not fit, a file is missing, a device is not there. The caller adds the
            place in the pipeline file.
        """
        return {}

    def writes(self) -> tuple[Path, ...]:
        """Return the files that this node will write, so that two writers of one are refused."""
        return ()

    def open(self, context: Context) -> None:
        """Get ready: load, allocate, warm up. The run starts when every node is open."""
        self.context = context

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take one packet of the stream called `stream` and return what it leads to."""
        return ()

    def due_ns(self) -> int | None:
        """Return when `tick` wants to be called (`time.monotonic_ns`), None for never."""
        return None

    def tick(self) -> Iterable[Packet]:
        """Do what was due. A source makes its packets here."""
        return ()

    def arm(self, armed: bool, by: str) -> Iterable[Packet]:
        """Let actions out from now on, or hold them back and bring outputs to their safe state.

        `by` says who wants that, for the log.
        """
        return ()

    def finish(self) -> Iterable[Packet]:
        """Return what is left to say after every input has ended."""
        return ()

    def close(self) -> None:
        """Release everything and finish files. Called once, also after a failure elsewhere."""


class Source(Node[S]):
    """A node without inputs. It makes packets in `tick` until `finished` is true.

    One that waits for an instrument sets `wakes`, in `open`, to a file descriptor that is readable
    when something has come: its worker then asks `due_ns` at once. It must stop being readable when
    `tick` has taken what came. Its times are not deadlines to be met to the microsecond.
    """

    finished: bool = False
    wakes: int | None = None

    def start(self, start_ns: int) -> None:
        """Begin: every node of the run is ready. `start_ns` is the common start on the host clock.

        Paced sources put their deadlines on it, so that two sources of a run stay in step.
        """
