"""What every benchmark prints and writes of its rows."""

import io
import json

import pytest
from rich.console import Console

from benchmarks._results import show, write_result
from stream.errors import ConfigError

ROWS = [
    {"part": "cost", "way": "quick", "p50_us": 1234.5678, "met": True},
    {"part": "cost", "way": "slow", "p50_us": None, "met": False},
    {"part": "loss", "lost": 3},
]


def test_each_part_is_a_table_of_its_own_columns():
    console = Console(file=io.StringIO(), width=80)
    show(ROWS, console, apart="part")
    words = [line.split() for line in console.file.getvalue().splitlines()]
    assert words == [
        ["cost"], ["way", "p50", "us", "met"], ["quick", "1235", "yes"], ["slow", "-", "NO"],
        ["loss"], ["lost"], ["3"],
    ]  # fmt: skip


def test_a_result_says_on_which_machine_and_is_written_where_asked(tmp_path):
    file = tmp_path / "rows.json"
    result = write_result("toy", {"seconds": 2}, ROWS, file)
    assert json.loads(file.read_text()) == result
    assert (result["name"], result["rows"]) == ("toy", ROWS)
    assert {"seconds", "system", "cpu", "cpus"} == set(result["conditions"])
    with pytest.raises(ConfigError, match="--json"):
        write_result("toy", {}, ROWS, tmp_path / "nowhere" / "rows.json")
