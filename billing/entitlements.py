"""What AWS says was bought, kept as a timeline.

GetEntitlements tells only what is in force now. Rows here say since when and until when, because usage of
yesterday is measured against yesterday's allowance. billing.walk reads whole products on a schedule.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from accounts import log_context
from billing import audit, customers, flags, mails, owed, readings, timeline
from billing.aws.types import EntitlementFilter, GrantedEntitlement, Marketplace
from billing.customers import license_id
from billing.models import Agreement, Effect, Entitlement

logger = logging.getLogger(__name__)

Status = Agreement.Status

entitlement_at = timeline.at

DRIFT = "drift: found by the scheduled sync, and no event told of it"
_OVER = "the agreement ended"


def sync(
    agreement: Agreement,
    *,
    marketplace: Marketplace,
    now: datetime,
    began_at: datetime | None = None,
    since: datetime | None = None,
    because: str = DRIFT,
) -> bool:
    """Read one agreement's entitlements from AWS and bring its timeline up to date.

    ``began_at`` is what time it is, where ``now`` is when a long run began: what follows is due by ``now``.
    ``since`` is when AWS says the change happened (an event's time); a change found without one counts from
    when the reading began. Returns whether the reading was applied: one that began before the last applied
    one is not. Raises MarketplaceError.
    """
    with log_context.about(agreement=agreement.pk):
        return _sync(agreement, marketplace, now=now, began_at=began_at or now, since=since, because=because)


def _sync(
    agreement: Agreement,
    marketplace: Marketplace,
    *,
    now: datetime,
    began_at: datetime,
    since: datetime | None,
    because: str,
) -> bool:
    rows = _read(agreement, marketplace)
    current = agreement.entitlements.current().values_list("dimension_key", flat=True)
    if timeline.lost(current, (row.dimension for row in rows)):
        # Something is gone. Before access is taken away, AWS must say so twice.
        rows = _read(agreement, marketplace)
    with transaction.atomic():
        return apply(
            customers.lock(agreement.pk), rows, now=now, began_at=began_at, since=since, because=because
        )


def apply(
    agreement: Agreement,
    rows: Sequence[GrantedEntitlement],
    *,
    began_at: datetime,
    now: datetime | None = None,
    since: datetime | None = None,
    because: str = DRIFT,
) -> bool:
    """Apply a complete reading of the agreement's entitlements. The caller holds its lock."""
    is_first = agreement.entitlements_read_at is None
    if not is_first and began_at <= agreement.entitlements_read_at:  # type: ignore[operator]  # not None: see above
        logger.info("An older reading of agreement %s's entitlements is dropped", agreement.pk)
        return False
    announced = _announced(agreement)
    if since is None and announced is not None:
        since, because = announced.caused_at, announced.cause
    is_drift = since is None and because == DRIFT
    since = since or began_at
    ended_at = agreement.ended_at
    now = now or began_at
    _believe(agreement, rows, since=since, now=now, began_at=began_at)
    if is_drift and ended_at is not None and agreement.ended_at is None:
        since = ended_at  # it had not ended: what was bought was in force all the time
    if is_first and agreement.activated_at is not None:
        # What the first reading finds was bought with the agreement, however late it is read.
        since, is_drift = min(since, agreement.activated_at), False
    changes = _follow(agreement, rows, since=since, began_at=began_at, because=because)
    agreement.entitlements_read_at = began_at
    agreement.save(update_fields=["entitlements_read_at"])
    if changes:
        _tell(
            agreement,
            changes,
            now=now,
            at=began_at,
            because=because,
            is_first=is_first,
            is_drift=is_drift,
        )
        if agreement.ended_at is not None and not agreement.gives_access_at(began_at):
            # It was bought before the end and is read after it, perhaps after access was revoked.
            timeline.close_all(agreement, because=_OVER, now=began_at)
    return True


def revoke(agreement_pk: int, *, now: datetime) -> str:
    """Access is over: close what was in force as of the agreement's end. Returns why not, or ''."""
    with transaction.atomic():
        agreement = customers.lock(agreement_pk)
        if agreement.ended_at is None:
            return "the ending was called off"
        if agreement.gives_access_at(now):
            return "access goes on"
        timeline.close_all(agreement, because=_OVER, now=now)
        if agreement.is_continued and not _has_come(agreement):
            flags.raise_flag(agreement, flags.NO_SUCCESSOR, at=now)
    return ""


def _believe(
    agreement: Agreement,
    rows: Sequence[GrantedEntitlement],
    *,
    since: datetime,
    now: datetime,
    began_at: datetime,
) -> None:
    """What a reading says of the purchase itself, where no event did: as of ``now``.

    Where that was said already of an instant since, by an event or another's reading: as of this reading.
    """
    if any(timeline.is_in_term(row, began_at) for row in rows):
        for at in (now, began_at):
            is_new = agreement.status == Status.PENDING and agreement.ended_at is None
            if is_new or (agreement.was_inferred_to_end and not _is_bought_again(agreement)):
                readings.entitled(agreement, at=at)
    elif agreement.status == Status.ACTIVE and (current := list(agreement.entitlements.current())):
        # The rows stay open for the grace that follows an end: access does not blink if this is a renewal.
        assert agreement.activated_at is not None
        begun = agreement.activated_at + timedelta(microseconds=1)
        # The whole contract ran until the last of it ran out, whatever was announced meanwhile. Where an
        # event since then says that it goes on, AWS's list counts, which was read after that event.
        for at in (_expired_at(current, began_at) or since, now, began_at):
            if agreement.status == Status.ACTIVE:
                readings.entitlements_gone(agreement, at=max(min(at, began_at), begun), now=began_at)


def _is_bought_again(agreement: Agreement) -> bool:
    """Whether what AWS lists of a legacy customer belongs to the purchase after this one."""
    same = Agreement.objects.filter(
        product=agreement.product_id, customer=agreement.customer_id, identity=Agreement.Identity.LEGACY
    )
    live = same.exclude(pk=agreement.pk).exclude(status__in=[Status.ENDED, Status.FAILED])
    return agreement.identity == Agreement.Identity.LEGACY and live.exists()


def _expired_at(rows: Sequence[Entitlement], now: datetime) -> datetime | None:
    """When the last of them ran out, if all have."""
    expiries = [row.expires_at for row in rows]
    last = max((each for each in expiries if each is not None), default=None)
    return last if None not in expiries and last is not None and last <= now else None


def _follow(
    agreement: Agreement,
    rows: Sequence[GrantedEntitlement],
    *,
    since: datetime,
    began_at: datetime,
    because: str,
) -> dict[str, str]:
    """Let the timeline follow the reading; returns what changed, by dimension."""
    current = {row.dimension_key: row for row in agreement.entitlements.current()}
    granted = {row.dimension: row for row in rows}
    changes: dict[str, str] = {}
    for key in sorted(current.keys() | granted.keys()):
        old, new = current.get(key), granted.get(key)
        if old is not None and new is not None and timeline.same(old, new):
            continue
        if new is None and agreement.ended_at is not None:
            continue  # what was in force at the end stays so until access is revoked
        change = timeline.replace(agreement, key, old, new, since=since, read_at=began_at, because=because)
        if change is not None:
            changes[key] = change
    return changes


def _tell(
    agreement: Agreement,
    changes: dict[str, str],
    *,
    now: datetime,
    at: datetime,
    because: str,
    is_first: bool,
    is_drift: bool,
) -> None:
    drift = {"drift": True} if is_drift else {}
    audit.record(
        agreement, "entitlements_changed", by="aws", at=at, because=because, changes=changes, **drift
    )
    if is_drift:
        logger.warning("Agreement %s: %s: %s", agreement.pk, because, ", ".join(changes))
    debts = list(mails.contract_reminders(agreement))
    if not is_first and agreement.status == Status.ACTIVE:
        debts.append(mails.changed(at)._replace(due_at=now))
    owed.owe(agreement, debts)


def _has_come(agreement: Agreement) -> bool:
    return Agreement.objects.filter(previous=agreement).exclude(activated_at=None).exists()


def _read(agreement: Agreement, marketplace: Marketplace) -> list[GrantedEntitlement]:
    rows = marketplace.get_entitlements(_filter(agreement))
    if agreement.identity == Agreement.Identity.LICENSE and agreement.license_arn is not None:
        return rows
    # Asked for by account, AWS names the rows of all licenses that the account has.
    told = {license_id(row.license_arn) for row in rows if row.license_arn}
    mine = told & {agreement.license_id}
    if agreement.identity == Agreement.Identity.LEGACY and agreement.license_id is None:
        # It may have got a license of which no event has told yet.
        mine = told - set(Agreement.objects.filter(license_id__in=told).values_list("license_id", flat=True))
    return [row for row in rows if _is_among(row, mine, agreement)]


def _is_among(row: GrantedEntitlement, licenses: Collection[str], agreement: Agreement) -> bool:
    if row.license_arn:
        return license_id(row.license_arn) in licenses
    return agreement.identity == Agreement.Identity.LEGACY


def _announced(agreement: Agreement) -> Effect | None:
    """What AWS said has changed and has not been read yet, the first."""
    owed = agreement.effects.filter(kind=Effect.Kind.SYNC_ENTITLEMENTS, state=Effect.State.DUE)
    return owed.order_by("caused_at").first()


def _filter(agreement: Agreement) -> EntitlementFilter:
    if agreement.license_arn is not None and agreement.identity == Agreement.Identity.LICENSE:
        return EntitlementFilter(agreement.product.code, license_arn=agreement.license_arn)
    return EntitlementFilter(
        agreement.product.code,
        aws_account_id=agreement.customer.aws_account_id,
        customer_identifier=agreement.customer.customer_identifier,
    )
