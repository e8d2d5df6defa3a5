"""A sink for real runs that remembers what it was given."""

import json
from collections.abc import Iterable
from pathlib import Path

from stream.node import Context, Node, NodeSettings
from stream.packet import Packet


class KeeperSettings(NodeSettings):
    file: Path


class Keeper(Node[KeeperSettings]):
    use = "keeper"
    Settings = KeeperSettings
    accepts = frozenset({"*"})
    max_inputs = None

    def open(self, context: Context) -> None:
        super().open(context)
        self.kept: dict[str, list[object]] = {stream: [] for stream in context.inputs}

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        shown = packet.meta.get("label", packet.data.tolist())
        self.kept[stream].append([packet.t_ns, packet.gap, packet.segment, shown])
        return ()

    def finish(self) -> Iterable[Packet]:
        self.settings.file.write_text(json.dumps(self.kept))
        return ()
