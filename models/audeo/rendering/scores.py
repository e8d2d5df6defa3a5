"""Scores of the corpus that comes with music21, as notes for two hands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.audeo.rendering.performance import Written

TRAINING_PIECES = (
    "joplin/maple_leaf_rag.mxl", "schumann_clara/polonaise_op1n1.mxl",
    "schumann_clara/polonaise_op1n2.mxl", "schumann_clara/polonaise_op1n3.mxl",
    "schumann_robert/opus41no1/movement1.mxl", "mozart/k155/movement1.mxl",
    "mozart/k80/movement1.mxl", "haydn/opus1no1/movement1.mxl", "haydn/opus1no1/movement2.mxl",
    "bach/bwv84.5.mxl", "bach/bwv86.6.mxl", "bach/bwv89.6.mxl", "schoenberg/opus19/movement6.mxl",
)  # fmt: skip
UNSEEN_PIECES = (
    "bach/bwv846.mxl", "chopin/mazurka06-2.krn", "mozart/k545/movement1_exposition.mxl",
    "cpebach/h186.mxl", "schumann_clara/polonaise_op1n4.mxl", "schoenberg/opus19/movement2.mxl",
)  # fmt: skip
"""Pieces that no training plays."""


@dataclass(frozen=True)
class Score:
    """A piece: its name in the corpus, its length in beats, its notes."""

    name: str
    beats: float
    notes: list[Written]


def read_scores(names: Sequence[str], cache: Path) -> list[Score]:
    """Return pieces of the music21 corpus; parsed ones are kept in a folder as JSON."""
    cache.mkdir(parents=True, exist_ok=True)
    scores = []
    for name in names:
        file = cache / (name.replace("/", "_") + ".json")
        if not file.exists():
            score = _parse(name)
            file.write_text(json.dumps([asdict(n) for n in score.notes]))
        notes = [Written(**n) for n in json.loads(file.read_text())]
        scores.append(Score(name, max((n.beat + n.beats for n in notes), default=0.0), notes))
    return [s for s in scores if s.notes]


def _parse(name: str) -> Score:
    """Read a piece; the upper half of its parts is for the right hand."""
    from music21 import corpus

    stream: Any = corpus.parse(name)
    notes: list[Written] = []
    parts = list(stream.parts)
    for number, part in enumerate(parts):
        hand = int(number < (len(parts) + 1) // 2)
        for note in part.flatten().notes:
            for pitch in note.pitches:
                notes.append(
                    Written(int(pitch.midi), float(note.offset), float(note.quarterLength), hand)
                )
    return Score(name, 0.0, [n for n in notes if n.beats > 0])
