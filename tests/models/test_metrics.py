"""The metrics of spikes agree with the benchmark's own package and mean what they say."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.spikes import metrics


@pytest.fixture(scope="module")
def nlb(tmp_path_factory):
    """`nlb_tools.evaluation`, installed aside: its pinned pandas would not do for the project."""
    folder = tmp_path_factory.mktemp("nlb_tools")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*install, "--target", str(folder), "nlb-tools==0.0.4"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode:
        reason = f"nlb_tools could not be installed: {done.stderr.strip()[-300:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("nlb_tools.evaluation")
    finally:
        sys.path.remove(str(folder))


def population(seed, shape=(12, 30, 5)):
    rng = np.random.default_rng(seed)
    true = np.exp(rng.normal(-1, 0.7, shape))
    return rng.poisson(true).astype(float), true * np.exp(rng.normal(0, 0.3, shape))


def test_bits_per_spike_agree_with_nlb_tools_also_where_counts_are_missing_or_rates_zero(nlb):
    for seed in range(5):
        counts, rates = population(seed)
        counts[:2, :7] = np.nan
        counts[..., 3] = 0
        rates[4, 5] = 0
        assert metrics.bits_per_spike(rates, counts) == pytest.approx(
            nlb.bits_per_spike(rates.copy(), counts), rel=1e-12
        )


def test_all_benchmark_metrics_agree_with_a_whole_nlb_evaluation(nlb):
    rng = np.random.default_rng(1)
    trials, observed, forward, units, held_in = 40, 25, 8, 9, 6
    counts, rates = population(2, (2 * trials, observed + forward, units))
    train, test = slice(0, trials), slice(trials, None)
    weights = rng.normal(size=(units, 2))
    velocity = rates[:, :observed] @ weights + rng.normal(0, 0.5, (2 * trials, observed, 2))
    velocity[3, :4] = np.nan
    velocity[-1, :4] = np.nan
    conditions = rng.integers(0, 4, trials)
    psth = np.stack([counts[test, :observed][conditions == c].mean(0) for c in range(4)])
    psth[2, :5] = np.nan
    target = {
        "eval_spikes_heldout": counts[test, :observed, held_in:],
        "train_behavior": velocity[train],
        "eval_behavior": velocity[test],
        "psth": psth,
        "eval_cond_idx": [np.flatnonzero(conditions == c) for c in range(4)],
        "eval_spikes_heldin_forward": counts[test, observed:, :held_in],
        "eval_spikes_heldout_forward": counts[test, observed:, held_in:],
    }
    submission = {
        "train_rates_heldin": rates[train, :observed, :held_in],
        "train_rates_heldout": rates[train, :observed, held_in:],
        "eval_rates_heldin": rates[test, :observed, :held_in],
        "eval_rates_heldout": rates[test, :observed, held_in:],
        "eval_rates_heldin_forward": rates[test, observed:, :held_in],
        "eval_rates_heldout_forward": rates[test, observed:, held_in:],
    }
    target = {k: Columns(v) if k == "eval_cond_idx" else v for k, v in target.items()}
    theirs = nlb.evaluate({"mc_maze": target}, {"mc_maze": submission})[0]["mc_maze_split"]
    seen = slice(0, observed)
    ours = {
        "co-bps": metrics.co_bps(rates[test, seen], counts[test, seen], range(held_in, units)),
        "fp-bps": metrics.fp_bps(rates[test], counts[test], observed),
        "vel R2": metrics.velocity_r2(
            rates[train, seen], velocity[train], rates[test, seen], velocity[test]
        ),
        "psth R2": metrics.psth_r2(dict(enumerate(psth)), rates[test, seen], conditions),
    }
    assert theirs == pytest.approx(ours, rel=1e-10)


class Columns(list):
    """A list that is read as an HDF5 data set is, by `[()]`."""

    def __getitem__(self, key):
        return list(self) if key == () else super().__getitem__(key)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_no_rates_score_more_expected_bits_than_the_true_ones(seed, scale):
    _, true = population(seed, (20, 3))
    wrong = true * scale
    wrong[0] *= 1.1
    assert metrics.oracle_fraction(wrong, true) < metrics.oracle_fraction(true, true) == 1


def test_the_mean_count_scores_zero_bits():
    counts, _ = population(0)
    null = np.broadcast_to(counts.mean(axis=(0, 1)), counts.shape)
    assert metrics.bits_per_spike(null, counts) == 0


def test_bits_are_the_same_for_single_precision_input_as_for_its_double():
    counts, rates = population(0, (50_000, 4))
    single = rates.astype(np.float32)
    assert metrics.bits_per_spike(single, counts) == metrics.bits_per_spike(
        single.astype(np.float64), counts
    )


def test_negative_rates_and_shapes_that_differ_are_refused():
    counts, rates = population(0)
    with pytest.raises(ValueError, match="log-rate"):
        metrics.bits_per_spike(np.log(rates), counts)
    with pytest.raises(ValueError, match="must agree"):
        metrics.bits_per_spike(rates[1:], counts)
    with pytest.raises(ValueError, match="without a spike"):
        metrics.bits_per_spike(rates, np.zeros_like(counts))


def test_one_step_bits_never_look_across_a_segment_border():
    counts = np.array([[1.0], [4.0], [9.0], [2.0], [5.0]])
    segment = np.array([0, 0, 1, 1, 1])
    rates = np.array([[4.0], [100.0], [2.0], [5.0], [100.0]])
    forecast = metrics.bits_per_spike([[4.0], [2.0], [5.0]], [[4.0], [2.0], [5.0]])
    assert metrics.one_step_bps(rates, counts, segment) == forecast


def test_decoding_r2_is_one_for_the_truth_and_leaves_unknown_rows_out():
    true = np.random.default_rng(0).normal(size=(40, 2))
    decoded = true.copy()
    decoded[:, 1] = true[5:, 1].mean()
    true[:5] = np.nan
    assert metrics.decoding_r2(decoded, true) == pytest.approx([1, 0])


def test_a_psth_for_every_condition_is_asked_for():
    rates = np.ones((3, 4, 2))
    with pytest.raises(ValueError, match="'7'"):
        metrics.psth_r2({1: rates[0]}, rates, np.array([1, 1, 7]))


def test_log_rate_r2_weighs_quiet_units_and_pooled_r2_the_loud_ones():
    true = np.array([[0.001, 1.0], [0.01, 3.0], [0.002, 2.0]])
    rates = true.copy()
    rates[:, 0] = 0.1
    assert metrics.pooled_r2(rates, true) > 0.95
    assert metrics.log_rate_r2(rates, true) < 0.6
