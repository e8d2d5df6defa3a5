"""From a handful of labels to a recogniser: rounds of select, label, fit, on frozen latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading

from models.sesar.selection import RULES, Round

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BUDGETS = (10, 51, 102, 204, 408)
"""Labels after which accuracy is measured: 1, 5, 10, 20 and 40 % of NW-UCLA's two views."""
SCHEDULE = (10, 20, 35, 51, 76, 102, 153, 204, 306, 408)
"""Labels after each round."""
_COMPONENTS = 64
_MEMBERS = 5


def reduced(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Return latents of unit length in the main components of the train part."""
    components = min(_COMPONENTS, *train.shape)
    pca = PCA(components, random_state=0).fit(train)
    both = []
    for part in (train, test):
        x = pca.transform(part)
        both.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
    return both[0], both[1]


@dataclass(frozen=True)
class Answer:
    """A classifier's probabilities: (members, n, classes), the first member being the one to use.

    Members after the first are fitted to labels drawn with replacement, for committees.
    """

    train: Floats
    test: Floats


def classify(
    train: Floats, test: Floats, chosen: Ints, label: Ints, *, classes: int, seed: int
) -> Answer:
    """Fit a logistic regression to the labels at hand, spread over their neighbours first.

    Parameters
    ----------
    train, test
        (n, d) latents; labels are known for rows `chosen` of `train` only.
    label
        (chosen,) int64.
    """
    random = np.random.default_rng(seed)
    draws = [np.arange(len(chosen))]
    draws += [random.choice(len(chosen), len(chosen)) for _ in range(_MEMBERS - 1)]
    found: list[tuple[Floats, Floats]] = []
    for draw in draws:
        rows, own = chosen[draw], label[draw]
        if len(np.unique(own)) < 2:
            constant = np.zeros(classes)
            constant[own[0]] = 1.0
            found.append((np.tile(constant, (len(train), 1)), np.tile(constant, (len(test), 1))))
            continue
        given = np.full(len(train), -1)
        given[rows] = own
        spread = LabelSpreading(kernel="knn", n_neighbors=min(10, len(train) - 1), alpha=0.5)
        spread.fit(train, given)
        target, sure = spread.transduction_, spread.label_distributions_.max(1)
        target[rows], sure[rows] = own, 1.0
        sure = np.where(np.isfinite(sure), sure, 0.0)
        model = LogisticRegression(C=1.0, max_iter=300).fit(train, target, sample_weight=sure)
        parts = []
        for x in (train, test):
            p = np.zeros((len(x), classes))
            p[:, model.classes_] = model.predict_proba(x)
            parts.append(p)
        found.append((parts[0], parts[1]))
    return Answer(np.stack([a for a, _ in found]), np.stack([b for _, b in found]))


def run_rounds(
    rule: str,
    train: tuple[Floats, Ints],
    test: tuple[Floats, Ints],
    seed: int,
    schedule: Sequence[int] = SCHEDULE,
) -> dict[int, float]:
    """Return accuracy on the test part after each number of labels.

    Parameters
    ----------
    rule
        A name of `RULES`.
    train, test
        Latents (n, d) as `reduced` gives them, and labels (n,); those of the train part are asked
        for one by one.
    """
    x, label = train
    classes = int(max(label.max(), test[1].max())) + 1
    labelled = np.zeros(len(x), bool)
    probabilities: Floats | None = None
    found = {}
    for number, goal in enumerate(schedule):
        count = min(goal, len(x)) - int(labelled.sum())
        if count <= 0:
            break
        asked = RULES[rule](Round(x, probabilities, labelled, count, seed * 1000 + number))
        labelled[asked] = True
        chosen = np.flatnonzero(labelled)
        answer = classify(x, test[0], chosen, label[chosen], classes=classes, seed=seed)
        probabilities = answer.train
        found[goal] = float((answer.test[0].argmax(1) == test[1]).mean())
    return found


def floor(train: tuple[Floats, Ints], test: tuple[Floats, Ints], chosen: Ints) -> float:
    """Return the accuracy of the nearest labelled neighbour, which learns nothing."""
    likeness = test[0] @ train[0][chosen].T
    return float((train[1][chosen][likeness.argmax(1)] == test[1]).mean())
