"""Would-be submitters in processes of their own, one of them stopped and resumed past its lease."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from django.db import InternalError, OperationalError, connection, connections
from django.test import override_settings
from django.utils import timezone

from billing import submission
from billing.aws.client import get_marketplace
from billing.models import Lease, Submission
from billing.sending.calls import MOST
from tests.plugin import Aws

# Short, so that a process that is stopped for some seconds is past its lease, and many take their turn.
LEASE = timedelta(seconds=1.5)
RUN = timedelta(seconds=1)

Call = dict[str, Any]


def hurry(monkeypatch: Any) -> None:
    monkeypatch.setattr(submission, "LEASE_LENGTH", LEASE)
    monkeypatch.setattr(submission, "RUN_LENGTH", RUN)
    monkeypatch.setattr(submission, "_RENEW_AFTER", LEASE / 8)
    monkeypatch.setattr(submission, "_PATIENCE", LEASE.total_seconds() / 8)


@contextmanager
def submitters(count: int) -> Iterator[list[int]]:
    """Their process ids; they are ended with the block."""
    connections.close_all()
    children = [_start() for _ in range(count)]
    try:
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _start() -> int:
    child = os.fork()
    if child == 0:
        try:
            get_marketplace.cache_clear()
            while True:
                # PostgreSQL ended the transaction in which it was stopped: the next task connects again.
                with suppress(InternalError, OperationalError):
                    submission.submit_due(get_marketplace(), now=timezone.now())
                connection.close_if_unusable_or_obsolete()
                time.sleep(0.02)
        finally:
            os._exit(1)
    return child


def stop_the_holder(children: list[int], *, at: datetime) -> int:
    """Stop whoever holds the lease, with calls in flight; until somebody else took it over."""
    holder = _holder(children)
    os.kill(holder, signal.SIGSTOP)
    while _holder(children) in (holder, 0):
        assert timezone.now() < at + timedelta(seconds=60), "nobody took the lease over"
        time.sleep(0.05)
    return holder


def _holder(children: list[int]) -> int:
    while True:
        lease = Lease.objects.filter(name=submission.LEASE).first()
        pid = int(lease.holder.split(":")[1]) if lease is not None and lease.holder else 0
        if pid in children:
            return pid
        time.sleep(0.02)


def race(aws: Aws, *, seconds: float) -> list[Call]:
    """Let four submit for so long, stopping one at a time. AWS's own log of every call, in its order."""
    log: dict[str, Call] = {}
    with override_settings(METERING_CALLS_PER_SECOND=10), submitters(4) as children:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stopped = stop_the_holder(children, at=timezone.now())
            log |= _calls(aws)
            os.kill(stopped, signal.SIGCONT)
            time.sleep(0.5)
            log |= _calls(aws)
        time.sleep(LEASE.total_seconds() + 1)
        assert not any(os.waitpid(child, os.WNOHANG)[0] for child in children), "a submitter failed"
    return list((log | _calls(aws)).values())


def _calls(aws: Aws) -> dict[str, Call]:
    return {call["request_id"]: call for call in aws.control.requests("BatchMeterUsage")}


def assert_one_at_a_time(calls: list[Call]) -> None:
    """When somebody else's calls have begun, no earlier submitter takes anything in hand any more.

    A call that was just leaving when its process was stopped may arrive after that woke, and nobody can call
    it back: at most those in flight, with bytes that were in doubt before, and that AWS takes once.
    """
    rows = Submission.objects.values_list("aws_request_id", "token", "started_at")
    sent = {request_id: (token, started_at) for request_id, token, started_at in rows}
    began: dict[int, datetime] = {}
    for token, started_at in sorted(sent.values()):
        began.setdefault(token, started_at)
    newest, late = 0, Counter[int]()
    for call in calls:
        if call["request_id"] not in sent:
            continue
        token, started_at = sent[call["request_id"]]
        if token < newest:
            late[token] += 1
            assert started_at < min(began[after] for after in began if after > token)
        newest = max(newest, token)
    assert newest > 1
    assert all(count <= MOST for count in late.values()), late


def assert_within_quota(calls: list[Call]) -> None:
    """AWS refused none for coming too fast, and its log shows ten calls a second."""
    assert not any(call["status"] != 200 for call in calls)
    seconds = Counter(datetime.fromisoformat(call["at"]) for call in calls)
    for second in seconds:
        # The log has whole seconds: a call may fall on either side of one.
        assert seconds[second] + seconds[second + timedelta(seconds=1)] <= 21, sorted(seconds.items())
