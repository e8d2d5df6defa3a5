"""The `osc` sink: streams as OSC messages over UDP, to whatever plays, draws or moves by them."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stream.errors import ConfigError, MissingExtraError
from stream.loop.freshness import Freshness, OutputSettings
from stream.loop.osc_messages import Argument, Message, StreamMessages
from stream.node import Context, Node, StreamSpec
from stream.packet import Packet

if TYPE_CHECKING:
    from pythonosc.osc_message import OscMessage

_log = logging.getLogger(__name__)


class OscSettings(OutputSettings):
    """Settings of `osc`."""

    port: int = Field(ge=1, le=65535, description="UDP port of the receiver")
    host: str = Field("127.0.0.1", description="host of the receiver; by default this one")
    address: str = Field(
        "/{stream}",
        description="OSC address; {stream} is the stream's name, {name} that of a channel, rule or"
        " label, such as /{stream}/{name}",
    )


class Osc(Node[OscSettings]):
    """Send rates and other streams of one value a name, labels, notes, triggers and levels.

    Each packet is one datagram: a message, or a bundle where there are several. When a stream
    stalls, and at the end, its safe state is sent (levels 0, label `unknown`, notes released) and 1
    to its address with `/stalled`; 0 when it is back. Nothing is sent of data older than `max_age`.
    """

    use = "osc"
    summary = "sends streams as OSC messages over UDP"
    Settings = OscSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs: ClassVar[int | None] = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the addresses; a sink gives no stream.

        Raises
        ------
        ConfigError
            A stream cannot be sent, an address is none, or two streams have the same one.
        MissingExtraError
            python-osc is not installed.
        """
        if importlib.util.find_spec("pythonosc") is None:
            raise MissingExtraError("The node 'osc'", "loop")
        owners: dict[str, str] = {}
        for stream, messages in self._messages(inputs).items():
            for address in messages.addresses:
                if (other := owners.setdefault(address, stream)) != stream:
                    raise ConfigError(
                        f"address: '{other}' and '{stream}' would both be {address}; put {{stream}}"
                        " into it."
                    )
        return {}

    def open(self, context: Context) -> None:
        """Find the receiver and open a socket.

        Raises
        ------
        ConfigError
            There is no such host.
        """
        super().open(context)
        s = self.settings
        try:
            found = socket.getaddrinfo(s.host, s.port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise ConfigError(f"host: '{s.host}' cannot be found ({error.strerror}).") from None
        family, _, _, _, to = found[0]
        self._to: Any = to
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._fresh = Freshness(s, context)
        self._streams = self._messages(context.inputs)
        # Streams that have brought something since their safe state was sent.
        self._acting: set[str] = set()
        # Streams of which was said that they bring nothing.
        self._quiet: set[str] = set()
        self._sent = 0

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Send one packet."""
        if not self._fresh.take(stream, packet):
            return ()
        if stream in self._quiet:
            self._quiet.discard(stream)
            self._send(self._streams[stream].stalled(False))
        messages = self._streams[stream].of(packet)
        if messages is None:
            kind = self.context.inputs[stream].kind
            self.context.counters.drop("not_notes" if kind == "notes" else "not_finite")
            return ()
        self._acting.add(stream)
        self._send(messages)
        return ()

    def due_ns(self) -> int | None:
        """Return when a stream will have stalled."""
        return self._fresh.due_ns()

    def tick(self) -> Iterable[Packet]:
        """Send the safe state of the streams that have stalled."""
        for stream in self._fresh.stalls():
            self._send_safe(stream)
        return ()

    def finish(self) -> Iterable[Packet]:
        """Send the safe state: nothing comes any more."""
        for stream in sorted(self._acting):
            self._send_safe(stream)
        return ()

    def close(self) -> None:
        """Send the safe state where that has not been done, and close the socket."""
        if (sender := getattr(self, "_socket", None)) is not None:
            list(self.finish())
            del self._socket
            sender.close()

    def _send_safe(self, stream: str) -> None:
        self._acting.discard(stream)
        self._quiet.add(stream)
        messages = self._streams[stream]
        self._send([*messages.safe(), *messages.stalled(True)])

    def _send(self, messages: list[Message]) -> None:
        if not messages:
            return
        try:
            self._socket.sendto(datagram(messages), self._to)
        except OSError as error:
            if "not_sent" not in self.context.counters.dropped:
                _log.error("%s: nothing can be sent to %s: %s", self.context.name, self._to, error)
            self.context.counters.drop("not_sent")
            return
        self._sent += 1
        self.context.counters.note("datagrams", self._sent)

    def _messages(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamMessages]:
        address = self.settings.address
        return {name: StreamMessages(address, name, spec) for name, spec in inputs.items()}


def datagram(messages: list[Message]) -> bytes:
    """Return messages as the bytes of one datagram: a message, or a bundle to be done at once."""
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder

    built = [_message(*message) for message in messages]
    if len(built) == 1:
        return bytes(built[0].dgram)
    bundle = OscBundleBuilder(IMMEDIATELY)
    for message in built:
        bundle.add_content(message)
    return bytes(bundle.build().dgram)


def _message(address: str, arguments: list[Argument]) -> OscMessage:
    from pythonosc.osc_message_builder import OscMessageBuilder

    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build()
