from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.connectome.independence import poisson_granger, ranked
from models.connectome.interventions import intervene
from models.connectome.scores import auroc, score
from models.connectome.simulations import SpikingNetwork, paper, sparse_var, switching_var
from models.connectome.stability import stable
from stream.connectome.estimators import estimator
from stream.connectome.statistics import Statistics
from stream.errors import GraphError


def test_scores_are_what_they_are_called():
    truth = np.array([[True, False], [False, True]])
    found = np.array([[True, True], [False, False]])
    assert score(found, truth).sensitivity == 0.5
    assert score(found, truth).false_positives == 0.5
    random = np.random.default_rng(0)
    strength, labels = random.integers(0, 5, 200) / 4, random.random(200) < 0.3
    assert auroc(strength, labels) == pytest.approx(roc_auc_score(labels, strength))
    assert auroc(np.array([1.0, np.nan]), np.array([True, False])) == 1.0


def test_the_same_seed_gives_the_same_network_and_another_one_another():
    for make in (lambda s: paper("lingauss", s), lambda s: sparse_var(5, 100, s)):
        np.testing.assert_array_equal(make(1).data, make(1).data)
        assert not np.array_equal(make(1).data, make(2).data)
    first, second = switching_var(6, 50, 0)
    assert len(first.data) == len(second.data) == 50
    assert not np.array_equal(first.edges, second.edges)
    with pytest.raises(ValueError, match="expected one of lingauss"):
        paper("other", 0)


def test_a_spiking_network_has_its_rates_its_effects_and_its_interventions():
    weights = np.array([[0, 2.0], [0, 0]])
    network = SpikingNetwork(np.array([50.0, 50.0]), weights, 0.0)
    spikes = network.run(20.0, 0)
    after = spikes[1:, 1][spikes[:-1, 0] > 0].mean()
    assert spikes[:, 0].mean() == pytest.approx(0.05, rel=0.15)
    assert after == pytest.approx(0.05 * np.e**2, rel=0.2)
    assert not network.run(1.0, 0, silenced=(0,))[:, 0].any()
    assert network.run(5.0, 0, driven_hz={1: 200.0})[:, 1].mean() == pytest.approx(0.2, rel=0.1)


def test_tests_of_counts_find_more_of_a_short_recording_than_fishers_z():
    youden = {"counts": [], "granger": [], "poisson": []}
    for seed in range(3):
        network = SpikingNetwork.draw(12, seed)
        spikes = network.run(20.0, 50 + seed)
        statistics = Statistics.of(spikes)
        for method in ("counts", "granger"):
            graph = estimator(method, 0.05).estimate(statistics)
            youden[method].append(score(graph.edges, network.edges).youden)
        youden["poisson"].append(score(poisson_granger(spikes).edges, network.edges).youden)
    assert np.mean(youden["counts"]) > np.mean(youden["granger"]) + 0.05
    assert np.mean(youden["poisson"]) > np.mean(youden["granger"]) + 0.05


def test_poisson_regression_knows_its_weights_and_leaves_silent_units_out():
    weights = np.zeros((3, 3))
    weights[0, 1] = 1.5
    spikes = SpikingNetwork(np.full(3, 40.0), weights, 0.0).run(30.0, 3)
    spikes = np.column_stack([spikes, np.zeros(len(spikes))])
    graph = poisson_granger(spikes)
    assert np.argwhere(graph.edges).tolist() == [[0, 1]]
    assert graph.weights[0, 1] == pytest.approx(1.5, abs=0.3)
    assert graph.left_out == {3: "silent"}


def test_ranks_do_not_mind_outliers_and_change_nothing_for_spikes():
    made = sparse_var(6, 3000, 0)
    wild = np.sign(made.data) * np.abs(made.data) ** 9
    plain, by_rank = (
        score(estimator("granger", 0.05).estimate(Statistics.of(x)).edges, made.edges).youden
        for x in (wild, ranked(wild))
    )
    assert by_rank > plain + 0.1
    spikes = SpikingNetwork.draw(5, 0).run(5.0, 0)
    graphs = [
        estimator("granger", 0.05).estimate(Statistics.of(x)) for x in (spikes, ranked(spikes))
    ]
    np.testing.assert_allclose(graphs[0].p, graphs[1].p, atol=1e-9)


def test_edges_that_stay_in_most_stretches_are_the_true_ones():
    made = sparse_var(6, 4000, 1)
    found = stable(made.data, estimator("granger", 0.2), stretch=800, times=15, cut_off=0.9)
    assert score(found.graph.edges, made.edges).youden > 0.9
    assert found.frequency[made.edges].mean() > found.frequency[~made.edges].mean() + 0.7
    np.testing.assert_allclose(found.graph.weights[made.edges], made.weights[made.edges], atol=0.15)
    with pytest.raises(GraphError, match="need \\(bins, units\\) of at least that length"):
        stable(made.data, estimator("tpc", 0.05), stretch=5000)


def test_what_silencing_a_unit_does_is_predicted_better_than_by_correlation():
    network = SpikingNetwork.draw(8, 1, decay_s=0.005, strength=(0.5, 0.9), inputs=2)
    statistics = Statistics.of(network.run(40.0, 5), 8)
    graph = estimator("counts", 0.05).estimate(statistics)
    predicted, real, naive = [], [], []
    for unit in range(0, 8, 2):
        others = np.arange(8) != unit
        silenced = network.run(40.0, 5, silenced=(unit,)).mean(axis=0)
        real += list((silenced - statistics.mean)[others])
        predicted += list((intervene(statistics, graph, unit, 0.0) - statistics.mean)[others])
        slope = statistics.cov[unit].reshape(9, 8).sum(axis=0) / statistics.cov[unit, unit]
        naive += list((-slope * statistics.mean[unit])[others])
    errors = [
        np.sum((np.array(x) - real) ** 2) / np.sum(np.square(real)) for x in (predicted, naive)
    ]
    assert errors[0] < 0.3
    assert errors[0] < errors[1]


def test_driving_a_unit_of_an_autoregression_moves_the_others_as_calculated():
    made = sparse_var(8, 6000, 2)
    statistics = Statistics.of(made.data)
    graph = estimator("tpc", 0.01).estimate(statistics)
    held = made.weights.copy()
    held[:, 3] = 0
    source = np.zeros(8)
    source[3] = 2.0
    expected = np.linalg.solve(np.eye(8) - held.T, source)
    found = intervene(statistics, graph, 3, 2.0)
    assert found[3] == 2.0
    np.testing.assert_allclose(found, expected, atol=0.15)
    with pytest.raises(GraphError, match="unit 8 of 8"):
        intervene(statistics, graph, 8, 0.0)
