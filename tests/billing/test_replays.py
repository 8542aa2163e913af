"""An event is applied once more: what AWS sent stays as it came, and what came of it is said."""

from datetime import timedelta

import pytest

from billing import events
from billing.decision_rules import Refused
from billing.inbox import notifications, replays
from billing.inbox.notifications import Type
from billing.models import Agreement, AuditEvent, MarketplaceEvent, Product
from tests.billing.ledger import NOON, make_agreement
from tests.billing.notices import created, eventbridge, message
from tests.billing.repairing import trail

ARN = "arn:aws:license-manager::294406891311:license:l-0123456789abcdef0123456789abcdef"


@pytest.fixture
def replay(acme_admin):
    def make(event, *, seen=None):
        return replays.replay(event.pk, by=acme_admin, reason="mended", now=NOON, seen=seen)

    return make


def stored(body, *, apply=True):
    event = events.store(message(body, sent_at=NOON), now=NOON)
    if apply:
        events.apply_received(now=NOON)
    event.refresh_from_db()
    return event


def test_an_event_that_failed_for_a_bug_is_applied_at_once(catalog, acme, replay):
    event = stored(eventbridge("License Updated - Manufacturer", NOON), apply=False)
    MarketplaceEvent.objects.filter(pk=event.pk).update(
        error="KeyError: x", attempts=9, next_attempt_at=NOON + timedelta(hours=1)
    )
    assert replay(event) is True
    event.refresh_from_db()
    assert (event.state, event.error) == ("applied", "")
    assert Agreement.objects.get().status == "active"
    link = AuditEvent.objects.get(action="event_replayed")
    assert (link.stream, link.data) == ("staff", {"reason": "mended", "event": event.pk, "applied": event.pk})


def test_one_of_a_product_that_is_in_the_catalog_by_now_makes_its_purchase(catalog, replay):
    event = stored(eventbridge("License Updated - Manufacturer", NOON, product="reports-new"))
    assert event.state == "foreign"
    with pytest.raises(Refused, match="not about a product"):
        replay(event)
    product = Product.objects.create(
        code="reports-new", product_id="prod-new", title="New", pricing="subscription"
    )
    assert replay(event) is True
    assert Agreement.objects.get().product == product


def test_one_whose_purchase_nobody_knows_goes_on_waiting(catalog, replay):
    event = stored(created(NOON))
    assert event.state == "waiting"
    with pytest.raises(Refused, match="waits"):
        replay(event)
    event.refresh_from_db()
    assert event.state == "waiting"


def test_what_cannot_be_read_is_refused_and_stays(catalog, replay):
    event = stored("not json")
    with pytest.raises(Refused, match="cannot be read"):
        replay(event)
    event.refresh_from_db()
    assert event.state == "failed"
    assert not AuditEvent.objects.filter(action="event_replayed").exists()


def test_what_a_newer_version_can_read_is_stored_again_and_applied(catalog, replay):
    event = MarketplaceEvent.objects.create(
        channel="eventbridge",
        source_id="message-1",
        kind="unparsable",
        occurred_at=NOON,
        body=eventbridge("License Updated - Manufacturer", NOON, source_id="event-77"),
        state="failed",
        error="The body is not JSON.",
    )
    assert replay(event) is True
    event.refresh_from_db()
    again = MarketplaceEvent.objects.get(source_id="event-77")
    assert (event.state, again.state, again.body) == ("replayed", "applied", event.body)
    assert str(again.pk) in event.error
    assert replay(event) is False
    assert MarketplaceEvent.objects.filter(channel="eventbridge").count() == 2


def test_a_kind_that_is_known_by_now_changes_the_purchase(catalog, acme, replay, monkeypatch):
    agreement = make_agreement(catalog, acme, "reports-flex", license_id="l-0123456789abcdef0123456789abcdef")
    body = eventbridge("Vet Failed", NOON, agreement_id=agreement.agreement_id)
    with monkeypatch.context() as older:
        older.delitem(notifications._DETAIL_TYPES, "Vet Failed")
        event = stored(body)
        assert event.state == "unknown"
        with pytest.raises(Refused, match="does not know"):
            replay(event)
    assert notifications.parse(message(body, sent_at=NOON)).type is Type.VET_FAILED

    assert replay(event) is True

    event.refresh_from_db()
    agreement.refresh_from_db()
    assert event.state == "replayed"
    assert agreement.flagged_at is not None
    assert "event_replayed" in [action for _, action, _ in trail(agreement)]


def test_one_that_is_applied_is_left_as_it_is(catalog, replay):
    event = stored(eventbridge("License Updated - Manufacturer", NOON))
    assert replay(event) is False


def test_one_that_changed_since_it_was_seen_is_refused(catalog, replay):
    event = stored(created(NOON))
    with pytest.raises(Refused, match="changed since"):
        replay(event, seen="failed")


def test_one_that_fails_again_is_kept_and_says_why(catalog, replay, monkeypatch):
    event = stored(eventbridge("License Updated - Manufacturer", NOON), apply=False)

    def fail(*args, **kwargs):
        raise RuntimeError("still broken")

    monkeypatch.setattr(events, "apply", fail)
    with pytest.raises(Refused, match="tried again by itself"):
        replay(event)
    event.refresh_from_db()
    assert (event.state, event.error) == ("received", "RuntimeError: still broken")
