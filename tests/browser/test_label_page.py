"""The page of `innervate label` in a real browser."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporters.labelled import export_labelled
from models.labelling.clips import load_session_clips
from models.labelling.labels import LabelFile
from models.labelling.server import LabelServer
from models.labelling.session import Session
from models.labelling.training import Effort
from stream.errors import ConfigError

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra 'dev')")
expect = playwright.expect
_CLIP = re.compile(r"^(wave|kick|bend)-\d\d$")
_TIME_MS = 60_000  # training is slow on a busy machine
expect.set_options(timeout=_TIME_MS)


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, write_clips: Callable[[Path, int], Path]
) -> Iterator[LabelServer]:
    """Return the server of a session that begins."""
    clips = load_session_clips([write_clips(tmp_path_factory.mktemp("clips"), 6)], None)
    folder = tmp_path_factory.mktemp("session")
    effort = Effort(pretraining=2, updates=20, hidden=16)
    with (
        contextlib.closing(Session(folder, clips, effort, export_labelled)) as session,
        LabelServer(session) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser, served):
    """Return the page, with what its scripts complain of."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(_TIME_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.goto(served.url)
    yield page
    page.close()
    assert not [line for line in complaints if "409" not in line and "400" not in line]


def shown(page, other_than: str = "") -> str:
    """Return the name of the clip on the screen once it is another one."""
    name = page.locator("#clip-name")
    expect(name).to_have_text(_CLIP)
    if other_than:
        expect(name).not_to_have_text(other_than)
    return name.text_content()


def test_somebody_labels_by_keys_trains_and_gets_a_model_file(page, served) -> None:
    expect(page.locator("#counts")).to_contain_text("18 clips")
    for name in ("wave", "kick", "bend"):
        page.keyboard.press("+")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        expect(page.locator("#classes button", has_text=name)).to_be_visible()
        expect(page.locator("#new-class")).not_to_be_focused()
    before = ""
    for _ in range(10):
        before = shown(page, before)
        page.keyboard.press(str(1 + ("wave", "kick", "bend").index(before[:4])))
    expect(page.locator("#counts")).to_contain_text("10 labelled")
    expect(page.locator("#since")).to_have_text("10 new labels")
    page.get_by_role("button", name="Train").click()
    expect(page.locator("#work")).to_be_visible()
    expect(page.locator("#accuracy")).to_contain_text("of 2 held-out labels")
    expect(page.locator("#curve circle")).to_have_count(1)
    page.get_by_role("button", name="Export").click()
    expect(page.locator("#exported")).to_contain_text("Every tick agrees with PyTorch")
    folder = Path(served.session.state()["session"])
    assert (folder / "actions.onnx").stat().st_size > 1000
    lines = (folder / LabelFile.NAME).read_text().splitlines()
    labels = [line for line in lines if '"label"' in line]
    assert len(labels) == 10
    for line in labels:
        assert any(line.count(name) == 2 for name in ("wave", "kick", "bend")), line


def test_the_skeleton_moves_and_turns(page) -> None:
    shown(page)
    page.keyboard.press(" ")
    page.locator("#position").fill("3")
    still = page.locator("#front").screenshot()
    page.locator("#position").fill("10")
    moved = page.locator("#front").screenshot()
    assert still != moved
    page.locator("#front").press("ArrowRight")
    assert page.locator("#front").screenshot() != moved


def test_undo_reload_and_a_second_window_lose_nothing(page, browser, served) -> None:
    with contextlib.suppress(ConfigError):
        served.session.add_class("wave")
    expect(page.locator("#classes button").first).to_be_visible()
    first = shown(page)
    count = served.session.state()["labels"]
    other = browser.new_page()
    other.goto(served.url)
    assert shown(other) == first
    expect(other.locator("#classes button").first).to_be_visible()
    page.keyboard.press("1")
    second = shown(page, first)
    other.keyboard.press("1")
    expect(other.locator("#message")).to_contain_text("another window")
    assert shown(other, first) == second
    other.close()
    page.keyboard.press("Backspace")
    assert shown(page, second) == first
    assert served.session.state()["labels"] == count
    page.keyboard.press("0")
    shown(page, first)
    page.reload()
    shown(page, first)
    expect(page.locator("#history button").first).to_contain_text("skipped")
    page.locator("#history button", has_text=first).click()
    expect(page.locator("#clip-note")).to_have_text("skipped")
    page.keyboard.press("1")
    expect(page.locator("#counts")).to_contain_text(f"{count + 1} labelled")
