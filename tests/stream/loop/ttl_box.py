"""A TTL box on a pseudoterminal, as an Arduino or a Teensy would be on a serial port."""

from __future__ import annotations

import os
import pty
import select
import threading
from pathlib import Path


class Box:
    """A box on a pseudoterminal that keeps what it is sent and may answer each byte."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.got = b""
        self.answer = b""
        self.plug_in()

    def plug_in(self) -> None:
        self.master, self._held = pty.openpty()
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._held))
        self.leave = threading.Event()
        given = (self.master, self.leave)
        self._reader = threading.Thread(target=self._read, args=given, daemon=True)
        self._reader.start()

    def unplug(self) -> None:
        # A port that is gone reads as an end, for the reader here as well.
        self.link.unlink()
        os.close(self._held)
        self.leave.set()
        self._reader.join(10)
        os.close(self.master)

    def _read(self, master: int, leave: threading.Event) -> None:
        while not leave.is_set():
            if select.select([master], (), (), 0.005)[0]:
                try:
                    data = os.read(master, 4096)
                except OSError:
                    return
                self.got += data
                os.write(master, self.answer * len(data))
