"""The page of a run in a real browser: real processes, a real server, Chromium."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra 'dev')")
pytest.importorskip("websockets", reason="needs the extra 'page'")
pytest.importorskip("cv2", reason="needs the extra 'vision'")
expect = playwright.expect
_TIME_MS = 60_000  # a busy machine
expect.set_options(timeout=_TIME_MS)

PIPELINE = """\
name: everything
nodes:
  lab: {use: "page_toys:Everything"}
  raw: {use: "page_toys:Raw"}
  decoder: {use: "page_toys:Victim", from: lab.rates}
"""
LOOP = """\
name: loop
nodes:
  cells: {use: "page_toys:Pulse"}
  go: {use: trigger, from: cells, rules: {fast: {above: 50 Hz}}, max_age: 30 s}
"""
SHOWN = (
    "lab", "lab.rates", "lab.hand", "lab.action", "lab.frame", "lab.body", "lab.notes", "lab.graph",
    "lab.trigger", "raw", "decoder",
)  # fmt: skip
PAINTED = """() => {
  const small = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
  return [...document.querySelectorAll(".panel:not([hidden]) canvas")].map((canvas) => {
    small.clearRect(0, 0, 32, 32);
    small.drawImage(canvas, 0, 0, 32, 32);
    return small.getImageData(0, 0, 32, 32).data.some((value) => value > 0);
  });
}"""
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
CONTRAST = """() => {
  const light = (element, property) => {
    const [r, g, b] = getComputedStyle(element)[property].match(/[\\d.]+/g).map((value) => {
      const v = value / 255;
      return v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const panel = document.querySelector(".panel:not([hidden])");
  const ground = light(panel, "backgroundColor");
  return [".big", ".about", "h2"].map((name) => {
    const ink = light(panel.querySelector(name), "color");
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
  });
}"""


class Run:
    """An `innervate run --page` in a process of its own."""

    def __init__(self, folder: Path, *options: str, pipeline: str = PIPELINE) -> None:
        (folder / "p.yaml").write_text(pipeline)
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("innervate")), "run", str(folder / "p.yaml"),
                "--page", *options,
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder)},
        )  # fmt: skip
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/\S+/)\n", line)
        assert found, line + self.process.stderr.read()
        self.url = found[1]

    def worker(self, group: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if group in child.cmdline())

    def answers(self) -> bool:
        try:
            return self.get("") == 200
        except OSError:
            return False

    def get(self, path: str, **headers: str) -> int:
        """Return the status of what is asked for below the address of the page."""
        url = urlsplit(self.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=30)
        connection.request("GET", path if path.startswith("/") else url.path + path, None, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def end(self, *, ask: bool = True) -> int:
        if ask and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, wait_for: Callable[..., None]
) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(*options: str, pipeline: str = PIPELINE) -> Run:
        run = Run(tmp_path_factory.mktemp("run"), *options, pipeline=pipeline)
        runs.append(run)
        wait_for(run.answers, run.process)
        return run

    yield make
    for run in runs:
        run.end()


@pytest.fixture(scope="module")
def run(start: Callable[..., Run]) -> Run:
    """Return a run that goes on until the last test is over."""
    return start()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., object]]:
    """Return what opens a page, whose scripts then must not complain of anything."""
    contexts, complaints = [], []

    def make(run: Run, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_TIME_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(run.url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


def panel(page, name: str):
    return page.locator(f'.panel[data-stream="{name}"]')


def node(page, name: str):
    return page.locator("#nodes tbody tr").filter(has=page.locator(f'td:text-is("{name}")'))


def seconds(page) -> int:
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d)", page.locator("#clock").text_content())
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) if found else 0


def test_every_stream_has_its_panel_and_what_it_shows_moves(run, open_page, wait_for) -> None:
    page = open_page(run)
    for name in SHOWN:
        expect(panel(page, name)).to_be_visible()
    # Joints in pixels are drawn into the picture.
    expect(panel(page, "lab.joints")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("running")
    wait_for(lambda: all(page.evaluate(PAINTED)))
    for text in ("wave", "kick"):
        expect(panel(page, "lab.action").locator(".big")).to_contain_text(text)
    was = panel(page, "lab.body").locator("canvas").screenshot()
    wait_for(lambda: panel(page, "lab.body").locator("canvas").screenshot() != was)
    expect(panel(page, "lab.trigger").locator("li", has_text="too fast")).to_have_class("on")
    for name in ("lab", "raw", "decoder", "page"):
        expect(node(page, name).locator(".state")).to_have_text("alive")
    expect(page.locator("#links tbody tr")).to_have_count(13)
    expect(page.locator("#ways tbody tr")).to_have_count(5)
    expect(page.locator("#latency")).to_contain_text("ms")


def test_traces_are_scaled_and_show_the_channels_that_are_chosen(run, open_page) -> None:
    page = open_page(run)
    raw = panel(page, "raw")
    rows = raw.locator(".channels input")
    expect(raw.locator(".about")).to_have_text("12 channels, uV, 1.00 kHz")
    expect(raw.locator(".big")).to_have_text("±1000 uV a row")
    expect(rows).to_have_count(8)
    raw.get_by_role("button", name="Channels after these of raw").click()
    expect(rows.first).to_have_value("el4")
    expect(rows.last).to_have_value("el11")
    expect(raw.locator(".big")).to_have_text("±2000 uV a row")
    rows.first.fill("el1")
    rows.first.press("Enter")
    expect(rows.first).to_have_value("el1")
    expect(panel(page, "lab")).to_be_visible()  # no digit that was typed enlarged a panel
    rows.first.fill("nobody")
    rows.first.press("Enter")
    expect(rows.first).to_have_value("el1")
    # Who comes later sees what was chosen.
    expect(panel(open_page(run), "raw").locator(".channels input").first).to_have_value("el1")


def test_keys_enlarge_a_panel_and_show_all_again(run, open_page) -> None:
    page = open_page(run)
    expect(panel(page, "lab.rates")).to_be_visible()
    page.keyboard.press("2")
    expect(panel(page, "lab.rates")).to_be_visible()
    expect(panel(page, "lab")).to_be_hidden()
    expect(panel(page, "lab.rates").get_by_role("button", pressed=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel(page, "lab")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(panel(page, "lab.rates")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(panel(page, "lab.rates")).to_be_visible()


def test_it_can_be_read_in_light_and_dark_and_on_a_narrow_screen(run, open_page) -> None:
    page = open_page(run, viewport={"width": 400, "height": 800})
    expect(panel(page, "decoder")).to_be_visible()
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        big, about, title = page.evaluate(CONTRAST)
        assert big > 7
        assert about > 4.5
        assert title > 7
    assert len(grounds) == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_browsers_watch_one_run_and_a_reload_recovers(run, open_page, wait_for) -> None:
    first, second = open_page(run), open_page(run)
    for page in (first, second):
        expect(page.locator("#state")).to_have_text("running")
    first.close()
    second.reload()
    expect(panel(second, "decoder")).to_be_visible()
    was = seconds(second)
    wait_for(lambda: seconds(second) > was)


def test_a_hidden_page_and_a_frozen_one_catch_up_with_what_is_newest(
    run, open_page, wait_for
) -> None:
    other, page = open_page(run), open_page(run)
    expect(panel(page, "decoder")).to_be_visible()
    page.evaluate(HIDE, True)
    wait_for(lambda: seconds(page) > 0)
    hidden_at = seconds(page)
    wait_for(lambda: seconds(other) > hidden_at + 1)
    assert seconds(page) <= hidden_at + 1
    page.evaluate(HIDE, False)
    wait_for(lambda: seconds(page) >= hidden_at + 2)
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    frozen_at = seconds(other)
    wait_for(lambda: seconds(other) > frozen_at + 1)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    wait_for(lambda: seconds(page) > frozen_at)


def test_only_this_host_with_the_token_gets_anything(run, browser) -> None:
    url = urlsplit(run.url)
    assert run.get("page.js") == 200
    assert run.get("/") == 403
    assert run.get("/page.js") == 403
    assert run.get(url.path[:-2] + "x/") == 403
    assert run.get("", Host="evil.example") == 403
    assert run.get("", Origin="http://evil.example") == 403
    assert run.get("../server.py") == 404
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    assert run.get("/wrong-token/live", **upgrade) == 403
    assert run.get("live", Origin="http://evil.example", **upgrade) == 403
    assert run.get("live", **upgrade) == 101
    page = browser.new_page()
    answer = page.goto(f"http://{url.netloc}/guessed/")
    assert answer.status == 403
    expect(page.locator("body")).to_contain_text("lacks the token of the run")
    page.close()


def test_a_node_that_is_killed_turns_red_and_what_was_last_stays(start, open_page) -> None:
    run = start()
    page = open_page(run)
    expect(node(page, "decoder").locator(".state")).to_have_text("alive")
    run.worker("decoder").kill()
    expect(node(page, "decoder")).to_have_class("failed")
    expect(node(page, "decoder").locator(".state")).to_have_text("dead")
    colour = page.evaluate("getComputedStyle(document.querySelector('#nodes .failed td')).color")
    red, green, blue = (int(value) for value in re.findall(r"\d+", colour)[:3])
    assert red > 2 * max(green, blue)
    expect(page.locator("#state")).to_have_text("failed")
    expect(page.locator("#banner")).to_contain_text("'decoder' was killed by SIGKILL")
    expect(panel(page, "decoder")).to_be_visible()
    assert run.end(ask=False) == 1


def test_a_trigger_is_armed_by_two_presses_and_disarmed_by_one(start, open_page) -> None:
    run = start(pipeline=LOOP)
    page, other = open_page(run), open_page(run)
    go = page.locator('#arms p[data-node="go"]')
    lamp = panel(page, "go").locator("li")
    expect(go.get_by_role("status")).to_have_text("dry")
    go.get_by_role("button", name="Arm go").click()
    expect(go.get_by_role("status")).to_have_text("dry")
    go.get_by_role("button", name="Press again to arm go").click()
    for seen in (go, other.locator("#arms p")):
        expect(seen.get_by_role("status")).to_have_text("armed")
    expect(lamp).to_have_class("on")
    other.get_by_role("button", name="Disarm go").click()
    expect(go.get_by_role("status")).to_have_text("dry")
    expect(page.locator("#log")).to_contain_text("go: disarmed by the page 'page'")
    # Pages that are closed or reloaded switch nothing, and neither does a first press alone.
    go.get_by_role("button", name="Arm go").click()
    other.close()
    page.reload()
    expect(go.get_by_role("status")).to_have_text("dry")
    expect(go.get_by_role("button")).to_have_text("Arm")
    assert run.end() == 0
    expect(go.get_by_role("button")).to_be_disabled()


def test_the_end_of_a_run_and_a_lost_connection_are_told_apart(start, open_page) -> None:
    run, cut = start("--for", "300 s"), start()
    ending, lost = open_page(run), open_page(cut)
    for page in (ending, lost):
        expect(panel(page, "decoder")).to_be_visible()
    cut.worker("page").kill()
    expect(lost.locator("#state")).to_have_text("connection lost")
    expect(lost.locator("#banner")).to_contain_text("What is shown is old")
    assert run.end() == 0
    expect(ending.locator("#state")).to_have_text("ended")
    expect(ending.locator("#banner")).to_contain_text("The run has ended")
    expect(panel(ending, "lab")).to_be_visible()
