"""Around a renewal and in the grace after an end, each use still finds the one purchase that pays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import usage
from billing.models import UsageEvent
from tests.billing.ledger import BEGIN, NOON, make_agreement

MINUTE = timedelta(minutes=1)
MOMENT = timedelta(microseconds=1)


def one(organization, at, **more) -> UsageEvent:
    return usage.record(organization, "pages", 1, key="a", occurred_at=at, now=NOON, **more)


def many(organization, at, **more) -> UsageEvent:
    report = usage.record_many([usage.Use(organization, "pages", 1, "a", occurred_at=at, **more)], now=NOON)
    if report.refused:
        [refusal] = report.refused
        raise usage.UsageRefused(refusal.reason)
    return UsageEvent.objects.get(key="a")


@pytest.fixture(params=[one, many])
def record(request, acme):
    """Record a use of acme by either way in; answers which agreement got it, and as what."""

    def use(at, **more):
        event = request.param(acme, at, **more)
        return event.agreement, event.disposition

    return use


@pytest.fixture
def ended(catalog, acme):
    """An agreement that ended half an hour ago, and gives access for twenty minutes more."""

    def make(**fields):
        return make_agreement(
            catalog,
            acme,
            **{
                "ended_at": NOON - 30 * MINUTE,
                "access_until": NOON - 10 * MINUTE,
                "closes_at": NOON + 30 * MINUTE,
                **fields,
            },
        )

    return make


def test_where_a_renewal_overlaps_what_it_renews_the_renewal_pays(catalog, acme, record):
    old = make_agreement(catalog, acme)
    new = make_agreement(catalog, acme, activated_at=NOON - 20 * MINUTE, previous=old)

    assert record(NOON - 20 * MINUTE) == (new, "billable")


def test_until_its_renewal_begins_an_agreement_pays_itself(catalog, acme, record):
    old = make_agreement(catalog, acme)
    make_agreement(catalog, acme, activated_at=NOON - 20 * MINUTE, previous=old)

    assert record(NOON - 20 * MINUTE - MOMENT) == (old, "billable")


def test_what_is_used_in_the_grace_after_an_end_is_billed_with_the_last_hour(ended, record):
    agreement = ended()

    assert record(agreement.access_until - MOMENT) == (agreement, "billable")


def test_what_is_used_after_the_grace_is_outside_of_the_agreement(ended, record):
    agreement = ended()

    assert record(agreement.access_until) == (agreement, "outside_agreement")


def test_without_a_grace_an_agreement_meters_until_its_end(ended, record):
    agreement = ended(access_until=None)

    assert record(agreement.ended_at) == (agreement, "outside_agreement")


def test_a_grace_that_outlasts_awss_window_does_not_outlast_it_in_money(ended, record):
    agreement = ended(closes_at=NOON, access_until=NOON + timedelta(hours=20))

    assert record(NOON - MINUTE) == (agreement, "too_late")


def test_in_the_grace_of_one_agreement_the_successor_pays_as_soon_as_it_is_there(
    catalog, acme, ended, record
):
    old = ended(access_until=NOON + timedelta(hours=20))
    new = make_agreement(catalog, acme, activated_at=NOON - 20 * MINUTE, previous=old)

    assert record(NOON - 20 * MINUTE) == (new, "billable")


def test_in_the_grace_of_one_agreement_another_that_is_active_pays(catalog, acme, ended, record):
    ended()
    other = make_agreement(catalog, acme, activated_at=BEGIN)

    assert record(NOON - 15 * MINUTE) == (other, "billable")


def test_the_agreement_that_is_named_pays_in_its_grace_too(catalog, acme, ended, record):
    agreement = ended()
    make_agreement(catalog, acme)

    assert record(NOON - 15 * MINUTE, agreement=agreement) == (agreement, "billable")


def test_of_two_agreements_in_their_grace_nobody_knows_which_one_pays(ended, record):
    ended()
    ended()

    with pytest.raises(usage.UsageRefused, match="2 active agreements"):
        record(NOON - 15 * MINUTE)
