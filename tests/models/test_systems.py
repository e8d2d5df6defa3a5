"""Commands for several systems hand on how the command of a system ended."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from models.commands.systems import CONTEXT_SETTINGS, run_for_system

app = typer.Typer()


def ends(
    system: Annotated[str, typer.Argument()], *, how: Annotated[str, typer.Option()] = ""
) -> None:
    """End well, or as when Ctrl-C is pressed."""
    if how == "ctrl-c":
        raise KeyboardInterrupt


@app.command(context_settings=CONTEXT_SETTINGS)
def train(context: typer.Context) -> None:
    """Stand in for `innervate train`."""
    run_for_system(context, "train", {"any": f"{__name__}:ends"})


@pytest.mark.parametrize(
    ("options", "code"), [([], 0), (["--how", "ctrl-c"], 130), (["--help"], 0)]
)
def test_what_was_interrupted_does_not_look_as_if_it_was_done(options, code):
    assert CliRunner().invoke(app, ["any", *options]).exit_code == code
