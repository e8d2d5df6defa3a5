"""Makes docs/page.jpg: the page of a real run on simulated neurons, as a browser shows it.

Run from the checkout, with the extras 'page' and 'dev' and Debian's Chromium:
python docs/page_picture.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from stream.page.adding import add_page, settle_pages
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

OUT = Path(__file__).with_name("page.jpg")
MODEL = Path(__file__).parents[1] / "models" / "zoo" / "lorenz-stndt.onnx"
SHOWN_S = 13
SIZE = {"width": 1500, "height": 1290}
# Where it is allowed, the loop goes before the browser, which draws on the same processors here.
PIPELINE = f"""\
name: simulated-session
realtime: [decode]
nodes:
  neurons: {{use: spikes.simulate, population: lorenz, seed: 2026, session: 1, mean_rate: 20 Hz,
             group: decode}}
  bins:    {{use: spikes.bin, from: neurons, width: 5 ms, group: decode}}
  rates:   {{use: model, from: bins, file: {MODEL}, group: decode}}
  go:      {{use: trigger, from: rates, armed: true, group: decode,
             rules: {{busy: {{mean: true, above: 24 Hz, release: 18 Hz}}}}}}
"""


def main() -> None:
    """Run, open the page, wait until its pictures are full, and keep it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.yaml"
        path.write_text(PIPELINE)
        plan, addresses = settle_pages(add_page(load_pipeline(path)))
        (address,) = addresses.values()
        over = threading.Event()
        seconds: list[float] = []

        def watch(status: dict[str, Any]) -> bool:
            seconds.append(status["duration_s"])
            return over.is_set()

        run = threading.Thread(
            target=run_plan, args=(plan,), kwargs={"on_status": watch, "run_dir": Path(folder)}
        )
        run.start()
        try:
            picture(address, seconds)
        finally:
            over.set()
            run.join()
    print(f"{OUT}: {OUT.stat().st_size // 1024} KiB")


def picture(address: str, seconds: list[float]) -> None:
    """Take the picture once the run has gone on for long enough."""
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport=SIZE, color_scheme="dark")
        while not (seconds and seconds[-1] > 0):
            page.wait_for_timeout(100)
        page.goto(address)
        while seconds[-1] < SHOWN_S:
            page.wait_for_timeout(100)
        page.screenshot(path=OUT, type="jpeg", quality=62)
        browser.close()


if __name__ == "__main__":
    main()
