"""Changing or ending an agreement: each action has a page that says what will happen, and asks."""

from __future__ import annotations

from billing.simulator.aws.shapes import Json
from billing.simulator.catalog import Product
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import actions
from billing.simulator.lifecycle.actions import Action
from billing.simulator.pages.forms import Field, blame, filled
from billing.simulator.pages.purchase_form import quantity_fields, read_quantities
from billing.simulator.pages.render import page, problem, url
from billing.simulator.records import Agreement
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect


def answer(state: State, agreement_id: str, name: str, request: Request) -> Response | None:
    action = actions.ACTIONS.get(name)
    if action is None:
        return None
    with state.lock:
        agreement = state.agreement(agreement_id)
        product = state.product(agreement.product_code)
        if request.method == "POST":
            return _perform(state, product, agreement, action, request.form)
        if action not in actions.available(state, agreement):
            refused = f'"{action.label}" is not possible as the agreement stands now.'
            return problem(state, refused, back=url("subscriptions", agreement_id), status=409)
        return _ask(state, product, agreement, action, _fields(product, agreement, action))


def _perform(
    state: State, product: Product, agreement: Agreement, action: Action, form: dict[str, str]
) -> Response:
    body: Json = {}
    errors: dict[str, str] = {}
    if action.takes_quantities:
        body["quantities"], errors = read_quantities(product, form)
    if action.name == "replace":
        body["private_offer"] = "private_offer" in form
    if action.name == "auto_renew":
        body["on"] = form.get("on") == "true"
    if not errors:
        try:
            following = actions.perform(state, agreement, action.name, body)
        except Refused as refusal:
            errors = blame(refusal, {d.key: f"quantity-{d.key}" for d in product.entitled})
        else:
            return redirect(url("subscriptions", following.agreement_id) + f"?done={action.name}")
    shown = filled(_fields(product, agreement, action), form, errors)
    return _ask(state, product, agreement, action, shown, errors=errors, status=422)


def _fields(product: Product, agreement: Agreement, action: Action) -> list[Field]:
    if not action.takes_quantities:
        return []
    fields = quantity_fields(product, agreement.quantities[-1][1])
    if action.name == "replace":
        fields.append(Field("private_offer", "A private offer", kind="checkbox"))
    return fields


def _ask(
    state: State,
    product: Product,
    agreement: Agreement,
    action: Action,
    shown: list[Field],
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    marked = {field.name for field in shown if field.error}
    context = {
        "action": action,
        "action_url": url("subscriptions", agreement.agreement_id, action.name),
        "fields": shown,
        "errors": [text for name, text in (errors or {}).items() if name not in marked],
        "is_wrong": status != 200,
        "title": product.title,
        "agreement_id": agreement.agreement_id,
        "account": agreement.aws_account_id,
        "back": url("subscriptions", agreement.agreement_id),
        "hidden": [("on", "false" if agreement.auto_renew else "true")]
        if action.name == "auto_renew"
        else [],
    }
    return page(state, "action", context, status=status)
