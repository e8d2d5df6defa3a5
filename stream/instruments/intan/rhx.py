"""The command socket of RHX: settings in, answers and complaints out, all as bare text.

`get NAME` is answered by `Return: NAME VALUE`. `set` and `execute` say nothing when they work and a
sentence when they do not, and no answer has an end: so every batch of commands ends with a `get`,
and what stands before its answer is a complaint. RHX reads about 1 kB at a time.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable

from stream.errors import InnervateError

TIMEOUT_S = 5.0
_BATCH_BYTES = 900
_LONGEST_ANSWER = 64 * 1024
_SETTLE_S = 0.1


class RhxError(InnervateError):
    """RHX is not there, or does not do what it was asked for."""


class Rhx:
    """A connection to the command socket.

    Parameters
    ----------
    host, port
        Where RHX takes commands.

    Raises
    ------
    RhxError
        Nothing listens there.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), TIMEOUT_S)
        except OSError as error:
            raise RhxError(
                f"no RHX takes commands at {self._where} ({error.strerror or error}); in RHX, open"
                " Network > Remote TCP Control and press Connect under Commands."
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor of the socket, which is readable when RHX is gone."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get(self, name: str) -> str:
        """Return the value of a setting.

        Raises
        ------
        RhxError
            RHX does not know it, or does not answer.
        """
        return self._ask([], name)

    def send(self, commands: Iterable[str]) -> None:
        """Send commands and wait until RHX has taken them.

        Raises
        ------
        RhxError
            RHX complains, in its own words, or does not answer.
        """
        batch: list[str] = []
        for command in commands:
            if batch and len(";".join((*batch, command))) > _BATCH_BYTES:
                self._ask(batch, "runmode")
                batch = []
            batch.append(command)
        if batch:
            self._ask(batch, "runmode")

    def run(self) -> None:
        """Let RHX run, and wait until it does.

        Raises
        ------
        RhxError
            It does not.
        """
        self._write("set runmode run")
        end = time.monotonic() + TIMEOUT_S
        # What RHX reads together with this is answered only when it stops.
        time.sleep(_SETTLE_S)
        while (mode := self.get("runmode").lower()) == "stop":
            if time.monotonic() > end:
                raise RhxError(f"RHX at {self._where} does not start to run.")
            time.sleep(_SETTLE_S)
        if mode != "run":
            raise RhxError(f"RHX at {self._where} was to run, and is in run mode '{mode}'.")

    def _ask(self, commands: list[str], name: str) -> str:
        self._write(";".join((*commands, f"get {name}")))
        answer = re.compile(rf"Return: (?:{re.escape(name)} )?(\S.*)", re.IGNORECASE | re.DOTALL)
        text = ""
        end = time.monotonic() + TIMEOUT_S
        while (found := answer.search(text)) is None:
            text += self._read(end, text)
            if len(text) > _LONGEST_ANSWER:
                raise RhxError(f"RHX at {self._where} answers without an end.")
        if complaint := text[: found.start()].strip():
            raise RhxError(f"RHX at {self._where} says: {complaint[:500]}")
        return found.group(1).strip()

    def _write(self, text: str) -> None:
        try:
            # The semicolon keeps apart what RHX reads at once.
            self._socket.sendall(f"{text};".encode())
        except OSError as error:
            raise RhxError(f"RHX at {self._where} is gone ({error}).") from None

    def _read(self, end: float, text: str) -> str:
        self._socket.settimeout(max(0.01, end - time.monotonic()))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            if complaint := text.strip():
                raise RhxError(f"RHX at {self._where} says: {complaint[:500]}") from None
            raise RhxError(
                f"RHX at {self._where} does not answer; is it RHX that takes commands there?"
            ) from None
        except OSError as error:
            raise RhxError(f"RHX at {self._where} is gone ({error}).") from None
        if not data:
            raise RhxError(f"RHX at {self._where} closed the connection.")
        return data.decode("latin-1")
