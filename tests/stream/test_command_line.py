import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from innervate_command import INNERVATE, Said, innervate

Call = Callable[..., Said]


def test_help_names_every_command() -> None:
    done = innervate("--help")
    assert done.returncode == 0
    for command in ("demo", "import", "train", "evaluate", "export", "run", "check", "doctor"):
        assert f" {command} " in done.stdout
    for entry in entry_points(group="innervate.commands"):
        assert re.search(rf"│ {entry.name} +\w", done.stdout), entry.name


@pytest.mark.parametrize(
    "command",
    ["demo", "import", "train", "evaluate", "export", "label", "run", "check", "nodes",
     "inspect", "recover", "fetch", "doctor", "schema"],
)  # fmt: skip
def test_every_command_explains_itself(innervate_here: Call, command: str) -> None:
    said = innervate_here(command, "--help")
    assert said.code == 0, said.text
    assert "Usage:" in said.out


def test_a_mistake_in_a_pipeline_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("nodes:\n  bins: {use: spikes.bin, from: nobody, width: 5 ms}\n")
    done = innervate("run", str(file))
    assert done.returncode == 2
    assert f"{file}:2: node 'bins', key 'from': there is no node 'nobody'" in done.stderr
    assert "Traceback" not in done.stderr


def test_output_that_finds_no_room_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [INNERVATE, "schema"],
            stdout=full, stderr=subprocess.PIPE, check=False, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device.\n"


def test_a_command_that_needs_an_extra_says_which(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    done = innervate("train", "stndt", "--data", "x.nwb", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "pip install 'innervate[train]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["typer", "torch"])
def test_ctrl_c_while_a_command_loads_is_one_word_and_130(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    done = innervate("train", "stndt", "--data", "x.nwb", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_benchmark_that_needs_an_extra_says_which_and_is_listed_without_it(
    tmp_path: Path,
) -> None:
    for name in ("torch", "onnx"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name='{name}')")
    done = innervate("bench", "step-cost", PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: innervate bench needs the 'train' extra")
    done = innervate("bench", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert "step-cost" in done.stdout


def test_nodes_writes_defaults_as_they_stand_in_a_pipeline_file() -> None:
    done = innervate("nodes", "spikes.simulate")
    assert done.returncode == 0
    assert "default 1 ms" in done.stdout
    assert "default 10 Hz" in done.stdout


def test_check_shows_processes_and_streams(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: '[red]p [/rats]'\n"
        "nodes:\n"
        "  cells: {use: spikes.simulate, population: lorenz, units: 8, seed: 1}\n"
        "  bins: {use: spikes.bin, from: cells, width: 5 ms}\n"
    )
    done = innervate("check", str(file))
    assert done.returncode == 0, done.stderr
    assert "[red]p [/rats]: 2 processes" in done.stdout
    assert "counts [8] count every 5 ms" in done.stdout


def test_a_report_that_could_not_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    done = innervate("run", "nowhere.yaml", "--report", str(tmp_path / "missing" / "r.json"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: --report: ")


def test_a_folder_for_the_run_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    file = tmp_path / "p.yaml"
    file.write_text("nodes:\n  cells: {use: spikes.simulate, population: lorenz, units: 8}\n")
    done = innervate("run", str(file), XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.returncode == 2
    assert "XDG_STATE_HOME" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_does_not_change_the_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "nodes:\n  cells: {use: spikes.simulate, population: lorenz, units: 8, duration: 0.2 s}\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [INNERVATE, "run", str(file)],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_that_fails_says_why_like_any_other_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from stream.spikes.simulate import SpikesSimulate\n"
        "class Broken(SpikesSimulate):\n"
        "    def tick(self):\n"
        "        raise RuntimeError('the probe [0] fell out')\n"
    )
    file = tmp_path / "p.yaml"
    file.write_text("nodes:\n  cells: {use: 'broken:Broken', population: lorenz, units: 8}\n")
    done = innervate("run", str(file), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: node 'cells' (broken:Broken) failed: RuntimeError")
    assert "the probe [0] fell out" in done.stderr
    assert "fell out" not in done.stdout
    folder = Path(done.stdout.strip().rpartition("report.json and logs in ")[2])
    report = json.loads((folder / "report.json").read_text())
    assert "fell out" in report["message"], "also without --report"


@pytest.mark.parametrize("system", ["kalman", "gru"])
def test_a_training_without_its_recording_leaves_no_folder(
    innervate_here: Call, tmp_path: Path, system: str
) -> None:
    out = tmp_path / "trained"
    said = innervate_here("train", system, "--data", tmp_path / "none.nwb", "--out", out)
    said.refuses("none.nwb is not there")
    assert not out.exists()


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A folder of installed packages with one that adds nodes and commands, all but one broken."""
    info = tmp_path / "site" / "wobbly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wobbly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[innervate.nodes]\n"
        "wobbly.old = wobbly:gone\n"
        "wobbly.raising = wobbly_raising:Node\n"
        "wobbly.number = wobbly:number\n"
        "[innervate.commands]\n"
        "wobble = wobbly_raising:wobble\n"
    )
    (tmp_path / "site" / "wobbly.py").write_text("number = 1\n")
    (tmp_path / "site" / "wobbly_raising.py").write_text("raise OSError('no driver [x]')\n")
    return tmp_path / "site"


def test_a_broken_plug_in_is_named_beside_the_nodes_that_work(plug_in: Path) -> None:
    done = innervate("nodes", PYTHONPATH=str(plug_in))
    assert done.returncode == 0, done.stderr
    assert "spikes.simulate" in done.stdout
    package = "of the package 'wobbly'"
    for text in (
        f"'wobbly.old' {package} cannot be loaded: AttributeError: module 'wobbly' has no",
        f"'wobbly.raising' {package} cannot be loaded: OSError: no driver [x].",
        f"'wobbly.number' {package} is no node class",
    ):
        assert text in done.stdout
    done = innervate("schema", PYTHONPATH=str(plug_in))
    assert done.returncode == 0, done.stderr
    assert '"spikes.simulate"' in done.stdout
    assert "left out: the node 'wobbly.raising'" in done.stderr


def test_a_pipeline_with_a_broken_plug_in_and_a_broken_command_are_one_message(
    plug_in: Path, tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("nodes:\n  probe: {use: wobbly.raising}\n")
    done = innervate("run", str(file), PYTHONPATH=str(plug_in))
    assert done.returncode == 2
    assert f"error: {file}:2: node 'probe', key 'use': the node 'wobbly.raising'" in done.stderr
    assert "OSError: no driver [x]" in done.stderr
    assert "Traceback" not in done.stderr
    done = innervate("wobble", PYTHONPATH=str(plug_in))
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: the command 'wobble' of the package 'wobbly' cannot be loaded" in done.stderr
    assert innervate("--help", PYTHONPATH=str(plug_in)).returncode == 0


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run p.yaml --for 1e400s", "--for: '1e400s' is more than"),
        ("run p.yaml --for 5", "--for: expected a number with a unit"),
        ("run folder", "folder: cannot be read (Is a directory)"),
        ("inspect lorenz.onnx --json folder", "--json: folder cannot be written: Is a directory"),
        ("inspect folder", "folder is not a file"),
        ("recover folder", "folder is not there, or is no file"),
        ("doctor --json no/x.json", "--json: no/x.json cannot be written"),
        ("train wiener --data p.yaml --out p.yaml", "--out: p.yaml cannot be a folder"),
        ("train stndt --data p.yaml --out x --threads 0", "Invalid value for '--threads'"),
        ("evaluate gru --data p.yaml --model x --json folder", "--json: folder cannot be written"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(
    innervate_here: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, says: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "p.yaml").write_text(
        "nodes:\n  cells: {use: spikes.simulate, population: lorenz, units: 8}\n"
    )
    zoo = Path(__file__).parents[2] / "models" / "zoo"
    (tmp_path / "lorenz.onnx").symlink_to(zoo / "lorenz-stndt.onnx")
    monkeypatch.chdir(tmp_path)
    said = innervate_here(*command.split())
    assert said.code in (1, 2)
    assert says in said.err
    assert "Traceback" not in said.err


def test_bench_lists_the_benchmarks() -> None:
    done = innervate("bench")
    assert done.returncode == 0
    for name in ("hop", "latency", "load", "step-cost", "accuracy"):
        assert name in done.stdout
