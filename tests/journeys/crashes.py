"""Work done in a child process that dies where it is told to, and the ledger afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import connections
from django.db.models.functions import Now

from billing import crashpoints, metering, reconciliation, submission
from billing.aws.client import get_marketplace
from billing.models import Lease, MeteringRecord
from tests.billing.ledger import REGION
from tests.plugin import Aws

State = MeteringRecord.State


def close_and_submit(now: datetime) -> None:
    metering.close_hours(region=REGION, now=now)
    submission.submit_due(get_marketplace(), now=now)


def dies_at(point: str, work: Callable[[], object], *, hit: int = 1) -> bool:
    """Do ``work`` in a child killed the ``hit``-th time it reaches ``point``. Whether it got there."""
    counted = itertools.count(1)

    def reached(name: str) -> None:
        if name == point and next(counted) == hit:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal may take a moment to arrive

    return _killed(_start(work, reached))


def dies_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that is killed after so long. Whether it was still at it."""
    child = _start(work, None)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return _killed(child)


def _start(work: Callable[[], object], reached: Callable[[str], None] | None) -> int:
    # A connection is one process's: neither may use the other's.
    connections.close_all()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            crashpoints.when_reached = reached
            get_marketplace.cache_clear()
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _killed(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed before it was killed"
    return os.WIFSIGNALED(status)


def free_the_lease() -> None:
    """As when the dead process's lease has run out."""
    Lease.objects.update(expires_at=Now() - timedelta(seconds=1))


def go_on(now: datetime) -> None:
    """The next runs, after the dead process's lease has run out; each later than the pauses before it."""
    for minutes in range(0, 60, 10):
        free_the_lease()
        close_and_submit(now + timedelta(minutes=minutes))
        if not MeteringRecord.objects.sendable().exists():
            return


def assert_billed_once(aws: Aws) -> None:
    """The ledger is whole, and what AWS bills is what the ledger holds as accepted."""
    assert [breach.text for breach in reconciliation.verify()] == []
    lines = aws.control.invoice()["lines"]
    billed = Counter(
        (
            line["license_arn"] if line["metered_under"] == "LicenseArn" else line["product_code"],
            line["aws_account_id"],
            line["dimension"],
            line["hour"],
            line["quantity"],
        )
        for line in lines
    )
    account_of = {line["customer_identifier"]: line["aws_account_id"] for line in lines}
    held = Counter(
        (
            record.wire_license_arn or record.wire_product_code,
            record.wire_account_id or account_of.get(record.wire_customer_identifier),
            record.dimension.key,
            f"{record.hour:%Y-%m-%dT%H:%M:%SZ}",
            record.wire_quantity,
        )
        for record in MeteringRecord.objects.filter(state=State.ACCEPTED).select_related("dimension")
    )
    assert (billed - held, held - billed) == (Counter(), Counter())
    assert not any(line["billed_twice"] for line in lines)
