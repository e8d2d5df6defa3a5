"""A double of the Open Ephys GUI: its ZMQ Interface and its Event Broadcaster, as one process.

    python tests/peers/open_ephys_gui.py --recording FILE.nwb [--port 5556] [--channels 4] ...

Made from the protocol, not from the plugins' code. It plays the spikes of a recording, again and
again, in bursts like the GUI's: a block every 1024 / 44100 s, its spikes and TTL edges first, then
one message for each channel. Spikes stay 100 samples behind the end of a block, as those of the
GUI's Spike Detector do, and the socket's queue is ZeroMQ's default, so that it loses what a slow
reader leaves. TTL line 1 changes every `--ttl` samples.

Commands on stdin, one a line, are carried out before the next block; each is answered on stdout by
a line of JSON:

    lose N       leave out the next N messages, and their numbers
    away S       close the sockets for S seconds; the acquisition goes on
    restart      end the acquisition and begin another: messages and samples count from the start
    jump S       let the sample numbers jump by S seconds (below 0: back)
    channels N   send N channels from now on
    rate R       state R samples a second from now on
    stream NAME  send under the name NAME from now on
    pace F       send blocks F times as fast as stated
    bad KIND     send a message that is none: half, short, gigabyte, large, json, text, alien
    state        only answer
    quit         stop

With `--log FILE`, a line of JSON for each block: when it began to send it, and its channels.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq

BLOCK_S = 1024 / 44_100
HELD = 100
WAVEFORM = np.zeros(40, "<f4")
NOISE_SAMPLES = 65_536


def pretty(content: dict[str, Any]) -> bytes:
    """Write JSON over many lines, as JUCE does."""
    return json.dumps(content, indent=2).replace("\n", "\r\n").encode()


class Spikes:
    """The spikes of a recording as sample numbers, in a loop without end."""

    def __init__(self, file: Path, rate_hz: float, units: int | None, by_sorting: bool) -> None:
        from stream.spikes.nwb import load_recording

        recording = load_recording(file)
        if recording.spike_times_s is not None:
            times = [t - recording.start_s for t in recording.spike_times_s[:units]]
        else:
            # Of counts the time within a bin is not known, so it is drawn.
            assert recording.counts is not None
            rng = np.random.default_rng(0)
            times = []
            for counts in recording.counts[:, :units].T:
                bins = np.repeat(np.arange(len(counts)), counts)
                times.append((bins + rng.random(len(bins))) * recording.width_s)
        self.lap = int((recording.stop_s - recording.start_s) * rate_hz)
        owners = np.repeat(np.arange(len(times)), [len(t) for t in times])
        samples = np.floor(np.concatenate(times) * rate_hz).astype(np.int64)
        order = np.argsort(samples, kind="stable")
        self.samples, self.owners = samples[order], owners[order]
        # Two sorted units share an electrode, or each has its own.
        self.names = [
            (f"Electrode {u // 2 + 1}", u % 2 + 1) if by_sorting else (f"Electrode {u + 1}", 0)
            for u in range(len(times))
        ]

    def between(self, start: int, stop: int) -> list[tuple[int, str, int]]:
        """Return sample, electrode and sorted id of the spikes in [start, stop)."""
        found = []
        for lap in range(start // self.lap, (stop - 1) // self.lap + 1):
            first, last = np.searchsorted(
                self.samples, (start - lap * self.lap, stop - lap * self.lap)
            )
            for i in range(first, last):
                found.append((int(self.samples[i]) + lap * self.lap, *self.names[self.owners[i]]))
        return found


class Double:
    """The GUI: an acquisition that goes on, and the sockets of its plugins."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.o = options
        self.spikes = Spikes(options.recording, options.rate, options.units, options.sorted)
        self.channels, self.stated_hz, self.stream = options.channels, options.rate, options.stream
        self.pace = 1.0
        self.shift = options.first_sample
        self.sample = 0
        self.message_num = 0
        self.to_lose = 0
        self.lost = 0
        self.sent = 0
        self.spikes_sent = 0
        self.heartbeats = 0
        self.quit = False
        self.away_until = 0.0
        self.context: zmq.Context[Any] = zmq.Context()
        self.data: zmq.Socket[Any] | None = None
        self.control: zmq.Socket[Any] | None = None
        self.events: zmq.Socket[Any] | None = None
        rng = np.random.default_rng(0)
        self.noise = (20 * rng.standard_normal(2 * NOISE_SAMPLES)).astype("<f4")
        self.log = options.log.open("w") if options.log else None

    # Sockets

    def open(self) -> None:
        if not self.o.only_events:
            port = self.o.port
            while True:
                try:
                    self.data = self.bound(zmq.PUB, port)
                    self.control = self.bound(zmq.REP, port + 1)
                    break
                except zmq.ZMQError:
                    if self.data is not None:
                        self.data.close(0)
                    port += 2
            self.port = port
        if self.o.events_port:
            self.events = self.bound(zmq.PUB, self.o.events_port)

    def bound(self, kind: int, port: int) -> zmq.Socket[Any]:
        socket = self.context.socket(kind)
        socket.linger = 0
        try:
            socket.bind(f"tcp://127.0.0.1:{port}")
        except zmq.ZMQError:
            socket.close(0)
            raise
        return socket

    def close(self) -> None:
        for socket in (self.data, self.control, self.events):
            if socket is not None:
                socket.close(0)
        self.data = self.control = self.events = None

    def answer_heartbeats(self) -> None:
        while self.control is not None:
            try:
                request = self.control.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                kind = json.loads(request)["type"]
                self.heartbeats += kind == "heartbeat"
                reply = "heartbeat received" if kind == "heartbeat" else "message correctly parsed"
            except (ValueError, KeyError, TypeError):
                reply = "JSON message could not be read"
            self.control.send_string(reply)

    # Messages

    def publish(self, envelope: bytes, header: bytes, payload: bytes | None) -> None:
        if self.to_lose:
            self.to_lose -= 1
            self.lost += 1
        elif self.data is not None:
            frames = [envelope, header] if payload is None else [envelope, header, payload]
            self.data.send_multipart(frames)
            self.sent += 1

    def number(self) -> int:
        self.message_num += 1
        return self.message_num

    def stamp(self) -> int:
        return time.time_ns() // 1_000_000

    def send_edge(self, sample: int, line: int, up: bool) -> None:
        word = int(up) << line
        header = {
            "message_num": self.number(), "type": "event",
            "content": {
                "stream": self.stream, "source_node": 100, "type": 3, "sample_num": sample,
            },
            "data_size": 10, "timestamp": self.stamp(),
        }  # fmt: skip
        self.publish(b"EVENT\0", pretty(header), struct.pack("<BBQ", line, up, word))
        if self.events is not None:
            if self.o.raw:
                # 24 bytes of base, then the same 10 (`Event.cpp`).
                raw = struct.pack("<BBHHHqd", 1, 3, 100, 1, 0, sample, sample / self.o.rate)
                body = raw + struct.pack("<BBQ", line, up, word)
            else:
                body = pretty({
                    "event_type": "ttl", "stream": self.stream, "source_node": 100,
                    "sample_rate": self.o.rate, "channel_name": "TTL", "sample_number": sample,
                    "line": line, "state": up,
                })  # fmt: skip
            self.events.send_multipart([struct.pack("<H", 0), body])

    def send_spike(self, sample: int, electrode: str, sorted_id: int) -> None:
        header = {
            "message_num": self.number(), "type": "spike",
            "spike": {
                "stream": self.stream, "source_node": 101, "electrode": electrode,
                "sample_num": sample, "num_channels": 1, "num_samples": len(WAVEFORM),
                "sorted_id": sorted_id, "threshold": [-50.0],
            },
            "timestamp": self.stamp(),
        }  # fmt: skip
        self.publish(b"EVENT\0", pretty(header), WAVEFORM.tobytes())
        self.spikes_sent += 1
        if self.events is not None:
            if self.o.raw:
                index = int(electrode.split()[1]) - 1
                body = struct.pack("<BBHHHqdH", 2, 1, 101, 1, index, sample, 0.0, sorted_id)
                body += struct.pack("<f", -50.0) + WAVEFORM.tobytes()
            else:
                body = pretty({
                    "event_type": "spike", "stream": self.stream, "source_node": 101,
                    "electrode": electrode, "num_channels": 1, "sample_rate": self.o.rate,
                    "sample_number": sample, "sorted_id": sorted_id, "amp1": 80.5,
                })  # fmt: skip
            self.events.send_multipart([struct.pack("<H", 1), body])

    def send_block(self, n: int) -> None:
        """Send what happened in the next `n` samples."""
        start, end = self.sample, self.sample + n
        began_ns = time.monotonic_ns()
        found = self.spikes.between(max(0, start - HELD), max(0, end - HELD))
        for edge in range(-(-start // self.o.ttl), -(-end // self.o.ttl)):
            if edge:
                self.send_edge(edge * self.o.ttl + self.shift, 0, edge % 2 == 1)
        for sample, electrode, sorted_id in found:
            self.send_spike(sample + self.shift, electrode, sorted_id)
        shown = start + self.shift
        data_ns = time.monotonic_ns()
        for channel in range(self.channels):
            # As `pretty` writes it, but 16,500 times a second.
            header = (
                f'{{\r\n  "message_num": {self.number()},\r\n  "type": "data",\r\n  "content": {{'
                f'\r\n    "stream": "{self.stream}",\r\n    "channel_num": {channel},\r\n'
                f'    "channel_name": "CH{channel + 1}",\r\n    "num_samples": {n},\r\n'
                f'    "sample_num": {shown},\r\n    "sample_rate": {self.stated_hz}\r\n  }},\r\n'
                f'  "data_size": {4 * n},\r\n  "timestamp": {self.stamp()}\r\n}}'
            )
            at = (start + 997 * channel) % NOISE_SAMPLES
            self.publish(b"DATA\0", header.encode(), self.noise[at : at + n].tobytes())
        self.sample = end
        if self.log is not None:
            line = {"t_ns": began_ns, "data_ns": data_ns, "sample": shown, "n": n}
            self.log.write(json.dumps(line) + "\n")
            self.log.flush()

    def send_bad(self, kind: str) -> None:
        content = {
            "stream": self.stream, "channel_num": 0, "num_samples": 100, "sample_num": self.sample,
            "sample_rate": self.o.rate,
        }  # fmt: skip
        header = {"message_num": self.message_num, "type": "data", "content": content}
        if kind == "half":
            self.publish(b"DATA\0", pretty(header)[:40], None)
        elif kind == "short":
            self.publish(b"DATA\0", pretty({**header, "data_size": 400}), b"\0" * 200)
        elif kind == "gigabyte":
            huge = {**header, "data_size": 2**30, "content": {**content, "num_samples": 2**28}}
            self.publish(b"DATA\0", pretty(huge), b"\0" * 400)
        elif kind == "large":
            self.publish(b"DATA\0", pretty({**header, "data_size": 400}), b"\0" * (17 * 2**20))
        elif kind == "json":
            self.publish(b"DATA\0", b'{"message_num": 1, "type": ]', b"\0" * 400)
        elif kind == "text":
            event = {"stream": self.stream, "source_node": 1, "type": 5, "sample_num": self.sample}
            self.publish(
                b"EVENT\0",
                pretty({
                    "message_num": self.number(), "type": "event", "content": event, "data_size": 5,
                }),
                b"hello",
            )  # fmt: skip
        elif kind == "alien":
            self.publish(b"\xff" * 300, b"\x00\x01", b"")
        else:
            raise ValueError(kind)

    # Running

    def command(self, line: str) -> None:
        word, _, value = line.strip().partition(" ")
        if word == "lose":
            self.to_lose = int(value)
        elif word == "away":
            self.away_until = time.monotonic() + float(value)
            self.close()
        elif word == "restart":
            self.sample = self.message_num = 0
            self.shift = self.o.first_sample
        elif word == "jump":
            self.shift += int(float(value) * self.o.rate)
        elif word == "channels":
            self.channels = int(value)
        elif word == "rate":
            self.stated_hz = float(value)
        elif word == "stream":
            self.stream = value
        elif word == "pace":
            self.pace = float(value)
        elif word == "bad":
            self.send_bad(value)
        elif word == "quit":
            self.quit = True
        self.say(word)

    def say(self, answer: str) -> None:
        state = {
            "answer": answer, "port": getattr(self, "port", self.o.port), "sample": self.sample,
            "shown": self.sample + self.shift, "message_num": self.message_num, "sent": self.sent,
            "lost": self.lost, "spikes": self.spikes_sent, "heartbeats": self.heartbeats,
            "t_ns": time.monotonic_ns(), "cpu_s": time.process_time(),
        }  # fmt: skip
        print(json.dumps(state), flush=True)

    def run(self) -> None:
        commands: queue.SimpleQueue[str] = queue.SimpleQueue()

        def read() -> None:
            for line in sys.stdin:
                commands.put(line)
            # Whoever started it is gone.
            commands.put("quit")

        threading.Thread(target=read, daemon=True).start()
        self.open()
        self.say("ready")
        due = time.monotonic()
        while not self.quit:
            due += BLOCK_S / self.pace
            time.sleep(max(0.0, due - time.monotonic()))
            if self.away_until and time.monotonic() >= self.away_until:
                self.away_until = 0.0
                self.open()
                self.say("back")
            while not commands.empty():
                self.command(commands.get())
            self.answer_heartbeats()
            blocks = round(self.sample / self.o.rate / BLOCK_S)
            self.send_block(round((blocks + 1) * BLOCK_S * self.o.rate) - self.sample)
        self.close()
        self.context.term()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recording", type=Path, required=True)
    parser.add_argument("--port", type=int, default=5556)
    parser.add_argument("--events-port", type=int, default=0)
    parser.add_argument("--only-events", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--units", type=int)
    parser.add_argument("--rate", type=float, default=30_000.0)
    parser.add_argument("--stream", default="Probe-A")
    parser.add_argument("--sorted", action="store_true")
    parser.add_argument("--ttl", type=int, default=3_000)
    parser.add_argument("--first-sample", type=int, default=0)
    parser.add_argument("--core", type=int)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    Double(options).run()


if __name__ == "__main__":
    main()
