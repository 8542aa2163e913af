"""Any address shows something sensible, says what it could not show, and never another's usage."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from accounts import organizations
from billing import tenures
from billing.usage_page.choice import choose
from billing.usage_page.periods import Grain
from billing.usage_page.sums import meters_of
from tests.billing.ledger import NOON, make_agreement

NOW = NOON + timedelta(minutes=20)


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def flex(catalog, acme):
    return make_agreement(catalog, acme, "reports-flex")


def chosen(organization, **asked):
    return choose(asked, meters_of(tenures.read(organization)), now=NOW, zone=UTC)


def test_without_wishes_the_last_days_of_everything_are_shown(payg, acme):
    choice = chosen(acme)
    assert (choice.period.name, choice.grain, choice.purchase, choice.complaints) == (
        "31d",
        Grain.DAY,
        None,
        [],
    )
    assert choice.agreements == [payg.pk]


@pytest.mark.parametrize(("by", "period"), [("hour", "24h"), ("day", "31d"), ("month", "12m")])
def test_each_grain_has_its_usual_period(payg, acme, by, period):
    choice = chosen(acme, by=by)
    assert (choice.grain, choice.period.name, choice.complaints) == (by, period, [])


@pytest.mark.parametrize(
    ("asked", "period", "grain", "complaints"),
    [
        ({"by": "month", "period": "7d"}, "7d", "day", 1),
        ({"by": "hour", "period": "12m"}, "12m", "month", 1),
        ({"by": "day", "period": "24h"}, "24h", "hour", 1),
        ({"by": "hour", "period": "31d"}, "31d", "hour", 0),
        ({"by": "hour", "period": "2026-10"}, "2026-10", "hour", 0),
        ({"period": "2026-10"}, "2026-10", "day", 0),
        ({"by": "century"}, "31d", "day", 1),
        ({"period": "2099-01"}, "31d", "day", 1),
        ({"by": "hour", "period": "<script>"}, "24h", "hour", 1),
        ({"by": "month", "period": "31d", "agreement": "x", "dimension": "y"}, "31d", "day", 3),
    ],
)
def test_what_cannot_be_shown_gives_way_with_a_word(payg, acme, asked, period, grain, complaints):
    choice = chosen(acme, **asked)
    assert (choice.period.name, choice.grain, len(choice.complaints)) == (period, grain, complaints)
    assert all("<script>" not in complaint for complaint in choice.complaints)


@pytest.mark.parametrize("value", ["-1", "0", "1e3", "٣", "9" * 10_000, "1 OR 1=1", "\x00", "None"])
def test_garbled_numbers_are_not_there(payg, acme, value):
    choice = chosen(acme, agreement=value, dimension=value)
    assert (choice.purchase, choice.meter.key, len(choice.complaints)) == (None, "pages", 2)


def test_another_organization_s_purchase_cannot_be_chosen(catalog, payg, acme, outsider):
    theirs = make_agreement(catalog, organizations.create(name="Globex", owner=outsider))

    choice = chosen(acme, agreement=str(theirs.pk))

    assert (choice.purchase, choice.agreements, len(choice.complaints)) == (None, [payg.pk], 1)


def test_a_purchase_brings_its_dimension_along(payg, flex, acme):
    assert chosen(acme, agreement=str(flex.pk)).meter.product == "Acme Reports Flex"
    assert chosen(acme, agreement=str(payg.pk)).meter.product == "Acme Reports Pay As You Go"


def test_a_dimension_that_the_purchase_does_not_have_gives_way(payg, flex, acme):
    dimension = payg.product.dimensions.get(key="pages")

    choice = chosen(acme, agreement=str(flex.pk), dimension=str(dimension.pk))

    assert (choice.purchase.pk, choice.meter.product) == (flex.pk, "Acme Reports Flex")
    assert len(choice.complaints) == 1


def test_what_runs_is_shown_before_what_has_failed(catalog, acme):
    failed = make_agreement(catalog, acme, "reports-flex", activated_at=None)
    type(failed).objects.update(status="failed")
    make_agreement(catalog, acme)

    assert chosen(acme).meter.product == "Acme Reports Pay As You Go"


def test_an_address_leads_back_to_the_same_choice(payg, acme):
    choice = chosen(acme, by="hour", period="7d", agreement=str(payg.pk))
    again = chosen(acme, **dict(pair.split("=") for pair in choice.address().split("&")))
    assert again == choice
