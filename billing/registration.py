"""A buyer arrives from AWS with a token: token → agreement → claim by an organization.

The token proves the purchase, so it is redeemed at once and kept nowhere. What the browser keeps instead is
billing.onboarding.visitors' to say.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.views.decorators.debug import sensitive_variables

from accounts import locks, organizations
from accounts.models import Membership, Organization, User
from billing import audit, customers, flags, lifecycle, mails, owed, succession
from billing.aws.errors import MarketplaceError, MarketplaceUnavailable, Scope
from billing.aws.limits import TOKEN_LIFETIME
from billing.aws.types import Marketplace, ResolvedCustomer
from billing.models import Agreement, Effect, Product, Registration
from billing.owed import Debt

logger = logging.getLogger(__name__)

# There is nothing left to set up.
OVER = (Agreement.Status.FAILED, Agreement.Status.ENDED)

# Minutes after a buyer's arrival at which the entitlements of an unconfirmed contract are looked for.
_LOOKED_FOR_AFTER = (2, 10)


class RegistrationRefused(Exception):
    """No registration came of the token. ``reason``: missing, invalid, expired, foreign or unavailable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ClaimRefused(Exception):
    """The purchase cannot be given to that organization by that person."""


class AlreadyClaimed(ClaimRefused):
    """Another organization was first."""


class PurchaseOver(ClaimRefused):
    """AWS could not complete the purchase, or it has ended."""


class Unverified(ClaimRefused):
    """The person has not proven their e-mail address."""


@sensitive_variables()  # all of them, and those of the frames below: botocore calls the token by other names
def arrive(marketplace: Marketplace, *, token: str, free_trial_hint: bool, now: datetime) -> Registration:
    """Redeem ``token`` and keep the arrival. The same token again is the same registration.

    Raises RegistrationRefused.
    """
    token = token.strip()
    if not token:
        raise RegistrationRefused("missing")
    resolved = _resolve(marketplace, token)
    _check_complete(resolved)
    product = Product.objects.filter(code=resolved.product_code).first()
    if product is None:
        # Somebody else's listing points here, or the catalog is not loaded: a person must look.
        logger.error("A buyer arrived for the unknown product code %r.", resolved.product_code)
        with transaction.atomic():
            audit.record(
                audit.SYSTEM, "foreign_product_refused", by="aws", at=now, product_code=resolved.product_code
            )
        raise RegistrationRefused("foreign")
    digest = hashlib.sha256(token.encode()).hexdigest()
    with transaction.atomic():
        registration = _keep(digest, resolved, product, free_trial_hint=free_trial_hint, now=now)
    if registration is None:
        raise RegistrationRefused("unavailable")
    return registration


def _keep(
    digest: str, resolved: ResolvedCustomer, product: Product, *, free_trial_hint: bool, now: datetime
) -> Registration | None:
    """The arrival and its purchase; None if AWS contradicts itself, which is flagged."""
    customer = customers.get_customer(
        aws_account_id=resolved.aws_account_id, customer_identifier=resolved.customer_identifier
    )
    try:
        agreement = customers.get_agreement(
            product=product,
            customer=customer,
            license_arn=resolved.license_arn,
            agreement_id=resolved.agreement_id,
            now=now,
            by="aws",
        )
    except customers.Contradicted as error:
        flags.raise_flag(customers.lock(error.agreement.pk), error.reason, at=now)
        return None
    registration = _registration(digest, agreement, free_trial_hint=free_trial_hint, now=now)
    # Events may have come before the buyer and waited for exactly this.
    lifecycle.replay_waiting(agreement, now=now)
    lifecycle.bring_up_to_date(agreement, by="aws", now=now)
    owed.owe(agreement, _looks_for(agreement, now=now))
    return registration


def _looks_for(agreement: Agreement, *, now: datetime) -> Iterator[Debt]:
    """A contract that no event has made active: AWS may list its entitlements all the same."""
    if agreement.status == Agreement.Status.PENDING and agreement.product.has_entitlements:
        for minutes in _LOOKED_FOR_AFTER:
            # Nothing is announced before then: usage of until then is closed without waiting for it.
            at = now + timedelta(minutes=minutes)
            yield Debt(Effect.Kind.SYNC_ENTITLEMENTS, f"{minutes} minutes after the buyer came", at)


def _resolve(marketplace: Marketplace, token: str) -> ResolvedCustomer:
    try:
        return marketplace.resolve_customer(token)
    except MarketplaceUnavailable as error:
        logger.warning("ResolveCustomer did not answer: %s", error.code)
        raise RegistrationRefused("unavailable") from error
    except MarketplaceError as error:
        if error.scope is Scope.BUYER or error.scope is Scope.RECORD:
            logger.info("ResolveCustomer refused a token: %s", error.code)
            expired = error.code == "ExpiredTokenException"
            raise RegistrationRefused("expired" if expired else "invalid") from error
        logger.error("ResolveCustomer refuses us: %s. %s", error.code, error.meaning.fix)
        raise RegistrationRefused("unavailable") from error


def _check_complete(resolved: ResolvedCustomer) -> None:
    """Refuse an answer that names nothing or nobody, or a license that cannot be told from another."""
    try:
        if resolved.license_arn:
            customers.license_id(resolved.license_arn)
        if not resolved.product_code or not (resolved.aws_account_id or resolved.customer_identifier):
            raise ValueError("The product or the customer is missing.")
    except ValueError as error:
        logger.error("ResolveCustomer gave an answer that cannot be used: %s", error)
        raise RegistrationRefused("unavailable") from error


def _registration(digest: str, agreement: Agreement, *, free_trial_hint: bool, now: datetime) -> Registration:
    try:
        with transaction.atomic():
            registration = Registration.objects.create(
                digest=digest,
                agreement=agreement,
                free_trial_hint=free_trial_hint,
                expires_at=now + TOKEN_LIFETIME,
                created_at=now,
            )
    except IntegrityError:  # posted before, or by the same click at the same moment
        return Registration.objects.get(digest=digest)
    audit.record(agreement, "buyer_arrived", by="aws", at=now, registration=registration.pk)
    return registration


def claim(
    registration: Registration,
    *,
    by: User,
    now: datetime,
    organization: Organization | None = None,
    new_name: str = "",
    answers: Mapping[str, Any] | None = None,
) -> Agreement:
    """Give the purchase to ``organization``, or to a new one named ``new_name``, once.

    ``answers``: to the questions a fork asks on the way (settings.ONBOARDING_FORM); kept with the arrival.
    Claiming again for the same organization changes nothing. Raises AlreadyClaimed when another organization
    was first, PurchaseOver when there is nothing left to claim, ClaimRefused when the person may not do this.
    """
    with transaction.atomic():
        agreement = customers.lock(registration.agreement_id)
        try:
            require_proven(by)
        except organizations.AccountClosed as error:
            raise ClaimRefused("The account was closed meanwhile.") from error
        chosen = _administered(organization, by) if organization else None
        if agreement.organization is not None:
            pressed_twice = organization is None and _set_up_by(by, agreement)
            if pressed_twice or agreement.organization == organization:
                return agreement
            raise AlreadyClaimed("Another organization has this purchase.")
        if agreement.status in OVER:
            raise PurchaseOver("The purchase failed or has ended.")
        target = chosen or organizations.create(name=new_name, owner=by)
        agreement.organization = target
        agreement.claimed_at = now
        agreement.save(update_fields=["organization", "claimed_at"])
        Registration.objects.filter(pk=registration.pk).update(
            user=by, claimed_at=now, answers=dict(answers or {})
        )
        audit.record(agreement, "claimed", by=by, at=now, organization=target.pk)
        owed.owe(agreement, [mails.welcome(now)])
        lifecycle.bring_up_to_date(agreement, by=by, now=now)
        succession.let_inherit(agreement, now=now)
    return agreement


def _set_up_by(user: User, agreement: Agreement) -> bool:
    """Whether it was this person, who is still where they took it. A colleague's workspace is not the new one
    that somebody asks for.
    """
    theirs = agreement.registrations.filter(user=user).exclude(claimed_at=None)
    assert agreement.organization is not None
    return theirs.exists() and agreement.organization.memberships.filter(user=user).exists()


def require_proven(user: User) -> None:
    """Hold the person, who must have an account and an address that is theirs. Under the purchase's lock.

    Raises AccountClosed or Unverified.
    """
    organizations.lock_person(user)
    if not user.emailaddress_set.filter(verified=True).exists():
        raise Unverified("The e-mail address is not verified.")


def _administered(organization: Organization, by: User) -> Organization:
    """Locked: nobody closes it while it gets something that AWS bills, nor takes the role from ``by``."""
    locked = locks.organization(organization.pk)
    if organizations.role_of(by, locked) not in Membership.ADMINISTRATORS or locked.closed_at is not None:
        raise ClaimRefused("Only an owner or admin can attach a purchase to an organization.")
    return locked
