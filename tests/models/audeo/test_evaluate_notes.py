"""`innervate evaluate notes` and `evaluate sound`, as a user calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from innervate_command import Said
from scipy.io import wavfile
from typer.testing import CliRunner

from models.audeo.ear import Samples
from models.audeo.notes import Notes, shifted, write_midi
from models.commands.evaluate import evaluate
from models.commands.systems import CONTEXT_SETTINGS
from stream.errors import ConfigError

app = typer.Typer()
app.command(context_settings=CONTEXT_SETTINGS)(evaluate)


def evaluated(json_file: Path, *args: object) -> dict[str, Any]:
    arguments = [str(argument) for argument in (*args, "--json", json_file)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads(json_file.read_text())
    content["rows"] = {row["what"]: row for row in content["rows"]}
    return dict(content)


def test_notes_are_scored_and_one_shift_is_told(
    tune: Notes, tune_file: Path, tmp_path: Path
) -> None:
    write_midi(shifted(tune[:6], 0.2), tmp_path / "found.mid")
    told = tmp_path / "told.json"
    plain = evaluated(told, "notes", tmp_path / "found.mid", "--truth", tune_file)
    assert plain["rows"]["all"]["f1_50"] == 0
    assert plain["conditions"]["shift_s"] == 0
    moved = evaluated(told, "notes", tmp_path / "found.mid", "--truth", tune_file, "--one-offset")
    assert moved["conditions"]["shift_s"] == pytest.approx(-0.2, abs=0.01)
    assert moved["rows"]["all"]["precision_50"] == 1
    assert moved["rows"]["all"]["recall_50"] == pytest.approx(6 / 7)
    assert moved["rows"]["black"]["recall_50"] == 1
    assert moved["rows"]["69 to 76"]["recall_50"] == 0
    assert moved["rows"]["frames at 60 Hz"]["f1"] > 0.7


def test_a_part_of_a_clip_is_scored(tune: Notes, tune_file: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    args = "notes", tune_file, "--truth", tune_file, "--from", "900 ms", "--to", "1.9 s"
    part = evaluated(told, *args)
    assert part["rows"]["all"]["true"] == 3
    assert (part["conditions"]["from_s"], part["conditions"]["to_s"]) == (0.9, 1.9)
    with pytest.raises(ConfigError, match="nothing to score from 9 s"):
        evaluated(told, "notes", tune_file, "--truth", tune_file, "--from", "9s")


def test_cells_of_unsure_notes_count_for_nobody(tune: Notes, tmp_path: Path) -> None:
    marked = [
        {"pitch": n.pitch, "onset_frame": round(60 * n.onset_s),
         "release_frame": round(60 * n.offset_s), "sure": n.pitch != 40}
        for n in tune
    ]  # fmt: skip
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"rate_hz": 60, "frames": [0, 239], "notes": marked}))
    write_midi(tune, tmp_path / "found.mid")
    rows = evaluated(tmp_path / "t.json", "notes", tmp_path / "found.mid", "--truth", truth)["rows"]
    assert (rows["all"]["true"], rows["all"]["found"]) == (6, 6)
    assert rows["frames at 60 Hz"]["f1"] == 1


@pytest.mark.usefixtures("chromaprint")
def test_a_sound_is_heard_scored_and_recognised(
    ear_model: Path,
    sound_of: Callable[[Notes, int, float], Samples],
    tune: Notes,
    tune_file: Path,
    tmp_path: Path,
) -> None:
    references = tmp_path / "references"
    references.mkdir()
    other = [n.__class__(129 - n.pitch, n.onset_s / 2, n.offset_s / 2) for n in tune]
    wavfile.write(references / "tune.wav", 22050, sound_of(tune, 22050, 6.0))
    wavfile.write(references / "other.wav", 22050, sound_of(tuple(other), 22050, 6.0))
    wavfile.write(tmp_path / "heard.wav", 44100, sound_of(tune, 44100, 6.0))
    told = evaluated(
        tmp_path / "told.json", "sound", tmp_path / "heard.wav", "--truth", tune_file, "--ear",
        ear_model, "--references", references,
    )  # fmt: skip
    assert told["rows"]["all"]["f1_50"] > 0.8
    assert [r["reference"] for r in told["conditions"]["references"]] == ["tune", "other"]


def test_a_missing_model_is_one_sentence(
    innervate_here: Callable[..., Said], tune_file: Path, tmp_path: Path
) -> None:
    ear = tmp_path / "no.onnx"
    said = innervate_here("evaluate", "sound", tune_file, "--truth", tune_file, "--ear", ear)
    said.refuses("innervate fetch basic-pitch")
