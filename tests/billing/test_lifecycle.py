"""The state of an agreement is the fold of its events, whatever arrives when."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import audit, clock, events, metering, registration, triggers, usage
from billing.fold import State, fold
from billing.inbox.notifications import Notification, Type
from billing.models import (
    Agreement,
    AuditEvent,
    AuditHead,
    Effect,
    MarketplaceEvent,
    MeteringRecord,
    UsageEvent,
)
from tests.billing.ledger import NOON, make_agreement, make_record
from tests.billing.notices import (
    ARN,
    created,
    deprovisioned,
    ended,
    eventbridge,
    license_updated,
    message,
    sns,
)

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
Status = Agreement.Status
_ids = itertools.count(1)


def happened(type_, after=timedelta(), *, status=None, source_id=None, **fields):
    return Notification(
        channel="eventbridge",
        source_id=source_id or f"e{next(_ids)}",
        type=type_,
        name=type_,
        occurred_at=NOON + after,
        agreement_status=status,
        **fields,
    )


def take(*bodies, now=NOON):
    for body in bodies:
        events.store(message(body, sent_at=now), now=now)
    events.apply_received(now=now)


# --- The fold, transition by transition

ACTIVE = happened(Type.LICENSE_UPDATED, timedelta(0), source_id="a")
ENDED_AT, GONE_AT = HOUR, HOUR + 31 * SECOND
CANCELLED = happened(Type.ENDED, ENDED_AT, status="CANCELLED", source_id="b")
GONE = happened(Type.DEPROVISIONED, GONE_AT, source_id="c")


def gone(status, ended_after, closes_after, reason="CANCELLED", access_for=None):
    return State(
        status,
        activated_at=NOON,
        ended_at=NOON + ended_after,
        end_reason=reason,
        access_until=NOON + ended_after + access_for if access_for else None,
        metering_closes_at=NOON + closes_after,
    )


def over(after):
    return happened(Type.WINDOW_OVER, after)


@pytest.mark.parametrize(
    ("notifications", "state"),
    [
        ([], State()),
        ([happened(Type.CREATED)], State()),
        ([happened(Type.ENTITLEMENT_UPDATED)], State()),
        ([happened(Type.OTHER)], State()),
        ([ACTIVE], State("active", activated_at=NOON)),
        ([ACTIVE, happened(Type.LICENSE_UPDATED, HOUR)], State("active", activated_at=NOON)),
        ([happened(Type.SUBSCRIBED)], State("active", activated_at=NOON)),
        ([happened(Type.SUBSCRIBE_FAILED)], State("failed")),
        (
            [happened(Type.SUBSCRIBE_FAILED), happened(Type.SUBSCRIBED, SECOND)],
            State("active", activated_at=NOON + SECOND),
        ),
        ([ACTIVE, happened(Type.SUBSCRIBE_FAILED, SECOND)], State("active", activated_at=NOON)),
        ([ACTIVE, CANCELLED], gone("ending", ENDED_AT, ENDED_AT + HOUR)),
        # The hour counts from License Deprovisioned.
        ([ACTIVE, CANCELLED, GONE], gone("ending", ENDED_AT, GONE_AT + HOUR)),
        # Why is not known yet: access goes on for as long as that may take.
        ([ACTIVE, GONE], gone("ending", GONE_AT, GONE_AT + HOUR, "", 10 * MINUTE)),
        # Ended after Deprovisioned, even by its own time.
        (
            [ACTIVE, GONE, happened(Type.ENDED, GONE_AT + SECOND, status="EXPIRED")],
            gone("ending", GONE_AT, GONE_AT + HOUR, "EXPIRED"),
        ),
        # Renewed and replaced: access does not blink.
        (
            [ACTIVE, happened(Type.ENDED, HOUR, status="RENEWED")],
            State("active", activated_at=NOON, end_reason="RENEWED"),
        ),
        (
            [ACTIVE, happened(Type.ENDED, HOUR, status="REPLACED")],
            State("active", activated_at=NOON, end_reason="REPLACED"),
        ),
        (
            [ACTIVE, happened(Type.ENDED, HOUR, status="RENEWED"), GONE],
            gone("ending", GONE_AT, GONE_AT + HOUR, "RENEWED", 24 * HOUR),
        ),
        # Deprovisioned first: the reason makes the grace longer, or takes it away.
        (
            [ACTIVE, GONE, happened(Type.ENDED, GONE_AT + SECOND, status="REPLACED")],
            gone("ending", GONE_AT, GONE_AT + HOUR, "REPLACED", 24 * HOUR),
        ),
        # AWS lists no entitlements any more, and no event said why: what it says later counts.
        (
            [ACTIVE, happened(Type.ENTITLEMENTS_GONE, HOUR)],
            gone("ending", HOUR, 2 * HOUR, "GONE", 10 * MINUTE),
        ),
        (
            [ACTIVE, happened(Type.ENTITLEMENTS_GONE, HOUR), GONE],
            gone("ending", HOUR, GONE_AT + HOUR, "", 10 * MINUTE),
        ),
        (
            [ACTIVE, happened(Type.ENTITLEMENTS_GONE, HOUR), happened(Type.ENDED, HOUR, status="RENEWED")],
            gone("ending", HOUR, 2 * HOUR, "RENEWED", 24 * HOUR),
        ),
        (
            [ACTIVE, happened(Type.ENTITLEMENTS_GONE, HOUR), happened(Type.ENTITLED, 3 * HOUR)],
            State("active", activated_at=NOON),
        ),
        (
            [ACTIVE, happened(Type.ENTITLEMENTS_GONE, HOUR), GONE, happened(Type.ENTITLED, 3 * HOUR)],
            gone("ending", HOUR, GONE_AT + HOUR, "", 10 * MINUTE),
        ),
        # Both feeds, while a listing moves: what EventBridge ended, a subscription over SNS does not revive.
        (
            [
                ACTIVE,
                happened(Type.UNSUBSCRIBE_PENDING, HOUR),
                happened(Type.ENDED, HOUR + SECOND, status="CANCELLED"),
                happened(Type.SUBSCRIBED, HOUR + 30 * MINUTE),
            ],
            gone("ending", HOUR, 2 * HOUR),
        ),
        # What AWS told is not taken back by a reading.
        (
            [ACTIVE, CANCELLED, happened(Type.ENTITLED, 3 * HOUR)],
            gone("ending", ENDED_AT, ENDED_AT + HOUR),
        ),
        ([happened(Type.ENTITLEMENTS_GONE)], State()),
        # A contract that no event made active: AWS lists its entitlements.
        ([happened(Type.ENTITLED)], State("active", activated_at=NOON)),
        (
            [CANCELLED, happened(Type.ENTITLED, 2 * HOUR)],
            State("failed", ended_at=NOON + ENDED_AT, end_reason="CANCELLED"),
        ),
        # An ended agreement never comes back.
        (
            [ACTIVE, CANCELLED, happened(Type.LICENSE_UPDATED, 2 * HOUR)],
            gone("ending", ENDED_AT, ENDED_AT + HOUR),
        ),
        ([CANCELLED], State("failed", ended_at=NOON + ENDED_AT, end_reason="CANCELLED")),
        # Cancelled before its license came: AWS still takes usage of that license for an hour.
        (
            [CANCELLED, happened(Type.LICENSE_UPDATED, 2 * HOUR)],
            State(
                "ending",
                activated_at=NOON + 2 * HOUR,
                ended_at=NOON + 2 * HOUR,
                end_reason="CANCELLED",
                metering_closes_at=NOON + 3 * HOUR,
            ),
        ),
        ([GONE], State("failed", ended_at=NOON + GONE_AT)),
        ([happened(Type.UNSUBSCRIBED)], State("failed", ended_at=NOON, end_reason="UNSUBSCRIBED")),
        # The window.
        ([ACTIVE, CANCELLED, over(ENDED_AT + HOUR)], gone("ended", ENDED_AT, ENDED_AT + HOUR)),
        ([ACTIVE, CANCELLED, GONE, over(ENDED_AT + HOUR)], gone("ending", ENDED_AT, GONE_AT + HOUR)),
        ([ACTIVE, over(HOUR)], State("active", activated_at=NOON)),
        # SNS.
        ([ACTIVE, happened(Type.UNSUBSCRIBE_PENDING, HOUR)], gone("ending", HOUR, 2 * HOUR, "UNSUBSCRIBED")),
        (
            [ACTIVE, happened(Type.UNSUBSCRIBE_PENDING, HOUR), happened(Type.UNSUBSCRIBED, 2 * HOUR)],
            gone("ended", HOUR, 2 * HOUR, "UNSUBSCRIBED"),
        ),
        (
            [ACTIVE, happened(Type.UNSUBSCRIBED, HOUR)],
            State("ended", activated_at=NOON, ended_at=NOON + HOUR, end_reason="UNSUBSCRIBED"),
        ),
        (
            [ACTIVE, happened(Type.UNSUBSCRIBE_PENDING, HOUR), happened(Type.SUBSCRIBED, HOUR + SECOND)],
            State("active", activated_at=NOON),
        ),
        (
            [ACTIVE, happened(Type.UNSUBSCRIBED, HOUR), happened(Type.SUBSCRIBED, HOUR + SECOND)],
            State("ended", activated_at=NOON, ended_at=NOON + HOUR, end_reason="UNSUBSCRIBED"),
        ),
        # What people must look at.
        ([happened(Type.ADVISORY_ISSUED, HOUR)], State(advisory_issued_at=NOON + HOUR)),
        ([happened(Type.ADVISORY_ISSUED), happened(Type.ADVISORY_RESOLVED, HOUR)], State()),
        ([ACTIVE, happened(Type.VET_FAILED, HOUR)], State("active", activated_at=NOON)),
        # Told by the way.
        (
            [happened(Type.SUBSCRIBED, free_trial=True)],
            State("active", activated_at=NOON, free_trial=True),
        ),
        (
            [
                ACTIVE,
                happened(Type.DESCRIBED, HOUR, trial_ends_at=NOON + 9 * HOUR, initial_agreement_id="agmt-0"),
            ],
            State(
                "active",
                activated_at=NOON,
                free_trial=True,
                trial_ends_at=NOON + 9 * HOUR,
                initial_agreement_id="agmt-0",
            ),
        ),
        (
            [
                happened(Type.CREATED, intent="RENEW", previous_agreement_id="agmt-0", auto_renews=True),
                happened(Type.AMENDED, HOUR, intent="AMEND", auto_renews=False),
            ],
            State(intent="RENEW", previous_agreement_id="agmt-0", auto_renews=False),
        ),
    ],
)
def test_a_history_gives_its_state(notifications, state):
    assert fold(notifications) == state


def test_offer_and_term_are_those_told_last():
    first = happened(Type.CREATED, offer_id="o1", starts_at=NOON, ends_at=NOON + 9 * HOUR)
    second = happened(Type.AMENDED, SECOND, offer_id="o2", ends_at=NOON + 99 * HOUR)
    state = fold([second, ACTIVE, first])
    assert (state.offer_id, state.term_starts_at, state.term_ends_at) == ("o2", NOON, NOON + 99 * HOUR)


histories = st.lists(
    st.builds(
        happened,
        st.sampled_from(list(Type)),
        st.integers(0, 6).map(lambda half_hours: half_hours * 30 * MINUTE),
        status=st.sampled_from([None, "CANCELLED", "EXPIRED", "RENEWED", "REPLACED"]),
        offer_id=st.sampled_from([None, "o1", "o2"]),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(histories, st.randoms())
def test_late_doubled_and_reordered_events_give_the_same_state(history, random):
    # A doubled event is stored once: what may differ is only the order.
    delivered = list(history)
    random.shuffle(delivered)
    state = fold(delivered)
    assert state == fold(history) == fold(reversed(history))
    assert (state.activated_at is None) == (state.status in ("pending", "failed"))
    assert state.status != "ending" or (state.ended_at and state.metering_closes_at)
    assert state.status != "active" or (state.ended_at, state.metering_closes_at) == (None, None)
    assert state.access_until is None or state.ended_at is not None


# --- Arriving, in any order

STORY = [
    created(NOON - 61 * SECOND, source_id="1"),
    license_updated(NOON, source_id="2"),
    eventbridge("Purchase Agreement Amended - Proposer", NOON + MINUTE, source_id="3"),
    ended(NOON + HOUR, source_id="4"),
    deprovisioned(NOON + HOUR + 31 * SECOND, source_id="5"),
]
COLUMNS = (
    "status",
    "activated_at",
    "ended_at",
    "metering_closes_at",
    "agreement_id",
    "license_arn",
    "offer_id",
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), doubled=st.integers(0, 4), where=st.integers(0, 5))
def test_a_purchase_ends_in_the_same_state_in_whatever_order_it_is_told(catalog, order, doubled, where):
    from_scratch()
    bodies = [STORY[number] for number in order]
    bodies.insert(where, STORY[doubled])
    for body in bodies:
        take(body, now=NOON + 2 * HOUR)
    assert Agreement.objects.values_list(*COLUMNS).get() == (
        "ending", NOON, NOON + HOUR, NOON + 2 * HOUR + 31 * SECOND, "agmt-1", ARN, "offer-1",
    )  # fmt: skip
    assert MarketplaceEvent.objects.filter(state="applied").count() == 5
    causes = set(Effect.objects.filter(kind="flush_usage").values_list("cause", flat=True))
    # Whatever was owed on the way, the last hour is flushed as this end wants it.
    settled = (NOON + HOUR + 10 * MINUTE).isoformat()
    assert f"last hour, ended {(NOON + HOUR).isoformat()}, due {settled}" in causes
    assert set(Effect.objects.filter(kind="sync_entitlements").values_list("cause", flat=True)) == {
        "eventbridge:2",
        "eventbridge:3",
    }


def from_scratch():
    """Hypothesis runs many examples in one test: each begins with no purchase."""
    triggers.drop_all(connection)
    Effect.objects.all().delete()
    MarketplaceEvent.objects.all().delete()
    AuditEvent.objects.all().delete()
    AuditHead.objects.all().delete()
    Agreement.objects.all().delete()
    triggers.install(connection)


# --- Facts page, cases 17 to 19 and 53 to 60


def test_17_an_event_before_the_buyer_makes_the_arrival_active(aws):
    bought = aws.buy("reports-flex")
    aws.control.advance(MINUTE)
    aws.deliver()
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON)
    assert arrival.agreement.status == "active"


def test_an_event_that_cannot_be_applied_keeps_neither_the_buyer_nor_the_others_waiting(aws, caplog):
    bought = aws.buy("reports-payg", agreement_created_after=0, license_updated_after=0)
    broken = MarketplaceEvent.objects.create(
        channel="eventbridge", source_id="broken", kind="k", occurred_at=timezone.now() - timedelta(days=1),
        body="{}", payload={"agreement_id": bought.agreement_id}, aws_agreement_id=bought.agreement_id,
        state=MarketplaceEvent.State.WAITING,
    )  # fmt: skip
    aws.deliver()
    arrival = registration.arrive(
        aws.marketplace, token=bought.token, free_trial_hint=False, now=timezone.now()
    )
    assert arrival.agreement.status == "active"
    broken.refresh_from_db()
    assert broken.state == MarketplaceEvent.State.WAITING
    assert f"Event {broken.pk} waited" in caplog.text


def test_18_before_the_event_access_is_pending(catalog, acme, aws):
    bought = aws.buy("reports-flex", license_updated_after=3600)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=NOON)
    aws.deliver()
    arrival.agreement.refresh_from_db()
    assert arrival.agreement.status == "pending"


def test_19_a_failed_payment_gives_no_access(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    take(sns("subscribe-fail", NOON, customer=agreement.customer.customer_identifier))
    agreement.refresh_from_db()
    assert agreement.status == "failed"
    assert not Effect.objects.filter(kind="sync_entitlements").exists()


def test_53_the_end_of_one_license_leaves_the_others_alone(catalog):
    other = ARN.replace("0123", "9999")
    take(license_updated(NOON), license_updated(NOON, arn=other, agreement_id="agmt-2"))
    take(deprovisioned(NOON + HOUR), now=NOON + HOUR)
    assert Agreement.objects.get(agreement_id="agmt-1").status == "ending"
    assert Agreement.objects.get(agreement_id="agmt-2").status == "active"
    assert set(
        Effect.objects.filter(kind="flush_usage").values_list("agreement__agreement_id", flat=True)
    ) == {"agmt-1"}


def test_54_an_hour_after_deprovisioning_the_agreement_has_ended(catalog):
    take(license_updated(NOON), deprovisioned(NOON + HOUR), now=NOON + HOUR)
    agreement = Agreement.objects.get()
    clock.advance(now=NOON + 2 * HOUR - SECOND)
    agreement.refresh_from_db()
    assert agreement.status == "ending"
    for _ in range(2):
        clock.advance(now=NOON + 2 * HOUR)
    agreement.refresh_from_db()
    assert agreement.status == "ended"
    said = MarketplaceEvent.objects.get(channel="clock")
    assert (said.occurred_at, said.state, said.agreement) == (NOON + 2 * HOUR, "applied", agreement)
    link = AuditEvent.objects.get(data__after="ended")
    assert (link.actor, link.data["before"]) == ("clock", "ending")


def test_a_window_that_was_put_off_ends_at_its_new_time(catalog):
    take(license_updated(NOON), ended(NOON + HOUR), now=NOON + HOUR)
    clock.advance(now=NOON + 2 * HOUR)
    assert Agreement.objects.get().status == "ended"
    # License Deprovisioned was late on its way: AWS's hour counts from it.
    take(deprovisioned(NOON + HOUR + 31 * SECOND), now=NOON + 2 * HOUR)
    assert Agreement.objects.get().status == "ending"
    clock.advance(now=NOON + 2 * HOUR + 31 * SECOND)
    assert Agreement.objects.get().status == "ended"
    assert MarketplaceEvent.objects.filter(channel="clock").count() == 2


def test_a_window_that_was_called_off_meanwhile_does_not_end(catalog, acme):
    agreement = make_agreement(catalog, acme)
    clock._end_window(agreement, now=NOON)
    assert not MarketplaceEvent.objects.exists()


def test_one_agreements_trouble_does_not_keep_the_others_from_ending(catalog, acme, monkeypatch, caplog):
    take(license_updated(NOON), deprovisioned(NOON + HOUR), now=NOON + HOUR)
    other = ARN.replace("0123", "9999")
    take(license_updated(NOON, arn=other, agreement_id="agmt-2"), now=NOON + HOUR)
    take(deprovisioned(NOON + HOUR, arn=other, agreement_id="agmt-2"), now=NOON + HOUR)
    broken = Agreement.objects.get(agreement_id="agmt-1")
    end = clock._end_window

    def fails(agreement, *, now):
        if agreement == broken:
            raise RuntimeError
        end(agreement, now=now)

    monkeypatch.setattr(clock, "_end_window", fails)
    clock.advance(now=NOON + 3 * HOUR)
    assert f"The end of agreement {broken.pk} could not be applied" in caplog.text
    assert Agreement.objects.get(agreement_id="agmt-2").status == "ended"


def test_55_a_renewed_agreement_keeps_access(catalog):
    take(license_updated(NOON), ended(NOON + HOUR, status="RENEWED"))
    assert Agreement.objects.get().status == "active"
    assert not Effect.objects.filter(kind="flush_usage").exists()


def test_57_a_late_created_does_not_activate_again(catalog):
    take(license_updated(NOON), ended(NOON + HOUR), created(NOON - MINUTE))
    assert Agreement.objects.get().status == "ending"


def test_58_an_event_twice_has_one_effect(catalog):
    body = license_updated(NOON)
    take(body, body)
    assert Effect.objects.filter(kind="sync_entitlements").count() == 1
    assert Effect.objects.filter(kind="mail", cause="seller_new:").count() == 1
    assert AuditEvent.objects.filter(action="status_changed").count() == 1


def test_60_a_license_without_its_prefix_is_the_same_one(catalog):
    take(
        license_updated(NOON), deprovisioned(NOON + HOUR, arn=ARN.removeprefix("arn:aws:"), agreement_id=None)
    )
    assert Agreement.objects.get().status == "ending"


# --- What a change owes


def test_activation_owes_a_reading_of_the_entitlements_at_once_since_the_event(catalog):
    take(license_updated(NOON), now=NOON + MINUTE)
    effect = Effect.objects.get(kind="sync_entitlements")
    assert (effect.caused_at, effect.due_at) == (NOON, NOON + MINUTE)


def test_a_subscription_owes_none_it_has_no_entitlements(catalog):
    take(license_updated(NOON, product="reports-payg"), now=NOON)
    assert not Effect.objects.filter(kind="sync_entitlements").exists()


def test_an_end_owes_a_flush_at_once_and_one_when_the_last_hour_has_settled(catalog):
    take(license_updated(NOON, product="reports-payg"))
    take(ended(NOON + HOUR), now=NOON + HOUR + MINUTE)
    flushes = Effect.objects.filter(kind="flush_usage")
    first, second = flushes.order_by("due_at")
    assert (first.due_at, second.due_at) == (NOON + HOUR + MINUTE, NOON + HOUR + 10 * MINUTE)
    take(deprovisioned(NOON + HOUR + 31 * SECOND, product="reports-payg"), now=NOON + HOUR + 2 * MINUTE)
    again = flushes.exclude(pk__in=[first.pk, second.pk]).get()
    assert again.due_at == NOON + HOUR + 2 * MINUTE


def test_the_end_moves_the_deadlines_of_what_is_not_settled(catalog, acme):
    take(license_updated(NOON, product="reports-payg"))
    agreement = Agreement.objects.get()
    record = make_record(agreement, NOON)
    take(ended(NOON + HOUR), now=NOON + HOUR)
    record.refresh_from_db()
    assert record.submit_by == NOON + 2 * HOUR


def test_a_called_off_ending_gives_the_deadlines_back(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    customer = agreement.customer.customer_identifier
    take(sns("subscribe-success", NOON, customer=customer))
    record = make_record(agreement, NOON)
    take(sns("unsubscribe-pending", NOON + HOUR, customer=customer), now=NOON + HOUR)
    record.refresh_from_db()
    assert record.submit_by == NOON + 2 * HOUR
    take(sns("subscribe-success", NOON + HOUR + MINUTE, customer=customer), now=NOON + HOUR + MINUTE)
    record.refresh_from_db()
    assert record.submit_by == NOON + 24 * HOUR
    agreement.refresh_from_db()
    assert (agreement.status, agreement.ended_at) == ("active", None)


def test_usage_before_we_heard_of_the_activation_is_taken_back_in(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-payg", activated_at=None, license_arn=ARN,
                               license_id=ARN.rpartition(":")[2], agreement_id=None)  # fmt: skip
    early = usage.record(acme, "pages", 1, key="early", occurred_at=NOON - SECOND, now=NOON + MINUTE)
    inside = usage.record(acme, "pages", 2, key="inside", occurred_at=NOON, now=NOON + MINUTE)
    cancelled = usage.record(acme, "pages", 4, key="cancelled", occurred_at=NOON, now=NOON + MINUTE)
    usage.cancel(acme, "cancelled", reason="wrong", now=NOON + MINUTE)
    take(license_updated(NOON, product="reports-payg"), now=NOON + 30 * MINUTE)
    for event in (early, inside, cancelled):
        event.refresh_from_db()
    outside = UsageEvent.Disposition.OUTSIDE_AGREEMENT
    assert [event.disposition for event in (early, inside, cancelled)] == [outside, "billable", "cancelled"]
    assert AuditEvent.objects.get(action="usage_reopened").data == {"events": 1}
    assert metering.close_hours(region="us-east-1", now=NOON + HOUR + MINUTE) == 1
    assert MeteringRecord.objects.get().used == 2
    assert agreement.usage_events.count() == 3
    assert list(audit.verify()) == []
