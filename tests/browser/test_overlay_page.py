"""The page of `overlay` in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from stream.vision.page import PictureServer

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra 'dev')")
pytest.importorskip("cv2", reason="needs the extra 'vision'")
expect = playwright.expect
_TIME_MS = 60_000  # a busy machine

RED, GREEN = (0, 0, 255), (0, 255, 0)
COLOUR = """() => {
  const image = document.getElementById("picture");
  if (!image.naturalWidth) return 0;
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const [r, g] = context.getImageData(9, 9, 1, 1).data;
  return (r > 200) * 1 + (g > 200) * 2;
}"""


class Camera:
    """Shows pictures of one colour, over and over, as a running overlay does."""

    def __init__(self) -> None:
        self.server = PictureServer(0)
        self.colour = RED
        self.goes = threading.Event()
        self.goes.set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.wait(0.02):
            if self.goes.is_set():
                self.server.show(np.full((90, 120, 3), self.colour, np.uint8))

    def end(self) -> None:
        if self._thread.is_alive():
            self._ends.set()
            self._thread.join()
            self.server.close()


@pytest.fixture
def camera() -> Iterator[Camera]:
    made = Camera()
    yield made
    made.end()


def test_the_page_shows_the_newest_picture_and_says_when_none_comes(
    browser, camera, wait_for
) -> None:
    page = browser.new_page()
    page.set_default_timeout(_TIME_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(camera.server.address)
    wait_for(lambda: page.evaluate(COLOUR) == 1)
    camera.colour = GREEN
    wait_for(lambda: page.evaluate(COLOUR) == 2)
    assert page.locator("#note").text_content() == ""
    camera.goes.clear()
    expect(page.locator("#note")).to_have_text("no new picture for 2 s", timeout=_TIME_MS)
    camera.colour = RED
    camera.goes.set()
    wait_for(lambda: page.evaluate(COLOUR) == 1)
    expect(page.locator("#note")).to_have_text("", timeout=_TIME_MS)
    camera.end()
    expect(page.locator("#note")).to_have_text("the run has ended", timeout=_TIME_MS)
    page.close()
    assert complaints == []


def test_another_page_may_not_show_the_camera(browser, camera) -> None:
    page = browser.new_page()
    page.set_default_timeout(_TIME_MS)
    page.goto("about:blank")
    camera.server.newer(0)
    loaded = page.evaluate(
        """address => new Promise(done => {
          const image = new Image();
          image.onload = () => done(true);
          image.onerror = () => done(false);
          image.src = address + "picture";
        })""",
        camera.server.address,
    )
    assert loaded is False
    page.close()
