"""Listening to the queues: at once when AWS says something, and there again when AWS is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from queue import SimpleQueue

import pytest
from django.conf import settings as project_settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from billing import events, tasks
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable
from billing.inbox import consumer
from billing.inbox.consumer import Listener
from billing.models import Agreement, Effect, Lease, MarketplaceEvent
from tests.billing.inbox import Inbox
from tests.billing.ledger import NOON
from tests.billing.notices import created, license_updated, message

QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/111111111111/marketplace-events"
DOWN = MarketplaceUnavailable("Unreachable", "EndpointConnectionError")
REFUSED = MarketplaceError("AccessDenied", "not authorized to perform: sqs:receivemessage")


@pytest.fixture
def rung():
    """One entry for each time that the bell rang."""
    return []


@pytest.fixture
def listen_to(rung):
    def listen_to(marketplace, queue_url=QUEUE_URL):
        return Listener(marketplace, queue_url, lambda: rung.append("rung"), now=lambda: NOON)

    return listen_to


def said(caplog, level):
    return [record.message for record in caplog.records if record.levelname == level]


# --- Turns


def test_a_turn_takes_in_what_is_said_and_rings_for_what_it_owes(catalog, listen_to, rung):
    inbox = Inbox([message(license_updated(NOON))])
    listener = listen_to(inbox)
    assert listener.turn(wait_seconds=20)
    assert inbox.asked == [(20, 60), (0, 60)]
    assert Agreement.objects.get().status == "active"
    assert rung == ["rung"]
    assert listener.turn(wait_seconds=20)
    assert rung == ["rung"]


def test_a_long_poll_wakes_when_something_is_said(aws, settings, listen_to, rung):
    (queue_url,) = settings.MARKETPLACE_EVENT_QUEUES
    says = threading.Timer(0.2, aws.control.send, ["marketplace-events", license_updated(NOON)])
    says.start()
    began = time.monotonic()
    assert listen_to(aws.marketplace, queue_url).turn(wait_seconds=20)
    assert time.monotonic() - began < 10
    says.join()
    assert Agreement.objects.get().status == "active"
    assert rung == ["rung"]


def test_an_event_that_was_put_off_is_applied_though_aws_is_down(catalog, listen_to, rung):
    events.store(message(license_updated(NOON)), now=NOON)
    assert not listen_to(Inbox(DOWN)).turn(wait_seconds=20)
    assert Agreement.objects.get().status == "active"


def test_when_aws_fails_after_some_messages_the_bell_rings_for_them(catalog, listen_to, rung):
    assert not listen_to(Inbox([message(license_updated(NOON))], DOWN)).turn(wait_seconds=20)
    assert Agreement.objects.get().status == "active"
    assert rung == ["rung"]


# --- Trouble


class Watch(threading.Event):
    """Notes the pauses instead of taking them, and is set after so many."""

    def __init__(self, most):
        super().__init__()
        self.pauses = []
        self._most = most

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        if len(self.pauses) == self._most:
            self.set()
        return self.is_set()


@pytest.mark.django_db(transaction=True)
def test_pauses_grow_to_a_minute_while_aws_is_down_and_begin_anew_afterwards(catalog, listen_to, caplog):
    watch = Watch(10)
    inbox = Inbox(*[DOWN] * 8, [], [message(created(NOON))], [], DOWN, DOWN)
    listen_to(inbox).listen(watch, jitter=lambda: 1.0)
    assert watch.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]
    assert len(said(caplog, "WARNING")) == 10
    assert said(caplog, "ERROR") == []


@pytest.mark.django_db(transaction=True)
def test_consumers_that_lost_aws_together_do_not_come_back_together(catalog, listen_to):
    shares = iter([0.0, 0.5, 1.0, 0.0])
    watch = Watch(4)
    listen_to(Inbox(*[DOWN] * 4)).listen(watch, jitter=lambda: next(shares))
    assert watch.pauses == [0.5, 1.5, 4, 4]


def test_a_refusal_that_needs_a_person_alarms_once_an_hour_for_each_queue(catalog, listen_to, caplog):
    def alarms(queue="marketplace-events"):
        caplog.clear()
        assert not listen_to(Inbox(REFUSED), f"https://sqs/1/{queue}").turn(wait_seconds=20)
        return said(caplog, "ERROR")

    (alarm,) = alarms()
    assert "marketplace-events: AccessDenied: not authorized" in alarm
    assert "sqs:ReceiveMessage" in alarm
    assert alarms() == []
    assert len(said(caplog, "WARNING")) == 1
    assert len(alarms("q" * 80)) == 1
    Lease.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert len(alarms()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_breaks_costs_a_turn(catalog, listen_to, caplog):
    class Breaking(Inbox):
        def receive_messages(self, queue_url, **options):
            received = super().receive_messages(queue_url, **options)
            if len(self.asked) == 1:
                connection.connection.close()  # as when the server restarts
            return received

    heard = message(license_updated(NOON))
    inbox = Breaking([heard], [heard])
    listener = listen_to(inbox)
    assert not listener.turn(wait_seconds=20)
    assert inbox.deleted == []
    assert "marketplace-events: the database does not answer" in caplog.text
    assert listener.turn(wait_seconds=20)
    assert inbox.deleted == [heard.message_id]
    assert Agreement.objects.get().status == "active"


@pytest.mark.django_db(transaction=True)
def test_no_message_is_asked_for_while_the_database_is_down(catalog, listen_to, monkeypatch):
    inbox = Inbox([message(license_updated(NOON))])
    listener = listen_to(inbox)
    connection.close()
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "NAME", "/nowhere/at/all")
        assert not listener.turn(wait_seconds=20)
    assert inbox.asked == []
    assert listener.turn(wait_seconds=20)
    assert len(inbox.deleted) == 1


# --- Stopping


def test_once_told_to_stop_a_listener_takes_nothing_more_in_hand(catalog, listen_to, rung):
    inbox = Inbox([message(license_updated(NOON))])
    listener = listen_to(inbox)
    assert listener.finish(timeout=0)
    assert listener.turn(wait_seconds=20)
    assert inbox.deleted == []
    assert not MarketplaceEvent.objects.exists()
    assert rung == []


def test_a_batch_in_hand_is_waited_for(catalog, listen_to):
    finished = []

    class Telling(Inbox):
        def delete_messages(self, messages):
            finished.append(listener.finish(timeout=0.01))
            super().delete_messages(messages)

    listener = listen_to(Telling([message(license_updated(NOON))]))
    assert listener.turn(wait_seconds=20)
    assert finished == [False]
    assert listener.finish(timeout=0.01)


@pytest.mark.django_db(transaction=True)
def test_a_listener_that_dies_of_a_defect_takes_the_process_with_it(catalog):
    told = SimpleQueue()
    with pytest.raises(TypeError, match="a defect"):
        consumer.consume(Inbox(TypeError("a defect")), [QUEUE_URL], after=lambda: None, told=told)


# --- The command


@pytest.fixture
def bell(monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(tasks.run_effects, "delay", lambda: names.append("run_effects"))
    return names


def test_once_takes_in_every_queue_and_rings(aws, settings, bell, caplog, django_capture_on_commit_callbacks):
    settings.MARKETPLACE_EVENT_QUEUES = [
        "http://127.0.0.1/000000000000/none",
        *settings.MARKETPLACE_EVENT_QUEUES,
    ]
    aws.buy("reports-flex")
    aws.control.advance(timedelta(minutes=1))
    with django_capture_on_commit_callbacks(execute=True):
        call_command("consume_events", "--once")
    assert Agreement.objects.get().status == "active"
    assert bell == ["run_effects"]
    assert "Event queue none: " in caplog.text


def test_without_a_queue_the_command_says_what_to_set(settings):
    settings.MARKETPLACE_EVENT_QUEUES = []
    with pytest.raises(CommandError, match="MARKETPLACE_EVENT_QUEUES"):
        call_command("consume_events", "--once")


@pytest.fixture
def running(aws, tmp_path):
    """The command in a process of its own, on this test's database, listening to two queues."""
    queues = ["marketplace-events", "second"]
    aws.control.queue("second", receives=[])
    database = project_settings.DATABASES["default"]
    url = f"sqlite:///{database['NAME']}"
    if connection.vendor == "postgresql":
        place = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
        url = f"postgres://{place}/{database['NAME']}"
    with subprocess.Popen(
        [sys.executable, "manage.py", "consume_events"],
        env={
            **os.environ,
            **aws.simulator.endpoint_env,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": url,
            "DATA_DIR": str(tmp_path),  # its bells ring here
            "REDIS_URL": "",
            "MARKETPLACE_EVENT_QUEUES": ",".join(
                f"{aws.simulator.url}/000000000000/{queue}" for queue in queues
            ),
        },
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def soon(answer):
    """What it answers once that is anything."""
    until = time.monotonic() + 20
    while not (found := answer()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


@pytest.mark.django_db(transaction=True)
def test_the_command_listens_to_every_queue_and_stops_at_once_when_told(aws, running, tmp_path):
    assert running.stdout.readline().startswith("Listening to http://")
    now = timezone.now()
    for applied, (queue, body) in enumerate(
        [("marketplace-events", license_updated(now)), ("second", created(now))]
    ):
        aws.control.send(queue, body)
        soon(lambda most=applied: MarketplaceEvent.objects.filter(state="applied").count() > most)
    assert Agreement.objects.get().status == "active"
    assert Effect.objects.get(kind="sync_entitlements").state == "due"
    bells = tmp_path / "broker/messages"
    soon(lambda: any(b"billing.tasks.run_effects" in bell.read_bytes() for bell in bells.glob("*")))
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 0  # and not after the 20 seconds of a long poll
