"""The command line, one file a command: `main` is where the command `innervate` begins."""

from __future__ import annotations

import contextlib
import sys


def main() -> None:
    """Run the command line. What Ctrl-C ends before it is done says so, and returns 130."""
    try:
        # In here, as Ctrl-C may also come while it is loaded.
        from stream.commands.app import run_command_line

        run_command_line()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            print("interrupted", file=sys.stderr)
        sys.exit(130)
