"""A buyer subscribes, and sets up the account again. What happens to a purchase later is in changes.py."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.simulator.catalog import Identity, Product
from billing.simulator.clock import whole_second
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import endings, eventbridge, sns
from billing.simulator.records import SELLER_ACCOUNT_ID, Agreement, Token
from billing.simulator.state import State

TRIAL_DAYS = range(7, 91)
_ALPHABET = string.ascii_lowercase + string.digits
_LICENSE_ACCOUNT = "294406891311"


@dataclass(frozen=True, slots=True)
class Purchase:
    agreement: Agreement
    token: str


def subscribe(
    state: State,
    *,
    product_code: str,
    aws_account_id: str | None = None,
    quantities: Mapping[str, object] | None = None,
    free_trial: bool | int = False,
    started_at: datetime | None = None,
    identity: Identity | None = None,
    private_offer: bool = False,
    channel_partner: str | None = None,
    auto_renew: bool = False,
    payment_fails: bool = False,
    agreement_created_after: timedelta | None = None,
    license_updated_after: timedelta | None = None,
) -> Purchase:
    """Buy ``product_code``; it becomes active when License Updated (legacy: subscribe-success) falls due.

    ``free_trial`` may be a number of days; ``channel_partner`` is the account of who sold it.
    """
    with state.lock:
        product = state.product(product_code)
        account = _buyer(aws_account_id)
        identity = identity or product.identity
        trial = _trial(state, product, account, free_trial)
        if channel_partner is not None:
            _check_partner(channel_partner, account)
        if identity == "legacy":
            _supersede_legacy(state, product, account)
        now = whole_second(state.clock.now())
        starts_at = whole_second(started_at or now)
        timings = state.timings
        agreement = Agreement(
            agreement_id=f"agmt-{random_id(25)}",
            offer_id=new_offer_id(private=private_offer or channel_partner is not None),
            product_code=product.code,
            aws_account_id=account,
            identity=identity,
            license_arn=new_license_arn() if identity == "license" else None,
            customer_identifier=_customer_identifier(state, account) if identity == "legacy" else None,
            accepted_at=min(now, starts_at),
            starts_at=starts_at,
            activates_at=starts_at
            + (timings.license_updated if license_updated_after is None else license_updated_after),
            ends_at=_term_end(state, product, starts_at, trial),
            trial_ends_at=starts_at + trial if trial else None,
            quantities=((starts_at, product.default_quantities | product.read_quantities(quantities or {})),),
            proposer_account_id=channel_partner or SELLER_ACCOUNT_ID,
            resale_authorization_id=f"resaleauthz-{random_id(13)}" if channel_partner else None,
            private_offer=private_offer or channel_partner is not None,
            auto_renew=auto_renew,
        )
        if auto_renew:
            check_renews(state, agreement)
        agreement = replace(agreement, initial_agreement_id=agreement.agreement_id)
        created_after = (
            timings.agreement_created if agreement_created_after is None else agreement_created_after
        )
        announce(state, agreement, created_after=created_after, payment_fails=payment_fails)
        if not payment_fails:
            endings.plan(state, state.agreement(agreement.agreement_id), since=starts_at)
        return Purchase(state.agreement(agreement.agreement_id), issue_token(state, agreement))


def issue_token(state: State, agreement: Agreement) -> str:
    """A fresh registration token: "Set up your account" in Manage subscriptions."""
    # Standard base64 on purpose: its + / = break whoever puts a token into a URL or a form unencoded.
    token = base64.b64encode(secrets.token_bytes(97)).decode()
    with state.lock:
        expires_at = state.clock.now() + state.timings.token_lifetime
        state.tokens[token] = Token(token, agreement.agreement_id, expires_at)
    return token


def announce(
    state: State, agreement: Agreement, *, created_after: timedelta, payment_fails: bool = False
) -> None:
    """Remember a new agreement and schedule the events that tell the seller of it."""
    state.put(agreement)
    license_at = agreement.activates_at or agreement.starts_at
    if agreement.identity == "license":
        at_acceptance = state.switches.future_purchase_created == "acceptance"
        told_from = agreement.accepted_at if at_acceptance else agreement.starts_at
        eventbridge.created(state, agreement, due=told_from + created_after)
    if payment_fails:
        fail(state, agreement, at=license_at)
    elif agreement.identity == "legacy":
        sns.notification(state, agreement, sns.SUBSCRIBE_SUCCESS, due=license_at)
        if agreement.ends_at:
            sns.notification(state, agreement, sns.ENTITLEMENT_UPDATED, due=license_at)
    else:
        license_updated(state, agreement, due=license_at)


def fail(state: State, agreement: Agreement, *, at: datetime) -> None:
    """The payment fails: SNS says so, EventBridge stays silent and the license never appears (§4.3)."""
    state.put(replace(agreement, activates_at=None, ended_at=at, ended_status="TERMINATED"))
    if agreement.identity == "legacy":
        sns.notification(state, agreement, sns.SUBSCRIBE_FAIL, due=at)


def license_updated(state: State, agreement: Agreement, *, due: datetime) -> None:
    if agreement.ends_at is None or state.switches.contract_license_updated:
        eventbridge.license_updated(state, agreement, due=due)


def check_renews(state: State, agreement: Agreement) -> None:
    """Refuse to renew by itself what has no term that could."""
    if agreement.ends_at is None:
        raise Refused("Pay as you go has no end, so it does not renew. Leave auto_renew out.")
    if endings.is_trial_only(agreement):
        raise Refused(
            "A contract's free trial ends without renewal."
            " Subscribe without a trial, or set the switch contract_trial_converts first."
        )


def random_account_id() -> str:
    return str(secrets.randbelow(9 * 10**11) + 10**11)


def new_offer_id(*, private: bool) -> str:
    """AWS gives both kinds the same form; here a private one can be told apart."""
    return f"offer-private-{random_id(13)}" if private else f"offer-{random_id(13)}"


def new_license_arn() -> str:
    return f"arn:aws:license-manager::{_LICENSE_ACCOUNT}:license:l-{secrets.token_hex(16)}"


def random_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _buyer(aws_account_id: str | None) -> str:
    account = aws_account_id or random_account_id()
    _check_account("aws_account_id", account)
    if account == SELLER_ACCOUNT_ID:
        raise Refused(f"{SELLER_ACCOUNT_ID} is the seller, and a seller cannot buy its own product")
    return account


def _check_account(name: str, account: str) -> None:
    if len(account) != 12 or not account.isascii() or not account.isdigit():
        raise Refused(f"{name} is 12 digits")


def _check_partner(channel_partner: str, account: str) -> None:
    _check_account("channel_partner", channel_partner)
    if channel_partner in (SELLER_ACCOUNT_ID, account):
        raise Refused("channel_partner is an account of its own: neither the seller's nor the buyer's")


def _trial(state: State, product: Product, account: str, free_trial: bool | int) -> timedelta | None:
    if free_trial is False:
        return None
    if free_trial is not True and free_trial not in TRIAL_DAYS:
        raise Refused(f"free_trial is true, or {TRIAL_DAYS.start} to {TRIAL_DAYS.stop - 1} days")
    if any(one.trial_ends_at and one.activates_at for one in state.agreements_of(product.code, account)):
        raise Refused(
            f"{account} had its free trial of {product.code}, and AWS gives one per account."
            " Subscribe without free_trial, or from another account."
        )
    return state.timings.free_trial if free_trial is True else timedelta(days=free_trial)


def _term_end(
    state: State, product: Product, starts_at: datetime, trial: timedelta | None
) -> datetime | None:
    if not product.is_contract:
        return None
    if trial and not state.switches.contract_trial_converts:
        return starts_at + trial
    return starts_at + (trial or timedelta()) + state.timings.contract_term


def _supersede_legacy(state: State, product: Product, account: str) -> None:
    """One legacy purchase per account at a time; one in the final hour swallows unsubscribe-success."""
    now = state.clock.now()
    for other in state.agreements_of(product.code, account):
        if other.identity != "legacy":
            continue
        if other.status(now) == "ACTIVE":
            raise Refused(
                f"{account} has {product.code} already, and a legacy product is bought once per account."
                f" Cancel {other.agreement_id} first, or subscribe from another account."
            )
        state.upcoming.forget(
            other.agreement_id, lambda event: event.kind == sns.UNSUBSCRIBE_SUCCESS and event.due >= now
        )


def _customer_identifier(state: State, account: str) -> str:
    """Not the account's id, but "universal between products" (Seller Guide, accepting new customers)."""
    return state.name_customer(account, random_id(11))
