"""A real browser for the tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest


@pytest.fixture(scope="session")
def browser(do_without: Callable[[str], NoReturn]) -> Iterator[object]:
    """Return Debian's Chromium; without it skip, in CI fail."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra 'dev')")
    path = shutil.which("chromium")
    if path is None:
        do_without("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as p:
        # Chromium's own sandbox does not work for root, which CI may be.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = p.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()
