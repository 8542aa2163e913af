"""The right to be the only runner of a job, for a while, with a fencing token.

Time is the database's, so that machines with different clocks agree. A runner that was paused past its lease
finds out by ``renew``; what it writes meanwhile is conditional on its token, which is no longer the newest.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import DateTimeField, ExpressionWrapper, F, Value
from django.db.models.functions import Now

from billing.models import Lease

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class LeaseLost(Exception):
    """Another runner holds the lease by now: stop."""


@dataclass(frozen=True, slots=True)
class Held:
    name: str
    token: int
    length: timedelta

    def renew(self) -> None:
        """Start the time anew. Raises LeaseLost."""
        still_ours = Lease.objects.filter(name=self.name, token=self.token, expires_at__gt=Now())
        if not still_ours.update(expires_at=_after(self.length)):
            raise LeaseLost(self.name)


@contextmanager
def hold(name: str, *, length: timedelta) -> Iterator[Held | None]:
    """Hold the lease for the block, or get None because another runner does."""
    held = _acquire(name, length)
    try:
        yield held
    finally:
        if held is not None:
            Lease.objects.filter(name=name, token=held.token).update(expires_at=Now())


def _acquire(name: str, length: timedelta) -> Held | None:
    Lease.objects.get_or_create(name=name, defaults={"expires_at": _LONG_AGO})
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    # One statement decides: of two that try at once, the second finds it taken.
    free = Lease.objects.filter(name=name, expires_at__lte=Now())
    if not free.update(holder=holder, token=F("token") + 1, expires_at=_after(length)):
        return None
    token = Lease.objects.filter(name=name, holder=holder).values_list("token", flat=True).first()
    return Held(name, token, length) if token is not None else None


def _after(length: timedelta) -> ExpressionWrapper:
    return ExpressionWrapper(Now() + Value(length), output_field=DateTimeField())
