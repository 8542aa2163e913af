"""The right to be the only runner of a job, for a while, with a fencing token.

Time is the database's, so that machines with different clocks agree. A runner that was paused past its lease
finds out by ``renew``; what it writes meanwhile is conditional on its token, which is no longer the newest.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, F, Value
from django.db.models.functions import Now

from billing.models import Lease

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# Goes on while the process is stopped and, where the system can tell, while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseLost(Exception):
    """Another runner holds the lease by now: stop."""


@dataclass(slots=True)
class Held:
    name: str
    token: int
    length: timedelta
    _asked_at: float = field(default_factory=lambda: _clock())

    def renew(self) -> None:
        """Start the time anew. Raises LeaseLost."""
        asked_at = _clock()
        still_ours = Lease.objects.filter(name=self.name, token=self.token, expires_at__gt=Now())
        if not still_ours.update(expires_at=_after(self.length)):
            raise LeaseLost(self.name)
        self._asked_at = asked_at

    @property
    def age(self) -> timedelta:
        """Time since the lease was last begun anew, by this machine's clock: never less than it was."""
        return timedelta(seconds=_clock() - self._asked_at)

    @property
    def is_fresh(self) -> bool:
        """Whether it lasts for long yet, as far as can be told without the database. For other threads."""
        return self.age < self.length * 3 / 4


@contextmanager
def hold(name: str, *, length: timedelta) -> Iterator[Held | None]:
    """Hold the lease for the block, or get None because another runner does."""
    held = _acquire(name, length)
    if held is None:
        yield None
        return
    try:
        with _no_transaction_outlives(length):
            yield held
    finally:
        Lease.objects.filter(name=held.name, token=held.token).update(expires_at=Now())


def first_in(name: str, *, length: timedelta) -> Held | None:
    """The lease for all of ``length``, whatever ends before: None to everybody else who asks meanwhile."""
    return _acquire(name, length)


@contextmanager
def _no_transaction_outlives(length: timedelta) -> Iterator[None]:
    """PostgreSQL ends what a stopped process left half done: the next runner would wait for its locks."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        milliseconds = int(length.total_seconds() * 750)
        cursor.execute("SET idle_in_transaction_session_timeout = %s", [milliseconds])
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET idle_in_transaction_session_timeout")


def _acquire(name: str, length: timedelta) -> Held | None:
    asked_at = _clock()
    Lease.objects.get_or_create(name=name, defaults={"expires_at": _LONG_AGO})
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    # One statement decides: of two that try at once, the second finds it taken.
    free = Lease.objects.filter(name=name, expires_at__lte=Now())
    if not free.update(holder=holder, token=F("token") + 1, expires_at=_after(length)):
        return None
    token = Lease.objects.filter(name=name, holder=holder).values_list("token", flat=True).first()
    return Held(name, token, length, asked_at) if token is not None else None


def _after(length: timedelta) -> ExpressionWrapper:
    return ExpressionWrapper(Now() + Value(length), output_field=DateTimeField())


def _clock() -> float:
    return time.clock_gettime(_CLOCK)
