"""A real Chromium for what the documentation shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage")


@contextmanager
def open_page(*flags: str, scale: float = 1) -> Iterator[Page]:
    """Open a blank page. Its own browser, since some flags hold for a whole browser.

    Args:
        flags: of Chromium.
        scale: pixels of the device for one of CSS.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        reason = "Chromium is missing: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])
        page = browser.new_page(device_scale_factor=scale)
        page.set_default_timeout(15_000)
        yield page
        browser.close()
