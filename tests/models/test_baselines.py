"""Baselines are causal, start afresh with a segment, and do what their step form says."""

import numpy as np
import pytest
import torch

from models.spikes import metrics
from models.spikes.baselines.glm import fit_glm
from models.spikes.baselines.history import exponential_averages, lagged
from models.spikes.baselines.kalman import fit_kalman
from models.spikes.baselines.mlp import fit_mlp
from models.spikes.baselines.smoothing import fit_smoothing
from models.spikes.baselines.wiener import fit_wiener

BINS, UNITS, TRAIN, VALIDATION = 1500, 8, 1200, 1000


@pytest.fixture(scope="module")
def session():
    """A slow two-dimensional signal that eight units are tuned to, in uneven segments."""
    rng = np.random.default_rng(3)
    segment = np.repeat(np.arange(6), [400, 100, 500, 200, 250, 50])
    signal = np.zeros((BINS, 2))
    for t in range(1, BINS):
        signal[t] = 0.95 * signal[t - 1] + rng.normal(0, 0.3, 2)
    counts = rng.poisson(np.exp(signal @ rng.normal(0, 0.8, (2, UNITS)) + 0.3))
    counts[:, 7] = 0
    behaviour = signal.copy()
    behaviour[5:9] = np.nan
    return counts.astype(np.float32), behaviour, segment


@pytest.fixture(scope="module")
def fitted(session):
    counts, behaviour, segment = (part[:TRAIN] for part in session)
    # Threads that wait for each other on a busy machine take minutes for this.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mlp = fit_mlp(counts, behaviour, segment, VALIDATION, seed=0)
    torch.set_num_threads(threads)
    return {
        "glm": fit_glm(counts[:, 2:], counts[:, :2], segment, VALIDATION),
        "smoothing": fit_smoothing(counts, segment, VALIDATION),
        "wiener": fit_wiener(counts, behaviour, segment, VALIDATION),
        "kalman": fit_kalman(counts, behaviour, segment),
        "mlp": mlp,
    }


def inputs(name, counts):
    return counts[:, 2:] if name == "glm" else counts


NAMES = ["glm", "smoothing", "wiener", "kalman", "mlp"]


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_later_changes_nothing_before(name, session, fitted):
    counts, _, segment = session
    other = counts.copy()
    other[700:] = other[700:][::-1] + 1
    before = fitted[name].predict(inputs(name, counts), segment)[:700]
    assert np.array_equal(before, fitted[name].predict(inputs(name, other), segment)[:700])


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_alone_gives_what_it_gives_in_the_session(name, session, fitted):
    counts, _, segment = session
    whole = fitted[name].predict(inputs(name, counts), segment)
    rows = segment == 3
    alone = fitted[name].predict(inputs(name, counts[rows]), segment[rows])
    np.testing.assert_allclose(alone, whole[rows], rtol=1e-12)


class Steps:
    """The step forms as the docstrings tell them, one bin at a time."""

    @staticmethod
    def glm(m):
        average, weight = np.zeros(m.weights.shape[:2]), np.zeros(len(m.decay))
        while True:
            counts = yield
            average = m.decay[:, None] * average + (1 - m.decay)[:, None] * counts
            weight = m.decay * weight + (1 - m.decay)
            x = np.log1p(average / weight[:, None])
            drive = m.bias + sum(x[k] @ m.weights[k] for k in range(len(x)))
            yield np.minimum(np.exp(drive), m.ceiling)

    @staticmethod
    def smoothing(m):
        average = m.mean
        while True:
            counts = yield
            average = m.decay * average + (1 - m.decay) * counts
            yield (1 - m.mean_share) * average + m.mean_share * m.mean

    @staticmethod
    def wiener(m):
        past = np.zeros((len(m.weights) - 1, UNITS))
        while True:
            counts = yield
            history = np.concatenate([[counts - m.mean], past])
            past = history[:-1]
            yield m.bias + sum(h @ w for h, w in zip(history, m.weights, strict=True))

    @staticmethod
    def kalman(m):
        x = np.zeros(len(m.mean))
        while True:
            counts = yield
            x = m.carry @ x + m.gain @ (np.sqrt(counts) - m.rest)
            yield (m.mean + x)[m.told]

    @staticmethod
    def mlp(m):
        past = np.zeros((m.lags - 1, UNITS))
        while True:
            counts = yield
            history = np.concatenate([[(np.sqrt(counts) - m.mean) / m.scale], past])
            past = history[:-1]
            h = history.ravel()
            for weight, bias in zip(m.weights[:-1], m.biases[:-1], strict=True):
                h = np.maximum(h @ weight + bias, 0)
            yield h @ m.weights[-1] + m.biases[-1]


@pytest.mark.parametrize("name", NAMES)
def test_stepping_bin_by_bin_gives_what_predict_gives(name, session, fitted):
    counts, _, segment = session
    counts = inputs(name, counts.astype(float))
    stepped, stepper = [], None
    for t in range(len(counts)):
        if t == 0 or segment[t] != segment[t - 1]:
            stepper = getattr(Steps, name)(fitted[name])
        next(stepper)
        stepped.append(stepper.send(counts[t]))
    whole = fitted[name].predict(counts, segment)
    np.testing.assert_allclose(stepped, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["wiener", "kalman", "mlp"])
def test_decoders_find_the_signal_in_unseen_bins(name, session, fitted):
    counts, behaviour, segment = session
    decoded = fitted[name].predict(counts, segment)[TRAIN:]
    assert metrics.decoding_r2(decoded, behaviour[TRAIN:]).mean() > 0.6


def test_a_kalman_filter_gives_out_what_is_asked_and_decodes_it_from_all(session, fitted):
    counts, behaviour, segment = session
    one = fit_kalman(counts[:TRAIN], behaviour[:TRAIN], segment[:TRAIN], told=[1])
    both = fitted["kalman"].predict(counts, segment)
    np.testing.assert_array_equal(one.predict(counts, segment), both[:, 1:])


def test_the_glm_predicts_units_from_the_others(session, fitted):
    counts, _, segment = session
    rates = fitted["glm"].predict(counts[:, 2:], segment)[TRAIN:]
    assert metrics.bits_per_spike(rates, counts[TRAIN:, :2]) > 0.1


def test_a_unit_that_never_fired_in_training_gets_a_small_finite_rate(session):
    counts, _, segment = (part[:TRAIN] for part in session)
    model = fit_glm(counts[:, :6], counts[:, 6:], segment, VALIDATION, penalties=(1e-2,))
    silent = model.predict(counts[:, :6], segment)[:, 1]
    assert np.all((silent > 0) & (silent < 1e-3))


def test_smoothing_forecasts_the_next_bin_better_than_the_mean(session, fitted):
    counts, _, segment = session
    rates = fitted["smoothing"].predict(counts, segment)
    assert metrics.one_step_bps(rates[TRAIN:], counts[TRAIN:], segment[TRAIN:]) > 0.05


def test_averages_of_a_steady_count_are_that_count_from_the_first_bin_on():
    steady = np.full((20, 2), 3.0)
    segment = np.repeat([0, 1], 10)
    averages = exponential_averages(steady, segment, np.array([0.3, 0.9]))
    np.testing.assert_allclose(averages, 3.0)


def test_lags_are_newest_first_and_zero_before_the_segment():
    values = np.arange(1.0, 7.0)[:, None]
    history = lagged(values, np.array([0, 0, 0, 0, 1, 1]), 3)[..., 0]
    assert history.tolist() == [
        [1, 0, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2], [5, 0, 0], [6, 5, 0],
    ]  # fmt: skip
