from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.connectome.scores import score
from models.connectome.simulations import paper, sparse_var
from stream.connectome.estimators import METHODS, estimator
from stream.connectome.graph import chi2_p, false_discovery, fisher_z, normal_p
from stream.connectome.orientation import orient
from stream.connectome.skeleton import TESTS, Skeleton, skeleton, squared_partial
from stream.connectome.statistics import Statistics, correlations
from stream.errors import GraphError


def _spikes(units=6, seed=0):
    return (np.random.default_rng(seed).random((4000, units)) < 0.1).astype(float)


def test_p_values_are_those_of_scipy():
    z = np.linspace(-30, 30, 101)
    np.testing.assert_allclose(normal_p(z), 2 * stats.norm.sf(np.abs(z)))
    for freedom in range(1, 8):
        x = np.linspace(0, 300, 50)
        np.testing.assert_allclose(chi2_p(x, freedom), stats.chi2.sf(x, freedom), rtol=1e-9)
    p = np.append(np.random.default_rng(0).random(40) ** 4, np.nan)
    adjusted = stats.false_discovery_control(p[:-1])
    np.testing.assert_array_equal(false_discovery(p, 0.1), np.append(adjusted <= 0.1, False))


def test_partial_correlations_are_those_of_residuals():
    x = sparse_var(6, 500, 0).data
    at = np.arange(6)
    for given in ([2], [2, 3], [5, 2, 3]):
        design = np.column_stack([np.ones(500), x[:, given]])
        left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
        corr = np.corrcoef(x.T)
        found = squared_partial(corr, at[:1], at[1:2], [np.array([k]) for k in given])
        assert found[0] == pytest.approx(np.corrcoef(left[:, 0], left[:, 1])[0, 1] ** 2)


@pytest.mark.parametrize("method", ["granger", "tpc", "counts"])
def test_nothing_is_found_in_noise_more_often_than_asked(method):
    found = 0
    for seed in range(40):
        data = _spikes(seed=seed)
        graph = estimator(method, 0.05).estimate(Statistics.of(data, 2))
        found += graph.edges.any()
    # 5 % of the graphs may have an edge; 8 or more of 40 would have a chance of 1 in 1000.
    assert found < 8


@pytest.mark.parametrize("paradigm", ["lingauss", "nonlinnongauss", "ctrnn"])
def test_time_aware_pc_finds_the_networks_of_its_paper(paradigm):
    youden = []
    for seed in range(5):
        made = paper(paradigm, seed)
        graph = estimator("tpc", 0.05).estimate(Statistics.of(made.data))
        youden.append(score(graph.edges, made.edges).youden)
    # In ctrnn unit 3 is saturated: its effect on unit 4 is not there to be found.
    assert np.mean(youden) > (0.85 if paradigm == "ctrnn" else 0.97)


@pytest.mark.parametrize(("method", "least"), [("tpc", 0.99), ("granger", 0.97)])
def test_lagged_links_of_two_delays_are_found_with_their_weights(method, least):
    made = sparse_var(8, 4000, 3, delay=2)
    graph = estimator(method, 0.01).estimate(Statistics.of(made.data, 2))
    assert score(graph.edges, made.edges).youden > least
    np.testing.assert_allclose(graph.weights[made.edges], made.weights[made.edges], atol=0.1)


def test_time_directs_what_the_unrolled_search_alone_would_get_wrong():
    made = sparse_var(8, 3000, 0)
    statistics = Statistics.of(made.data)
    earlier = score(estimator("neuro-pc", 0.05).estimate(statistics).edges, made.edges)
    aware = score(estimator("tpc", 0.05).estimate(statistics).edges, made.edges)
    assert aware.youden > earlier.youden > 0.5


def test_edges_within_a_bin_are_directed_by_colliders_and_what_follows():
    random = np.random.default_rng(0)
    a, b, e, f = random.standard_normal((4, 5000))
    c = a + b + e
    d = c + f
    graph = estimator("tpc", 0.01).estimate(Statistics.of(np.stack([a, b, c, d], axis=1), 1))
    assert {tuple(edge) for edge in np.argwhere(graph.edges)} == {(0, 2), (1, 2), (2, 3)}
    assert graph.weights[0, 2] == pytest.approx(1.0, abs=0.1)


def test_an_edge_that_nothing_directs_stands_in_both_directions():
    random = np.random.default_rng(0)
    a = random.standard_normal(2000)
    b = a + random.standard_normal(2000)
    graph = estimator("pc", 0.01).estimate(Statistics.of(np.stack([a, b], axis=1), 0))
    assert graph.edges.tolist() == [[False, True], [True, False]]


def test_the_past_directs_an_edge_within_a_bin():
    # x(t-1) -> z(t) and z(t) -> y(t): z is no collider, so the edge between z and y leads away.
    apart = np.full((2, 4, 3), -1)
    adjacent = np.array([[False, True, True, False], [True, False, False, False]])
    apart[1, 2, 0] = 0
    found = Skeleton(adjacent, np.zeros((2, 4)), apart, 0, np.arange(0))
    arrows = orient(found, np.array([0, 0, 1, 1]))
    assert {tuple(a) for a in np.argwhere(arrows)} == {(2, 0), (0, 1)}
    # And if z was not in the set that made x and y apart, it is one, and y -> z.
    apart[1, 2, 0] = -1
    arrows = orient(found, np.array([0, 0, 1, 1]))
    assert {tuple(a) for a in np.argwhere(arrows)} == {(2, 0), (1, 0)}


def test_the_skeleton_is_that_of_testing_one_set_after_the_other():
    from itertools import combinations

    statistics = Statistics.of(sparse_var(7, 400, 5).data, 0)
    corr, n = correlations(statistics.cov), 7
    found = skeleton(corr, statistics.rows, 0.05, n)
    adjacent = ~np.eye(n, dtype=bool)
    for size in range(4):
        before = adjacent.copy()
        for x, y in np.argwhere(before):
            others = np.flatnonzero(before[x] & (np.arange(n) != y))
            for chosen in combinations(others, size):
                precision = np.linalg.inv(corr[np.ix_([x, y, *chosen], [x, y, *chosen])])
                r = precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
                if normal_p(fisher_z(np.array([r]), statistics.rows, size))[0] > 0.05:
                    adjacent[x, y] = adjacent[y, x] = False
    np.testing.assert_array_equal(found.adjacent, adjacent)


def test_of_many_neighbours_only_sets_of_the_strongest_are_tried_and_that_is_counted():
    random = np.random.default_rng(0)
    data = random.standard_normal((2000, 60)) + 2 * random.standard_normal((2000, 1))
    statistics = Statistics.of(data, 0)
    found = skeleton(correlations(statistics.cov), statistics.rows, 0.05, 60)
    assert found.limited.tolist() == list(range(60))
    assert found.tests <= 60 * 60 + 3 * TESTS
    dense = estimator("pc", 0.05).estimate(statistics)
    assert dense.limited == 60
    few = estimator("pc", 0.05).estimate(Statistics.of(data[:, :6], 0))
    assert few.limited == 0


def test_spikes_that_inhibit_are_found_where_a_correlation_has_no_say():
    random = np.random.default_rng(0)
    spikes = (random.random((30_000, 4)) < 0.02).astype(float)
    spikes[1:, 1] *= random.random(29_999) > 0.95 * spikes[:-1, 0]
    statistics = Statistics.of(spikes, 1)
    counts, granger = (estimator(m, 0.05).estimate(statistics) for m in ("counts", "granger"))
    assert np.argwhere(counts.edges).tolist() == [[0, 1]]
    assert counts.weights[0, 1] < 0
    assert counts.p[0, 1] < 0.2 * granger.p[0, 1]


@pytest.mark.parametrize("method", METHODS)
def test_units_of_which_nothing_can_be_said_are_left_out_and_named(method):
    data = _spikes(8)
    data[:, 1] = 0
    data[:, 2] = 1
    data[:, 4] = data[:, 3]
    data[:, 6] = data[:, 0] + data[:, 5]
    data[:, 7] = 0
    data[:5, 7] = 1
    graph = estimator(method, 0.05).estimate(Statistics.of(data, 1))
    assert graph.left_out == {
        1: "silent", 2: "constant", 4: "duplicate", 6: "collinear", 7: "silent",
    }  # fmt: skip
    for unit in graph.left_out:
        assert np.isnan(graph.p[unit]).all()
        assert np.isnan(graph.p[:, unit]).all()
        assert not graph.edges[unit].any()
        assert not graph.edges[:, unit].any()
    assert np.isfinite(graph.p[0, 3])
    assert np.isfinite(graph.weights).all()


def test_a_unit_that_copies_another_later_on_proves_nothing_false():
    data = _spikes(4)
    data[1:, 1] = data[:-1, 0]
    graph = estimator("granger", 0.05).estimate(Statistics.of(data, 2))
    assert graph.edges[0, 1]
    assert not graph.edges[:, 2:].any()
    assert np.isfinite(graph.weights).all()


@pytest.mark.parametrize("method", ["partial", "granger", "counts"])
def test_a_window_shorter_than_the_number_of_variables_is_refused(method):
    data = np.random.default_rng(0).poisson(2.0, (30, 28)).astype(float)
    with pytest.raises(GraphError, match="needs more than 38 rows for 28 variables"):
        estimator(method, 0.05).estimate(Statistics.of(data, 1))


@pytest.mark.parametrize("method", METHODS)
def test_a_graph_of_nothing_is_refused(method):
    with pytest.raises(GraphError, match="none of 3 units has varied"):
        estimator(method, 0.05).estimate(Statistics.of(np.zeros((100, 3)), 1))
