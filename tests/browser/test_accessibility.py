"""Every buyer page in real Chromium: WCAG 2.2 AA in light and dark, and nothing wider than a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.tour import go

pytestmark = [pytest.mark.browser, pytest.mark.slow]
AXE = Axe()
# Axe checks the size of targets only where its tag is named.
RULES = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
}


@pytest.mark.timeout(400)
def test_every_page_is_accessible_fits_a_phone_and_complains_of_nothing(tour, page: Page):
    found: list[str] = []
    for stop in tour.stops:
        for scheme, width in (("light", 1280), ("dark", 390)):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            go(page, tour, stop)
            answer = AXE.run(page, options=RULES)
            for violation in answer.response["violations"]:
                where = [node["target"] for node in violation["nodes"]][:3]
                found.append(
                    f"{stop.name} {scheme} {width}: {violation['id']} ({violation['impact']}) {where}"
                )
            root = "document.documentElement"
            if not page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"):
                found.append(f"{stop.name} {width}: wider than the window")
    assert not found, "\n".join(found)
