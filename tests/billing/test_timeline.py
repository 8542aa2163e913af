"""The rows of the timeline: opened once, closed once, and what the ledger makes of them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from billing import audit, clock, entitlements, metering, reconciliation, timeline, usage
from billing.models import Agreement, AuditEvent, Effect, Entitlement
from tests.billing.ledger import NOON, REGION, ScriptedAws, entitle, granted, make_agreement
from tests.billing.notices import deprovisioned, ended, license_updated
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, take

LATE = "the agreement began earlier than was known"


def pages(value=100, *, key="included_pages", **fields):
    return granted(key, value, **fields)


def read(agreement, *rows, now, **options):
    aws = ScriptedAws(entitlements=[list(rows)])
    assert entitlements.sync(agreement, marketplace=aws, now=now, **options)
    Effect.objects.filter(kind="sync_entitlements").update(state="done")


def rows_of(agreement, key="included_pages"):
    rows = agreement.entitlements.filter(dimension_key=key).order_by("valid_from")
    return [(row.value, row.valid_from, row.valid_to) for row in rows]


def changes():
    links = AuditEvent.objects.filter(action="entitlements_changed").order_by("sequence")
    return [link.data["changes"] for link in links]


def is_proved():
    return list(reconciliation.verify()) == list(audit.verify()) == []


@pytest.fixture
def flex(catalog, acme):
    """Active since NOON, by an event; not read yet."""
    take(license_updated(NOON), now=NOON)
    Agreement.objects.update(organization=acme)
    return Agreement.objects.get()


# --- An event that came late says that it began earlier


def test_what_was_bought_with_it_began_with_it(flex):
    read(flex, pages(100, expires_at=NOON + DAY), pages(5, key="seats"), now=NOON + MINUTE)
    take(license_updated(NOON - HOUR), now=NOON + 2 * MINUTE)
    assert rows_of(flex) == [(100, NOON - HOUR, NOON), (100, NOON, None)]
    assert rows_of(flex, "seats") == [(5, NOON - HOUR, NOON), (5, NOON, None)]
    earlier = flex.entitlements.get(dimension_key="included_pages", valid_from=NOON - HOUR)
    assert (earlier.expires_at, earlier.opened_because, earlier.closed_because) == (NOON + DAY, LATE, LATE)
    assert changes()[-1] == {"included_pages": "extended", "seats": "extended"}
    assert is_proved()


def test_it_may_begin_earlier_twice(flex):
    read(flex, pages(), now=NOON + MINUTE)
    for earlier in (HOUR, 2 * HOUR):
        take(license_updated(NOON - earlier), now=NOON + 2 * MINUTE)
    assert [start for _, start, _ in rows_of(flex)] == [NOON - 2 * HOUR, NOON - HOUR, NOON]
    assert is_proved()


def test_what_was_added_later_did_not_begin_with_it(flex):
    read(flex, pages(100), now=NOON + MINUTE)
    read(flex, pages(100), pages(5, key="seats"), now=NOON + HOUR)
    take(license_updated(NOON - HOUR), now=NOON + 2 * HOUR)
    assert rows_of(flex, "seats") == [(5, NOON + HOUR, None)]
    assert [start for _, start, _ in rows_of(flex)] == [NOON - HOUR, NOON]


def test_what_was_not_there_at_first_did_not_begin_with_it(flex):
    """AWS listed nothing at the activation: what it lists an hour later is worth its own time only."""
    read(flex, now=NOON + MINUTE)
    read(flex, pages(), now=NOON + HOUR)
    take(license_updated(NOON - HOUR), now=NOON + 2 * HOUR)
    assert rows_of(flex) == [(100, NOON + HOUR, None)]


def test_only_what_was_in_force_first_is_extended(flex):
    read(flex, pages(5), now=NOON + MINUTE)
    read(flex, pages(8), now=NOON + HOUR)
    take(license_updated(NOON - HOUR), now=NOON + 2 * HOUR)
    assert rows_of(flex) == [(5, NOON - HOUR, NOON), (5, NOON, NOON + HOUR), (8, NOON + HOUR, None)]


def test_usage_before_the_known_beginning_is_covered_as_well(flex, acme):
    read(flex, pages(10), now=NOON + MINUTE)
    usage.record(acme, "pages", 4, key="early", occurred_at=NOON - 30 * MINUTE, now=NOON + MINUTE)
    take(license_updated(NOON - HOUR), now=NOON + 2 * MINUTE)
    read(flex, pages(10), now=NOON + 3 * MINUTE)
    metering.close_hours(region=REGION, now=NOON + 5 * MINUTE)
    record = flex.metering_records.get()
    assert (record.used, record.included, record.quantity) == (4, 4, 0)
    assert is_proved()


def test_the_second_opinion_knows_what_was_known_when_an_hour_was_closed(flex, acme):
    """Rows that came in before the first do not shift what was learned of the others."""
    read(flex, pages(5), now=NOON + MINUTE)
    take(license_updated(NOON - HOUR), now=NOON + 2 * MINUTE)
    read(flex, pages(8), now=NOON + HOUR, since=NOON + HOUR)
    usage.record(acme, "pages", 8, key="use", occurred_at=NOON + 3 * HOUR, now=NOON + 3 * HOUR)
    metering.close_hours(region=REGION, now=NOON + 4 * HOUR + 5 * MINUTE)
    record = flex.metering_records.get()
    assert (record.included, record.quantity) == (8, 0)
    # An event that came two hours late: the allowance had shrunk before that hour.
    read(flex, pages(3), now=NOON + 6 * HOUR, since=NOON + 2 * HOUR)
    assert rows_of(flex)[-1] == (3, NOON + 2 * HOUR, None)
    assert is_proved()


# --- The end


def test_what_was_in_force_ends_with_the_agreement(flex):
    read(flex, pages(5), pages(1, key="seats"), now=NOON + MINUTE)
    take(ended(NOON + HOUR), now=NOON + HOUR + MINUTE)
    flex.refresh_from_db()
    assert timeline.close_all(flex, because="it is over", now=NOON + HOUR + MINUTE) == 2
    assert rows_of(flex) == [(5, NOON, NOON + HOUR)]
    assert rows_of(flex, "seats") == [(1, NOON, NOON + HOUR)]
    assert set(flex.entitlements.values_list("closed_because", flat=True)) == {"it is over"}
    assert changes()[-1] == {"included_pages": "closed", "seats": "closed"}
    assert timeline.close_all(flex, because="again", now=NOON + 2 * HOUR) == 0
    assert len(changes()) == 2
    assert is_proved()


def test_what_opened_after_an_end_that_was_told_late_closes_at_once(flex):
    read(flex, pages(5), now=NOON + MINUTE)
    read(flex, pages(8), now=NOON + 2 * HOUR)
    take(deprovisioned(NOON + HOUR), now=NOON + 3 * HOUR)
    assert entitlements.revoke(flex.pk, now=NOON + 3 * HOUR) == ""
    assert [value for value, _, _ in rows_of(flex)] == [5, 8]
    assert not flex.entitlements.current().exists()
    flex.refresh_from_db()
    assert entitlements.entitlement_at(flex, "included_pages", NOON + HOUR - SECOND).value == 5
    for instant in (NOON + HOUR, NOON + 2 * HOUR):
        assert entitlements.entitlement_at(flex, "included_pages", instant) is None
    assert is_proved()


def test_the_allowance_of_the_last_hour_is_that_of_the_end(flex, acme):
    read(flex, pages(10), now=NOON + MINUTE)
    usage.record(acme, "pages", 25, key="last", occurred_at=NOON + 50 * MINUTE, now=NOON + 50 * MINUTE)
    take(ended(NOON + 55 * MINUTE), now=NOON + 55 * MINUTE)
    entitlements.revoke(flex.pk, now=NOON + 55 * MINUTE)
    metering.close_agreement(flex.pk, region=REGION, now=NOON + 65 * MINUTE)
    clock.advance(now=NOON + 3 * HOUR)
    record = flex.metering_records.get()
    assert (record.used, record.included, record.quantity) == (25, 10, 15)
    assert is_proved()


# --- Replacing


def replaced(agreement, new, *, since, read_at):
    old = agreement.entitlements.current().filter(dimension_key="included_pages").first()
    return timeline.replace(
        agreement, "included_pages", old, new, since=since, read_at=read_at, because="told"
    )


def test_each_change_says_what_it_was(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    told = [
        replaced(agreement, new, since=NOON + hours * HOUR, read_at=NOON + DAY)
        for hours, new in enumerate([pages(5), pages(8), None, pages(8)])
    ]
    assert told == ["opened", "changed", "closed", "opened"]
    assert rows_of(agreement) == [
        (5, NOON, NOON + HOUR),
        (8, NOON + HOUR, NOON + 2 * HOUR),
        (8, NOON + 3 * HOUR, None),
    ]


@pytest.mark.parametrize("since", [-HOUR, 0 * HOUR, HOUR])
def test_a_change_after_the_end_is_none(catalog, acme, since):
    agreement = make_agreement(catalog, acme, "reports-flex", ended_at=NOON, closes_at=NOON + HOUR)
    entitle(agreement, 5, since=NOON - 30 * MINUTE)
    assert replaced(agreement, pages(8), since=NOON + since, read_at=NOON + MINUTE) is None
    assert rows_of(agreement) == [(5, NOON - 30 * MINUTE, None)]


def test_what_a_double_cannot_say_exactly_stays_the_double_that_aws_sent(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    replaced(agreement, pages(0.1), since=NOON, read_at=NOON)
    row = Entitlement.objects.get()
    assert (row.value, row.quantity) == (0.1, Decimal("0.1"))
    assert timeline.same(row, pages(0.1))
    assert not timeline.same(row, pages(0.1, expires_at=NOON))


def test_a_very_long_cause_is_cut_to_its_column(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    old = entitle(agreement, 5)
    timeline.replace(agreement, "included_pages", old, pages(8), since=NOON, read_at=NOON, because="x" * 300)
    assert Entitlement.objects.get(valid_to=None).opened_because == "x" * 200
