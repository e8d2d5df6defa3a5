"""From a handful of labels to a recogniser: rounds of select, label, fit, on frozen latents."""

from __future__ import annotations

from collections.abc import Sequence

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
SPREAD_BELOW = 100
"""Labels from which spreading them over neighbours no longer helps (on held-out subjects)."""
_COMPONENTS = 64
_MEMBERS = 5
_PENALTY = 10.0


def reduced(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Return latents of unit length in the main components of the train part."""
    components = min(_COMPONENTS, *train.shape)
    pca = PCA(components, random_state=0).fit(train)
    both = []
    for part in (train, test):
        x = pca.transform(part)
        both.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
    return both[0], both[1]


def committee_of(
    x: Floats, chosen: Ints, label: Ints, classes: int, rng: np.random.Generator, *, members: int
) -> Floats:
    """Return probabilities (members, n, classes) of classifiers fitted to the labels at hand.

    The first is fitted to all labels, the others to labels drawn with replacement.

    Parameters
    ----------
    x
        (n, d) latents; labels are known for the rows `chosen` only.
    label
        (chosen,) int64.
    """
    draws = [np.arange(len(chosen))]
    draws += [rng.choice(len(chosen), len(chosen)) for _ in range(members - 1)]
    return np.stack([_fit(x[chosen[d]], label[d], None, x, classes) for d in draws])


def classify(train: Floats, test: Floats, chosen: Ints, label: Ints, classes: int) -> Floats:
    """Return probabilities (test, classes) of a logistic regression fitted to the labels at hand.

    While there are few, labels are spread over their neighbours in the train part first.
    """
    if len(chosen) >= SPREAD_BELOW:
        return _fit(train[chosen], label, None, test, classes)
    given = np.full(len(train), -1)
    given[chosen] = label
    spread = LabelSpreading(kernel="knn", n_neighbors=min(10, len(train) - 1), alpha=0.5)
    spread.fit(train, given)
    target, sure = spread.transduction_, spread.label_distributions_.max(1)
    # What no label reaches has no distribution.
    sure = np.where(np.isfinite(sure), sure, 0.0)
    target[chosen], sure[chosen] = label, 1.0
    return _fit(train, target, sure, test, classes)


def _fit(x: Floats, label: Ints, weight: Floats | None, to: Floats, classes: int) -> Floats:
    """Fit a logistic regression and return its probabilities (n, classes) of other rows."""
    found = np.zeros((len(to), classes))
    there = np.unique(label)
    if len(there) == 1:
        found[:, there[0]] = 1.0
        return found
    model = LogisticRegression(C=_PENALTY, max_iter=300).fit(x, label, sample_weight=weight)
    found[:, model.classes_] = model.predict_proba(to)
    return found


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
    random = np.random.default_rng(seed)
    probabilities: Floats | None = None
    found = {}
    for number, goal in enumerate(schedule):
        count = min(goal, len(x)) - int(labelled.sum())
        if count <= 0:
            break
        asked = RULES[rule](Round(x, probabilities, labelled, count, seed * 1000 + number))
        labelled[asked] = True
        chosen = np.flatnonzero(labelled)
        members = _MEMBERS if rule == "committee" else 1
        probabilities = committee_of(x, chosen, label[chosen], classes, random, members=members)
        answer = classify(x, test[0], chosen, label[chosen], classes)
        found[goal] = float((answer.argmax(1) == test[1]).mean())
    return found


def floor(train: tuple[Floats, Ints], test: tuple[Floats, Ints], chosen: Ints) -> float:
    """Return the accuracy of the nearest labelled neighbour, which learns nothing."""
    likeness = test[0] @ train[0][chosen].T
    return float((train[1][chosen][likeness.argmax(1)] == test[1]).mean())
