"""The benchmark of actions, as `innervate bench action` runs it, on very little."""

import json

import pytest

from benchmarks.action import run
from stream.errors import ConfigError


@pytest.mark.parametrize(
    ("task", "figure"),
    [
        ("accuracy", "at 100 %"),
        ("people", "at 100 %"),
        ("labels", "accuracy"),
        ("published", "1-NN"),
        ("utd-mhad", "at 25 %"),
    ],
)
def test_every_row_has_its_figure(folders, tmp_path, task, figure):
    path = tmp_path / "rows.json"
    result = run(
        task, data=folders[0], background=folders[1], seeds=1, updates=1, pretraining=1, hidden=8,
        json_path=path,
    )  # fmt: skip
    found = [row[figure] for row in result["rows"] if figure in row]
    assert found
    assert all(0 <= value <= 1 for value in found)
    assert json.loads(path.read_text())["rows"] == result["rows"]


def test_another_task_is_one_sentence(folders):
    with pytest.raises(ConfigError, match="there is no task 'dance'"):
        run("dance", data=folders[0], background=folders[1])
