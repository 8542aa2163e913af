"""`make screenshots`: buyer pages and the console at two widths, light and dark, in screenshots/."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests import operator_tour
from tests.browser.conftest import tour  # noqa: F401  # the fixture
from tests.tour import Tour, go

FOLDER = Path("screenshots")
ONLY = os.environ.get("ONLY", "")


@pytest.fixture(scope="session", autouse=True)
def _emptied() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.mark.timeout(900)
def test_buyers_pages(tour, page: Page):  # noqa: F811
    photograph(tour, page)


@pytest.mark.timeout(900)
def test_the_console(tour, page: Page, operator):  # noqa: F811
    operator_tour.add(tour, operator)
    photograph(tour, page)


def photograph(tour: Tour, page: Page) -> None:  # noqa: F811
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for stop in tour.stops:
                if ONLY in stop.name:
                    go(page, tour, stop)
                    path = FOLDER / f"{width}-{scheme}" / f"{stop.name}.png"
                    page.screenshot(path=path, full_page=True)
