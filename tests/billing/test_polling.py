"""From the queue to the inbox: whatever dies or comes twice, an event is stored once and lost never."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

import pytest
from django.db import connections

from billing import events
from billing.aws.errors import MarketplaceUnavailable
from billing.inbox import polling
from billing.models import Agreement, Effect, MarketplaceEvent
from tests.billing.inbox import Inbox
from tests.billing.ledger import NOON
from tests.billing.notices import created, license_updated, message

QUEUE = "marketplace-events"


@pytest.fixture
def queue_url(settings, aws):
    (queue_url,) = settings.MARKETPLACE_EVENT_QUEUES
    return queue_url


def in_queue(aws, name=QUEUE):
    """How many messages can be received, and how many are hidden."""
    queue = aws.control.state()["queues"][name]
    return queue["visible"], queue["in_flight"]


def test_messages_are_deleted_when_they_are_stored_and_applied_afterwards(catalog):
    first, second = message(license_updated(NOON)), message("garbage", sent_at=NOON)
    inbox = Inbox([first], [second])
    assert polling.poll(inbox, "queue", now=NOON) == 2
    assert inbox.deleted == [first.message_id, second.message_id]
    assert inbox.asked == [(0, 60)] * 3
    assert Agreement.objects.get().status == "active"


def test_what_a_long_poll_brought_is_taken_in_first(catalog):
    heard, next_one = message(license_updated(NOON)), message(created(NOON))
    inbox = Inbox([next_one])
    assert polling.poll(inbox, "queue", now=NOON, heard=[heard]) == 2
    assert inbox.deleted == [heard.message_id, next_one.message_id]


def test_after_a_long_poll_that_brought_nothing_nobody_asks_again(catalog):
    events.store(message(license_updated(NOON)), now=NOON)
    inbox = Inbox()
    assert polling.poll(inbox, "queue", now=NOON, heard=[]) == 0
    assert inbox.asked == []
    assert Agreement.objects.get().status == "active"


def test_a_message_that_could_not_be_deleted_comes_again_and_changes_nothing(catalog):
    body = message(license_updated(NOON))
    with pytest.raises(MarketplaceUnavailable):
        polling.poll(Inbox([body], deleting=MarketplaceUnavailable("NoAnswer")), "queue", now=NOON)
    # What is stored was applied all the same.
    assert Agreement.objects.get().status == "active"
    polling.poll(Inbox([body]), "queue", now=NOON)
    assert MarketplaceEvent.objects.count() == 1
    assert Effect.objects.filter(kind="sync_entitlements").count() == 1


def test_what_was_stored_is_applied_even_when_the_queue_is_down(catalog):
    events.store(message(license_updated(NOON)), now=NOON)
    with pytest.raises(MarketplaceUnavailable):
        polling.poll(Inbox(MarketplaceUnavailable("Unreachable")), "queue", now=NOON)
    assert Agreement.objects.get().status == "active"


def test_real_messages_come_through_a_real_queue(aws):
    bought = aws.buy("reports-flex")
    classic = aws.buy("reports-classic")
    aws.control.advance(timedelta(minutes=1))
    aws.deliver()
    assert in_queue(aws) == (0, 0)
    assert Agreement.objects.get(license_arn=bought.license_arn).agreement_id == bought.agreement_id
    legacy = Agreement.objects.get(customer__customer_identifier=classic.customer_identifier)
    assert (legacy.status, legacy.identity) == ("active", "legacy")


# --- Twice


def test_messages_that_are_handed_out_again_change_nothing(aws, queue_url):
    aws.buy("reports-flex")
    aws.control.advance(timedelta(minutes=1))
    # Another consumer has stored them and was slow to delete them.
    for received in aws.marketplace.receive_messages(queue_url, wait_seconds=0, visibility_seconds=0):
        events.store(received, now=NOON)
    events.apply_received(now=NOON)
    before = list(Agreement.objects.values()), list(Effect.objects.values())
    assert MarketplaceEvent.objects.count() == 2
    aws.deliver()
    assert in_queue(aws) == (0, 0)
    assert MarketplaceEvent.objects.count() == 2
    assert (list(Agreement.objects.values()), list(Effect.objects.values())) == before


def die(messages):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal may take a moment to arrive


@pytest.mark.django_db(transaction=True)
def test_after_a_kill_between_commit_and_deletion_the_messages_come_again_and_change_nothing(aws, queue_url):
    aws.buy("reports-flex")
    aws.control.advance(timedelta(minutes=1))
    connections.close_all()  # a connection is one process's
    child = os.fork()
    if child == 0:
        try:
            aws.marketplace.delete_messages = die
            polling.poll(aws.marketplace, queue_url, now=NOON, visibility_seconds=0, clock=lambda: 0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert set(MarketplaceEvent.objects.values_list("state", flat=True)) == {"received"}
    assert in_queue(aws) == (2, 0)
    aws.deliver()
    assert in_queue(aws) == (0, 0)
    assert MarketplaceEvent.objects.filter(state="applied").count() == MarketplaceEvent.objects.count() == 2
    assert Agreement.objects.get().status == "active"
    assert Effect.objects.filter(kind="sync_entitlements").count() == 1


# --- What cannot be stored


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("half a pair: \ud83d", "half a pair: \\ud83d"),
        ("\x00 and \udc00", "\\u0000 and \\udc00"),
        ("a whole pair: \U0001f600", "a whole pair: \U0001f600"),
    ],
    ids=["half a pair", "both", "a whole pair"],
)
def test_what_postgresql_cannot_keep_of_a_body_is_escaped(db, body, kept):
    inbox = Inbox([message(body, message_id="odd", sent_at=NOON)])
    assert polling.poll(inbox, "queue", now=NOON) == 1
    assert inbox.deleted == ["odd"]
    assert MarketplaceEvent.objects.get().body == kept


def test_a_nul_comes_through_a_real_queue_and_is_escaped(aws):
    aws.control.send(QUEUE, "\x00 is in here")
    aws.deliver()
    event = MarketplaceEvent.objects.get()
    assert (event.state, event.body) == ("failed", "\\u0000 is in here")
    assert in_queue(aws) == (0, 0)


@pytest.fixture
def poison(monkeypatch):
    """Part of a body that, by a defect of ours, no column takes."""
    store = events.store

    def refuse(received, *, now):
        if "poison" in received.body:
            raise ValueError("a string the database does not take")
        return store(received, now=now)

    monkeypatch.setattr(events, "store", refuse)
    return "poison"


def test_a_message_that_cannot_be_stored_reaches_the_dead_letters_and_stops_no_other(
    aws, queue_url, poison, caplog
):
    aws.control.queue("dead")
    aws.control.queue(QUEUE, dead_letter_queue="dead", max_receives=2)
    aws.control.send(QUEUE, poison)
    aws.buy("reports-flex")
    aws.control.advance(timedelta(minutes=1))
    assert polling.poll(aws.marketplace, queue_url, now=NOON, visibility_seconds=0) == 2
    assert Agreement.objects.get().status == "active"
    assert in_queue(aws) == (0, 0)
    assert in_queue(aws, "dead") == (1, 0)
    said = [record for record in caplog.records if "of the event queue cannot be stored" in record.message]
    assert [record.levelname for record in said] == ["ERROR"] * 2


# --- A slow database


class Ticking:
    """A clock that is so much later each time it is looked at."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now = 0

    def __call__(self):
        self.now += self.seconds
        return self.now


@pytest.fixture
def heard(aws, queue_url):
    """Three messages in hand, that AWS hands out again in 20 seconds."""
    for number in range(3):
        aws.control.send(QUEUE, f"message {number}")
    return aws.marketplace.receive_messages(queue_url, wait_seconds=0, visibility_seconds=20)


def hidden_for(aws):
    """Seconds until each message that is in the queue yet comes back, by its body."""
    return {
        message.body: round(message.visible_at - time.time(), -1)
        for message in list(aws.simulator.state.messages.values())
    }


def test_while_the_database_is_slow_nobody_else_gets_what_is_in_hand(aws, queue_url, heard, monkeypatch):
    store, at_the_last = events.store, {}

    def look(received, *, now):
        if received.body == "message 2":
            at_the_last.update(hidden_for(aws))
        return store(received, now=now)

    monkeypatch.setattr(events, "store", look)
    slow = Ticking(31)
    assert polling.poll(aws.marketplace, queue_url, now=NOON, heard=heard, clock=slow) == 3
    # What was stored before the time ran out is deleted already, the rest hidden anew.
    assert at_the_last == {"message 2": 60}
    changes = [call["request"] for call in aws.control.requests("ChangeMessageVisibility")]
    assert [change["VisibilityTimeout"] for change in changes] == [60] * (3 + 2 + 1)
    assert in_queue(aws) == (0, 0)


def test_while_the_database_is_quick_nothing_is_extended(aws, queue_url, heard):
    quick = Ticking(5)
    assert polling.poll(aws.marketplace, queue_url, now=NOON, heard=heard, clock=quick) == 3
    assert aws.control.requests("ChangeMessageVisibility") == []
    assert len(aws.control.requests("DeleteMessageBatch")) == 1


def test_who_may_not_keep_messages_hidden_takes_them_in_all_the_same(aws, queue_url, heard, caplog):
    aws.control.fault("ChangeMessageVisibility", "error", count=None)
    assert polling.poll(aws.marketplace, queue_url, now=NOON, heard=heard, clock=Ticking(31)) == 3
    assert "Messages in hand may be handed out twice: AccessDenied" in caplog.text
    assert MarketplaceEvent.objects.count() == 3
