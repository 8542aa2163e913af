"""Finding and making the rows of a purchase, whoever tells of it first: the buyer or an event."""

from __future__ import annotations

import re
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing import audit
from billing.models import Agreement, MarketplaceCustomer, Product

_LICENSE_ID = re.compile(r"(?:^|[:/])(l-[0-9A-Za-z]+)$")


def license_id(license_arn: str) -> str:
    """The `l-…` part of a license ARN, with or without its `arn:` prefix. Raises ValueError without one."""
    match = _LICENSE_ID.search(license_arn.strip())
    if match is None:
        raise ValueError("A license ARN ends in its l-… id.")
    return match.group(1)


def get_customer(*, aws_account_id: str | None, customer_identifier: str | None) -> MarketplaceCustomer:
    """The customer with either id, made if new; an id learned later is added to the row."""
    known = MarketplaceCustomer.objects.filter(
        Q(aws_account_id=aws_account_id) & ~Q(aws_account_id=None)
        | Q(customer_identifier=customer_identifier) & ~Q(customer_identifier=None)
    ).first()
    if known is None:
        try:
            with transaction.atomic():
                return MarketplaceCustomer.objects.create(
                    aws_account_id=aws_account_id, customer_identifier=customer_identifier
                )
        except IntegrityError:  # somebody else was first
            return get_customer(aws_account_id=aws_account_id, customer_identifier=customer_identifier)
    _learn(known, aws_account_id=aws_account_id, customer_identifier=customer_identifier)
    return known


def get_agreement(
    *,
    product: Product,
    customer: MarketplaceCustomer,
    license_arn: str | None,
    agreement_id: str | None,
    now: datetime,
    by: str,
    offer_id: str | None = None,
) -> Agreement:
    """The purchase, made if new, locked until the transaction ends.

    With a license it is that license's; without one it is the one legacy purchase of the product that this
    customer has open. The same purchase told of twice, at once or years apart, is one row.
    """
    found = _find(product=product, customer=customer, license_arn=license_arn)
    if found is None:
        try:
            with transaction.atomic():
                found = Agreement.objects.create(
                    product=product,
                    customer=customer,
                    identity=Agreement.Identity.LICENSE if license_arn else Agreement.Identity.LEGACY,
                    license_arn=_full_arn(license_arn),
                    license_id=license_id(license_arn) if license_arn else None,
                    agreement_id=agreement_id,
                    offer_id=offer_id,
                    created_at=now,
                )
        except IntegrityError:  # somebody else was first
            found = _find(product=product, customer=customer, license_arn=license_arn)
            if found is None:
                raise
        else:
            audit.record(found, "agreement_created", by=by, at=now)
            return found
    locked = lock(found.pk)
    _learn(locked, license_arn=_full_arn(license_arn), agreement_id=agreement_id, offer_id=offer_id)
    return locked


def lock(agreement_pk: int) -> Agreement:
    """The agreement, locked against every other writer of it but not against new usage.

    A plain FOR UPDATE would also stop `usage.record`, whose insert takes a key-share lock on this row.
    """
    return Agreement.objects.select_for_update(no_key=True).get(pk=agreement_pk)


def _find(*, product: Product, customer: MarketplaceCustomer, license_arn: str | None) -> Agreement | None:
    if license_arn:
        return Agreement.objects.filter(license_id=license_id(license_arn)).first()
    return (
        Agreement.objects.filter(product=product, customer=customer, identity=Agreement.Identity.LEGACY)
        .exclude(status__in=[Agreement.Status.ENDED, Agreement.Status.FAILED])
        .first()
    )


def _full_arn(license_arn: str | None) -> str | None:
    # Some events print it without its prefix; metering needs it whole.
    if not license_arn:
        return None
    text = license_arn.strip()
    return text if text.startswith("arn:") else None


def _learn(row: MarketplaceCustomer | Agreement, **values: str | None) -> None:
    """Fill ids that were unknown; never change one."""
    missing = {name: value for name, value in values.items() if value and getattr(row, name) is None}
    if missing:
        for name, value in missing.items():
            setattr(row, name, value)
        row.save(update_fields=list(missing))
