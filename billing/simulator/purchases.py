"""What a buyer does: subscribe, set up the account again, amend, cancel.

Each sets the agreement's instants and schedules the events that tell the seller.
"""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from billing.simulator import events
from billing.simulator.catalog import Identity, Product, Value
from billing.simulator.clock import whole_second
from billing.simulator.errors import Refused
from billing.simulator.records import Agreement, Scheduled, Token
from billing.simulator.state import State

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
    free_trial: bool = False,
    started_at: datetime | None = None,
    identity: Identity | None = None,
    agreement_created_after: timedelta | None = None,
    license_updated_after: timedelta | None = None,
) -> Purchase:
    """Buy ``product_code``; the license starts at once and becomes active when License Updated falls due."""
    with state.lock:
        product = state.product(product_code)
        account = aws_account_id or random_account_id()
        if len(account) != 12 or not account.isascii() or not account.isdigit():
            raise Refused("aws_account_id is 12 digits")
        identity = identity or product.identity
        bought = _quantities(product, quantities or {})
        now = whole_second(state.clock.now())
        starts_at = whole_second(started_at or now)
        if identity == "legacy":
            _supersede_legacy(state, product, account)
        agreement = Agreement(
            agreement_id=f"agmt-{_random_id(25)}",
            offer_id=f"offer-{_random_id(13)}",
            product_code=product.code,
            aws_account_id=account,
            identity=identity,
            license_arn=_license_arn() if identity == "license" else None,
            customer_identifier=_customer_identifier(state, account) if identity == "legacy" else None,
            accepted_at=min(now, starts_at),
            starts_at=starts_at,
            activates_at=starts_at
            + (state.timings.license_updated if license_updated_after is None else license_updated_after),
            ends_at=starts_at + state.timings.contract_term if product.is_contract else None,
            trial_ends_at=starts_at + state.timings.free_trial if free_trial else None,
            quantities=((starts_at, bought),),
        )
        agreement = replace(agreement, initial_agreement_id=agreement.agreement_id)
        state.put(agreement)
        created_after = (
            state.timings.agreement_created if agreement_created_after is None else agreement_created_after
        )
        _announce_purchase(state, product, agreement, created_at=agreement.accepted_at + created_after)
        if agreement.ends_at:
            _end(state, agreement, status="EXPIRED", at=agreement.ends_at)
        return Purchase(
            agreement=state.agreement(agreement.agreement_id), token=issue_token(state, agreement)
        )


def issue_token(state: State, agreement: Agreement) -> str:
    """A fresh registration token: "Set up your account" in Manage subscriptions."""
    # Standard base64 on purpose: its + / = break whoever puts a token into a URL or a form unencoded.
    token = base64.b64encode(secrets.token_bytes(97)).decode()
    with state.lock:
        expires_at = state.clock.now() + state.timings.token_lifetime
        state.tokens[token] = Token(token, agreement.agreement_id, expires_at)
    return token


def amend(state: State, agreement: Agreement, *, quantities: Mapping[str, object]) -> None:
    """Add units to a contract; entitlements change when License Updated falls due. Buyers cannot reduce."""
    with state.lock:
        product = state.product(agreement.product_code)
        if not product.is_contract:
            raise Refused("Pay-as-you-go agreements cannot be amended")
        _require_active(state, agreement)
        now = whole_second(state.clock.now())
        _, latest = agreement.quantities[-1]
        wanted = latest | _quantities(product, quantities, only_given=True)
        for key, value in latest.items():
            if isinstance(value, int | float) and wanted[key] < value:  # type: ignore[operator]  # same dimension, same type
                raise Refused(f"Buyers can add units to a contract, not reduce them: {key} is {value}")
        effective_at = now + state.timings.license_updated
        agreement = replace(agreement, quantities=(*agreement.quantities, (effective_at, wanted)))
        state.put(agreement)
        if agreement.identity == "legacy":
            events.notification(state, agreement, events.ENTITLEMENT_UPDATED, due=effective_at)
        else:
            facts = {"intent": "AMEND", **events.term(agreement)}
            due = now + state.timings.agreement_created
            events.agreement_event(state, agreement, events.AMENDED, due=due, **facts)
            events.license_event(state, agreement, events.LICENSE_UPDATED, due=effective_at)


def cancel(state: State, agreement: Agreement) -> None:
    """End it now, as a buyer does in Manage subscriptions; the final metering hour follows."""
    with state.lock:
        _require_active(state, agreement)
        _end(state, agreement, status="CANCELLED", at=whole_second(state.clock.now()))


def renew_by_itself(state: State, event: Scheduled) -> None:
    """The term of an automatically renewing agreement is over."""


def random_account_id() -> str:
    return str(secrets.randbelow(9 * 10**11) + 10**11)


def _end(state: State, agreement: Agreement, *, status: str, at: datetime) -> None:
    """Set when and why the agreement ends, in place of any end planned before."""
    is_legacy = agreement.identity == "legacy"
    deprovisioned_at = at if is_legacy else at + state.timings.deprovisioned
    metering_closes_at = deprovisioned_at + state.timings.final_hour
    last_word_at = metering_closes_at if is_legacy else deprovisioned_at
    due_from = min(agreement.ended_at or last_word_at, last_word_at)
    state.unschedule(agreement.agreement_id, due_from=due_from)
    state.put(
        replace(
            agreement,
            ended_at=at,
            ended_status=status,
            deprovisioned_at=deprovisioned_at,
            metering_closes_at=metering_closes_at,
        )
    )
    if is_legacy:
        events.notification(state, agreement, events.UNSUBSCRIBE_PENDING, due=at)
        if agreement.ends_at:
            events.notification(state, agreement, events.ENTITLEMENT_UPDATED, due=at)
        events.notification(state, agreement, events.UNSUBSCRIBE_SUCCESS, due=last_word_at)
        return
    events.agreement_event(state, agreement, events.ENDED, due=at, status=status)
    events.license_event(state, agreement, events.LICENSE_DEPROVISIONED, due=deprovisioned_at)


def _announce_purchase(state: State, product: Product, agreement: Agreement, *, created_at: datetime) -> None:
    activates_at = agreement.activates_at or agreement.starts_at
    if agreement.identity == "legacy":
        events.notification(state, agreement, events.SUBSCRIBE_SUCCESS, due=activates_at)
        if product.is_contract:
            events.notification(state, agreement, events.ENTITLEMENT_UPDATED, due=activates_at)
        return
    facts = {"intent": "NEW", **events.term(agreement)}
    events.agreement_event(state, agreement, events.CREATED, due=created_at, **facts)
    events.license_event(state, agreement, events.LICENSE_UPDATED, due=activates_at)


def _require_active(state: State, agreement: Agreement) -> None:
    status = agreement.status(state.clock.now())
    if status != "ACTIVE":
        raise Refused(f"The agreement {agreement.agreement_id} is {status} already")


def _supersede_legacy(state: State, product: Product, account: str) -> None:
    """One legacy purchase per account at a time; one in the final hour swallows unsubscribe-success."""
    now = state.clock.now()
    for other in state.agreements_of(product.code, account):
        if other.identity != "legacy":
            continue
        if other.status(now) == "ACTIVE":
            raise Refused(
                f"{account} has {product.code} already, and a legacy product is bought once per account"
            )
        state.unschedule(other.agreement_id, due_from=now, kind=events.UNSUBSCRIBE_SUCCESS)


def _quantities(
    product: Product, wanted: Mapping[str, object], *, only_given: bool = False
) -> dict[str, Value]:
    sold = {dimension.key: dimension for dimension in product.entitled} if product.is_contract else {}
    if unknown := wanted.keys() - sold.keys():
        raise Refused(f"{product.code} sells no entitlement called {', '.join(sorted(unknown))}")
    return {
        key: dimension.read(wanted[key]) if key in wanted else dimension.default_quantity
        for key, dimension in sold.items()
        if key in wanted or not only_given
    }


def _customer_identifier(state: State, account: str) -> str:
    """Not the account's id, but "universal between products" (Seller Guide, accepting new customers)."""
    return state.name_customer(account, _random_id(11))


def _license_arn() -> str:
    return f"arn:aws:license-manager::{_LICENSE_ACCOUNT}:license:l-{secrets.token_hex(16)}"


def _random_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
