"""Usage enters once, exact, or is refused with what to change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import timezone as zone
from decimal import Decimal
from threading import Thread

import pytest
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing import customers, effects, metering, usage
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, AuditEvent, MarketplaceCustomer, UsageEvent
from tests.billing.arriving import at_once

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


@pytest.fixture
def bought(catalog, acme):
    """Give acme an agreement, active for the ten days before NOW."""
    count = 0

    def make(code="reports-payg", *, organization=acme, **fields) -> Agreement:
        nonlocal count
        count += 1
        return Agreement.objects.create(
            product=catalog[code],
            customer=MarketplaceCustomer.objects.get_or_create(aws_account_id="123456789012")[0],
            identity="license",
            license_id=f"l-{count}",
            license_arn=f"arn:aws:license-manager::1:license:l-{count}",
            organization=organization,
            **{"status": "active", "activated_at": NOW - timedelta(days=10), **fields},
        )

    return make


@pytest.fixture
def payg(bought) -> Agreement:
    return bought()


def record(organization, quantity=1, dimension="pages", *, key="a", now=NOW, **more) -> UsageEvent:
    return usage.record(organization, dimension, quantity, key=key, now=now, **more)


# --- What is stored ----------------------------------------------------------------------------------------


@pytest.mark.postgresql  # SQLite looks before it stores
def test_a_new_use_is_one_query(payg, acme, django_assert_num_queries):
    with django_assert_num_queries(1):
        record(acme, 3, tags={"team": "ml"}, occurred_at=NOW - timedelta(minutes=40))


def test_a_use_is_stored_as_it_was_told(payg, acme):
    record(acme, 3, key="req-1", tags={"team": "ml"}, occurred_at=NOW - timedelta(minutes=40))

    event = UsageEvent.objects.get()
    assert (event.organization, event.agreement, event.dimension.key) == (acme, payg, "pages")
    assert (event.quantity, event.key, event.tags) == (3, "req-1", {"team": "ml"})
    assert (event.occurred_at, event.recorded_at) == (NOW - timedelta(minutes=40), NOW)
    assert event.disposition == "billable"
    assert event.metering_record is None


def test_a_use_told_without_a_time_occurred_now(payg, acme):
    before = timezone.now()
    event = usage.record(acme, "pages", 1, key="a")

    assert before <= event.occurred_at == event.recorded_at <= timezone.now()


@pytest.mark.parametrize(
    "quantity",
    [
        "2147483647.999999",
        "9999999999.999999",
        "0.000001",
        "0",
        "17.00",
        "1e3",
        "0.10000000000",
        2**31,
        Decimal("0.1"),
    ],
)
def test_quantities_are_exact_to_the_millionth(payg, acme, quantity):
    record(acme, quantity)

    assert UsageEvent.objects.get().quantity == Decimal(quantity)


def test_sums_are_exact_to_the_millionth(payg, acme):
    for number in range(10):
        record(acme, "9999999999.999999", key=str(number))

    assert UsageEvent.objects.aggregate(total=Sum("quantity"))["total"] == Decimal("99999999999.999990")


@pytest.mark.parametrize(
    "quantity",
    [
        -1,
        "-0.000001",
        "10000000000",
        "9999999999.9999991",
        "0.1234567",
        "1e-7",
        "1e400",
        "1e-400",
        "123456789012345678901234567890.1234567",
        "NaN",
        "sNaN",
        "-Infinity",
        "Infinity",
        Decimal("NaN"),
        0.5,
        1.0,
        float("nan"),
        True,
        None,
        "",
        "three",
        "1,5",
        b"1",
        [1],
        object(),
    ],
)
def test_a_quantity_that_is_none_is_refused_and_nothing_is_stored(payg, acme, quantity):
    with pytest.raises(usage.UsageRefused, match=r"^quantity: "):
        record(acme, quantity)

    assert not UsageEvent.objects.exists()


# --- Dimensions and agreements -----------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", ["sheets", "Pages", "", "included_pages"])
def test_a_dimension_that_nothing_bought_meters_is_refused(bought, acme, dimension):
    bought("reports-flex")

    with pytest.raises(usage.UsageRefused, match=r"^dimension: "):
        record(acme, dimension=dimension)


@pytest.mark.parametrize(
    ("dimension", "why"),
    [("sheets", "has no dimension 'sheets'"), ("included_pages", "bought ahead, not metered")],
)
def test_a_dimension_that_the_given_agreement_does_not_meter_is_refused(bought, acme, dimension, why):
    with pytest.raises(usage.UsageRefused, match=why):
        record(acme, dimension=dimension, agreement=bought("reports-flex"))


def test_without_any_purchase_there_is_no_such_dimension(acme):
    with pytest.raises(usage.UsageRefused, match="no product that Acme bought"):
        record(acme)


def test_another_organizations_agreement_is_refused(bought, acme, outsider):
    theirs = bought(organization=outsider.organizations.get())

    with pytest.raises(usage.UsageRefused, match="another organization"):
        record(acme, agreement=theirs)
    with pytest.raises(usage.UsageRefused, match="another organization"):
        record(acme, agreement=bought(organization=None))


def test_two_agreements_that_could_pay_ask_for_a_choice(bought, acme):
    first, second = bought(), bought("reports-flex")

    with pytest.raises(usage.AmbiguousAgreement, match="2 active agreements"):
        record(acme)

    assert not UsageEvent.objects.exists()
    assert record(acme, key="1", agreement=first).agreement == first
    assert record(acme, key="2", agreement=second).agreement == second


def test_the_only_agreement_active_at_that_time_pays(bought, acme):
    old = bought(status="ended", ended_at=NOW - timedelta(hours=2))
    new = bought(activated_at=NOW - timedelta(hours=2))

    assert record(acme, key="1", occurred_at=NOW - timedelta(hours=2, seconds=1)).agreement == old
    assert record(acme, key="2", occurred_at=NOW - timedelta(hours=2)).agreement == new
    assert record(acme, key="3").agreement == new


# --- Usage that cannot be billed is kept -------------------------------------------------------------------


def test_usage_outside_the_agreement_is_kept_as_such(bought, acme):
    start, end = NOW - timedelta(hours=3), NOW - timedelta(hours=1)
    bought(status="ending", activated_at=start, ended_at=end, metering_closes_at=NOW + timedelta(minutes=1))
    instants = [start - timedelta(microseconds=1), start, end - timedelta(microseconds=1), end]

    kept = [record(acme, key=str(n), occurred_at=instant).disposition for n, instant in enumerate(instants)]

    assert kept == ["outside_agreement", "billable", "billable", "outside_agreement"]


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_usage_of_a_purchase_that_never_was_active_is_kept_as_outside(bought, acme, status):
    newest = [bought(status=status, activated_at=None) for _ in range(2)][-1]

    event = record(acme)

    assert (event.disposition, event.agreement) == ("outside_agreement", newest)


def test_usage_is_too_late_once_aws_refuses_its_hour(payg, acme):
    hour = datetime(2026, 11, 22, 12, tzinfo=UTC)
    until = hour + timedelta(hours=24)
    occurred = hour + timedelta(minutes=59)

    kept = [
        record(acme, key=str(n), occurred_at=occurred, now=now).disposition
        for n, now in enumerate([until - timedelta(microseconds=1), until])
    ]

    assert kept == ["billable", "too_late"]


def test_last_months_usage_is_too_late_from_six_oclock_on_the_first(bought, acme):
    bought(activated_at=datetime(2026, 10, 1, tzinfo=UTC))
    occurred = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    closing = datetime(2026, 11, 1, 6, tzinfo=UTC)

    kept = [
        record(acme, key=str(n), occurred_at=occurred, now=now).disposition
        for n, now in enumerate([closing - timedelta(microseconds=1), closing])
    ]

    assert kept == ["billable", "too_late"]


def test_usage_is_too_late_once_the_agreements_metering_is_closed(bought, acme):
    bought(status="ended", ended_at=NOW - timedelta(minutes=60), metering_closes_at=NOW)
    occurred = NOW - timedelta(minutes=61)

    assert (
        record(acme, key="1", occurred_at=occurred, now=NOW - timedelta(seconds=1)).disposition == "billable"
    )
    assert record(acme, key="2", occurred_at=occurred).disposition == "too_late"


# --- Times -------------------------------------------------------------------------------------------------


class Zoneless(tzinfo):
    def utcoffset(self, moment):
        return None


@pytest.mark.parametrize(
    ("occurred_at", "why"),
    [
        (datetime(2026, 11, 23, 12), "has no time zone"),  # noqa: DTZ001
        (datetime(2026, 11, 23, 12, tzinfo=Zoneless()), "has no time zone"),
        (date(2026, 11, 23), "give a datetime"),
        ("2026-11-23T12:00:00Z", "give a datetime"),
        (NOW + timedelta(minutes=5, microseconds=1), "is in the future"),
    ],
)
def test_an_instant_that_is_none_is_refused(payg, acme, occurred_at, why):
    with pytest.raises(usage.UsageRefused, match=f"^occurred_at: .*{why}"):
        record(acme, occurred_at=occurred_at)

    assert not UsageEvent.objects.exists()


def test_clocks_may_differ_by_five_minutes(payg, acme):
    assert record(acme, occurred_at=NOW + timedelta(minutes=5)).disposition == "billable"


def test_an_instant_of_another_time_zone_is_the_same_instant(payg, acme):
    seoul = NOW.astimezone(zone(timedelta(hours=9)))

    event = record(acme, occurred_at=seoul)

    assert record(acme, occurred_at=NOW) == event
    assert UsageEvent.objects.get().occurred_at == NOW


# --- Tags --------------------------------------------------------------------------------------------------


def test_tags_are_kept_up_to_awss_bounds(payg, acme):
    tags = {"k" * 100: "v" * 256, "a-b c": "+-=._:/@ 9", "3": "3", "4": "4", "5": "5"}

    record(acme, tags=tags)

    assert UsageEvent.objects.get().tags == tags


@pytest.mark.parametrize(
    "tags",
    [
        {str(number): "x" for number in range(6)},
        {"team": "{ml}"},
        {"team": ""},
        {"": "ml"},
        {"team": "x" * 257},
        {"x" * 101: "ml"},
        {"team": 5},
        {5: "ml"},
        {"team": None},
        {"team": "ml\n"},
        {"team": "größe"},
        {"team": "a\\b"},
    ],
)
def test_tags_that_aws_refuses_are_refused(payg, acme, tags):
    with pytest.raises(usage.UsageRefused, match=r"^tags: "):
        record(acme, tags=tags)

    assert not UsageEvent.objects.exists()


# --- Keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "k" * 201, "a\x00b", None, 7])
def test_a_key_that_names_nothing_is_refused(payg, acme, key):
    with pytest.raises(usage.UsageRefused, match=r"^key: give 1 to 200 characters"):
        record(acme, key=key)


def test_the_longest_key_is_kept(payg, acme):
    record(acme, key="k" * 200)

    assert UsageEvent.objects.get().key == "k" * 200


def test_the_same_use_told_again_counts_once(payg, acme):
    first = record(acme, "3.50", tags={"team": "ml", "env": "prod"}, occurred_at=NOW)
    again = record(acme, Decimal("3.5"), tags={"env": "prod", "team": "ml"}, occurred_at=NOW, now=NOW + HOUR)

    assert again == first
    assert UsageEvent.objects.count() == 1


def test_the_same_use_told_later_without_a_time_counts_once(payg, acme):
    first = record(acme, 3)

    assert record(acme, 3, now=NOW + timedelta(days=3)) == first
    assert UsageEvent.objects.get().occurred_at == NOW


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 4},
        {"tags": {"team": "other"}},
        {"tags": None},
        {"occurred_at": NOW - timedelta(seconds=1)},
        {"dimension": "included_pages"},
    ],
)
def test_a_key_used_again_for_something_else_is_refused(payg, acme, other):
    content = {"quantity": 3, "tags": {"team": "ml"}, "occurred_at": NOW}
    record(acme, **content)

    with pytest.raises(usage.KeyReused, match="'a' was used before with other content"):
        record(acme, **{**content, **other})

    assert UsageEvent.objects.count() == 1


def test_a_use_told_again_after_renewal_stays_with_the_agreement_it_went_to(bought, acme):
    old = bought()
    record(acme, 3)
    Agreement.objects.update(status="ended", ended_at=NOW + HOUR)
    new = bought(activated_at=NOW - timedelta(days=1))

    assert record(acme, 3, now=NOW + HOUR).agreement == old
    assert record(acme, 3, agreement=new).agreement == old
    assert UsageEvent.objects.count() == 1


def test_two_organizations_may_use_the_same_key(bought, acme, outsider):
    other = outsider.organizations.get()
    bought()
    bought(organization=other)

    record(acme, 3)
    record(other, 5)

    assert UsageEvent.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_the_same_use_told_twice_at_once_is_one_row(payg, acme):
    first, second = at_once(*[lambda: record(acme, 3, occurred_at=NOW)] * 2)

    assert first == second
    assert UsageEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_uses_told_at_once_under_one_key_the_second_is_refused(payg, acme):
    answers = at_once(*[lambda quantity=quantity: record(acme, quantity) for quantity in (3, 4)])

    assert sorted(type(answer).__name__ for answer in answers) == ["KeyReused", "UsageEvent"]
    assert UsageEvent.objects.count() == 1


def test_a_use_is_part_of_the_callers_transaction(payg, acme):
    with transaction.atomic():
        record(acme)
        transaction.set_rollback(True)

    assert not UsageEvent.objects.exists()


# --- Cancelling --------------------------------------------------------------------------------------------


def test_an_open_use_is_taken_back_once_and_audited(payg, acme):
    record(acme, 3)

    for _ in range(2):
        usage.cancel(acme, "a", reason="refunded", now=NOW)

    assert UsageEvent.objects.get().disposition == "cancelled"
    [link] = AuditEvent.objects.filter(action="usage_cancelled")
    assert link.data == {"event": UsageEvent.objects.get().pk, "reason": "refunded"}


def test_a_cancelled_use_told_again_stays_cancelled(payg, acme):
    record(acme, 3)
    usage.cancel(acme, "a", reason="refunded")

    assert record(acme, 3).disposition == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_taking_back_waits_for_the_hour_that_is_being_closed(payg, acme):
    record(acme, 3)
    waiting = Thread(target=lambda: at_once(lambda: usage.cancel(acme, "a", reason="refunded", now=NOW)))

    with transaction.atomic():
        customers.lock(payg.pk)
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
        assert UsageEvent.objects.get().disposition == "billable"
    waiting.join(timeout=20)

    assert UsageEvent.objects.get().disposition == "cancelled"


def test_an_unknown_key_cannot_be_cancelled(bought, payg, acme, outsider):
    record(acme, 3)

    with pytest.raises(usage.UsageRefused, match="no usage with the key 'b'"):
        usage.cancel(acme, "b", reason="refunded")
    with pytest.raises(usage.UsageRefused, match="no usage with the key 'a'"):
        usage.cancel(outsider.organizations.get(), "a", reason="not theirs")


def test_a_use_in_a_closed_hour_is_refunded_at_aws(aws, purchase, acme):
    purchase("reports-payg")
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now)
    usage.record(acme, "pages", 3, key="a", occurred_at=hour_of(now) - timedelta(minutes=30))
    metering.close_hours(region="us-east-1", now=now)

    with pytest.raises(usage.AlreadyMetered, match="Marketplace Management Portal"):
        usage.cancel(acme, "a", reason="refunded")

    assert UsageEvent.objects.get().disposition == "billable"
