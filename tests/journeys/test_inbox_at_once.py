"""Many consumers on one inbox, with closing and submission running; and ten thousand events that waited."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import audit, clock, customers, effects, events, metering, registration, submission, usage
from billing.inbox import polling
from billing.inbox.notifications import Notification, parse
from billing.models import Agreement, MarketplaceEvent, MeteringRecord
from billing.reconciliation import verification
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, REGION, license_arn
from tests.billing.notices import created, deprovisioned, ended, eventbridge, license_updated, message

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
CONSUMERS = 8
LIVES = 12


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_eight_consumers_share_a_queue_while_hours_close_and_usage_is_sent(aws, acme, acme_admin, settings):
    """Nobody waits in a ring, and nothing is done twice."""
    now = NOON + 2 * HOUR
    aws.control.freeze(NOON)
    bought = [aws.buy("reports-flex" if number % 2 else "reports-payg") for number in range(LIVES)]
    aws.control.advance(MINUTE)
    for each in bought[::2]:
        arrival = registration.arrive(aws.marketplace, token=each.token, free_trial_hint=False, now=NOON)
        registration.claim(arrival, by=acme_admin, organization=acme, now=NOON)
    aws.control.fault("events", "double", count=None)
    aws.control.advance(HOUR)
    for number, each in enumerate(bought):
        if number % 2:
            aws.control.renew(each.agreement_id)
        elif number % 4:
            aws.control.cancel(each.agreement_id)
    aws.control.freeze(now)
    queue = settings.MARKETPLACE_EVENT_QUEUES[0]
    deadlocks: list[BaseException] = []
    over = threading.Event()

    def consume() -> None:
        polling.poll(aws.marketplace, queue, now=now)
        effects.run_due(aws.marketplace, now=now)
        clock.advance(now=now)

    def use() -> None:
        for number in itertools.count():
            for agreement in Agreement.objects.filter(organization=acme, activated_at__isnull=False):
                usage.record(
                    acme, "pages", 1, key=f"{agreement.pk}-{number}", occurred_at=NOON + 30 * MINUTE,
                    agreement=agreement, now=now,
                )  # fmt: skip
            metering.close_hours(region=REGION, now=now)
            submission.submit_due(aws.marketplace, now=now)
            if over.wait(0.05):
                return

    worker = threading.Thread(target=lambda: deadlocks.extend(each for each in at_once(use) if each))
    worker.start()
    try:
        answers = at_once(*[consume] * CONSUMERS)
    finally:
        over.set()
        worker.join(timeout=60)
    assert [each for each in answers if isinstance(each, BaseException)] == []
    assert deadlocks == []
    for later in (now, now + 11 * MINUTE, now + 2 * HOUR):
        events.apply_received(now=later)
        events.apply_waiting(now=later)
        effects.run_due(aws.marketplace, now=later)
    assert set(MarketplaceEvent.objects.values_list("state", flat=True)) == {"applied"}
    assert MarketplaceEvent.objects.filter(error__gt="").count() == 0
    assert Counter(Agreement.objects.values_list("intent", flat=True))["RENEW"] == LIVES // 2
    assert Agreement.objects.exclude(previous=None).count() == LIVES // 2
    sent = Counter(each.extra_headers["Message-ID"] for each in mail.outbox)
    assert max(sent.values()) == 1
    assert list(audit.verify()) == []
    assert list(verification.verify()) == []
    assert not MeteringRecord.objects.filter(state="conflict").exists()


def names_of(number: int) -> dict[str, str]:
    return {"agreement_id": f"agmt-{number}", "arn": license_arn(number), "account": f"{number:012}"}


def store_waiting(numbers: range, each: int) -> None:
    """Events of agreements that nobody knew yet, and of each the one, last to come, that makes it known."""
    MarketplaceEvent.objects.bulk_create(
        waiting(parse(message(body))) for number in numbers for body in told(number, each)
    )
    for number in numbers:
        body = license_updated(NOON + MINUTE, product="reports-payg", **names_of(number))
        events.store(message(body), now=NOON)


def told(number: int, each: int) -> Iterator[str]:
    names = names_of(number)
    yield created(NOON, **names)
    yield ended(NOON + 2 * HOUR, **names)
    yield deprovisioned(NOON + 3 * HOUR, **names)
    for count in range(each - 3):
        yield eventbridge("Purchase Agreement Ending - Proposer", NOON + count * SECOND, **names)


def waiting(notification: Notification) -> MarketplaceEvent:
    """As it was left when it came: storing ten thousand one by one would take longer than draining them."""
    license_id = notification.license_arn and customers.license_id(notification.license_arn)
    return MarketplaceEvent(
        channel=notification.channel,
        source_id=notification.source_id,
        kind=notification.name,
        occurred_at=notification.occurred_at,
        received_at=NOON,
        payload=notification.to_json(),
        license_id=license_id,
        aws_agreement_id=notification.agreement_id,
        state="waiting",
    )


def assert_drained() -> None:
    assert not MarketplaceEvent.objects.exclude(state="applied").exists()
    assert not Agreement.objects.exclude(status="ending").exists()


@pytest.mark.parametrize(
    ("agreements", "each", "most"), [(40, 5, 8), (2, 100, 1)], ids=["many buyers", "few buyers"]
)
def test_waiting_events_are_drained_in_a_bounded_number_of_queries(catalog, agreements, each, most):
    store_waiting(range(agreements), each)
    with CaptureQueriesContext(connection) as queries:
        events.apply_received(now=NOON + MINUTE)
    assert_drained()
    assert len(queries) <= most * agreements * (each + 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_waiting_events_are_drained_in_one_go_with_flat_memory(catalog):
    store_waiting(range(400), 24)
    tracemalloc.start()
    events.apply_received(now=NOON + MINUTE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert MarketplaceEvent.objects.count() == 10_000
    assert_drained()
    # About 1 MiB was seen, most of it compiled statements: the events themselves come and go.
    assert peak < 3 * 2**20
