"""The arrow of dependence is one way, and what must never run is nowhere called."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "stream": {"torch", "models", "exporters", "onnx", "onnxscript", "sklearn", "pickle"},
    "models": {"exporters", "pickle"},
    "exporters": {"pickle"},
}


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_that_it_must_not_know(package: str) -> None:
    for file in python_files(package):
        found = FORBIDDEN[package] & set(imports(ast.parse(file.read_text())))
        assert not found, f"{file.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_evaluates_text_or_loads_unsafe_yaml(package: str) -> None:
    for file in python_files(package):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "yaml.load", "os.system"}, (file, called)


def test_the_live_part_is_imported_without_torch_or_readers_of_recordings() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in python_files("stream")
        if file.name != "__init__.py" and file.parent.name != "commands"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print([m for m in ('torch', 'pynwb', 'h5py', 'scipy', 'models') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
