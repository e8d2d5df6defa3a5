"""What Python and native libraries write to the terminal, collected instead."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def captured_output() -> Iterator[io.StringIO]:
    """Collect what Python and native code write to stdout and stderr inside the block.

    Native libraries write to file descriptor 2 itself, so that is what is redirected. Not for use
    while other threads write there.
    """
    text = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(text))
        # A process without stderr, such as a service, has nothing to redirect.
        with contextlib.suppress(OSError):
            kept = os.dup(2)
            file = stack.enter_context(tempfile.TemporaryFile())
            os.dup2(file.fileno(), 2)
            stack.callback(_restore_stderr, kept, file, text)
        yield text


def _restore_stderr(kept: int, file: IO[bytes], text: io.StringIO) -> None:
    os.dup2(kept, 2)
    os.close(kept)
    file.seek(0)
    text.write(file.read().decode(errors="replace"))
