"""Trials that repeat one another are found without labels; where none do, nobody is misled."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn

from benchmarks import _courses, whole_trial
from benchmarks._courses import CourseSettings, find_courses, hidden_loss
from models.spikes import metrics
from models.spikes.dataset import prepare
from models.spikes.simulated import repeated_trials

BINS = 30
FEW = {"groups": (3, 5, 20), "rank": (3,), "smooth": (10.0,)}


def simulated(conditions, repeats):
    recording = repeated_trials(
        3, units=12, mean_rate_hz=20, conditions=conditions, repeats=repeats, bins=BINS
    )
    return prepare(recording, recording.width_s)


@pytest.fixture(scope="module")
def repeating():
    return simulated(conditions=5, repeats=15)


class Estimates(nn.Module):
    """Stands for a trained network: the true log rates, with an error of its own in each trial."""

    delay_bins = 0

    def __init__(self, *parts, error):
        super().__init__()
        self.error = error
        self.true = {len(p.true_rates): torch.from_numpy(np.log(p.true_rates)) for p in parts}

    def forward(self, counts, segment):
        true = self.true[counts.shape[1]]
        error = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
        return (true + self.error * error)[None].float(), torch.zeros(*counts.shape[:2], 0)

    def run_trials(self, counts):
        whole, _ = self(counts.reshape(1, -1, counts.shape[-1]), None)
        return whole.reshape(counts.shape), None


def taught(parts, error):
    ways = [("train",), ("validation",), ("train", "validation")]
    network = Estimates(*(parts.select(*way) for way in ways), error=error)
    return whole_trial._teacher(parts, network, BINS)


def test_groups_are_the_conditions_and_their_courses_the_rates(repeating):
    train = repeating.select("train", "validation")
    counts = torch.from_numpy(train.counts).reshape(-1, BINS, 12)
    true = torch.from_numpy(np.log(train.true_rates)).float().reshape(counts.shape)
    noise = 0.5 * torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    courses = find_courses(counts, true + noise, CourseSettings(groups=5, rank=3))
    condition = train.trial[::BINS] // 15
    assert adjusted_rand_score(condition, courses.group) == 1
    assert metrics.oracle_fraction(courses.of_trials(), train.true_rates) > 0.9


def test_hidden_counts_are_forecast_best_by_the_true_rates(repeating):
    train = repeating.select("train")
    counts = torch.from_numpy(train.counts).reshape(-1, BINS, 12)
    rates = torch.from_numpy(train.true_rates).float().reshape(counts.shape)
    right = hidden_loss(lambda counts, seen: rates, counts)
    assert right < hidden_loss(lambda counts, seen: rates.mean((0, 1)).expand_as(rates), counts)
    assert right < hidden_loss(lambda counts, seen: rates.roll(1, 0).roll(5, 1), counts)


def test_courses_teach_where_trials_repeat(repeating, monkeypatch):
    monkeypatch.setattr(_courses, "CHOICES", FEW)
    rates, found = taught(repeating, error=1.0)
    true = repeating.select("train", "validation").true_rates
    assert found["hidden_loss"] < found["hidden_loss_of_network"]
    assert metrics.oracle_fraction(rates, true) > 0.85


def test_the_network_teaches_by_itself_where_no_trial_repeats_another(monkeypatch):
    monkeypatch.setattr(_courses, "CHOICES", FEW)
    parts = simulated(conditions=40, repeats=1)
    rates, found = taught(parts, error=0.1)
    train = parts.select("train", "validation")
    assert found["hidden_loss"] >= found["hidden_loss_of_network"]
    assert metrics.oracle_fraction(rates, train.true_rates) > 0.95
