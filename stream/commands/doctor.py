"""`innervate doctor`: what this machine has, what it lacks, and how well it keeps time."""

from __future__ import annotations

import importlib
import os
import platform
import re
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stream.captured import captured_output
from stream.commands.output import write_json
from stream.errors import InnervateError
from stream.runtime.clock import SPIN_NS, Waiter, sharpen_timers
from stream.runtime.scheduling import PRIORITY, claim_real_time, release_real_time

_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")
_MODULES = {"pyzmq": "zmq", "pyyaml": "yaml", "hdrhistogram": "hdrh"}
_PROVIDERS = ("CPUExecutionProvider", "CUDAExecutionProvider")
_TIMER_PERIOD_NS = 5_000_000
_TIMER_ROUNDS = 100
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:>=([0-9.]+))?[^;]*(;.*)?$")
_EXTRA = re.compile(r"extra == ['\"](\w+)['\"]")

# y = x + x for one number, as ONNX with opset 13: what a provider must be able to run.
_ADD_MODEL = (
    b'\x08\x08\x12\x00:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08'
    b"\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n"
    b"\x00\x10\r"
)


class Finding(NamedTuple):
    """One line of the table: `problem` makes the command fail, `note` does not."""

    what: str
    state: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


def doctor(
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file.")
    ] = None,
) -> None:
    """Say what this machine has, lacks and how well it keeps time."""
    console = Console()
    with console.status("looking around ..."):
        findings = list(examine())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("what", "", "found", "what to do"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.what, state, _plain(finding.found), _plain(finding.advice))
    console.print(table)
    if json_path is not None:
        _write(json_path, findings)
    raise typer.Exit(any(finding.state == "problem" for finding in findings))


def examine() -> Iterator[Finding]:
    """Yield everything that there is to say, in the order of the table."""
    yield _python()
    yield from _packages()
    yield from _runtimes()
    yield from _providers()
    yield _real_time()
    yield from _timers()
    yield _sound()
    yield _midi()
    yield _terminal()


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPUs"
    return Finding("Python", "ok", found)


def _packages() -> Iterator[Finding]:
    """Check what the project declares as its needs, by name and least version."""
    wanted: dict[str, dict[str, str]] = {}
    for text in requires("innervate") or ():
        if parts := _REQUIREMENT.match(text):
            name, least, marker = parts.groups()
            named = _EXTRA.search(marker or "")
            wanted.setdefault(named[1] if named else "", {})[name.lower()] = least or "0"
    for name, least in wanted.get("", {}).items():
        if name not in _RUNTIMES:  # They have rows of their own.
            yield _package(name, least)
    for extra in sorted(wanted.keys() - {"", "dev"}):
        there = {name: _installed(name) for name in wanted[extra]}
        missing = [name for name, found in there.items() if found is None]
        found = ", ".join(f"{name} {number}" for name, number in there.items() if number)
        if missing:
            yield Finding(
                f"extra '{extra}'", "note", f"missing: {', '.join(missing)}",
                f"if you need it: pip install 'innervate[{extra}]'"
                f" (in a checkout: -e '.[{extra}]')",
            )  # fmt: skip
        else:
            yield Finding(f"extra '{extra}'", "ok", found)


def _package(name: str, least: str) -> Finding:
    found = _installed(name)
    if found is None:
        return Finding(name, "problem", "not installed", f"pip install '{name}>={least}'")
    if _release(found) < _release(least):
        return Finding(name, "problem", f"{found}, too old", f"pip install '{name}>={least}'")
    try:
        importlib.import_module(_MODULES.get(name, name))
    except (ImportError, OSError) as error:
        return Finding(
            name, "problem", f"{found}, which cannot be imported ({error})",
            f"pip install --force-reinstall {name}",
        )  # fmt: skip
    return Finding(name, "ok", found)


def _runtimes() -> Iterator[Finding]:
    there = {name: found for name in _RUNTIMES if (found := _installed(name)) is not None}
    found = ", ".join(f"{name} {number}" for name, number in there.items())
    if len(there) == 2:
        yield Finding(
            "ONNX Runtime", "problem", f"{found}: two in one folder",
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of them",
        )  # fmt: skip
    elif not there:
        yield Finding("ONNX Runtime", "problem", "not installed", "pip install onnxruntime")
    else:
        yield Finding("ONNX Runtime", "ok", found)


def _providers() -> Iterator[Finding]:
    """Run a tiny model on each provider: that one was compiled in says nothing."""
    try:
        import onnxruntime as ort

        from stream.inference import failure_reason
    except (ImportError, OSError) as error:
        yield Finding("providers", "problem", f"ONNX Runtime cannot be imported ({error})")
        return
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for provider in [name for name in _PROVIDERS if name in ort.get_available_providers()]:
        reason = ""
        with captured_output() as log:
            try:
                if provider == "CUDAExecutionProvider":
                    ort.preload_dlls()
                session = ort.InferenceSession(_ADD_MODEL, options, providers=[provider])
                if session.get_providers()[0] == provider:
                    (result,) = session.run(None, {"x": np.array([21], np.float32)})
                    reason = "" if result[0] == 42 else f"it computes 21 + 21 = {result[0]}"
                else:
                    reason = "?"
            except Exception as error:  # ONNX Runtime's own exceptions have no common base.
                reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        if reason == "?":
            reason = failure_reason(log.getvalue())
        if not reason:
            yield Finding(provider, "ok", "runs")
        elif provider == "CPUExecutionProvider":
            yield Finding(provider, "problem", reason, "install ONNX Runtime again")
        else:
            yield Finding(provider, "note", f"does not run here: {reason}", "models use the CPU")


def _real_time() -> Finding:
    """Ask for what a group under `realtime` asks for."""
    refused = claim_real_time()
    release_real_time()
    if refused:
        return Finding(
            "real-time priority", "note", f"refused: {refused}",
            f"for less jitter, give your user rtprio {PRIORITY} and memlock unlimited in"
            " /etc/security/limits.conf",
        )  # fmt: skip
    return Finding("real-time priority", "ok", "permitted (SCHED_FIFO, locked memory)")


def _timers() -> Iterator[Finding]:
    """Measure how late deadlines 5 ms apart are met, asleep and with a short spin before them."""
    sharpen_timers()
    waiter = Waiter()
    for what, spin in (("timer, asleep", False), ("timer, paced sources", True)):
        lateness_us = np.empty(_TIMER_ROUNDS)
        due_ns = time.monotonic_ns()
        for number in range(_TIMER_ROUNDS):
            due_ns += _TIMER_PERIOD_NS
            waiter.wait(due_ns - SPIN_NS if spin else due_ns)
            waiter.watch(due_ns)
            lateness_us[number] = (time.monotonic_ns() - due_ns) / 1e3
        p50, p99, largest = np.percentile(lateness_us, [50, 99, 100])
        found = f"late by p50 {p50:.0f} us, p99 {p99:.0f} us, max {largest:.0f} us"
        busy = p99 > 1000
        yield Finding(what, "note" if busy else "ok", found, "the machine is busy" if busy else "")


def _sound() -> Finding:
    """Ask for what `synth` asks for by default."""
    from stream.music.sound.audio import Wanted, check_card

    try:
        card = check_card(Wanted(None, 128, 0.008))
    except InnervateError as error:
        return Finding("sound", "note", "none", str(error))
    return Finding("sound", "ok", f"the card '{card}' plays stereo at 48 kHz")


def _midi() -> Finding:
    from stream.music.midi.midi_out import list_ports

    try:
        ports = list_ports("auto")
    except InnervateError as error:
        return Finding("MIDI", "note", "none", str(error))
    return Finding("MIDI", "ok", f"ports to send to: {', '.join(ports) or 'none at the moment'}")


def _terminal() -> Finding:
    console = Console()
    found = f"{console.width} x {console.height}, {console.encoding}"
    if not console.is_terminal:
        return Finding("terminal", "note", "none", "the console view writes plain lines")
    colours = console.color_system or "no"
    state: Literal["ok", "note"] = "ok" if console.encoding.startswith("utf") else "note"
    return Finding("terminal", state, f"{found}, {colours} colours")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(text: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _write(path: Path, findings: list[Finding]) -> None:
    table = {
        "name": "doctor",
        "conditions": {"python": platform.python_version(), "system": platform.platform()},
        "rows": [finding._asdict() for finding in findings],
    }
    write_json("--json", path, table)
