"""The benchmark of getting used to a keyboard: its keyboards are new, its table adds up."""

import numpy as np
import pytest

from benchmarks._unknown_keyboards import PIECES, filmed, keyboard
from benchmarks.calibration import HALVES, Measured, table
from models.audeo.rendering.clip import true_grid
from models.audeo.rendering.performance import Written
from models.audeo.rendering.scores import TRAINING_PIECES, UNSEEN_PIECES, Score
from models.audeo.scores import Score as Counted


@pytest.mark.parametrize("number", [number for half in HALVES.values() for number in half])
def test_a_keyboard_lies_beside_its_grid_and_looks_like_none_of_the_training(number: int) -> None:
    board = keyboard(number)
    assert not 0.5 <= board.look.black_width <= 0.62
    assert not 3.85 <= board.look.black_length <= 4.2
    true = true_grid(board.look, board.sensor.size, board.scene)
    step = np.diff(true[1, :, 0]).mean()
    off = np.abs(np.mean(board.grid - true, axis=0)[:, 0] / step)
    assert 0.15 < off.max() < 0.5
    assert off.min() < 0.1


def test_no_piece_is_one_that_networks_learn_from_or_are_judged_by() -> None:
    assert not set(PIECES) & {*TRAINING_PIECES, *UNSEEN_PIECES}


def test_a_keyboard_is_filmed_the_same_each_time() -> None:
    notes = [Written(60 + i % 12, i / 2, 0.5, i % 2) for i in range(40)]
    shown = []
    for _ in range(2):
        ((strips, presses),) = filmed(keyboard(4), [Score("made up", 20.0, notes)], 1)
        shown.append((strips[:4], strips[-1], presses))
    np.testing.assert_array_equal(shown[0][0], shown[1][0])
    np.testing.assert_array_equal(shown[0][1], shown[1][1])
    assert shown[0][2] == shown[1][2]


def test_all_keyboards_are_scored_at_their_own_threshold_and_at_the_best_for_all() -> None:
    def scores(*hits: int) -> dict[float, tuple[Counted, Counted]]:
        thresholds = np.round(np.arange(0.3, 0.96, 0.05), 2).tolist()
        counts = dict.fromkeys(thresholds, 0) | dict(zip((0.5, 0.6), hits, strict=True))
        return {t: (Counted(n, 10, 10), Counted(n + 1, 10, 10)) for t, n in counts.items()}

    measured = [
        Measured("one", scores(4, 5), scores(6, 9), (0.5, 0.5), 1.0),
        Measured("two", scores(2, 4), scores(7, 4), (0.5, 0.6), 1.0),
    ]
    one, two, own, best = table(measured)
    assert (one["as_it_is_50"], one["used_to_it_50"], one["gain_100"]) == (0.4, 0.6, 0.2)
    assert two["used_to_it_50"] == 0.4
    assert (own["notes"], own["as_it_is_50"], own["used_to_it_50"]) == (20, 0.3, 0.5)
    assert (best["as_it_is_50"], best["used_to_it_50"]) == (0.45, 0.65)
    assert (best["begin"], best["begin_used"]) == (0.6, 0.5)
