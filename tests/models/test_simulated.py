"""The coupled population is coupled as it says and stays alive; repeated trials do repeat."""

import numpy as np
import pytest

from models.connectome.scores import auroc
from models.spikes import metrics
from models.spikes.baselines.glm import fit_glm
from models.spikes.simulated import coupled_population, repeated_trials


@pytest.fixture(scope="module")
def population():
    return coupled_population(0, units=20, bins=12_000, hubs=3)


def test_rates_stay_in_a_range_that_neurons_have(population):
    mean = population.recording.true_rates.values.mean(axis=0)
    assert mean.min() > 1
    assert mean.max() < 80


def test_counts_follow_the_true_rates(population):
    rates = population.recording.true_rates.values * population.recording.width_s
    counts = population.recording.counts
    # Bits over each unit's own mean: what knowing the rate is worth.
    assert metrics.bits_per_spike(rates, counts) > 0.05
    np.testing.assert_allclose(counts.mean(axis=0), rates.mean(axis=0), rtol=0.1)


def test_hubs_couple_to_many(population):
    links = (population.coupling != 0).sum(axis=0)
    assert set(np.argsort(-links)[:3]) == set(population.hubs)
    assert not np.diag(population.coupling).any()


def test_a_regression_on_past_counts_finds_the_couplings(population):
    counts = population.recording.counts
    segment = np.zeros(len(counts) - 1, np.int64)
    glm = fit_glm(counts[:-1], counts[1:], segment, 10_000, taus_bins=(2.0,), penalties=(1e-2,))
    others = ~np.eye(len(population.coupling), dtype=bool)
    found = np.abs(glm.weights[0].T)[others]
    assert auroc(found, population.coupling[others] != 0) > 0.9


def test_a_seed_gives_the_same_population_again():
    a, b = (coupled_population(3, units=8, bins=50) for _ in range(2))
    c = coupled_population(4, units=8, bins=50)
    assert np.array_equal(a.recording.counts, b.recording.counts)
    assert np.array_equal(a.coupling, b.coupling)
    assert not np.array_equal(a.recording.counts, c.recording.counts)


def test_trials_of_a_condition_share_their_rates_and_nothing_else():
    recording = repeated_trials(2, units=4, mean_rate_hz=40, conditions=3, repeats=5, bins=25)
    rates = recording.true_rates.values.reshape(3, 5, 25, 4)
    assert (rates == rates[:, :1]).all()
    assert not np.isclose(rates[0, 0], rates[1, 0]).all()
    counts = recording.counts.reshape(3, 5, 25, 4)
    assert (counts[:, 1:] != counts[:, :1]).any(axis=(2, 3)).all()
    assert recording.trials.columns["split"].tolist() == (["train"] * 4 + ["test"]) * 3
    again = repeated_trials(2, units=4, mean_rate_hz=40, conditions=3, repeats=5, bins=25)
    assert (again.counts == recording.counts).all()
