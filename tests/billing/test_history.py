"""An agreement's history is one list of what happened and why, and costs the same after ten years."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from billing import audit, clock, decisions, effects, events, flags, registration
from billing.history import history, page
from billing.models import Agreement, Effect, Entitlement, MarketplaceEvent, Registration, Submission
from tests.billing.ledger import NOON, ScriptedAws, entitle, granted, make_agreement, make_record
from tests.billing.notices import created, deprovisioned, ended, license_updated, message, sns

SECOND, MINUTE, HOUR, DAY = (timedelta(**{name: 1}) for name in ("seconds", "minutes", "hours", "days"))
_numbers = count(1)


def take(*bodies, now):
    for body in bodies:
        events.store(message(body, sent_at=now), now=now)
    events.apply_received(now=now)


def told(agreement, *, now=NOON + 9 * DAY, **options):
    return [(entry.what, entry.why, entry.by) for entry in history(agreement, now=now, **options)]


def lines(agreement, *, now=NOON + 9 * DAY, **options):
    return [entry.what for entry in history(agreement, now=now, **options)]


def event_of(agreement, at, **fields):
    values = {"channel": "eventbridge", "kind": "Purchase Agreement Amended", "state": "applied"}
    return MarketplaceEvent.objects.create(
        agreement=agreement,
        occurred_at=at,
        **{"source_id": f"e{next(_numbers)}", "received_at": at, **values, **fields},
    )


def effect_of(agreement, kind, cause, **fields):
    return Effect.objects.create(agreement=agreement, kind=kind, cause=cause, caused_at=NOON, **fields)


def trail(agreement, action, at, /, *, by="aws", **data):
    with transaction.atomic():
        return audit.record(agreement, action, by=by, at=at, **data)


@pytest.fixture
def agreement(catalog, acme):
    return make_agreement(catalog, acme, "reports-flex")


def test_the_life_of_a_purchase_is_told_from_its_first_event_to_its_last(catalog, acme, acme_admin):
    take(created(NOON - MINUTE, source_id="1"), license_updated(NOON, source_id="2"), now=NOON + 5 * SECOND)
    agreement = Agreement.objects.get()
    arrival = Registration.objects.create(
        digest="0" * 64,
        agreement=agreement,
        expires_at=NOON + 4 * HOUR,
        created_at=NOON + 2 * MINUTE,
        user=acme_admin,
    )
    registration.claim(arrival, by=acme_admin, organization=acme, now=NOON + 3 * MINUTE)
    aws = ScriptedAws(entitlements=[[granted("included_pages", 100, expires_at=NOON + 365 * DAY)]])
    effects.run_due(aws, now=NOON + 4 * MINUTE)
    make_record(agreement, NOON, state="accepted")
    make_record(agreement, NOON + HOUR, state="parked")
    gone = NOON + 30 * HOUR
    take(ended(gone, source_id="3"), deprovisioned(gone + 30 * SECOND, source_id="4"), now=gone + HOUR / 2)
    effects.run_due(aws, now=gone + HOUR / 2)
    clock.advance(now=gone + 2 * HOUR)
    effects.run_due(aws, now=gone + 2 * HOUR + SECOND)

    said = told(agreement)

    assert [line for line in said if "Mail" not in line[0] and "Usage" not in line[0]] == [
        ("Status: Ending → Ended", "", "the clock"),
        ("The clock: Metering window over", "Applied; received at 2026-11-24 20:00 UTC", "the clock"),
        ("Access closed: the agreement ended", "", "this site"),
        ("Status: Active → Ending", "", "AWS"),
        ("AWS: License Deprovisioned", "Applied; received at 2026-11-24 18:30 UTC", "AWS"),
        ("No longer in force: included_pages = 100", "the agreement ended", "AWS"),
        ("AWS: Purchase Agreement Ended", "Applied; received at 2026-11-24 18:30 UTC", "AWS"),
        ("Metering of 2026-11-23: 2 hours closed", "records: 1 accepted, 1 parked", "this site"),
        (
            "Not done: Trial and renewal chain asked for at AWS",
            "MARKETPLACE_DESCRIBE_AGREEMENTS is off: trial end and renewal chain stay unknown",
            "this site",
        ),
        ("Entitlements read at AWS", "AWS: License Updated of 2026-11-23 12:00 UTC", "this site"),
        ("Claimed for Acme", "", f"user {acme_admin.pk}"),
        ("The buyer came from AWS", "", "Ada"),
        ("Status: Waiting for AWS → Active", "", "AWS"),
        ("We heard of the purchase for the first time", "", "AWS"),
        (
            "In force: included_pages = 100, until 2027-11-23 12:00 UTC",
            "AWS: License Updated of 2026-11-23 12:00 UTC",
            "AWS",
        ),
        ("AWS: License Updated", "Applied", "AWS"),
        ("AWS: Purchase Agreement Created", "Applied; received at 2026-11-23 12:00 UTC", "AWS"),
    ]
    mails = {what: why for what, why, _ in said if "Mail" in what}
    assert mails["Mail to the buyer: welcome"] == "sent to 1 of 1"
    assert mails["Mail to the buyer: ending"] == "sent to 1 of 1"
    assert all(mails.values()), "What was sent says to how many, and what was not says why."


def test_pages_together_are_the_whole_and_none_is_longer_than_asked_for(agreement):
    for minute in range(6):
        event_of(agreement, NOON + minute * MINUTE)
        trail(
            agreement, "status_changed", NOON + minute * MINUTE + 5 * SECOND, before="pending", after="active"
        )
    whole = history(agreement)
    assert whole == sorted(whole, key=lambda entry: entry.at, reverse=True)
    assert len(whole) == 12

    for limit in (1, 5, 12, 13):
        pages, before = [], None
        while True:
            one = page(agreement, limit=limit, before=before)
            pages.append(one.entries)
            assert len(one.entries) <= limit
            before = one.older
            if before is None:
                break
        assert [entry for entries in pages for entry in entries] == whole
        assert len(pages) == -(-12 // limit)


def test_what_happened_together_is_not_torn_apart_between_two_pages(agreement):
    for after in (1, 1, 1, 2, 3, 3):
        event_of(agreement, NOON + after * MINUTE)
    trail(agreement, "flagged", NOON + MINUTE, reason=flags.ADVISORY)

    first = page(agreement, limit=4)
    second = page(agreement, limit=4, before=first.older)

    assert [entry.at for entry in first.entries] == [NOON + minutes * MINUTE for minutes in (3, 3, 2)]
    assert [entry.at for entry in second.entries] == [NOON + MINUTE] * 4
    assert second.entries[0].what == "Flagged for a person to look at", "What follows from it stands above."
    assert second.older is None


def test_a_long_life_takes_as_many_queries_as_a_short_one_and_reads_no_bodies(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic")

    def live(hours):
        for at in (NOON + hour * HOUR for hour in hours):
            event = event_of(agreement, at, body="secret", payload={"secret": 1})
            cause = f"eventbridge:{event.source_id}"
            trail(agreement, "flag_lowered", at, reason="r", by="user:1")
            effect_of(agreement, "sync_entitlements", cause, state="done", done_at=at)
            Entitlement.objects.create(
                agreement=agreement, dimension_key="seats", integer_value=1, valid_from=at,
                valid_to=at + HOUR, opened_because=cause,
            )  # fmt: skip
            Registration.objects.create(
                digest=f"{next(_numbers):064}", agreement=agreement, expires_at=at, created_at=at
            )
            refuse(make_record(agreement, at), at, "CustomerNotSubscribed")

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert len(history(agreement, limit=20)) <= 20
        return [query["sql"] for query in captured]

    live(range(3))
    few = queries()
    live(range(3, 40))
    many = queries()

    assert len(few) == len(many) <= 12
    assert not [sql for sql in many if '."body"' in sql.partition(" FROM ")[0] or "secret" in sql]
    assert not [sql for sql in many if '."payload"' in sql.partition(" FROM ")[0]]
    assert all("LIMIT" in sql for sql in many if "IN (" not in sql), "Each source is read no further."


def refuse(record, at, status, *, in_call=1, outcome="answered"):
    call = Submission.objects.create(token=1, record_count=in_call, started_at=at, outcome=outcome)
    call.lines.create(record=record, status=status)
    return call


def test_a_day_of_metering_is_one_line(agreement):
    for hours, state in ((0, "accepted"), (1, "accepted"), (2, "expired"), (9, "accepted"), (13, "in_doubt")):
        make_record(agreement, NOON + hours * HOUR, state=state)
    pages = agreement.product.dimensions.get(key="pages")
    pages.pk, pages.key = None, "sheets"
    pages.save()
    make_record(agreement, NOON, state="not_due", dimension=pages)

    days = history(agreement)

    assert [(entry.at, entry.what, entry.why, entry.tone) for entry in days] == [
        (NOON + 14 * HOUR, "Metering of 2026-11-24: 1 hour closed", "records: 1 in doubt", "warning"),
        (
            NOON + 10 * HOUR,
            "Metering of 2026-11-23: 4 hours closed",
            "records: 3 accepted, 1 expired, 1 nothing to bill",
            "danger",
        ),
    ]
    assert history(agreement, before=NOON + 14 * HOUR) == days[1:]
    assert history(agreement, before=NOON + 5 * HOUR) == [], "It is on the page where its last hour is."


def test_of_metering_calls_only_the_refused_are_told(agreement):
    record, other = make_record(agreement, NOON), make_record(agreement, NOON + HOUR)
    for status in ("", "Success", "Unprocessed"):
        refuse(record, NOON, status)
    halved = refuse(record, NOON + MINUTE, "InvalidTagException", in_call=25, outcome="refused")
    halved.lines.create(record=other, status="InvalidTagException")
    refuse(other, NOON + 2 * MINUTE, "InvalidTagException", outcome="refused")
    refuse(record, NOON + 3 * MINUTE, "CustomerNotSubscribed", in_call=25)

    refused = [entry for entry in history(agreement) if isinstance(entry.link_to, Submission)]

    assert [(entry.what, entry.why, entry.tone) for entry in refused] == [
        ("AWS refused 1 metering record: CustomerNotSubscribed", "", "danger"),
        ("AWS refused 1 metering record: InvalidTagException", "", "danger"),
        (
            "AWS refused a metering call: InvalidTagException",
            "all 25 records of the call, 2 of this purchase; a bad one is found by halving",
            "warning",
        ),
    ]
    assert refused[2].link_to == halved


def test_effects_tell_what_was_done_what_was_not_and_what_is_late(agreement):
    late = effect_of(agreement, "revoke_access", "ended", due_at=NOON - 6 * MINUTE)
    effect_of(agreement, "flush_usage", "soon", due_at=NOON - 2 * MINUTE)
    effect_of(agreement, "mail", "buyer_contract_expires:30 2027-11-23T12:00:00+00:00", due_at=NOON + DAY)
    effect_of(
        agreement, "mail", "buyer_ended@0f3c:1", due_at=NOON + MINUTE, attempts=3, error="SMTPException: no"
    )
    effect_of(
        agreement, "mail", "buyer_contract_expires:7 2027-11-23T12:00:00+00:00",
        state="skipped", done_at=NOON - 7 * MINUTE, outcome="it renews by itself",
    )  # fmt: skip
    effect_of(
        agreement, "link_renewal", "another continues it", state="skipped", done_at=NOON - 8 * MINUTE,
        outcome="the other agreement is not known yet",
    )  # fmt: skip
    effect_of(
        agreement, "sync_entitlements", "expired 2026-11-23T11:00:00+00:00", state="done",
        done_at=NOON - 9 * MINUTE, outcome="read",
    )  # fmt: skip
    effect_of(
        agreement, "sync_entitlements", "x", state="done", done_at=NOON - 9 * MINUTE,
        outcome="read with effect 1",
    )  # fmt: skip
    effect_of(
        agreement, "flush_usage", "last hour, ended 2026", state="done", done_at=NOON - 10 * MINUTE,
        outcome="2 records made",
    )  # fmt: skip

    found = history(agreement, now=NOON)

    assert [(entry.what, entry.why, entry.tone) for entry in found] == [
        ("Tried again soon: Mail to the buyer: ended", "tried 3 times: SMTPException: no", "warning"),
        (
            "Overdue: Access closed: the agreement ended",
            "nobody has tried: is the worker running?",
            "danger",
        ),
        (
            "Not done: Mail to the buyer: contract expires, 7 days before 2027-11-23 12:00 UTC",
            "it renews by itself",
            "",
        ),
        (
            "Not done: Renewal looked for: another continues it",
            "the other agreement is not known yet",
            "warning",
        ),
        ("Entitlements read at AWS", "expired 2026-11-23 11:00 UTC", ""),
        ("Usage closed: last hour", "2 records made", ""),
    ]
    assert found[1].link_to == late


def test_an_event_that_is_not_applied_says_so(catalog, acme, agreement):
    event_of(agreement, NOON, kind="Something New - Proposer", state="unknown")
    names = {"license_id": agreement.license_id}
    event_of(None, NOON + MINUTE, state="received", error="ValueError: odd", attempts=4, **names)
    event_of(None, NOON + 2 * MINUTE, state="waiting", aws_agreement_id=agreement.agreement_id)
    event_of(None, NOON + 3 * MINUTE, state="waiting", aws_agreement_id="agmt-other")
    event_of(None, NOON + 4 * MINUTE, state="failed", license_id="l-other")

    assert told(agreement) == [
        ("AWS: Purchase Agreement Amended", "Waiting for its agreement", "AWS"),
        ("AWS: Purchase Agreement Amended", "Received; tried 4 times; ValueError: odd", "AWS"),
        ("AWS: Something New", "Of no known type", "AWS"),
    ]


def test_a_waiting_legacy_event_is_its_purchases_only_if_it_names_the_product(catalog, acme):
    legacy = make_agreement(catalog, acme, "reports-classic")
    identifier = legacy.customer.customer_identifier
    for action, product in (("unsubscribe-pending", "reports-classic"), ("subscribe-fail", "reports-payg")):
        event = events.store(message(sns(action, NOON, customer=identifier, product=product)), now=NOON)
        MarketplaceEvent.objects.filter(pk=event.pk).update(state="waiting")

    assert lines(legacy) == ["AWS: unsubscribe-pending"]


def test_what_another_purchase_lived_through_is_not_told(catalog, acme, agreement):
    other = make_agreement(catalog, acme, "reports-flex", account=agreement.customer.aws_account_id)
    event_of(other, NOON)
    trail(other, "flagged", NOON, reason="r")
    effect_of(other, "flush_usage", "c", state="done", done_at=NOON)
    refuse(make_record(other, NOON), NOON, "CustomerNotSubscribed")
    entitle(other, 5)
    Registration.objects.create(digest="1" * 64, agreement=other, expires_at=NOON)

    assert history(agreement) == []
    assert len(history(other)) == 7


def test_the_trail_is_told_in_words(agreement, acme_admin):
    record = make_record(agreement, NOON, state="parked")
    decisions.write_off([record], by=acme_admin, reason="agreed with the buyer", now=NOON)
    for seconds, (action, data) in enumerate(
        [
            ("late_usage_billed", {"events": [4, 5], "reason": "asked for"}),
            ("usage_too_late", {"events": 1}),
            ("continues", {"agreement": 7}),
            ("inherited", {"agreement": 7, "organization": 1}),
            ("claimed", {"organization": 0}),
            ("hours_closed", {"records": 3}),
            ("moved_by_a_fork", {"to": 5, "reason": "why not"}),
        ]
    ):
        trail(agreement, action, NOON + seconds * SECOND, by="job:close_hours", **data)

    assert [line for line in told(agreement) if "Metering" not in line[0]] == [
        ("Moved by a fork", "why not; to: 5", "this site"),
        ("Claimed", "organization: 0", "this site"),
        ("The workspace moved on to this purchase", "it continues agreement 7", "this site"),
        ("Found to continue agreement 7", "", "this site"),
        ("1 use cannot be billed: they came after the last hour", "", "this site"),
        ("2 uses that came too late are billed with the next hour", "asked for", "this site"),
        ("1 metering record written off", "agreed with the buyer", f"user {acme_admin.pk}"),
    ]


def test_nothing_has_happened_yet(agreement):
    assert page(agreement).entries == []
    assert page(agreement, before=NOON).older is None
