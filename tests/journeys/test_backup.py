"""A dump under load, restored elsewhere: the ledger is whole, and AWS bills what was used, once."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections

from billing import audit, decisions, metering, reconciliation, restoring, submission
from billing.aws.client import get_marketplace
from billing.aws.window import HOUR
from billing.models import Agreement, Lease, MeteringRecord, UsageEvent
from tests.billing.ledger import NOON, REGION, bought_agreement, use
from tests.journeys.crashes import assert_billed_once, free_the_lease
from tests.journeys.processes import manage

WRITERS, BUYERS = 3, 12
PACE = 600  # seconds of the story in a real one: an hour in six
DUMPED_AFTER, LOST_AFTER = 8, 20  # real seconds

State = MeteringRecord.State

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.slow,
    pytest.mark.ledger,
    pytest.mark.timeout(600),
]


@dataclass(frozen=True)
class Story:
    """The time in it, which all processes share."""

    began: float

    def now(self) -> datetime:
        return NOON + timedelta(seconds=(time.monotonic() - self.began) * PACE)


@pytest.fixture
def bought(aws, catalog, acme):
    aws.control.freeze(NOON)
    return [bought_agreement(aws, catalog, acme) for _ in range(BUYERS)]


@pytest.fixture
def restored(tmp_path) -> Iterator[Callable[[Path], None]]:
    """Restores a dump into a database of its own, to which everything is connected from then on."""
    original = connection.settings_dict["NAME"]
    name = f"{original}_restored"

    def restore(dump: Path) -> None:
        connections.close_all()
        run("dropdb", "--if-exists", name)
        run("createdb", name)
        run("pg_restore", "--exit-on-error", "--dbname", name, str(dump))
        connection.settings_dict["NAME"] = name

    yield restore
    connections.close_all()
    connection.settings_dict["NAME"] = original
    run("dropdb", "--if-exists", name)


def run(command: str, *arguments: str) -> str:
    database = connection.settings_dict
    environment = {
        **os.environ,
        "PGHOST": database["HOST"],
        "PGPORT": str(database["PORT"] or 5432),
        "PGUSER": database["USER"],
        "PGPASSWORD": database["PASSWORD"],
    }
    done = subprocess.run([command, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dump_under_load_restores_to_a_whole_ledger_and_aws_bills_each_use_once(
    aws, bought, restored, tmp_path, operator
):
    told, dump, story = tmp_path / "told", tmp_path / "backup.dump", Story(time.monotonic())
    children = [_child(_writer(number, bought, told, story)) for number in range(WRITERS)]
    children.append(_child(_metering(aws, story)))
    try:
        time.sleep(DUMPED_AFTER)
        run("pg_dump", "--format=custom", f"--file={dump}", connection.settings_dict["NAME"])
        assert time.monotonic() - story.began < LOST_AFTER - 2, "the dump took the whole time"
        time.sleep(max(0.0, LOST_AFTER - (time.monotonic() - story.began)))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    stopped_at = story.now()
    before, billed_before = _counts(), _billed(aws)

    restored(dump)
    assert before["uses"] > _counts()["uses"], "nothing was lost: the dump came too late"
    assert before["records"] > _counts()["records"], "no hour was closed after the dump"
    manage("migrate", "--verbosity=0")
    assert manage("verify_ledger").startswith("0 breaches")
    assert manage("verify_audit").endswith("Every chain is whole.\n")

    # The runbook. The product's own log has every use: each is recorded again, as often as one likes.
    now = stopped_at + timedelta(minutes=20)
    aws.control.freeze(now)
    uses = [json.loads(line) for line in told.read_text().splitlines()]
    agreements = {agreement.pk: agreement for agreement in Agreement.objects.select_related("organization")}
    for each in uses:
        at = datetime.fromisoformat(each["at"])
        use(agreements[each["agreement"]], each["quantity"], at=at, key=each["key"], now=now)
    assumed = restoring.assume_sent(now=now)
    assert assumed.uses, "nothing came late: the story is too easy"
    last = _go_on(aws, now)

    _decide(aws, operator, now=last)
    last = _go_on(aws, last + timedelta(minutes=10))
    assert list(reconciliation.verify()) == []
    assert list(audit.verify()) == []
    used = Counter[int]()
    for each in uses:
        used[each["agreement"]] += Decimal(each["quantity"])
    assert _billed(aws) == used
    assert sum(billed_before.values()) > 0
    # What the ledger calls accepted is on the invoice as it stands. What differs is named: each a conflict.
    accepted, conflicts = _records(State.ACCEPTED), _records(State.CONFLICT)
    assert conflicts, "no hour was closed with other uses: the story is too easy"
    invoiced = _invoiced(aws)
    assert {place: invoiced[place] for place in accepted} == accepted
    assert set(conflicts) <= set(invoiced)
    assert not any(line["billed_twice"] for line in aws.control.invoice()["lines"])
    assert set(MeteringRecord.objects.values_list("state", flat=True)) <= {State.ACCEPTED, State.CONFLICT}


def test_a_restore_to_the_last_moment_needs_no_decisions(aws, bought, restored, tmp_path):
    """With the write-ahead log kept, only what was in flight is unknown: as after any crash."""
    dump, now = tmp_path / "backup.dump", NOON + timedelta(minutes=5)
    for agreement in bought:
        for back in (1, 2, 3):
            use(agreement, "2.5", at=NOON - back * HOUR, tags={"team": "ml"})
    aws.control.freeze(now)
    metering.close_hours(region=REGION, now=now)
    run("pg_dump", "--format=custom", f"--file={dump}", connection.settings_dict["NAME"])
    assert submission.submit_due(get_marketplace(), now=now) == 3 * BUYERS

    restored(dump)
    assert manage("verify_ledger").startswith("0 breaches")
    told = manage("resume_after_restore", "--everything-is-stopped")
    assert f"{3 * BUYERS} records are in doubt" in told
    assert "0 uses came too late" in told
    assert submission.submit_due(get_marketplace(), now=now) == 3 * BUYERS
    assert_billed_once(aws)
    assert [record.state for record in MeteringRecord.objects.all()] == [State.ACCEPTED] * 3 * BUYERS


def test_the_restored_database_refuses_what_the_first_one_refused(bought, restored, tmp_path):
    dump = tmp_path / "backup.dump"
    use(bought[0], 1)
    run("pg_dump", "--format=custom", f"--file={dump}", connection.settings_dict["NAME"])
    restored(dump)
    assert "no issues" in manage("check", "--database", "default")
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation), connection.cursor() as cursor:
        cursor.cursor.execute("DELETE FROM billing_usageevent")


def _child(work: Callable[[], None]) -> int:
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            get_marketplace.cache_clear()
            work()
        finally:
            os._exit(1)
    return child


def _writer(number: int, bought: list[Agreement], told: Path, story: Story) -> Callable[[], None]:
    """A product that keeps a log of its own: each use is in it before it is recorded. Some come late."""

    def work() -> None:
        chance = random.Random(number)
        with told.open("a") as log:
            for turn in itertools.count():
                agreement, now = chance.choice(bought), story.now()
                late = timedelta(minutes=chance.choice((0, 1, 2, 5, 10, 90)))
                at, key = max(now - late, NOON), f"{number}-{turn}"
                line = {"agreement": agreement.pk, "quantity": 1, "key": key, "at": at.isoformat()}
                print(json.dumps(line), file=log, flush=True)
                use(agreement, 1, at=at, key=key, now=now)

    return work


def _metering(aws, story: Story) -> Callable[[], None]:
    def work() -> None:
        while True:
            now = story.now()
            aws.control.freeze(now)
            if now.minute >= 5:
                metering.close_hours(region=REGION, now=now)
            submission.submit_due(get_marketplace(), now=now)

    return work


def _go_on(aws, now: datetime) -> datetime:
    """Metering runs again, until the last hour is closed and everything has its answer."""
    Lease.objects.update(holder="")
    for _ in range(12):
        free_the_lease()
        aws.control.freeze(now)
        metering.close_hours(region=REGION, now=now)
        submission.submit_due(get_marketplace(), now=now)
        still = MeteringRecord.objects.sendable().exists() or UsageEvent.objects.open().exists()
        if not still:
            return now
        now += timedelta(minutes=15)
    raise AssertionError("metering does not come to an end")


def _decide(aws, operator, *, now: datetime) -> None:
    """What an operator does with AWS's report: late usage that AWS billed is given up, the rest is billed."""
    billed = _billed(aws)
    for agreement in Agreement.objects.all():
        held = agreement.metering_records.filter(state__in=[State.ACCEPTED, State.CONFLICT])
        known = sum((record.quantity for record in held), Decimal(0))
        late = list(agreement.usage_events.filter(disposition="too_late").order_by("pk"))
        beyond = int(billed[agreement.pk] - known)  # AWS billed it, under hours in which the ledger has less
        assert 0 <= beyond <= len(late), (agreement, beyond, len(late))
        if beyond:
            decisions.write_off_usage(late[:beyond], by=operator, reason="AWS's report has it", now=now)
        if late[beyond:]:
            decisions.bill_late_usage(late[beyond:], by=operator, reason="AWS's report has it not", now=now)


def _counts() -> Counter[str]:
    return Counter({"uses": UsageEvent.objects.count(), "records": MeteringRecord.objects.count()})


def _invoiced(aws) -> dict[tuple[str, str], Decimal]:
    lines = aws.control.invoice()["lines"]
    return {(line["license_arn"], line["hour"]): Decimal(line["quantity"]) for line in lines}


def _records(state: str) -> dict[tuple[str, str], Decimal]:
    return {
        (record.wire_license_arn, f"{record.hour:%Y-%m-%dT%H:%M:%SZ}"): record.quantity
        for record in MeteringRecord.objects.filter(state=state)
    }


def _billed(aws) -> Counter[int]:
    """By agreement, what is on the invoice."""
    names = dict(Agreement.objects.values_list("license_arn", "pk"))
    found = Counter[int]()
    for (arn, _), quantity in _invoiced(aws).items():
        found[names[arn]] += quantity
    return found
