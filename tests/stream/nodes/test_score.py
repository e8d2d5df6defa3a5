from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.node import Context, NodeSettings, StreamSpec
from stream.nodes.score import Score
from stream.packet import Packet

SPEC = StreamSpec("rates", (3,), "float32", names=("a", "b", "c"), unit="Hz")


def packet(values: np.ndarray, at: int) -> Packet:
    return Packet("rates", values.astype(np.float32), 0, at * 5, at * 5 + 5)


def score(estimates: np.ndarray, truths: np.ndarray, order: list[int]) -> Score:
    node = Score(NodeSettings())
    node.open(Context("score", {"rates": SPEC, "true": SPEC}, Path()))
    for at in order:
        node.process("true", packet(truths[at], at))
    for at in range(len(estimates)):
        node.process("rates", packet(estimates[at], at))
    return node


@given(st.integers(0, 2**32), st.permutations(range(20)))
def test_r2_is_that_of_all_pairs_whatever_their_order(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    truths = rng.normal(10, 3, (20, 3)).astype(np.float32)
    estimates = (truths + rng.normal(0, 1, (20, 3))).astype(np.float32)
    spread = ((truths - truths.mean(0, dtype=np.float64)) ** 2).sum()
    expected = 1 - ((estimates.astype(np.float64) - truths) ** 2).sum() / spread
    assert score(estimates, truths, order).r2() == pytest.approx(expected, rel=1e-9)


def test_knowing_only_the_means_scores_zero() -> None:
    truths = np.random.default_rng(0).normal(5, 1, (50, 3)).astype(np.float32)
    means = np.repeat(truths.mean(0, keepdims=True, dtype=np.float64), 50, 0)
    assert score(means, truths, list(range(50))).r2() == pytest.approx(0, abs=1e-5)


def test_what_never_finds_its_counterpart_is_bounded_and_counted() -> None:
    node = score(np.empty((0, 3)), np.ones((5000, 3)), list(range(5000)))
    assert node.context.counters.dropped == {"unpaired": 5000 - 4096}


@pytest.mark.parametrize(
    "other",
    [
        StreamSpec("rates", (2,), "float32", names=("a", "b"), unit="Hz"),
        StreamSpec("rates", (3,), "float32", names=("a", "c", "b"), unit="Hz"),
        StreamSpec("rates", (3,), "float32", names=("a", "b", "c"), unit="count"),
    ],
)
def test_streams_that_cannot_be_compared_are_refused(other: StreamSpec) -> None:
    with pytest.raises(ConfigError, match="must"):
        Score(NodeSettings()).outputs({"rates": SPEC, "true": other})
