"""When a new term of what was bought ahead begins. Pure: no database, no clock of its own.

A legacy contract keeps its agreement when it renews: all that tells of the new term is a later expiry.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from billing.aws.window import hour_of
from billing.models import Entitlement


def beginnings(rows: Iterable[Entitlement]) -> dict[datetime, Entitlement]:
    """The rows of one dimension's timeline that begin a new term, by the hour in which it begins, in order.

    A row begins one that expires later than the last row before it. Another amount under the same expiry, an
    earlier expiry, or none does not. The first term begins with the agreement and is not among them.
    """
    found: dict[datetime, Entitlement] = {}
    expiry: datetime | None = None
    for row in sorted(rows, key=lambda row: row.valid_from):
        if row.expires_at is None:
            continue
        if expiry is not None and row.expires_at > expiry:
            found[hour_of(row.valid_from)] = row
        expiry = row.expires_at
    return found


def term_began(rows: Iterable[Entitlement], at: datetime) -> datetime | None:
    """The first hour of the term that ``at`` belongs to, by one dimension's timeline; None in the first term.

    The hour in which a term begins belongs to it wholly, which favours the buyer.
    """
    return max((hour for hour in beginnings(rows) if hour <= at), default=None)
