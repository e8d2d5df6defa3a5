"""Which notes the live piano path plays, and misses, when harm comes to its pictures."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from benchmarks._harms import Board, Timed, harmed, harms
from benchmarks._results import JsonFile, show, write_result
from models.audeo.notes import Note, Notes, Truth, in_order, read_truth
from models.audeo.rendering.clip import film
from models.audeo.rendering.looks import TRAINING_FAMILIES, draw_look
from models.audeo.rendering.performance import made_up, perform, reachable
from models.audeo.scores import Score, match
from stream.music.finder.find import KeyboardFind, KeyboardFindSettings
from stream.music.keyboard import KeyGrid
from stream.music.piano.piano_notes import PianoNotes, PianoNotesSettings
from stream.music.piano.rectify import KeyboardRectify
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.nodes.model import Model, ModelSettings
from stream.packet import Packet
from stream.units import to_ns
from stream.vision.frames import frame_spec
from stream.vision.video_file import VideoFile

MODEL = Path(__file__).parents[1] / "models" / "zoo" / "piano.onnx"
SIZE, RATE_HZ, LENGTH_S = (640, 360), 30.0, 14.0
SEED = 913
"""Begins the seeds of the films, so that nothing else draws the same."""

COUNTED = {
    "grid": ("lost", "moved"),
    "keys": ("no_keyboard", "steadied_frames", "relit_frames", "covered_frames"),
    "notes": ("implausible_frames", "refused_on_covered", "let_go_covered"),
}


@dataclass(frozen=True)
class Filmed:
    """Pictures of a keyboard, what is played in them, and until when that is known."""

    kind: str
    name: str
    frames: Callable[[], Iterator[Timed]]
    truth: Truth
    size: tuple[int, int]
    until_s: float


def run(  # noqa: PLR0917
    json_path: JsonFile = None,
    clip: Annotated[Path | None, typer.Option(help="Video of a keyboard, too.")] = None,
    truth: Annotated[Path | None, typer.Option(help="What is played in it.")] = None,
    films: Annotated[int, typer.Option(help="How many films are rendered.")] = 4,
    begin: Annotated[float, typer.Option(help="As `begin` of `piano.notes`.")] = 0.85,
    only: Annotated[str, typer.Option(help="Harms whose name has this in it.")] = "",
    model: Annotated[Path, typer.Option(help="Piano network.")] = MODEL,
) -> dict[str, Any]:
    """Harm pictures by known amounts, from their third second on, and let the live nodes see them.

    Films of 14 s in which made-up music is played are rendered, in the looks that the network was
    trained on. False notes are those that nobody played within 100 ms, lost ones those that nobody
    found, both for each minute; `longest_s` is the longest note that was played.
    """
    console = Console()
    shown = [_film(number) for number in range(films)]
    if clip is not None and truth is not None:
        shown.append(_clip(clip, truth))
    wanted = [h for h in harms() if h[0] == "none" or only in h[0]]
    found: dict[tuple[str, str, str], Row] = {}
    for s in shown:
        pictures = list(s.frames())
        board = _board(s, pictures)
        for kind, strength, made in track(wanted, s.name, console=console, transient=True):
            row = found.setdefault((s.kind, kind, strength), Row())
            row.add(s, *live_notes(s, harmed(pictures, made(board)), begin, model))
    rows = [
        {"of": of, "harm": kind, "strength": strength, **row.values()}
        for (of, kind, strength), row in found.items()
    ]
    show(rows, console, apart="of")
    conditions = {"films": films, "clip": clip.name if clip else "", "begin": begin}
    return write_result("piano-harm", conditions, rows, json_path)


def _film(number: int) -> Filmed:
    rng = np.random.default_rng([SEED, number])
    look = draw_look(rng, TRAINING_FAMILIES[number % len(TRAINING_FAMILIES)])
    height = float(np.clip(look.camera_height, 25, 60))
    look = replace(look, rate_hz=RATE_HZ, camera_height=height, camera_y=4.5, camera_u=26.0)
    beat_s = 0.5
    presses = perform(rng, reachable(made_up(rng, 40, 92, LENGTH_S / beat_s)), beat_s, LENGTH_S)
    seed = int(rng.integers(1 << 31))

    def frames() -> Iterator[Timed]:
        pictures, _ = film(np.random.default_rng(seed), look, presses, size=SIZE, length_s=LENGTH_S)
        for at, picture in enumerate(pictures):
            yield at / RATE_HZ, picture

    played = in_order(Note(p.pitch, p.bottom_s, p.release_s, p.velocity) for p in presses)
    return Filmed("films", f"film {number}", frames, Truth(played), SIZE, LENGTH_S)


def _clip(path: Path, truth: Path) -> Filmed:
    known = read_truth(truth)
    until_s = known.span_s[1] if known.span_s else LENGTH_S
    info = VideoFile(path).info

    def frames() -> Iterator[Timed]:
        for time_ns, frame in VideoFile(path).frames():
            if time_ns >= to_ns(until_s):
                return
            yield time_ns / 1e9, frame

    return Filmed("clip", path.name, frames, known, (info.width, info.height), until_s)


class Row:
    """What is counted over pictures of one harm."""

    def __init__(self) -> None:
        self.tight, self.loose = Score(), Score()
        self.seconds = self.longest_s = 0.0
        self.counted: Counter[str] = Counter()

    def add(self, shown: Filmed, notes: Notes, counted: dict[str, int]) -> None:
        """Add what was played of some pictures."""
        span = (2.0, shown.until_s - 0.1)
        self.tight += match(notes, shown.truth, span_s=span).score
        self.loose += match(notes, shown.truth, 0.1, span_s=span).score
        self.seconds += span[1] - span[0]
        self.longest_s = max([self.longest_s, *(n.offset_s - n.onset_s for n in notes)])
        self.counted.update(counted)

    def values(self) -> dict[str, Any]:
        """Return the columns."""
        s, minutes = self.loose, self.seconds / 60
        return {
            "false_a_minute": round((s.found - s.hits) / minutes),
            "lost_a_minute": round((s.true - s.hits) / minutes),
            "f1_50ms": round(self.tight.f1, 3), "f1_100ms": round(s.f1, 3),
            "longest_s": round(self.longest_s, 2),
            "counted": ", ".join(f"{k} {v}" for k, v in sorted(self.counted.items()) if v),
        }  # fmt: skip


class Live:
    """The nodes of configs/piano-to-sound.yaml from pictures to notes, one after another."""

    def __init__(self, size: tuple[int, int], begin: float, model: Path, folder: Path) -> None:
        width, height = size
        frames = frame_spec(height, width, 1 / RATE_HZ, {})
        self.find = KeyboardFind(KeyboardFindSettings())
        grid = self._open(self.find, "grid", {"camera": frames}, folder)
        self.rectify = KeyboardRectify(NodeSettings())
        strips = self._open(self.rectify, "keys", {"camera": frames, "grid": grid}, folder)
        self.model = Model(ModelSettings(file=model, device="cpu"))
        keys = self._open(self.model, "press", {"keys": strips}, folder)
        self.notes = PianoNotes(PianoNotesSettings(begin=begin))
        self._open(self.notes, "notes", {"press": keys, "keys": strips}, folder)

    @staticmethod
    def _open(
        node: Node[Any], name: str, inputs: dict[str, StreamSpec], folder: Path
    ) -> StreamSpec:
        made = node.outputs(inputs)[""]
        node.open(Context(name, inputs, folder))
        return made

    def see(self, packet: Packet) -> Iterator[Packet]:
        """Return the packets of notes that a frame leads to."""
        for grid in self.find.process("camera", packet):
            self.rectify.process("grid", grid)
        for strip in self.rectify.process("camera", packet):
            self.notes.process("keys", strip)
            for keys in self.model.process("keys", strip):
                yield from self.notes.process("press", keys)

    def counted(self) -> dict[str, int]:
        """Return what was counted on the way."""
        nodes: dict[str, Node[Any]] = {
            "grid": self.find, "keys": self.rectify, "notes": self.notes
        }  # fmt: skip
        found = {}
        for name, keys in COUNTED.items():
            counters = nodes[name].context.counters
            known = {**counters.notes, **counters.dropped}
            found |= {key: int(known.get(key, 0)) for key in keys}
        return found


def live_notes(
    shown: Filmed, frames: Iterator[Timed], begin: float, model: Path
) -> tuple[Notes, dict[str, int]]:
    """Return the notes that the live nodes play of pictures, and what they counted."""
    down: dict[int, tuple[float, int]] = {}
    notes: list[Note] = []
    time_s = last_s = 0.0

    def take(packet: Packet, at_s: float) -> None:
        for status, pitch, velocity in packet.data.tolist():
            if pitch in down:
                began, force = down.pop(pitch)
                notes.append(Note(pitch, began, max(at_s, began + 0.001), force))
            if status & 0xF0 == 0x90:
                down[pitch] = at_s, velocity

    def silent(at_s: float) -> None:
        for pitch in list(down):
            began, force = down.pop(pitch)
            notes.append(Note(pitch, began, at_s, force))

    with tempfile.TemporaryDirectory() as folder:
        live = Live(shown.size, begin, model, Path(folder))
        for number, (time_s, frame) in enumerate(frames):
            at = to_ns(time_s)
            packet = Packet("frame", frame, at, at, at)
            packet.seq = number
            for found in live.see(packet):
                # As the sinks do when nothing comes for a second.
                if found.source_ns / 1e9 - last_s > 1:
                    silent(last_s + 1)
                last_s = found.source_ns / 1e9
                take(found, last_s)
        for found in live.notes.finish():
            take(found, time_s)
        counted = live.counted()
    silent(time_s)
    return in_order(notes), counted


def _board(shown: Filmed, frames: list[Timed]) -> Board:
    with tempfile.TemporaryDirectory() as folder:
        live = Live(shown.size, 0.85, MODEL, Path(folder))
        grid: KeyGrid | None = None
        for time_s, frame in frames:
            at = to_ns(time_s)
            for found in live.find.process("camera", Packet("frame", frame, at, at, at)):
                if found.meta["state"] == "found":
                    grid = found.data
            if grid is not None:
                return Board.of(grid)
    raise AssertionError(f"no keyboard is found in {shown.name}")
