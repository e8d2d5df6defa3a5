"""`innervate arm` and `disarm`: let the actions of a trigger out, or hold them back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from stream.errors import ConfigError, RunError
from stream.nodes.run_status import RunStatus, children
from stream.runtime.run_folders import Announcement, find_run
from stream.runtime.switching import Switch

_DONE_S = 3.0

Run = Annotated[str, typer.Argument(help="Folder of the run, or its pipeline's name.")]


def arm(run: Run, node: Annotated[str, typer.Argument(help="Name of the trigger.")]) -> None:
    """Arm a trigger of a run that is going on: from now on its firings go out."""
    _, announcement = find_run(run)
    _switch(announcement, [node], armed=True)


def disarm(
    run: Run,
    node: Annotated[
        str | None, typer.Argument(help="Name of the trigger; by default all.", show_default=False)
    ] = None,
) -> None:
    """Disarm triggers of a run that is going on: outputs go to their safe state at once."""
    folder, announcement = find_run(run)
    nodes = [node] if node else _those(announcement)
    if not nodes:
        raise ConfigError(f"the run in {folder} has nothing that can be armed.")
    _switch(announcement, nodes, armed=False)


def _those(announcement: Announcement) -> list[str]:
    """Return what can be armed.

    Raises
    ------
    RunError
        The run does not tell.
    """
    status = RunStatus(announcement.status)
    try:
        if not status.wait(_DONE_S):
            raise RunError("the run says nothing; end it, if it matters.", 1)
        return [*_of(status)]
    finally:
        status.close()


def _of(status: RunStatus) -> dict[str, bool]:
    """Return what can be armed, and whether it is."""
    nodes = children(status.newest, "nodes")
    notes = {name: node.get("notes", {}).get("armed") for name, node in nodes.items()}
    return {name: armed for name, armed in notes.items() if isinstance(armed, bool)}


def _switch(announcement: Announcement, nodes: list[str], *, armed: bool) -> None:
    """Ask, and wait until the nodes say that it is so.

    Raises
    ------
    ConfigError
        The run refuses.
    RunError
        It does not answer, or nothing came of it.
    """
    switch, status = Switch(announcement.switch, "the command line"), RunStatus(announcement.status)
    try:
        # All are asked before any answer is waited for.
        asked = [node for node in nodes if switch.ask(node, armed, time.monotonic_ns())]
        refused = [why for why in [switch.answer() for _ in asked] if why]
        if refused:
            raise ConfigError(refused[0])
        end = time.monotonic() + _DONE_S
        while any(_of(status).get(node) is not armed for node in nodes):
            status.wait(max(0.0, end - time.monotonic()))
            if time.monotonic() > end:
                raise RunError(
                    f"{' and '.join(nodes)} did not follow within {_DONE_S:g} s; if it matters,"
                    " end the run, which brings outputs to their safe state.",
                    1,
                )
    finally:
        switch.close()
        status.close()
    for node in nodes:
        typer.echo(f"{node}: {'armed' if armed else 'disarmed'}")
