"""The thread that sets RHX up and reads its data sockets."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.instruments.arrivals import Arrivals
from stream.instruments.intan.records import spikes, waveforms
from stream.instruments.intan.rhx import TIMEOUT_S, Rhx, RhxError
from stream.instruments.reader import Reader

_READ_BYTES = 256 * 1024
_LOOK_S = 0.05
_RETRY_S = 0.01
# How long after a block its spikes, which RHX writes next, may come by their own socket.
_SETTLE_NS = 2_000_000


@dataclass(frozen=True)
class Wanted:
    """What is asked of RHX.

    Attributes
    ----------
    host, port
        Where it takes commands.
    channels
        Native names, such as `A-010`, whose spikes it is to send.
    band
        Of the waveforms that it is to send too: `wide`, `low`, `high`; None for none.
    rate_hz
        At which it has to sample.
    start
        Whether to let it run, and to stop it at the end.
    """

    host: str
    port: int
    channels: tuple[str, ...]
    band: str | None
    rate_hz: float
    start: bool


class Got(NamedTuple):
    """What was read at once.

    Attributes
    ----------
    arrived_ns
        When, on the host clock.
    spikes, blocks
        Records of the spike and of the waveform socket.
    settled
        Whether also the spikes of the newest block must be here by now.
    """

    arrived_ns: int
    spikes: NDArray[np.void]
    blocks: NDArray[np.void]
    settled: bool


class IntanReader(Reader):
    """Hands on what RHX sends; None where the connection was lost in between.

    RHX sends waveforms in blocks of 128 frames, also when no waveform is enabled: then these are
    bare time stamps, and the clock by which silence is known. A block comes before the spikes in
    it.
    """

    def __init__(self, wanted: Wanted, arrivals: Arrivals[Got | None]) -> None:
        super().__init__(f"RHX at {wanted.host}:{wanted.port}")
        self._wanted = wanted
        self._arrivals = arrivals
        self._rhx: Rhx | None = None
        self._sockets: list[socket.socket] = []
        self._runs = False

    def connect(self) -> None:
        """Tell RHX what to send, let it run, and connect to its data sockets.

        Raises
        ------
        RhxError
            RHX is not there, or refuses something; the message says it in its words.
        """
        rhx = self._rhx = Rhx(self._wanted.host, self._wanted.port)
        running = rhx.get("runmode").lower() != "stop"
        self._check_rate(rhx)
        if running and not self._runs:
            raise RhxError(
                f"{self.name} runs already, and while it runs it cannot be told what to send; stop"
                " it there, the pipeline starts it again (or, with start: false, you do)."
            )
        if not running:
            rhx.send(self._settings())
        rhx.send(["execute connecttcpwaveformdataoutput", "execute connecttcpspikedataoutput"])
        # The first is the one whose data come first.
        for kind in ("waveform", "spike"):
            port = rhx.get(f"tcp{kind}dataoutputport")
            self._sockets.append(self._connect_data(kind, port))
            # What RHX writes before it has noticed the connection goes nowhere.
            status = f"tcp{kind}dataoutputconnectionstatus"
            end = time.monotonic() + TIMEOUT_S
            while rhx.get(status).lower() != "connected":
                if time.monotonic() > end:
                    raise RhxError(f"{self.name} does not take a connection for its {kind} output.")
                time.sleep(_RETRY_S)
        self._runs = True
        if not running and self._wanted.start:
            rhx.run()

    def read(self) -> None:
        """Read until one of the sockets ends."""
        wanted = self._wanted
        blocks = waveforms(len(wanted.channels) if wanted.band else 0)
        spike_records = spikes()
        assert self._rhx is not None
        commands = self._rhx.fileno()
        by_number = {s.fileno(): s for s in self._sockets}
        from_waveform, from_spike = by_number
        skipped = 0
        settle_ns: int | None = None
        while not self.stopping.is_set():
            wait_s = _LOOK_S
            if settle_ns is not None:
                wait_s = max(0, settle_ns - time.monotonic_ns()) / 1e9
            # Settled is what was so before the sockets were looked at.
            settled = settle_ns is not None and wait_s == 0
            ready = select.select([*by_number, commands], (), (), wait_s)[0]
            if commands in ready:
                raise RhxError(f"{self.name} closed the connection.")
            arrived_ns = time.monotonic_ns()
            data = {number: by_number[number].recv(_READ_BYTES) for number in ready}
            if not all(data.values()):
                raise RhxError(f"{self.name} closed a data socket.")
            got = Got(
                arrived_ns,
                spike_records.feed(data.get(from_spike, b"")),
                blocks.feed(data.get(from_waveform, b"")),
                settled,
            )
            if len(got.blocks):
                settle_ns = arrived_ns + _SETTLE_NS
            elif settled:
                settle_ns = None
            now_skipped = blocks.skipped_bytes + spike_records.skipped_bytes
            self.lose("skipped_bytes", now_skipped - skipped)
            skipped = now_skipped
            empty = not (len(got.spikes) or len(got.blocks) or settled)
            if not empty and not self._arrivals.put(got):
                self.lose("overrun_spikes", len(got.spikes))
                self.lose("overrun_blocks", len(got.blocks))

    def disconnect(self) -> None:
        """Stop RHX, if it was started from here and the run is over, and close the sockets."""
        if self._rhx is not None:
            if self.stopping.is_set() and self._wanted.start and self._runs:
                with contextlib.suppress(RhxError):
                    self._rhx.send(["set runmode stop"])
            self._rhx.close()
            self._rhx = None
        for data_socket in self._sockets:
            data_socket.close()
        self._sockets = []

    def on_lost(self) -> None:
        """Mark the place where the connection was lost."""
        self._arrivals.put(None)

    def _check_rate(self, rhx: Rhx) -> None:
        rate = rhx.get("sampleratehertz")
        try:
            right = float(rate) == self._wanted.rate_hz
        except ValueError:
            right = False
        if not right:
            raise RhxError(
                f"{self.name} samples at {rate} Hz, the pipeline says {self._wanted.rate_hz:g} Hz;"
                " change 'rate', or the sample rate when RHX is started."
            )

    def _settings(self) -> list[str]:
        suffix = {None: None, "wide": "", "low": "low", "high": "high"}[self._wanted.band]
        commands = [
            "execute clearalldataoutputs",
            # Fewer milliseconds: by default, RHX waits for ten blocks before it writes.
            "set tcpnumberdatablocksperwrite 1",
        ]
        for name in self._wanted.channels:
            commands.append(f"set {name}.tcpdataoutputenabledspike true")
            if suffix is not None:
                commands.append(f"set {name}.tcpdataoutputenabled{suffix} true")
        return commands

    def _connect_data(self, kind: str, port: str) -> socket.socket:
        host = self._wanted.host
        end = time.monotonic() + TIMEOUT_S
        while True:
            try:
                data_socket = socket.create_connection((host, int(port)), TIMEOUT_S)
                break
            except (OSError, ValueError) as error:
                if time.monotonic() > end or isinstance(error, ValueError):
                    raise RhxError(
                        f"{self.name} does not open its {kind} output at port {port} ({error});"
                        " press Connect for it under Network > Remote TCP Control."
                    ) from None
                # RHX opens it in a thread of its own, a moment after it was told to.
                time.sleep(_RETRY_S)
        data_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        data_socket.settimeout(None)
        return data_socket
