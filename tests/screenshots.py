"""`make screenshots`: every buyer page at two widths, light and dark, in screenshots/. To be looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import tour  # noqa: F401  # the fixture
from tests.tour import go

FOLDER = Path("screenshots")
ONLY = os.environ.get("ONLY", "")


@pytest.mark.timeout(900)
def test_screenshots(tour, page: Page):  # noqa: F811
    shutil.rmtree(FOLDER, ignore_errors=True)
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for stop in tour.stops:
                if ONLY in stop.name:
                    go(page, tour, stop)
                    path = FOLDER / f"{width}-{scheme}" / f"{stop.name}.png"
                    page.screenshot(path=path, full_page=True)
