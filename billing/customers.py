"""Finding and making the rows of a purchase, whoever tells of it first: the buyer or an event."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from datetime import datetime
from functools import partial

from django.db import IntegrityError, transaction

from billing import audit
from billing.inbox.notifications import Notification
from billing.models import Agreement, MarketplaceCustomer, Product
from billing.models.customers import AgreementQuerySet

logger = logging.getLogger(__name__)

_LICENSE_ID = re.compile(r"(?:^|[:/])(l-[0-9A-Za-z]+)$")

OTHER_LICENSE = (
    "AWS told of this agreement under another license too, or of another buyer: see it in AWS Marketplace."
)
OTHER_AGREEMENT = (
    "Its buyer came with another agreement, AWS named no license, and this one is not over: see both in AWS "
    "Marketplace."
)


class Contradicted(IntegrityError):
    """What AWS tells cannot be true beside what it told of ``agreement`` before: a person must look."""

    def __init__(self, agreement: Agreement, reason: str) -> None:
        super().__init__(reason)
        self.agreement = agreement
        self.reason = reason


def license_id(license_arn: str) -> str:
    """The `l-…` part of a license ARN, with or without its `arn:` prefix. Raises ValueError without one."""
    match = _LICENSE_ID.search(license_arn.strip())
    if match is None:
        raise ValueError("A license ARN ends in its l-… id.")
    return match.group(1)


def get_customer(*, aws_account_id: str | None, customer_identifier: str | None) -> MarketplaceCustomer:
    """The customer with either id, made if new; an id learned later is added to the row."""
    known = _known_customer(aws_account_id, customer_identifier)
    if known is None:
        try:
            with transaction.atomic():
                return MarketplaceCustomer.objects.create(
                    aws_account_id=aws_account_id, customer_identifier=customer_identifier
                )
        except IntegrityError:  # somebody else was first
            known = _known_customer(aws_account_id, customer_identifier)
            if known is None:
                raise
    _learn(known, aws_account_id=aws_account_id, customer_identifier=customer_identifier)
    return known


def _known_customer(
    aws_account_id: str | None, customer_identifier: str | None
) -> MarketplaceCustomer | None:
    """By the legacy identifier first: where each id has its own row, legacy purchases hang on that one."""
    for ids in ({"customer_identifier": customer_identifier}, {"aws_account_id": aws_account_id}):
        if None not in ids.values():
            known = MarketplaceCustomer.objects.filter(**ids).first()
            if known is not None:
                return known
    return None


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

    With a license it is that license's; without one it is the agreement of that id, or the one legacy
    purchase of the product that this customer has open. The same purchase told of twice, at once or years
    apart, is one row. Raises Contradicted.
    """
    known = partial(
        _known, product=product, customer=customer, license_arn=license_arn, agreement_id=agreement_id
    )
    locked = known()
    if locked is None:
        try:
            with transaction.atomic():
                made = Agreement.objects.create(
                    product=product,
                    customer=customer,
                    identity=Agreement.Identity.LICENSE if license_arn else Agreement.Identity.LEGACY,
                    license_arn=_full_arn(license_arn),
                    license_id=license_id(license_arn) if license_arn else None,
                    agreement_id=agreement_id,
                    offer_id=offer_id,
                    created_at=now,
                )
        except IntegrityError as error:  # somebody else was first, or it cannot be
            locked = known()
            if locked is None:
                if agreement_id and (other := Agreement.objects.filter(agreement_id=agreement_id).first()):
                    raise Contradicted(other, OTHER_LICENSE) from error
                if not license_arn and (other := _open_legacy(product, customer).first()):
                    raise Contradicted(other, OTHER_AGREEMENT) from error
                raise
        else:
            audit.record(made, "agreement_created", by=by, at=now)
            return made
    _learn(
        locked,
        license_arn=_full_arn(license_arn),
        license_id=license_id(license_arn) if license_arn else None,
        agreement_id=agreement_id,
        offer_id=offer_id,
    )
    return locked


def lock(agreement_pk: int) -> Agreement:
    """The agreement, locked against every other writer of it but not against new usage.

    A plain FOR UPDATE would also stop `usage.record`, whose insert takes a key-share lock on this row.
    """
    return Agreement.objects.select_for_update(no_key=True).get(pk=agreement_pk)


def lock_many(agreement_pks: Collection[int]) -> list[Agreement]:
    """As ``lock``, each with its product and customer; in one order, so that nobody waits in a ring."""
    locked = Agreement.objects.select_for_update(no_key=True, of=("self",))
    return list(locked.select_related("product", "customer").filter(pk__in=agreement_pks).order_by("pk"))


def learn_from(agreement: Agreement, notification: Notification) -> bool:
    """Fill in what an event of its license tells and the agreement, which is locked, lacks.

    False if it is of another license: then nothing is learned.
    """
    if not notification.license_arn:
        return True
    told = license_id(notification.license_arn)
    if agreement.license_id not in (None, told):
        return False
    _learn(
        agreement,
        license_arn=_full_arn(notification.license_arn),
        license_id=told,
        agreement_id=notification.agreement_id,
        offer_id=notification.offer_id,
    )
    if agreement.identity == Agreement.Identity.LICENSE:  # legacy ones are metered without it
        _learn(agreement.customer, aws_account_id=notification.aws_account_id)
    return True


def _known(
    *, product: Product, customer: MarketplaceCustomer, license_arn: str | None, agreement_id: str | None
) -> Agreement | None:
    """What is known of the purchase, locked."""
    while True:
        found = _find(product=product, customer=customer, license_arn=license_arn, agreement_id=agreement_id)
        if found is None:
            return None
        locked = lock(found.pk)
        # Who had the lock may have made it another license's: then it is not this purchase.
        if not license_arn or locked.license_id in (None, license_id(license_arn)):
            return locked


def _find(
    *, product: Product, customer: MarketplaceCustomer, license_arn: str | None, agreement_id: str | None
) -> Agreement | None:
    of_buyer = Agreement.objects.filter(product=product, customer=customer)
    legacy = _open_legacy(product, customer)
    if license_arn:
        by_license = Agreement.objects.filter(license_id=license_id(license_arn)).first()
        if by_license is not None:
            return by_license
        # A listing that moved to licenses: the purchase known by its product code is this one, not another.
        of_buyer, legacy = of_buyer.filter(license_id=None), legacy.filter(license_id=None)
    if agreement_id:
        by_agreement = of_buyer.filter(agreement_id=agreement_id).first()
        if by_agreement is not None:
            return by_agreement
        # With Concurrent Agreements a buyer has several at once: one that AWS calls otherwise is another.
        legacy = legacy.filter(agreement_id=None)
    return legacy.first()


def _open_legacy(product: Product, customer: MarketplaceCustomer) -> AgreementQuerySet:
    over = (Agreement.Status.ENDED, Agreement.Status.FAILED)
    legacy = Agreement.objects.filter(product=product, customer=customer, identity=Agreement.Identity.LEGACY)
    return legacy.exclude(status__in=over)


def _full_arn(license_arn: str | None) -> str | None:
    # Some events print it without its prefix; metering needs it whole.
    if not license_arn:
        return None
    text = license_arn.strip()
    return text if text.startswith("arn:") else None


def _learn(row: MarketplaceCustomer | Agreement, **values: str | None) -> None:
    """Fill ids that were unknown; never change one, and never take one from another row."""
    for name, value in values.items():
        if not value or getattr(row, name) is not None:
            continue
        setattr(row, name, value)
        try:
            with transaction.atomic():
                row.save(update_fields=[name])
        except IntegrityError:
            setattr(row, name, None)
            logger.error("%s %s cannot have %s: another row has it", row._meta.verbose_name, row.pk, name)
