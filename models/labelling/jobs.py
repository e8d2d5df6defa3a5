"""One piece of work in a process of its own, with progress, which can be stopped at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from stream.errors import InnervateError

_CONTEXT = multiprocessing.get_context("spawn")
_MAX_MESSAGE = 1 << 20
_STOP_S = 5.0


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """Where the work stands."""

    stage: str
    done: int
    of: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is done, and found this."""

    found: dict[str, Any]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be done."""

    reason: str


Message = Advance | Done | Failed
_decoder = msgspec.json.Decoder(Message)


class Job:
    """Runs `work(*arguments, report)` in a process, and tells `hear` in a thread how it goes.

    `hear` gets any number of `Advance`, then one `Done` or `Failed`; nothing after `stop`.

    Parameters
    ----------
    work
        A function of a module; returns what `Done` holds.
    """

    def __init__(
        self,
        work: Callable[..., dict[str, Any]],
        arguments: tuple[Any, ...],
        hear: Callable[[Message], None],
    ) -> None:
        self._hear = hear
        self._stopped = False
        self._ours, theirs = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=_work, args=(theirs, work, arguments), name="innervate-label", daemon=True
        )
        self._process.start()
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="job", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                message = _decoder.decode(self._ours.recv_bytes(_MAX_MESSAGE))
            except (EOFError, OSError, msgspec.MsgspecError):
                self._process.join()
                message = Failed(
                    f"the process that was at work ended (exit code {self._process.exitcode})"
                    " before it was done; start it again."
                )
            if self._stopped:
                return
            self._hear(message)
            if not isinstance(message, Advance):
                self._process.join()
                return

    def stop(self) -> None:
        """End the process, whatever it does; files are written whole or not at all."""
        self._stopped = True
        self._process.terminate()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()


def _work(
    connection: Connection, work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]
) -> None:
    # Ctrl-C reaches the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)

    def tell(message: Message) -> None:
        connection.send_bytes(msgspec.json.encode(message))

    try:
        found = work(*arguments, lambda stage, done, of: tell(Advance(stage, done, of)))
        tell(Done(found))
    except BrokenPipeError:
        return  # nobody is left who waits for it
    except InnervateError as error:
        tell(Failed(str(error)))
    except Exception as error:
        tell(Failed(f"{type(error).__name__}: {error}"))
        raise
