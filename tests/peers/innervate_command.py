"""The command `innervate`, as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

INNERVATE = str(Path(sys.executable).with_name("innervate"))


@dataclass(frozen=True)
class Said:
    """What a command ended with and said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it."""
        return self.err + self.out

    def refuses(self, *words: str) -> None:
        """Check that it ended in one clear sentence with these words and no traceback."""
        assert self.code in (1, 2), self.text
        assert "Traceback" not in self.text, self.text
        assert self.text.startswith("error: "), self.text
        for word in words:
            assert word in self.text, f"{word!r} is not in: {self.text}"


def innervate(
    *arguments: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own to its end; `env` changes the environment."""
    return subprocess.run(
        [INNERVATE, *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=110, cwd=cwd, env=os.environ | {"COLUMNS": "200"} | env,
    )  # fmt: skip


@contextmanager
def starting(**env: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Give what starts a command, all that it says in `stdout`; at the end what is left is killed.

    Options go to `subprocess.Popen`. Workers of a run end with their supervisor.
    """
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [INNERVATE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=os.environ | env, **options,
        )  # fmt: skip
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def starting_runs(
    folder: Path, **env: str
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Path]]]:
    """Give what starts a run of nodes; it returns the process, and where its report will be."""
    with starting(XDG_STATE_HOME=str(folder / "state"), **env) as start:

        def run(*arguments: str, **nodes: object) -> tuple[subprocess.Popen[str], Path]:
            path, report = folder / "p.yaml", folder / "report.json"
            path.write_text(yaml.safe_dump({"name": "tested", "nodes": nodes}))
            return start("run", path, "--report", report, *arguments), report

        yield run
