from __future__ import annotations

import json
from pathlib import Path

from innervate_command import innervate


def test_the_step_cost_benchmark_compares_a_step_with_windows_of_the_same_network(
    tmp_path: Path,
) -> None:
    file = tmp_path / "cost.json"
    done = innervate(
        "bench", "step-cost", "--units", 8, "--window", 4, "--layers", 1, "--rounds", 1, "--json",
        file,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["name"] == "step-cost"
    assert result["conditions"]["window_bins"] == 4
    # With exact mixing no window is built; its step is held against the one without mixing.
    windows = {r["network"] for r in result["rows"] if r["graph"] == "window"}
    assert not any("exact" in name for name in windows)
    steps = [r for r in result["rows"] if r["graph"] == "step" and "streaming" in r["network"]]
    assert {r["weights"] for r in steps} == {"float32", "int8", "int4"}
    for row in steps:
        assert row["cheaper_than_window"] > 0
        assert row["cheaper_than_published"] > 0
        assert row["wall_p99_us"] >= row["wall_p50_us"]
