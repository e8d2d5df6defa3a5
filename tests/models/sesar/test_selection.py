"""Rules that choose what to label, and the rounds that they choose in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sesar.few_labels import classify, reduced, run_rounds
from models.sesar.selection import RULES, Round, core_set, margin_in_cluster, top, typical


def blobs(per_blob: int = 30, blobs: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return directions (n, 8) in groups, and the group of each."""
    random = np.random.default_rng(seed)
    centres = np.eye(8)[:blobs]
    label = np.repeat(np.arange(blobs), per_blob)
    x = centres[label] + 0.1 * random.standard_normal((len(label), 8))
    return x / np.linalg.norm(x, axis=1, keepdims=True), label


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=12, deadline=None)
@given(known=st.integers(0, 40), count=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_rule_chooses_so_many_of_what_has_no_label_and_none_twice(rule, known, count, seed):
    x, _ = blobs(14)
    random = np.random.default_rng(seed)
    labelled = np.zeros(len(x), bool)
    labelled[random.choice(len(x), known, replace=False)] = True
    p = random.dirichlet(np.ones(5), (3, len(x))) if known else None
    chosen = RULES[rule](Round(x, p, labelled, count, seed))
    assert len(set(chosen.tolist())) == count
    assert not labelled[chosen].any()
    again = RULES[rule](Round(x, p, labelled, count, seed))
    np.testing.assert_array_equal(chosen, again)


@pytest.mark.parametrize("rule", [top, typical])
def test_a_first_round_finds_one_of_each_group(rule):
    x, label = blobs()
    chosen = rule(Round(x, None, np.zeros(len(x), bool), 5, 0))
    assert sorted(label[chosen]) == [0, 1, 2, 3, 4]


def test_mi_takes_what_the_classifier_doubts_within_each_group():
    x, label = blobs()
    p = np.zeros((1, len(x), 5))
    p[0, np.arange(len(x)), label] = 1.0
    doubted = np.arange(0, len(x), 30) + 7
    p[0, doubted] = 0.2
    chosen = margin_in_cluster(Round(x, p, np.zeros(len(x), bool), 5, 0))
    assert sorted(chosen) == sorted(doubted)


def test_core_set_goes_where_nothing_is_labelled():
    x, label = blobs()
    labelled = label < 4
    chosen = core_set(Round(x, None, labelled, 1, 0))
    assert label[chosen[0]] == 4


def test_few_labels_are_enough_where_groups_are_clear():
    x, label = blobs()
    train, test = reduced(x, blobs(seed=1)[0])
    found = run_rounds("typical, then MI", (train, label), (test, label), 0, (5, 10))
    assert found[5] > 0.95
    assert list(found) == [5, 10]


def test_labels_of_one_class_alone_give_that_class():
    x, _ = blobs()
    answer = classify(x, x, np.array([3, 4]), np.array([2, 2]), 5)
    assert (answer.argmax(-1) == 2).all()
