"""A sender of Lab Streaming Layer, by pylsl alone: `python lsl_outlet.py SETTINGS` (JSON).

Sample k of a stream with a rate is due k / rate after `base_s` (LSL time), is stamped so, and holds
k in every channel: a sender that is killed and started again goes on with the numbers that are due.
A sender without a rate sends what it is told to. Orders come as lines of JSON on stdin and are
answered with a line each.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import pylsl


def main() -> None:
    s = json.loads(sys.argv[1])
    rate = s.get("rate", 0)
    channels = s.get("channels", 2)
    info = pylsl.StreamInfo(
        s["name"], s.get("type", "Test"), channels, rate, s.get("format", "float32"),
        s.get("source_id", ""),
    )  # fmt: skip
    if labels := s.get("labels"):
        info.set_channel_labels(labels)
    if unit := s.get("unit"):
        info.set_channel_units(unit)
    outlet = pylsl.StreamOutlet(info, max_buffered=5)
    orders: list[dict] = []

    def read() -> None:
        for line in sys.stdin:
            order = json.loads(line)
            if "send" in order:
                # [[seconds from now, values], ...]
                now = pylsl.local_clock()
                for ago, values in order["send"]:
                    outlet.push_sample(values, now + ago)
                print(json.dumps(now), flush=True)
            else:
                orders.append(order)
                print("{}", flush=True)

    threading.Thread(target=read, daemon=True).start()
    print("ready", flush=True)
    if not rate:
        threading.Event().wait()
    rate = s.get("real_rate", rate)
    base, shift, value, skip = s["base_s"], 0.0, None, 0
    k = int((pylsl.local_clock() - base) * rate) + 1
    while True:
        while (wait := base + k / rate - pylsl.local_clock()) > 0:
            time.sleep(wait)
        while orders:
            order = orders.pop(0)
            shift += order.get("shift_s", 0.0)
            skip = order.get("skip", 0)
            value = order.get("value")
        if skip:
            skip -= 1
        else:
            sample = k if value is None else float(value)
            outlet.push_sample([sample] * channels, base + k / rate + shift)
            value = None
        k += 1


if __name__ == "__main__":
    main()
