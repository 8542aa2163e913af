"""The rows of the entitlement timeline: what was in force since when and until when, and why.

A row is opened once and closed once. The caller holds the agreement's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from billing import audit
from billing.aws.types import EntitlementValue, GrantedEntitlement
from billing.models import Agreement, Entitlement

_TICK = timedelta(microseconds=1)
_VALUES = ("integer_value", "double_value", "boolean_value", "string_value")


def at(agreement: Agreement, dimension_key: str, instant: datetime) -> Entitlement | None:
    """The entitlement that was in force at ``instant``; none from the agreement's end on."""
    if agreement.ended_at is not None and instant >= agreement.ended_at:
        return None
    return agreement.entitlements.at(instant).filter(dimension_key=dimension_key).first()


def replace(
    agreement: Agreement,
    key: str,
    old: Entitlement | None,
    new: GrantedEntitlement | None,
    *,
    since: datetime,
    read_at: datetime,
    because: str,
) -> str | None:
    """Let ``new`` follow ``old``; returns what that was: opened, changed or closed.

    None, and nothing done: it would begin after the agreement's end.
    """
    start = _start(agreement, key, old, since=min(since, read_at), read_at=read_at)
    if agreement.ended_at is not None and start >= agreement.ended_at:
        return None
    if old is not None:
        _close(old, start, because)
    if new is not None:
        Entitlement.objects.create(
            agreement=agreement,
            dimension_key=key,
            expires_at=new.expires_at,
            valid_from=start,
            opened_because=because[:200],
            **_columns(new.value),
        )
    return "closed" if new is None else "changed" if old else "opened"


def close_all(agreement: Agreement, *, because: str, now: datetime) -> int:
    """What was in force ends with the agreement. Returns how many rows were closed."""
    assert agreement.ended_at is not None
    rows = list(agreement.entitlements.current())
    for row in rows:
        _close(row, max(agreement.ended_at, row.valid_from + _TICK), because)
    _audit(
        agreement, {row.dimension_key: "closed" for row in rows}, by="job:effects", now=now, because=because
    )
    return len(rows)


def extend_back(agreement: Agreement, *, known_since: datetime | None, now: datetime) -> None:
    """An event that came late says that the agreement began earlier than ``known_since``.

    So did what was bought with it. What was added to it later did not.
    """
    begun = agreement.activated_at
    if begun is None or known_since is None:
        return
    firsts: dict[str, Entitlement] = {}
    for row in agreement.entitlements.order_by("-valid_from"):
        firsts[row.dimension_key] = row
    earlier = {key: row for key, row in firsts.items() if begun < row.valid_from <= known_since}
    because = "the agreement began earlier than was known"
    for key, row in earlier.items():
        Entitlement.objects.create(
            agreement=agreement,
            dimension_key=key,
            expires_at=row.expires_at,
            valid_from=begun,
            valid_to=row.valid_from,
            opened_because=because,
            closed_because=because,
            **{name: getattr(row, name) for name in _VALUES},
        )
    _audit(agreement, dict.fromkeys(earlier, "extended"), by="aws", now=now, because=because)


def is_in_term(row: Entitlement | GrantedEntitlement, instant: datetime) -> bool:
    """Whether its expiry, if it has one, is still to come."""
    return row.expires_at is None or row.expires_at > instant


def same(old: Entitlement, new: GrantedEntitlement) -> bool:
    columns = _columns(new.value)
    return old.expires_at == new.expires_at and all(
        getattr(old, name) == columns.get(name) for name in _VALUES
    )


def lost(current: Iterable[str], granted: Iterable[str]) -> set[str]:
    """The dimensions that were in force and are no longer told."""
    return set(current) - set(granted)


def _audit(agreement: Agreement, changes: Mapping[str, str], *, by: str, now: datetime, because: str) -> None:
    if changes:
        audit.record(agreement, "entitlements_changed", by=by, at=now, because=because, changes=dict(changes))


def _close(row: Entitlement, end: datetime, because: str) -> None:
    row.valid_to, row.closed_because = end, because[:200]
    row.save(update_fields=["valid_to", "closed_because"])


def _start(
    agreement: Agreement, dimension_key: str, old: Entitlement | None, *, since: datetime, read_at: datetime
) -> datetime:
    """When a change counts from: as early as AWS says, but never inside what the timeline already says."""
    if old is not None:
        return since if since > old.valid_from else read_at
    last = agreement.entitlements.filter(dimension_key=dimension_key).order_by("-valid_to").first()
    return max(since, last.valid_to) if last and last.valid_to else since


def _columns(value: EntitlementValue) -> dict[str, EntitlementValue]:
    # bool before int: True is an int too.
    if isinstance(value, bool):
        return {"boolean_value": value}
    if isinstance(value, int):
        return {"integer_value": value}
    if isinstance(value, float):
        return {"double_value": value}
    return {"string_value": value}
