from __future__ import annotations

import json
import subprocess
import sys


def test_a_part_of_the_benchmark_gives_flat_rows(tmp_path):
    file = tmp_path / "rows.json"
    command = "import sys; from stream.commands import main; main()"
    options = ["bench", "connectome", "--quick", "--only", "paper", "--json", str(file)]
    run = subprocess.run(
        [sys.executable, "-c", command, *options], capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    result = json.loads(file.read_text())
    best = {r["simulation"]: r["J"] for r in result["rows"] if r["method"] == "tpc"}
    assert best["lingauss"] > 0.97
    assert best["nonlinnongauss"] > 0.97
    goals = {r["simulation"]: r["met"] for r in result["rows"] if "goal" in r}
    assert goals == dict.fromkeys(best, True)
    assert all(not isinstance(v, dict | list) for row in result["rows"] for v in row.values())
    assert result["conditions"]["cores"] == 1
