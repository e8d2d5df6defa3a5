"""Predict & Cluster: what its parts do, and what must not change in training."""

import numpy as np
import pytest
import torch

from models.sesar.published import (
    PredictCluster,
    PublishedConfig,
    PublishedLoss,
    features,
    nearest_neighbour,
    prepare,
)
from models.sesar.training import TrainingSettings, fit

SETTINGS = TrainingSettings(updates=8, batch=8, clip=25.0, weight_decay=0.0, smooth=0.0)


def network(decoding) -> PredictCluster:
    torch.manual_seed(0)
    return PredictCluster(PublishedConfig(hidden=6, layers=2, decoding=decoding))


def test_sequences_are_turned_scaled_and_filled_up_to_50_frames(actions, others):
    data = prepare(actions)
    assert data.frames.shape == (90, 50, 60)
    inside = data.frames[0, : data.length[0]]
    assert inside.min() == -1.0
    assert inside.max() == 1.0
    assert (data.frames[0, data.length[0] :] == 0).all()
    assert (prepare(others).length == 50).all()


@pytest.mark.parametrize("decoding", ["fixed weights", "fixed states"])
def test_training_lowers_the_error_of_reconstruction(actions, decoding):
    made, data = network(decoding), prepare(actions)
    rows = torch.arange(90)
    before = made.reconstruction(data, rows)[0].item()
    kept = [p.clone() for p in made.decoder.parameters()]
    fit(made, PublishedLoss(data, 8), SETTINGS)
    assert made.reconstruction(data, rows)[0].item() < before
    same = [torch.equal(a, b) for a, b in zip(kept, made.decoder.parameters(), strict=True)]
    assert all(same) if decoding == "fixed weights" else not all(same)


def test_the_encoder_reads_both_ways_and_not_what_lies_after_the_end(actions):
    made, data = network("fixed weights"), prepare(actions)
    before = features(made, data)
    data.frames[0, data.length[0] :] = 5.0
    np.testing.assert_array_equal(features(made, data)[0], before[0])
    data.frames[0, 0] = 5.0
    changed = features(made, data)[0] != before[0]
    assert changed[:6].any()
    assert changed[6:].any()


def test_only_labels_that_were_given_are_used(actions):
    made, data = network("fixed weights"), prepare(actions)
    labelled = torch.zeros(90, dtype=torch.bool)
    labelled[:30] = True
    torch.manual_seed(0)
    loss = PublishedLoss(data, 32, labelled)(made, 0)
    data.label[30:] = 0
    torch.manual_seed(0)
    assert torch.equal(PublishedLoss(data, 32, labelled)(made, 0), loss)


def test_the_nearest_neighbour_is_the_most_alike_by_direction():
    train = np.array([[1.0, 0.0], [0.0, 9.0]], np.float32)
    test = np.array([[8.0, 1.0], [0.1, 0.2]], np.float32)
    assert nearest_neighbour(train, np.array([3, 4]), test, np.array([3, 4])) == 1.0
