from __future__ import annotations

import json

from innervate_command import innervate


def test_a_part_of_the_benchmark_gives_flat_rows(tmp_path):
    file = tmp_path / "rows.json"
    run = innervate("bench", "connectome", "--quick", "--only", "paper", "--json", file)
    assert run.returncode == 0, run.stderr
    result = json.loads(file.read_text())
    best = {r["simulation"]: r["J"] for r in result["rows"] if r["method"] == "tpc"}
    assert best["lingauss"] > 0.97
    assert best["nonlinnongauss"] > 0.97
    goals = {r["simulation"]: r["met"] for r in result["rows"] if "goal" in r}
    assert goals == dict.fromkeys(best, True)
    assert all(not isinstance(v, dict | list) for row in result["rows"] for v in row.values())
    assert result["conditions"]["cores"] == 1
