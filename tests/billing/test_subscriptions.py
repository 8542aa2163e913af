"""What a buyer's administrators are told: the figures add up, whatever became of the usage."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from billing import effects, gates, metering, usage
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, Dimension, Entitlement, MeteringRecord, UsageEvent
from billing.subscriptions import subscriptions_of


def figures_of(organization, *, now=None):
    [subscription] = subscriptions_of(organization, now=now or timezone.now())
    [line] = subscription.usage
    return line


def adds_up(line) -> bool:
    return line.recorded == line.included + line.billed + line.waiting + line.not_billed


@pytest.fixture
def closed(aws, purchase, acme) -> MeteringRecord:
    """An hour of 130 pages, 100 of them included."""
    purchase(quantities={"included_pages": 100})
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    usage.record(acme, "pages", 130, key="a", occurred_at=hour_of(now) - HOUR + timedelta(minutes=30))
    metering.close_hours(region="us-east-1", now=now)
    return MeteringRecord.objects.get()


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("due", (0, 30, 0)),
        ("in_doubt", (0, 30, 0)),
        ("waiting", (0, 30, 0)),
        ("accepted", (30, 0, 0)),
        ("conflict", (0, 0, 30)),
        ("parked", (0, 0, 30)),
        ("held", (0, 0, 30)),
        ("expired", (0, 0, 30)),
        ("written_off", (0, 0, 30)),
    ],
)
def test_each_state_of_a_record_is_billed_waiting_or_not_billed(closed, acme, state, shown):
    MeteringRecord.objects.update(state=state, aws_record_id="id" if state == "accepted" else None)

    line = figures_of(acme)

    assert (line.billed, line.waiting, line.not_billed) == shown
    assert (line.recorded, line.included) == (130, 100)
    assert adds_up(line)


def test_the_usage_of_a_void_record_is_counted_once(closed, acme):
    MeteringRecord.objects.update(state="void")
    UsageEvent.objects.update(metering_record=None)
    UsageEvent.objects.update(disposition="too_late")

    line = figures_of(acme)

    assert (line.recorded, line.included, line.waiting, line.not_billed) == (130, 0, 0, 130)


def test_usage_that_cannot_be_billed_is_shown_as_such(purchase, acme):
    agreement = purchase("reports-payg")
    now = timezone.now()
    usage.record(acme, "pages", 5, key="before", occurred_at=agreement.activated_at - timedelta(hours=1))
    usage.record(acme, "pages", 3, key="open")
    usage.record(acme, "pages", 2, key="cancelled")
    usage.cancel(acme, "cancelled", reason="by mistake")

    line = figures_of(acme, now=now)

    assert (line.recorded, line.waiting, line.not_billed) == (10, 3, 7)
    assert adds_up(line)


def test_an_entitlement_that_nothing_draws_on_has_no_use(aws, purchase, acme):
    purchase("reports-team")
    effects.run_due(aws.marketplace, now=timezone.now())

    [subscription] = subscriptions_of(acme, now=timezone.now())

    assert [(line.key, line.value, line.used, line.remaining) for line in subscription.entitlements] == [
        ("reports", True, None, None),
        ("seats", 5, None, None),
    ]
    assert subscription.usage == []


def test_an_entitlement_beyond_the_catalog_is_shown_by_its_key(purchase, acme):
    agreement = purchase("reports-team")
    Entitlement.objects.create(
        agreement=agreement,
        dimension_key="new",
        string_value="gold",
        valid_from=timezone.now(),
        opened_because="t",
    )

    [subscription] = subscriptions_of(acme, now=timezone.now())

    assert ("new", "new", "gold") in [
        (line.key, line.label, line.value) for line in subscription.entitlements
    ]


def test_what_is_left_counts_the_calendar_month_where_the_allowance_is_monthly(aws, purchase, acme):
    agreement = purchase(ago=timedelta(days=40))
    Dimension.objects.filter(key="pages").update(allowance_period="month")
    effects.run_due(aws.marketplace, now=timezone.now())
    now = timezone.now()
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for key, at, pages in (
        ("old", month - timedelta(hours=1), 60),
        ("new", month + timedelta(seconds=1), 25),
    ):
        UsageEvent.objects.create(
            organization=acme, agreement=agreement, dimension=agreement.product.dimensions.get(key="pages"),
            quantity=Decimal(pages), occurred_at=at, key=key,
        )  # fmt: skip

    [subscription] = subscriptions_of(acme, now=now)

    assert [(line.used, line.remaining) for line in subscription.entitlements] == [(25, 75)]
    assert gates.quota(acme, "reports", now=now).remaining == 75
    Dimension.objects.filter(key="pages").update(allowance_period="term")
    assert gates.quota(acme, "reports", now=now).remaining == 15


def test_many_agreements_stay_within_a_few_queries_each(purchase, acme, django_assert_max_num_queries):
    for _ in range(3):
        purchase("reports-payg")

    with django_assert_max_num_queries(2 + 3 * 4):
        assert len(subscriptions_of(acme, now=timezone.now())) == 3


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
        told = subscriptions_of(acme, now=at)
        return [(each.status, each.is_open_for_now, each.is_continued) for each in told]

    assert told_after(4) == [("active", False, True)]
    assert told_after(40) == [("active", False, False), ("ending", False, True)]
    new, gone = subscriptions_of(acme, now=now + timedelta(minutes=1))
    assert [each.value for each in (*new.entitlements, *gone.entitlements)] == [100, 100]


def test_an_end_without_a_reason_says_that_everything_stays_open(aws, purchase, acme):
    agreement = purchase("reports-flex")
    effects.run_due(aws.marketplace, now=timezone.now())
    now = timezone.now()
    Agreement.objects.update(status="ending", ended_at=now, access_until=now + timedelta(minutes=10))

    [told] = subscriptions_of(acme, now=now)
    assert (told.is_open_for_now, told.is_continued) == (True, False)
    assert told.license_id == agreement.license_id
    assert len(told.entitlements) == 1
