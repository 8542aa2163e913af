"""What can be done with an agreement: one list for the control API and for the pages' buttons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from billing.simulator.aws.shapes import Json
from billing.simulator.control_api import fields
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import changes, renewals
from billing.simulator.records import Agreement
from billing.simulator.state import State


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    """As in POST /_simulator/agreements/<agreement_id>/<name>."""
    label: str
    about: str
    takes_quantities: bool
    perform: Callable[[State, Agreement, Json], Agreement | None]
    """Returns the new agreement if there is one. Called by ``perform`` below, which checks first."""
    require: Callable[[State, Agreement], None]
    """Raises Refused when it cannot be done now."""
    members: tuple[str, ...] = ()
    """What its body may hold."""


def available(state: State, agreement: Agreement) -> list[Action]:
    """Those that would not be refused now."""
    with state.lock:
        return [action for action in ACTIONS.values() if _can(state, agreement, action)]


def perform(state: State, agreement: Agreement, name: str, body: Json) -> Agreement:
    """Do it; returns the agreement as it is now, or the one that follows it. Raises Refused."""
    action = ACTIONS.get(name)
    if action is None:
        raise Refused(f"An agreement knows {', '.join(ACTIONS)} and token, not {name!r}")
    fields.only(body, *action.members)
    with state.lock:
        agreement = state.agreement(agreement.agreement_id)
        action.require(state, agreement)
        following = action.perform(state, agreement, body)
        return following or state.agreement(agreement.agreement_id)


def _can(state: State, agreement: Agreement, action: Action) -> bool:
    try:
        action.require(state, agreement)
    except Refused:
        return False
    return True


def _amend(state: State, agreement: Agreement, body: Json) -> None:
    quantities = fields.mapping(body, "quantities")
    if not quantities:
        raise Refused('quantities says how many there are to be, such as {"seats": 8}')
    changes.amend(state, agreement, quantities=quantities)


def _renew(state: State, agreement: Agreement, body: Json) -> Agreement:
    return renewals.renew(state, agreement, quantities=fields.mapping(body, "quantities"))


def _replace(state: State, agreement: Agreement, body: Json) -> Agreement:
    return renewals.replace_offer(
        state,
        agreement,
        quantities=fields.mapping(body, "quantities"),
        private_offer=fields.flag(body, "private_offer") or False,
    )


def _auto_renew(state: State, agreement: Agreement, body: Json) -> None:
    on = fields.flag(body, "on")
    if on is None:
        raise Refused('Say {"on": true} or {"on": false}')
    changes.set_auto_renew(state, agreement, on=on)


def _plain(change: Callable[[State, Agreement], None]) -> Callable[[State, Agreement, Json], None]:
    return lambda state, agreement, body: change(state, agreement)


ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            name="amend",
            label="Add units",
            about="The buyer adds units to the contract: Purchase Agreement Amended, then License Updated"
            " (legacy: entitlement-updated).",
            takes_quantities=True,
            perform=_amend,
            require=changes.require_contract,
            members=("quantities",),
        ),
        Action(
            name="renew",
            label="Renew now",
            about="A new agreement under a new license follows; the old one ends RENEWED"
            " (legacy: the purchase runs on, with entitlement-updated).",
            takes_quantities=True,
            perform=_renew,
            require=changes.require_contract,
            members=("quantities",),
        ),
        Action(
            name="replace",
            label="Replace with another offer",
            about="A new agreement of another offer follows, of more or less; the old one ends REPLACED"
            " (legacy: subscribe-success again, with the new offer).",
            takes_quantities=True,
            perform=_replace,
            require=changes.require_contract,
            members=("quantities", "private_offer"),
        ),
        Action(
            name="cancel",
            label="Cancel subscription",
            about="It ends now: Purchase Agreement Ended, License Deprovisioned, one last hour of metering"
            " (legacy: unsubscribe-pending, an hour later unsubscribe-success).",
            takes_quantities=False,
            perform=_plain(changes.cancel),
            require=changes.require_active,
        ),
        Action(
            name="expire",
            label="Let the term run out",
            about="The contract's end is now: the same events as after a cancellation, with status EXPIRED.",
            takes_quantities=False,
            perform=_plain(changes.expire),
            require=changes.require_contract,
        ),
        Action(
            name="fail_payment",
            label="Fail the payment",
            about="The payment fails before activation: the license never appears, and no event says so"
            " (legacy: subscribe-fail).",
            takes_quantities=False,
            perform=_plain(changes.fail_payment),
            require=changes.require_unpaid,
        ),
        Action(
            name="suspend",
            label="Suspend the buyer",
            about="AWS suspends the buyer's account: usage of all its purchases answers"
            " CustomerNotSubscribed, and no event says so.",
            takes_quantities=False,
            perform=_plain(changes.suspend),
            require=partial(changes.require_suspended, wanted=False),
        ),
        Action(
            name="reinstate",
            label="Reinstate the buyer",
            about="The buyer's account is in order again and its usage is accepted.",
            takes_quantities=False,
            perform=_plain(changes.reinstate),
            require=partial(changes.require_suspended, wanted=True),
        ),
        Action(
            name="issue_advisory",
            label="Issue an advisory",
            about="AWS suspects fraud or abuse: Purchase Agreement Advisory Issued; nothing else changes.",
            takes_quantities=False,
            perform=_plain(changes.issue_advisory),
            require=partial(changes.require_advisory, wanted=False),
        ),
        Action(
            name="resolve_advisory",
            label="Resolve the advisory",
            about="The suspicion is settled: Purchase Agreement Advisory Resolved.",
            takes_quantities=False,
            perform=_plain(changes.resolve_advisory),
            require=partial(changes.require_advisory, wanted=True),
        ),
        Action(
            name="auto_renew",
            label="Switch automatic renewal",
            about="On or off: at its end the contract renews by itself or expires. Purchase Agreement Amended"
            " says so (legacy: nothing does).",
            takes_quantities=False,
            perform=_auto_renew,
            require=changes.require_renewable,
            members=("on",),
        ),
        Action(
            name="opt_in",
            label="Move to Concurrent Agreements",
            about="The legacy purchase gets a license and keeps its customer identifier; License Updated"
            " follows, and ResolveCustomer answers the license from now on.",
            takes_quantities=False,
            perform=_plain(changes.opt_in),
            require=changes.require_legacy,
        ),
    )
}
