"""Renewal and replacement (facts page §5): a new agreement under a new license, while the old one ends.

A legacy purchase has no license to change: it runs on as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from billing.simulator.catalog import Value
from billing.simulator.clock import whole_second
from billing.simulator.lifecycle import endings, purchases, sns
from billing.simulator.records import Agreement, Intent, Scheduled
from billing.simulator.state import State

SHORTEST_TERM = timedelta(days=1)
"""Of what renews by itself: a leap of the clock by years must not renew every second of them."""


def renew(state: State, agreement: Agreement, *, quantities: Mapping[str, object]) -> Agreement:
    """Renew it now for another term, with other quantities if given; returns the agreement that follows."""
    now = whole_second(state.clock.now())
    bought = _bought(state, agreement, quantities)
    endings.withdraw(state, agreement)
    if agreement.identity == "license":
        return _succeed(state, agreement, "RENEW", bought, offered=agreement, at=now)
    assert agreement.ends_at is not None
    effective_at = now + state.timings.license_updated
    ends_at = agreement.ends_at + state.timings.contract_term
    _run_on(state, agreement, bought=(effective_at, bought), ends_at=ends_at, told_at=effective_at)
    return state.agreement(agreement.agreement_id)


def replace_offer(
    state: State, agreement: Agreement, *, quantities: Mapping[str, object], private_offer: bool
) -> Agreement:
    """Accept another offer instead, of more or less; returns the agreement that follows."""
    now = whole_second(state.clock.now())
    bought = _bought(state, agreement, quantities)
    private_offer = private_offer or agreement.resale_authorization_id is not None
    offer_id = purchases.new_offer_id(private=private_offer)
    endings.withdraw(state, agreement)
    if agreement.identity == "license":
        offered = replace(agreement, offer_id=offer_id, private_offer=private_offer)
        return _succeed(state, agreement, "REPLACE", bought, offered=offered, at=now)
    effective_at = now + state.timings.license_updated
    ends_at = now + state.timings.contract_term
    agreement = replace(agreement, offer_id=offer_id, private_offer=private_offer, trial_ends_at=None)
    # An accepted offer of an agreement sends subscribe-success again, with the new offer (§4.1).
    sns.notification(state, agreement, sns.SUBSCRIBE_SUCCESS, due=effective_at)
    _run_on(state, agreement, bought=(effective_at, bought), ends_at=ends_at, told_at=effective_at)
    return state.agreement(agreement.agreement_id)


def renew_by_itself(state: State, event: Scheduled) -> None:
    """The term of an automatically renewing agreement is over; everything is timed from that instant."""
    agreement = state.agreement(event.agreement_id)
    bought = agreement.quantities_at(event.due)
    if agreement.identity == "license":
        intent = endings.renewal_intent(agreement)
        offered = agreement
        if intent == "REPLACE":
            offer_id = purchases.new_offer_id(private=False)
            offered = replace(agreement, offer_id=offer_id, private_offer=False)
        _succeed(state, agreement, intent, bought, offered=offered, at=event.due)
        return
    ends_at = event.due + max(state.timings.contract_term, SHORTEST_TERM)
    _run_on(state, agreement, bought=(event.due, bought), ends_at=ends_at, told_at=event.due)


def _bought(state: State, agreement: Agreement, wanted: Mapping[str, object]) -> dict[str, Value]:
    _, latest = agreement.quantities[-1]
    return latest | state.product(agreement.product_code).read_quantities(wanted)


def _succeed(
    state: State,
    old: Agreement,
    intent: Intent,
    bought: dict[str, Value],
    *,
    offered: Agreement,
    at: datetime,
) -> Agreement:
    """``offered`` is the old agreement under the offer that the new one accepts."""
    timings = state.timings
    term = max(timings.contract_term, SHORTEST_TERM) if old.auto_renew else timings.contract_term
    new = replace(
        offered,
        agreement_id=f"agmt-{purchases.random_id(25)}",
        license_arn=purchases.new_license_arn(),
        accepted_at=at,
        starts_at=at,
        activates_at=at + timings.license_updated,
        ends_at=at + term,
        trial_ends_at=None,
        quantities=((at, bought),),
        intent=intent,
        previous_agreement_id=old.agreement_id,
        advisory_issued_at=None,
        ended_at=None,
        ended_status="",
        deprovisioned_at=None,
        metering_closes_at=None,
    )
    purchases.announce(state, new, created_after=timings.agreement_created)
    # Told after Created, so that the old agreement's end finds its successor known.
    endings.end(state, old, status=endings.SUCCEEDED[intent], at=at, told_after=timings.agreement_created)
    endings.plan(state, new, since=at)
    return state.agreement(new.agreement_id)


def _run_on(
    state: State,
    agreement: Agreement,
    *,
    bought: tuple[datetime, dict[str, Value]],
    ends_at: datetime,
    told_at: datetime,
) -> None:
    """A legacy purchase continues under the same names until ``ends_at``."""
    agreement = replace(
        agreement,
        ends_at=ends_at,
        quantities=(*agreement.quantities, bought),
        ended_at=None,
        ended_status="",
        deprovisioned_at=None,
        metering_closes_at=None,
    )
    state.put(agreement)
    sns.notification(state, agreement, sns.ENTITLEMENT_UPDATED, due=told_at)
    endings.plan(state, agreement, since=state.clock.now())
