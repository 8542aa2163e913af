"""Numbers as the reader writes them, exact and without needless zeros."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from billing.templatetags.quantities import quantity


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("9999999999.999999"), "9,999,999,999.999999"),
        (Decimal("100.000000"), "100"),
        (Decimal("0.000001"), "0.000001"),
        (Decimal("0E-6"), "0"),
        (Decimal("1E+3"), "1,000"),
        (12_345, "12,345"),
        (0.1, "0.1"),
        ("2024gold", "2024gold"),
        ("<b>", "<b>"),
        (None, "–"),
    ],
)
def test_a_quantity_is_exact_in_every_language(language, value, shown):
    with translation.override(language):
        assert quantity(value) == shown


def test_a_switch_is_yes_or_no():
    assert (quantity(True), quantity(False)) == ("Yes", "No")


def test_a_meter_says_in_words_what_its_bar_shows():
    told = {"label": "Pages", "used": Decimal("7342.500000"), "limit": 10_000, "unit": "<pages>"}
    with translation.override("ko"):
        html = render_to_string("components/meter.html", told)
    assert '<progress value="7342.500000" max="10000" aria-label="Pages">' in html
    assert "7,342.5" in html
    assert "10,000 &lt;pages&gt;" in html
