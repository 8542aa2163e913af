"""What a buyer's administrators are told: the figures add up, whatever became of the usage."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts import organizations
from billing import effects, gates, metering, standing, subscriptions, usage
from billing.aws.window import HOUR, month_of
from billing.models import Agreement, Dimension, Entitlement, MeteringRecord, UsageEvent
from billing.subscriptions import page_of, subscriptions_of
from tests.billing.ledger import BEGIN, NOON, REGION, entitle, make_agreement, make_record, use

NOW = NOON + timedelta(minutes=20)


def line_of(organization, *, now=NOW):
    [subscription] = subscriptions_of(organization, now=now)
    [line] = subscription.usage
    return line


def adds_up(figures) -> bool:
    parts = figures.included + figures.billed + figures.sending + figures.open
    return figures.used == parts + figures.checked + figures.not_billed


@pytest.fixture
def flex(catalog, acme) -> Agreement:
    """100 pages are included."""
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    return agreement


@pytest.fixture
def closed(flex) -> MeteringRecord:
    """An hour of 130 pages, 100 of them included."""
    use(flex, 130)
    metering.close_hours(region=REGION, now=NOON)
    return MeteringRecord.objects.get()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("due", (0, 30, 0, 0)),
        ("in_doubt", (0, 30, 0, 0)),
        ("waiting", (0, 30, 0, 0)),
        ("held", (0, 30, 0, 0)),
        ("accepted", (30, 0, 0, 0)),
        ("conflict", (0, 0, 30, 0)),
        ("parked", (0, 0, 30, 0)),
        ("expired", (0, 0, 0, 30)),
        ("written_off", (0, 0, 0, 30)),
    ],
)
def test_each_state_of_a_record_is_billed_waiting_being_checked_or_not_billed(closed, acme, state, shown):
    MeteringRecord.objects.update(state=state, aws_record_id="id" if state == "accepted" else None)

    figures = line_of(acme).figures

    assert (figures.billed, figures.waiting, figures.checked, figures.not_billed) == shown
    assert (figures.used, figures.included) == (130, 100)
    assert adds_up(figures)


def test_the_usage_of_a_void_record_is_counted_once(closed, acme):
    MeteringRecord.objects.update(state="void")
    UsageEvent.objects.update(metering_record=None)
    UsageEvent.objects.update(disposition="too_late")

    figures = line_of(acme).figures

    assert (figures.used, figures.included, figures.waiting, figures.not_billed) == (130, 0, 0, 130)


def test_usage_that_cannot_be_billed_is_shown_as_such(catalog, acme):
    payg = make_agreement(catalog, acme)
    use(payg, 5, at=BEGIN - HOUR, now=BEGIN)
    use(payg, 3)
    use(payg, 2, key="cancelled")
    usage.cancel(acme, "cancelled", reason="by mistake", now=NOW)

    figures = line_of(acme).figures

    assert (figures.used, figures.open, figures.not_billed) == (10, 3, 7)
    assert adds_up(figures)


def test_before_its_hour_closes_what_the_plan_covers_is_not_told_as_to_be_billed(flex, acme):
    use(flex, 40, at=NOON, now=NOW)

    line = line_of(acme)
    assert (line.included_so_far, line.to_bill_so_far, line.is_estimate) == (40, 0, True)

    use(flex, 75, at=NOON, now=NOW)
    line = line_of(acme)
    assert (line.included_so_far, line.to_bill_so_far) == (100, 15)


def test_the_estimate_is_what_closing_makes_of_it(flex, acme):
    use(flex, 70, at=NOON - 90 * timedelta(minutes=1))
    metering.close_hours(region=REGION, now=NOON - HOUR)
    use(flex, "50.5", at=NOON - timedelta(minutes=1))
    before = line_of(acme)

    metering.close_hours(region=REGION, now=NOON)

    after = line_of(acme)
    assert before.included_so_far == after.figures.included == 100
    assert before.to_bill_so_far == after.figures.waiting == Decimal("20.5")


def test_an_allowance_that_is_used_up_covers_nothing_more(closed, flex, acme):
    use(flex, 7, at=NOON, now=NOW)

    line = line_of(acme)

    assert (line.included_so_far, line.to_bill_so_far) == (100, 37)


def test_an_amount_that_no_quantity_holds_covers_all_of_it(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 1e300)
    use(agreement, 7, at=NOON, now=NOW)

    assert line_of(acme).included_so_far == 7


def test_a_month_begins_anew_and_what_has_ended_is_told_whole(catalog, acme):
    month = month_of(NOW)
    begun = month - timedelta(days=40)
    running = make_agreement(catalog, acme, activated_at=begun)
    ended = make_agreement(
        catalog, acme, activated_at=begun, ended_at=NOW - timedelta(days=2), closes_at=NOW - timedelta(days=1)
    )
    for agreement in (running, ended):
        make_record(agreement, month - HOUR, 60, state="accepted")
        make_record(agreement, month, 25, state="accepted")

    used = {each.pk: each.usage[0].figures.used for each in subscriptions_of(acme, now=NOW)}

    assert used == {running.pk: 25, ended.pk: 85}


def test_an_entitlement_that_nothing_draws_on_has_no_use(aws, purchase, acme):
    purchase("reports-team")
    effects.run_due(aws.marketplace, now=timezone.now())

    [subscription] = subscriptions_of(acme, now=timezone.now())

    assert [(line.key, line.value, line.used, line.remaining) for line in subscription.entitlements] == [
        ("reports", True, None, None),
        ("seats", 5, None, None),
    ]
    assert subscription.usage == []


def test_an_entitlement_beyond_the_catalog_is_shown_by_its_key(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-team")
    Entitlement.objects.create(
        agreement=agreement, dimension_key="new", string_value="gold", valid_from=BEGIN, opened_because="t"
    )

    [subscription] = subscriptions_of(acme, now=NOW)

    assert [(line.key, line.label, line.value) for line in subscription.entitlements] == [
        ("new", "new", "gold")
    ]


def test_what_is_left_counts_the_calendar_month_where_the_allowance_is_monthly(catalog, acme):
    month = month_of(NOW)
    begun = month - timedelta(days=40)
    agreement = make_agreement(catalog, acme, "reports-flex", activated_at=begun)
    entitle(agreement, 100, since=begun)
    Dimension.objects.filter(key="pages").update(allowance_period="month")
    use(agreement, 60, at=month - HOUR)
    use(agreement, 25, at=month + timedelta(seconds=1))

    [subscription] = subscriptions_of(acme, now=NOW)

    [line] = subscription.entitlements
    assert (line.used, line.remaining, line.is_monthly) == (25, 75, True)
    assert gates.quota(acme, "reports", now=NOW).remaining == 75
    Dimension.objects.filter(key="pages").update(allowance_period="term")
    assert gates.quota(acme, "reports", now=NOW).remaining == 15
    assert subscriptions_of(acme, now=NOW)[0].entitlements[0].remaining == 15


def test_what_has_ended_tells_what_was_used_of_its_last_month(catalog, acme):
    month = month_of(NOW)
    ended = month - timedelta(days=2)
    begun = month_of(ended) - timedelta(days=10)
    agreement = make_agreement(
        catalog, acme, "reports-flex", activated_at=begun, ended_at=ended, closes_at=ended + HOUR
    )
    entitle(agreement, 100, since=begun)
    Dimension.objects.filter(key="pages").update(allowance_period="month")
    make_record(agreement, month_of(ended) - HOUR, 40, state="accepted")
    make_record(agreement, month_of(ended), 60, state="accepted")

    [subscription] = subscriptions_of(acme, now=NOW)

    assert [each.figures.used for each in subscription.usage] == [100]
    assert [(line.used, line.remaining) for line in subscription.entitlements] == [(60, 40)]


def test_what_lives_is_told_first_however_much_has_failed_since(catalog, acme, acme_admin):
    make_agreement(catalog, acme, "reports-flex")
    for _ in range(13):
        failed = make_agreement(catalog, acme)
        Agreement.objects.filter(pk=failed.pk).update(status="failed")

    facts = standing.of(acme.memberships.get(user=acme_admin))

    assert [(fact.label, fact.text) for fact in facts] == [("Acme Reports Flex", "Active")]


def test_a_contract_that_renews_in_place_starts_with_a_full_allowance(catalog, acme):
    begun, renewed = NOON - timedelta(days=20), NOON - timedelta(days=5)
    agreement = make_agreement(catalog, acme, "reports-flex", activated_at=begun)
    row = {"agreement": agreement, "dimension_key": "included_pages", "integer_value": 100}
    Entitlement.objects.create(**row, valid_from=begun, valid_to=renewed, expires_at=renewed)
    Entitlement.objects.create(**row, valid_from=renewed, expires_at=renewed + timedelta(days=365))
    make_record(agreement, renewed - HOUR, 0, used=80, included=80, state="not_due")
    make_record(agreement, renewed + HOUR, 0, used=30, included=30, state="not_due")
    use(agreement, 5, at=NOON, now=NOW)

    [subscription] = subscriptions_of(acme, now=NOW)

    assert [(each.used, each.remaining) for each in subscription.entitlements] == [(35, 65)]
    assert subscription.usage[0].included_so_far == 115


def test_fifty_purchases_take_as_many_queries_as_one(catalog, acme, django_assert_max_num_queries):
    for number in range(52):
        code = ("reports-flex", "reports-payg", "reports-team")[number % 3]
        agreement = make_agreement(catalog, acme, code)
        entitle(agreement, 100)
    with django_assert_max_num_queries(4):
        page = page_of(acme, 1, now=NOW)
    assert (len(page.running), page.has_more) == (50, True)
    with django_assert_max_num_queries(4):
        page = page_of(acme, 2, now=NOW)
    assert (len(page.running), page.has_more) == (2, False)


def test_what_runs_comes_first_and_what_is_over_is_apart(catalog, acme):
    running = make_agreement(catalog, acme)
    over = [make_agreement(catalog, acme, activated_at=None) for _ in range(2)]
    Agreement.objects.filter(pk__in=[each.pk for each in over]).update(status="failed")

    page = page_of(acme, 1, now=NOW)

    assert [each.pk for each in page.running] == [running.pk]
    assert [each.pk for each in page.over] == [each.pk for each in reversed(over)]


def test_a_renewed_purchase_says_that_it_goes_on_under_the_next(aws, purchase, acme):
    old = purchase("reports-flex", quantities={"included_pages": 100})
    effects.run_due(aws.marketplace, now=timezone.now())
    now = aws.control.freeze()
    aws.control.renew(old.agreement_id)

    def told_after(seconds):
        at = now + timedelta(seconds=seconds)
        aws.control.freeze(at)
        aws.deliver(now=at)
        effects.run_due(aws.marketplace, now=at)
        return subscriptions_of(acme, now=at)

    def standing(told):
        return [(each.status, each.is_open_for_now, each.is_continued) for each in told]

    assert standing(told_after(4)) == [("active", False, True)]
    new, gone = told = told_after(40)
    assert standing(told) == [("active", False, False), ("ending", False, True)]
    assert [each.value for each in (*new.entitlements, *gone.entitlements)] == [100, 100]
    assert (new.previous.pk, gone.next.pk) == (gone.pk, new.pk)
    assert (new.next, gone.previous) == (None, None)


def test_a_purchase_of_somebody_else_is_not_named_in_the_chain(catalog, acme, outsider):
    theirs = make_agreement(catalog, organizations.create(name="Globex", owner=outsider), "reports-flex")
    make_agreement(catalog, acme, "reports-flex", previous=theirs)

    [told] = subscriptions_of(acme, now=NOW)

    assert told.previous is None


def test_an_end_without_a_reason_says_that_everything_stays_open(aws, purchase, acme):
    agreement = purchase("reports-flex")
    effects.run_due(aws.marketplace, now=timezone.now())
    now = timezone.now()
    Agreement.objects.update(status="ending", ended_at=now, access_until=now + timedelta(minutes=10))

    [told] = subscriptions_of(acme, now=now)
    assert (told.is_open_for_now, told.is_continued) == (True, False)
    assert told.license_id == agreement.license_id
    assert len(told.entitlements) == 1


@pytest.mark.parametrize("status", Agreement.Status.values)
def test_every_status_and_pricing_has_words(status):
    assert str(subscriptions.words.STATUS[status])
    assert status in subscriptions.words.TONE
