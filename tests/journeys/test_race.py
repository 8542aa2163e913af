"""A minute of everybody at once: no lost row, no double bill, nobody who records waits for a closer."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, connections
from django.utils import timezone

from billing import metering, usage
from billing.aws.window import HOUR
from billing.models import Agreement, MeteringRecord, UsageEvent
from tests.billing.ledger import REGION, make_agreement
from tests.journeys import submitters
from tests.journeys.crashes import assert_billed_once, close_and_submit, free_the_lease

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

WRITERS, CLOSERS = 8, 2


@pytest.fixture
def buyers(aws, catalog, acme):
    """Makes so many purchases, begun a day ago."""

    def make(count):
        since = timezone.now() - timedelta(days=1)
        made = []
        for _ in range(count):
            bought = aws.buy("reports-payg", started_at=since)
            made.append(
                make_agreement(
                    catalog,
                    acme,
                    account=bought.aws_account_id,
                    agreement_id=bought.agreement_id,
                    license_arn=bought.license_arn,
                    license_id=bought.license_arn.rpartition(":")[2],
                    activated_at=since,
                )  # fmt: skip
            )
        return made

    return make


def race(aws, buyers, folder: Path, *, seconds: float) -> None:
    aws.control.switch(quotas=True)
    bought = buyers(int(seconds * 10))
    end = time.monotonic() + seconds
    others = [_child(_writer(number, bought, folder, end)) for number in range(WRITERS)]
    others += [_child(_closer(end)) for _ in range(CLOSERS)]
    calls = submitters.race(aws, seconds=seconds)
    for child in others:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    submitters.assert_one_at_a_time(calls)
    submitters.assert_within_quota(calls)

    # What is left goes as fast as it can.
    aws.control.switch(quotas=False)
    free_the_lease()
    close_and_submit(timezone.now() + timedelta(minutes=6))
    while MeteringRecord.objects.sendable().exists():
        close_and_submit(timezone.now() + timedelta(minutes=6))
    keys = [key for told in folder.iterdir() for key in told.read_text().split()]
    assert len(keys) > seconds * WRITERS
    assert set(UsageEvent.objects.values_list("key", flat=True)) == set(keys)
    assert set(MeteringRecord.objects.values_list("state", flat=True)) == {"accepted"}
    assert_billed_once(aws)


def _writer(number: int, bought: list[Agreement], folder: Path, end: float) -> Callable[[], None]:
    def write() -> None:
        chance = random.Random(number)
        with connection.cursor() as cursor:
            # Whoever has to wait for a closer fails here.
            cursor.execute("SET lock_timeout = '150ms'")
        with (folder / str(number)).open("w") as told:
            for count in range(10**6):
                if time.monotonic() > end:
                    return
                agreement, now = chance.choice(bought), timezone.now()
                assert agreement.organization is not None
                key = f"{number}-{count}"
                usage.record(
                    agreement.organization,
                    "pages",
                    chance.randint(1, 9),
                    key=key,
                    occurred_at=now - chance.randint(1, 19) * HOUR,
                    agreement=agreement,
                    now=now,
                )
                print(key, file=told, flush=True)
                time.sleep(0.01)

    return write


def _closer(end: float) -> Callable[[], None]:
    def close() -> None:
        while time.monotonic() < end:
            metering.close_hours(region=REGION, now=timezone.now())

    return close


def _child(work: Callable[[], None]) -> int:
    connections.close_all()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def test_everybody_at_once_for_some_seconds(aws, buyers, tmp_path, monkeypatch):
    submitters.hurry(monkeypatch)
    race(aws, buyers, tmp_path, seconds=4)


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.timeout(600)
def test_everybody_at_once_for_a_minute(aws, buyers, tmp_path, monkeypatch):
    submitters.hurry(monkeypatch)
    race(aws, buyers, tmp_path, seconds=60)
