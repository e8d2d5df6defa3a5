"""The interval of a ratio that was measured in pairs."""

import numpy as np
import pytest

from benchmarks._paired import Change, paired_change


def test_the_interval_holds_the_true_change_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        # What both of a pair have in common, such as a busy minute, is no part of the change.
        common = rng.lognormal(0, 1, 15)
        values = common * rng.lognormal(np.log(1.1), 0.1, 15)
        change = paired_change(values, common * rng.lognormal(0, 0.1, 15))
        assert change.low <= change.median <= change.high
        held += change.low <= 0.1 <= change.high
    assert 88 <= held <= 100


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.02, 0.04, "yes"), (-0.02, 0.06, "not told"), (0.06, 0.2, "no"), (-0.3, -0.06, "no")],
)
def test_a_change_is_small_only_when_its_whole_interval_is(low, high, said) -> None:
    assert Change((low + high) / 2, low, high).within(0.05) == said
