"""What the benchmark of the keyboard finder calls right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import keyboards

PICTURES = json.loads(keyboards.TRUTH.read_text())["pictures"]
FRAME = np.zeros((1080, 1920, 3), np.uint8)


@pytest.fixture
def board():
    return next(e["boards"][0] for e in PICTURES if e["kind"] == "full" and "times_s" not in e)


def test_no_video_is_in_both_halves():
    halves = {}
    for entry in PICTURES:
        video = entry["file"].rpartition("_")[0]
        halves.setdefault(video, set()).add(entry["half"])
    assert all(len(half) == 1 for half in halves.values())


def test_lines_are_right_up_to_a_third_of_a_white_key(board):
    grid = keyboards.lines_of(board)
    step = float(np.nanmedian(np.diff(grid[1, :, 0])))
    assert keyboards._right(grid, board, False, FRAME)
    assert keyboards._right(grid + np.array([0.3 * step, 0], np.float32), board, False, FRAME)
    assert not keyboards._right(grid + np.array([0.4 * step, 0], np.float32), board, False, FRAME)
    assert not keyboards._right(grid + np.array([0, 0.6 * step], np.float32), board, False, FRAME)


def test_another_octave_is_right_only_where_none_can_be_seen(board):
    grid = keyboards.lines_of([line for line in board if 8 <= line[0] <= 44])
    shifted = np.roll(grid, 7, axis=1)
    part = [line for line in board if 8 <= line[0] <= 44]
    assert not keyboards._right(shifted, part, False, FRAME)
    assert keyboards._right(shifted, part, True, FRAME)


def test_a_grid_that_lacks_keys_is_not_right(board):
    grid = keyboards.lines_of(board)
    grid[:, 40:] = np.nan
    assert not keyboards._right(grid, board, False, FRAME)
