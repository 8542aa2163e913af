"""What AWS says was bought, kept as a timeline.

GetEntitlements tells only what is in force now. Rows here say since when and until when, because usage of
yesterday is measured against yesterday's allowance.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from billing import audit, customers
from billing.aws.errors import MarketplaceError
from billing.aws.types import EntitlementFilter, EntitlementValue, GrantedEntitlement, Marketplace
from billing.customers import license_id
from billing.models import Agreement, Effect, Entitlement

logger = logging.getLogger(__name__)


def sync(
    agreement: Agreement,
    *,
    marketplace: Marketplace,
    now: datetime,
    since: datetime | None = None,
    because: str = "scheduled sync",
) -> bool:
    """Read one agreement's entitlements from AWS and bring its timeline up to date.

    ``since`` is when AWS says the change happened (an event's time); a change found without one counts from
    ``now``. Returns whether the reading was applied: one that began before the last applied one is not.
    Raises MarketplaceError.
    """
    rows = _read(agreement, marketplace)
    current = {row.dimension_key for row in agreement.entitlements.current()}
    if current - {row.dimension for row in rows}:
        # Something is gone. Before access is taken away, AWS must say so twice.
        rows = _read(agreement, marketplace)
    since = since or _announced_at(agreement) or now
    return _apply(agreement.pk, rows, began_at=now, since=since, because=because)


def sync_all(marketplace: Marketplace, *, now: datetime) -> None:
    """Read every live agreement's entitlements anew: what no event told of is found here."""
    for agreement in Agreement.objects.live().select_related("product", "customer"):
        if not agreement.product.has_entitlements:
            continue
        try:
            sync(agreement, marketplace=marketplace, now=now)
        except MarketplaceError as error:
            logger.warning("Entitlements of agreement %s: %s", agreement.pk, error.code)
        except Exception:  # one agreement's trouble must not keep the others from being read
            logger.exception("Entitlements of agreement %s could not be synced", agreement.pk)


def entitlement_at(agreement: Agreement, dimension_key: str, instant: datetime) -> Entitlement | None:
    """The entitlement that was in force at ``instant``."""
    return agreement.entitlements.at(instant).filter(dimension_key=dimension_key).first()


def _read(agreement: Agreement, marketplace: Marketplace) -> list[GrantedEntitlement]:
    rows = marketplace.get_entitlements(_filter(agreement))
    if agreement.identity == Agreement.Identity.LEGACY:
        return rows
    if agreement.license_arn is not None:
        return rows
    # Asked for by account, AWS names the rows of all licenses that the account has.
    return [row for row in rows if row.license_arn and license_id(row.license_arn) == agreement.license_id]


def _announced_at(agreement: Agreement) -> datetime | None:
    """When AWS said that something changed, if that has not been read yet."""
    owed = agreement.effects.filter(kind=Effect.Kind.SYNC_ENTITLEMENTS, state=Effect.State.DUE)
    return owed.order_by("caused_at").values_list("caused_at", flat=True).first()


def _filter(agreement: Agreement) -> EntitlementFilter:
    if agreement.license_arn is not None and agreement.identity == Agreement.Identity.LICENSE:
        return EntitlementFilter(agreement.product.code, license_arn=agreement.license_arn)
    return EntitlementFilter(
        agreement.product.code,
        aws_account_id=agreement.customer.aws_account_id,
        customer_identifier=agreement.customer.customer_identifier,
    )


@transaction.atomic
def _apply(
    agreement_pk: int,
    rows: Sequence[GrantedEntitlement],
    *,
    began_at: datetime,
    since: datetime,
    because: str,
) -> bool:
    agreement = customers.lock(agreement_pk)
    if agreement.entitlements_read_at is not None and began_at <= agreement.entitlements_read_at:
        logger.info("An older reading of agreement %s's entitlements is dropped", agreement.pk)
        return False
    current = {row.dimension_key: row for row in agreement.entitlements.current()}
    granted = {row.dimension: row for row in rows}
    if agreement.entitlements_read_at is None and agreement.activated_at is not None:
        # What the first reading finds was bought with the agreement, however late it is read.
        since = min(since, agreement.activated_at)
    changes: dict[str, str] = {}
    for key in sorted(current.keys() | granted.keys()):
        old, new = current.get(key), granted.get(key)
        if old is not None and new is not None and _same(old, new):
            continue
        start = _start(agreement, key, old, since=min(since, began_at), began_at=began_at)
        if old is not None:
            old.valid_to = start
            old.closed_because = because
            old.save(update_fields=["valid_to", "closed_because"])
        if new is not None:
            Entitlement.objects.create(
                agreement=agreement,
                dimension_key=key,
                expires_at=new.expires_at,
                valid_from=start,
                opened_because=because,
                **_columns(new.value),
            )
        changes[key] = "closed" if new is None else "changed" if old else "opened"
    agreement.entitlements_read_at = began_at
    agreement.save(update_fields=["entitlements_read_at"])
    if changes:
        audit.record(
            agreement, "entitlements_changed", by="aws", at=began_at, because=because, changes=changes
        )
    return True


def _start(
    agreement: Agreement, dimension_key: str, old: Entitlement | None, *, since: datetime, began_at: datetime
) -> datetime:
    """When a change counts from: as early as AWS says, but never inside what the timeline already says."""
    if old is not None:
        return since if since > old.valid_from else began_at
    last = agreement.entitlements.filter(dimension_key=dimension_key).order_by("-valid_to").first()
    return max(since, last.valid_to) if last and last.valid_to else since


def _same(old: Entitlement, new: GrantedEntitlement) -> bool:
    columns = _columns(new.value)
    return old.expires_at == new.expires_at and all(
        getattr(old, name) == columns.get(name)
        for name in ("integer_value", "double_value", "boolean_value", "string_value")
    )


def _columns(value: EntitlementValue) -> dict[str, EntitlementValue]:
    # bool before int: True is an int too.
    if isinstance(value, bool):
        return {"boolean_value": value}
    if isinstance(value, int):
        return {"integer_value": value}
    if isinstance(value, float):
        return {"double_value": value}
    return {"string_value": value}
