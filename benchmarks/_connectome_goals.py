"""What the graphs of units were asked to reach, row by row of their benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
_PAPER = {"lingauss": 0.98, "nonlinnongauss": 0.97, "ctrnn": 0.86}


def judged(part: str, row: Row) -> Row:
    """Return a row with its `goal` and whether it is `met`, where something was asked."""
    goals = _GOALS.get(part)
    if goals is None or not goals[0](row):
        return row
    goal, met = goals[1](row)
    return {**row, "goal": goal, "met": bool(met)}


def _time_aware(row: Row) -> bool:
    return bool(row["method"] == "tpc")


def _youden(row: Row) -> tuple[str, bool]:
    goal = _PAPER.get(row.get("simulation", ""), 0.98)
    # Goals are known to two digits.
    return f"J {goal}", round(row["J"], 2) >= goal


def _river(row: Row) -> tuple[str, bool]:
    goal = 0.996 if row["what"] == "skeleton" else 0.826
    return f"auroc {goal}", round(row["auroc"], 3) >= goal


_GOALS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], tuple[str, bool]]]] = {
    "paper": (_time_aware, _youden),
    "autoregressions": (_time_aware, _youden),
    "spikes": (
        lambda row: row["method"] == "counts" and row["seconds"] < 100,
        lambda row: ("over granger by more than J_sd", row["over_granger"] > row["J_sd"]),
    ),
    "switch": (
        lambda row: True,
        lambda row: ("within .5 windows", not row["missed"] and row["windows_max"] <= 0.5),
    ),
    "stationary": (
        lambda row: True,
        lambda row: ("below 1 alarm an hour", row["alarms"] < row["minutes"] / 60),
    ),
    "rivers": (lambda row: "auroc" in row, _river),
    "brains": (
        lambda row: row["method"] == "partial",
        lambda row: ("auroc above .88", row["auroc"] > 0.88),
    ),
    "live": (
        lambda row: row["units"] == 100,
        lambda row: ("refresh p99 below 50 ms", row["refresh_p99_ms"] < 50),
    ),
}
"""By part: of which rows something was asked, and what."""
