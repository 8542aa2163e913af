"""What happens to a purchase while it runs: amended, ended, suspended, warned about, moved to a license.

Called under the state's lock with arguments already checked; each raises Refused with what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from billing.simulator.clock import iso, whole_second
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import endings, eventbridge, purchases, sns
from billing.simulator.records import Agreement, Suspension
from billing.simulator.state import State


def amend(state: State, agreement: Agreement, *, quantities: Mapping[str, object]) -> None:
    """Add units to a contract; entitlements change when License Updated falls due. Buyers cannot reduce."""
    now = _now(state)
    _, latest = agreement.quantities[-1]
    added = state.product(agreement.product_code).read_quantities(quantities)
    for key, value in added.items():
        had = latest.get(key)
        if isinstance(had, int | float) and isinstance(value, int | float) and value < had:
            raise Refused(
                f"Buyers can add units to a contract, not reduce them: {key} is {had}."
                " Replace the agreement to go below."
            )
    effective_at = now + state.timings.license_updated
    if agreement.activates_at is not None:
        effective_at = max(effective_at, agreement.activates_at)
    agreement = replace(agreement, quantities=(*agreement.quantities, (effective_at, latest | added)))
    state.put(agreement)
    if agreement.identity == "legacy":
        sns.notification(state, agreement, sns.ENTITLEMENT_UPDATED, due=effective_at)
    else:
        eventbridge.amended(state, agreement, due=now + state.timings.agreement_created)
        purchases.license_updated(state, agreement, due=effective_at)


def cancel(state: State, agreement: Agreement) -> None:
    """End it now, as a buyer does in Manage subscriptions; the final metering hour follows."""
    now = _now(state)
    endings.withdraw(state, agreement)
    if now < agreement.starts_at and not agreement.is_activated(now):
        endings.call_off(state, agreement, at=now)
    else:
        endings.end(state, agreement, status="CANCELLED", at=now)


def expire(state: State, agreement: Agreement) -> None:
    """The term's end is now."""
    now = _now(state)
    endings.withdraw(state, agreement)
    endings.end(state, replace(agreement, ends_at=now, auto_renew=False), status="EXPIRED", at=now)


def fail_payment(state: State, agreement: Agreement) -> None:
    endings.withdraw(state, agreement)
    endings.withdraw_activation(state, agreement)
    unended = replace(agreement, deprovisioned_at=None, metering_closes_at=None)
    purchases.fail(state, unended, at=_now(state))


def suspend(state: State, agreement: Agreement) -> None:
    """All of the account: while it lasts, its usage answers CustomerNotSubscribed (facts page §3.4)."""
    account = agreement.aws_account_id
    state.suspensions[account] = Suspension(account, _now(state))


def reinstate(state: State, agreement: Agreement) -> None:
    del state.suspensions[agreement.aws_account_id]


def issue_advisory(state: State, agreement: Agreement) -> None:
    state.put(replace(agreement, advisory_issued_at=_now(state)))
    eventbridge.advisory(state, agreement, resolved=False, due=_now(state))


def resolve_advisory(state: State, agreement: Agreement) -> None:
    state.put(replace(agreement, advisory_issued_at=None))
    eventbridge.advisory(state, agreement, resolved=True, due=_now(state))


def set_auto_renew(state: State, agreement: Agreement, *, on: bool) -> None:
    """Only license purchases are told; SNS has no message of it."""
    if agreement.auto_renew == on:
        raise Refused(f"The agreement {'renews' if on else 'does not renew'} by itself already")
    agreement = replace(agreement, auto_renew=on)
    endings.replan(state, agreement)
    if agreement.identity == "license":
        due = _now(state) + state.timings.agreement_created
        eventbridge.amended(state, agreement, due=due)


def opt_in(state: State, agreement: Agreement) -> None:
    """The listing moves to Concurrent Agreements: a legacy purchase gets a license, and keeps its names."""
    endings.withdraw(state, agreement)
    agreement = replace(agreement, identity="license", license_arn=purchases.new_license_arn())
    endings.replan(state, agreement)
    # Told always, whatever the switch for contracts: nothing else would name the new license.
    eventbridge.license_updated(state, agreement, due=_now(state) + state.timings.license_updated)


def require_active(state: State, agreement: Agreement) -> None:
    status = agreement.status(state.clock.now())
    if status != "ACTIVE":
        raise Refused(f"The agreement {agreement.agreement_id} is {status} already")


def require_started(state: State, agreement: Agreement) -> None:
    require_active(state, agreement)
    if state.clock.now() < agreement.starts_at:
        raise Refused(f"It starts at {iso(agreement.starts_at)}. Move the clock there first, or cancel it.")


def require_contract(state: State, agreement: Agreement) -> None:
    if agreement.ends_at is None:
        raise Refused(
            "Pay-as-you-go agreements cannot be amended, renewed, replaced or expired: they have no term."
            " Cancel it instead."
        )
    require_started(state, agreement)


def require_unpaid(state: State, agreement: Agreement) -> None:
    require_active(state, agreement)
    if agreement.is_activated(state.clock.now()):
        raise Refused(
            "The payment went through and the license is active. Cancel the agreement, or suspend the buyer;"
            " or subscribe anew with payment_fails."
        )


def require_suspended(state: State, agreement: Agreement, *, wanted: bool) -> None:
    account = agreement.aws_account_id
    if (account in state.suspensions) != wanted:
        raise Refused(f"The buyer {account} is {'not' if wanted else 'already'} suspended")


def require_advisory(state: State, agreement: Agreement, *, wanted: bool) -> None:
    if agreement.identity == "legacy":
        raise Refused("A legacy purchase speaks SNS, which has no advisories. Use opt_in first.")
    if (agreement.advisory_issued_at is not None) != wanted:
        raise Refused(
            "There is no open advisory" if wanted else "An advisory is open already: resolve it first"
        )


def require_renewable(state: State, agreement: Agreement) -> None:
    require_contract(state, agreement)
    purchases.check_renews(state, agreement)


def require_legacy(state: State, agreement: Agreement) -> None:
    if agreement.identity != "legacy":
        raise Refused("The purchase has a license already")
    require_active(state, agreement)
    if not agreement.is_activated(state.clock.now()):
        raise Refused("It is not active yet. Move the clock past subscribe-success first.")


def _now(state: State) -> datetime:
    return whole_second(state.clock.now())
