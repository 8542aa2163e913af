"""The buyer's "Manage subscriptions": every agreement, its story, and the token to set up an account."""

from __future__ import annotations

from datetime import datetime

from billing.simulator.aws.shapes import Json
from billing.simulator.control_api import control
from billing.simulator.lifecycle import actions, purchases
from billing.simulator.pages import agreement_words, invoice_pages, queue_pages
from billing.simulator.pages.paging import part
from billing.simulator.pages.render import exact, instant, page, readable, url
from billing.simulator.pages.store_pages import PRICING_NAMES
from billing.simulator.records import Agreement
from billing.simulator.state import State
from billing.simulator.web import Request, Response

OFFER_TYPE_TRIAL = "free-trial"
AGREEMENTS_SHOWN = 20


def manage(state: State, request: Request) -> Response:
    """Newest purchase first; agreements of one AWS account stand together."""
    account = request.query.get("account", "").strip()
    with state.lock:
        of_account: dict[str, list[Agreement]] = {}
        for agreement in reversed(state.agreements.data.values()):
            if account in ("", agreement.aws_account_id):
                of_account.setdefault(agreement.aws_account_id, []).append(agreement)
        ordered = [agreement for agreements in of_account.values() for agreement in agreements]
        shown = part(request, len(ordered), size=AGREEMENTS_SHOWN)
        now = state.clock.now()
        accounts: dict[str, list[Json]] = {}
        for agreement in shown.of(ordered):
            accounts.setdefault(agreement.aws_account_id, []).append(_card(state, agreement, now))
    context = {
        "accounts": [{"id": name, "agreements": cards} for name, cards in accounts.items()],
        "account": account,
        "part": shown,
        "is_paged": shown.total > AGREEMENTS_SHOWN,
    }
    return page(state, "subscriptions", context)


def agreement(state: State, agreement_id: str, request: Request) -> Response:
    with state.lock:
        agreement = state.agreement(agreement_id)
        product = state.product(agreement.product_code)
        now = state.clock.now()
        done = actions.ACTIONS.get(request.query.get("done", ""))
        context = {
            "agreement": {
                **readable(control.describe(state, agreement)),
                **_card(state, agreement, now),
                "pricing": PRICING_NAMES[product.pricing],
            },
            "story": agreement_words.story(product, agreement, now),
            "chain": _chain(state, agreement),
            "scheduled": [
                {"at": exact(event.due), "kind": event.kind}
                for event in state.upcoming.in_order
                if event.agreement_id == agreement_id
            ],
            "messages": queue_pages.messages_about(state, agreement),
            "usage": invoice_pages.usage_of(state, agreement_id),
            "invoice_url": f"/invoice?agreement={agreement_id}",
            "done": done.label if done else "",
        }
    return page(state, "agreement", context)


def setup(state: State, agreement_id: str, *, is_new: bool) -> Response:
    """Hand the buyer a fresh token and the button that carries it to the seller's site."""
    with state.lock:
        agreement = state.agreement(agreement_id)
        product = state.product(agreement.product_code)
        fields = {"x-amzn-marketplace-token": purchases.issue_token(state, agreement)}
        expires_at = state.tokens[fields["x-amzn-marketplace-token"]].expires_at
        if agreement.trial_ends_at:
            fields["x-amzn-marketplace-offer-type"] = OFFER_TYPE_TRIAL
        if state.switches.registration_hints:
            fields["x-amzn-marketplace-agreement-id"] = agreement.agreement_id
            fields["x-amzn-marketplace-product-id"] = product.product_id
        context = {
            "is_new": is_new,
            "fulfillment_url": product.fulfillment_url or state.fulfillment_url,
            "fields": fields,
            "expires_at": instant(expires_at),
            "agreement": {
                **readable(control.describe(state, agreement)),
                **_card(state, agreement, state.clock.now()),
            },
        }
    return page(state, "setup", context)


def _card(state: State, agreement: Agreement, now: datetime) -> Json:
    product = state.product(agreement.product_code)
    tone, word, more = agreement_words.state_of(agreement, now)
    return {
        "id": agreement.agreement_id,
        "title": product.title,
        "tone": tone,
        "state": word,
        "more": more,
        "remarks": agreement_words.remarks(state, agreement, now),
        "bought": agreement_words.bought(product, agreement, now),
        "accepted": instant(agreement.accepted_at),
        "account_url": f"/subscriptions?account={agreement.aws_account_id}",
        "url": url("subscriptions", agreement.agreement_id),
        "setup_url": url("subscriptions", agreement.agreement_id, "setup"),
        "can_set_up": agreement.status(now) == "ACTIVE",
        "actions": [
            {
                "name": action.name,
                "label": action.label,
                "about": action.about,
                "url": url("subscriptions", agreement.agreement_id, action.name),
            }
            for action in actions.available(state, agreement)
        ],
    }


def _chain(state: State, agreement: Agreement) -> list[Json]:
    """The purchase, its renewals and replacements, oldest first; empty when it stands alone."""
    now = state.clock.now()
    chain = [
        other
        for other in state.agreements.data.values()
        if other.initial_agreement_id == agreement.initial_agreement_id
    ]
    if len(chain) == 1:
        return []
    return [
        {
            "id": other.agreement_id,
            "url": url("subscriptions", other.agreement_id),
            "is_this": other.agreement_id == agreement.agreement_id,
            "intent": agreement_words.INTENTS[other.intent],
            "starts": instant(other.starts_at),
            "state": agreement_words.state_of(other, now)[1],
        }
        for other in chain
    ]
