"""The scheduled reading of entitlements: a product's rows page by page, against all its agreements.

It finds what no event told of. One call brings 25 rows of many buyers, so N rows are ⌈N/25⌉ calls. What is
gone is believed only after a complete walk and another look at that agreement alone; a walk after which a
great part of a product would be gone is not believed at all.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet

from billing import customers, entitlements, jobs, timeline
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable
from billing.aws.types import GrantedEntitlement, Marketplace
from billing.models import Agreement, Entitlement, Product

logger = logging.getLogger(__name__)

# Of a product's rows in force: were more of them gone, AWS or the way to it is broken, not the contracts.
MOST_LOST = 0.2
_CHUNK = 500  # agreements

Key = tuple[str, str]
Granted = Mapping[Key, Sequence[GrantedEntitlement]]


def sync_all(marketplace: Marketplace, *, now: datetime) -> None:
    """Walk through every product that has entitlements; one product's trouble keeps no other from it."""
    for product in Product.objects.exclude(pricing=Product.Pricing.SUBSCRIPTION).order_by("pk"):
        if not _to_compare(product).exists():
            continue
        try:
            walk(product, marketplace, now=now)
        except MarketplaceUnavailable as error:
            logger.warning("Entitlements of %s: %s", product.code, error.code)
            jobs.went_past(error)
        except MarketplaceError as error:  # waiting does not help
            logger.error("Entitlements of %s: %s. %s", product.code, error.code, error.meaning.fix)
            jobs.went_past(error)
        except Exception as error:  # one product's trouble must not keep the others from being walked through
            logger.exception("Entitlements of %s could not be walked through", product.code)
            jobs.went_past(error)


def walk(product: Product, marketplace: Marketplace, *, now: datetime) -> bool:
    """Bring the timelines of the product's agreements up to date. Returns whether the walk was believed.

    Raises MarketplaceError, after which nothing was applied: half a walk says nothing about the other half.
    """
    granted: dict[Key, list[GrantedEntitlement]] = defaultdict(list)
    known = set(product.agreements.exclude(license_id=None).values_list("license_id", flat=True))
    for row in marketplace.list_entitlements(product.code):
        for key in _keys_of_row(row, known):
            granted[key].append(row)
    in_force, lost = _count(product, granted, now=now)
    if lost > MOST_LOST * in_force:
        logger.error(
            "Entitlements of %s: AWS lists %d fewer than the %d in force, too many to be true. Nothing was "
            "applied. Compare with AWS Marketplace; each agreement's end still counts at its own expiry.",
            product.code,
            lost,
            in_force,
        )
        return False
    for pks in _chunks(product):
        for pk in _apply(pks, granted, now=now):
            _look_again(pk, marketplace, now=now)
    return True


def _to_compare(product: Product) -> QuerySet[Agreement]:
    """Agreements that may have entitlements: the live, those not active yet, those that ended unexplained."""
    open_ones = Q(status__in=[Agreement.Status.ACTIVE, Agreement.Status.PENDING])
    return product.agreements.filter(open_ones | Q(end_reason=Agreement.GONE))


def _chunks(product: Product) -> Iterator[list[int]]:
    last = 0
    while pks := list(
        _to_compare(product).filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:_CHUNK]
    ):
        yield pks
        last = pks[-1]


def _count(product: Product, granted: Granted, *, now: datetime) -> tuple[int, int]:
    """How many rows are in force, and how many of them the walk did not find. What ran out is neither."""
    in_force = lost = 0
    for pks in _chunks(product):
        current = _current(pks)
        for agreement in Agreement.objects.filter(pk__in=pks).select_related("customer"):
            if agreement.status != Agreement.Status.ACTIVE:
                continue
            told = {row.dimension for row in _rows_of(agreement, granted)}
            held = [row.dimension_key for row in current[agreement.pk] if timeline.is_in_term(row, now)]
            in_force += len(held)
            lost += len(timeline.lost(held, told))
    return in_force, lost


@transaction.atomic
def _apply(pks: Sequence[int], granted: Granted, *, now: datetime) -> list[int]:
    """Apply the walk to some agreements. Returns those of which something is gone: not applied yet."""
    again: list[int] = []
    unchanged: list[int] = []
    agreements = customers.lock_many(pks)
    current = _current(pks)
    for agreement in agreements:
        rows = _rows_of(agreement, granted)
        told = {row.dimension: row for row in rows}
        held = {row.dimension_key: row for row in current[agreement.pk]}
        if timeline.lost(held, told):
            again.append(agreement.pk)
        elif _is_unchanged(agreement, held, told, now=now):
            unchanged.append(agreement.pk)
        elif rows or agreement.status == Agreement.Status.ACTIVE:
            _apply_to_one(agreement, rows, now=now)
    older = Agreement.objects.filter(pk__in=unchanged, entitlements_read_at__lt=now)
    older.update(entitlements_read_at=now)
    return again


def _apply_to_one(agreement: Agreement, rows: Sequence[GrantedEntitlement], *, now: datetime) -> None:
    try:
        with transaction.atomic():
            entitlements.apply(agreement, rows, began_at=now)
    except Exception:  # one agreement's trouble must not keep the others from being read
        logger.exception("Entitlements of agreement %s could not be applied", agreement.pk)


def _is_unchanged(
    agreement: Agreement,
    held: Mapping[str, Entitlement],
    told: Mapping[str, GrantedEntitlement],
    *,
    now: datetime,
) -> bool:
    if agreement.status != Agreement.Status.ACTIVE or agreement.entitlements_read_at is None:
        return False
    if held and not any(timeline.is_in_term(row, now) for row in told.values()):
        return False  # AWS still lists what ran out: that is an end
    return held.keys() == told.keys() and all(timeline.same(held[key], told[key]) for key in held)


def _look_again(pk: int, marketplace: Marketplace, *, now: datetime) -> None:
    agreement = Agreement.objects.select_related("product", "customer").get(pk=pk)
    try:
        entitlements.sync(agreement, marketplace=marketplace, now=now)
    except MarketplaceError as error:
        logger.warning("Entitlements of agreement %s: %s", agreement.pk, error.code)
    except Exception:  # one agreement's trouble must not keep the others from being read
        logger.exception("Entitlements of agreement %s could not be synced", agreement.pk)


def _current(pks: Sequence[int]) -> dict[int, list[Entitlement]]:
    rows: dict[int, list[Entitlement]] = defaultdict(list)
    for row in Entitlement.objects.current().filter(agreement__in=pks):
        rows[row.agreement_id].append(row)
    return rows


def _keys_of_row(row: GrantedEntitlement, known: Container[str | None]) -> Iterator[Key]:
    """A license's rows are only that license's; a legacy customer may be known to us by either name.

    One of whose license nobody has told yet may be a legacy customer's.
    """
    if row.license_arn:
        license_id = customers.license_id(row.license_arn)
        yield "license", license_id
        if license_id in known:
            return
    if row.aws_account_id:
        yield "account", row.aws_account_id
    if row.customer_identifier:
        yield "identifier", row.customer_identifier


def _rows_of(agreement: Agreement, granted: Granted) -> Sequence[GrantedEntitlement]:
    keys: list[Key] = []
    if agreement.license_id is not None:
        keys.append(("license", agreement.license_id))
    if agreement.identity == Agreement.Identity.LEGACY:
        if agreement.customer.aws_account_id is not None:
            keys.append(("account", agreement.customer.aws_account_id))
        if agreement.customer.customer_identifier is not None:
            keys.append(("identifier", agreement.customer.customer_identifier))
    return next((granted[key] for key in keys if key in granted), ())
