"""The storefront: what is on sale, and the form by which a buyer buys it."""

from __future__ import annotations

from billing.simulator.aws.shapes import Json
from billing.simulator.catalog import Dimension, Product
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import purchases
from billing.simulator.pages.forms import Field, blame, filled
from billing.simulator.pages.purchase_form import ADVANCED, fields_by_refusal, purchase_fields, read_order
from billing.simulator.pages.render import money, page, url
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect

PRICING_NAMES = {
    "subscription": "Pay as you go",
    "contract": "Contract",
    "contract_with_consumption": "Contract with pay as you go beyond it",
}
_PRICING_EXPLAINED = {
    "subscription": "No commitment. What is used is metered by the hour and billed each month.",
    "contract": "Paid up front for a term. Nothing is metered.",
    "contract_with_consumption": "A term is paid up front; what is used beyond it is metered by the hour.",
}


def store(state: State, request: Request) -> Response:
    with state.lock:
        products = [_card(product) for product in state.products.values()]
    return page(state, "store", {"products": products, "host": request.host})


def product(state: State, code: str) -> Response:
    with state.lock:
        shown = purchase_fields(state, state.product(code))
    return _purchase_form(state, code, shown)


def subscribe(state: State, code: str, request: Request) -> Response:
    form = request.form
    with state.lock:
        product = state.product(code)
        order, errors = read_order(product, form)
        if not errors:
            try:
                purchase = purchases.subscribe(state, product_code=code, **order)
            except Refused as refusal:
                errors = blame(refusal, fields_by_refusal(product))
        shown = filled(purchase_fields(state, product), form, errors)
    if errors:
        general = [text for name, text in errors.items() if name not in {field.name for field in shown}]
        return _purchase_form(state, code, shown, errors=general, status=422)
    return redirect(url("subscriptions", purchase.agreement.agreement_id, "bought"))


def _purchase_form(
    state: State, code: str, shown: list[Field], *, errors: list[str] | None = None, status: int = 200
) -> Response:
    by_name = {field.name: field for field in shown}
    advanced = [by_name[name] for name in ADVANCED if name in by_name]
    context = {
        "product": _card(state.product(code)),
        "quantities": [field for field in shown if field.name.startswith("quantity-")],
        "buyer": [by_name[name] for name in ("aws_account_id", "known_account") if name in by_name],
        "terms": [by_name[name] for name in ("free_trial", "trial_days") if name in by_name],
        "advanced": advanced,
        "is_advanced": any(field.error or field.value for field in advanced),
        "errors": errors or [],
        "is_wrong": status != 200,
    }
    return page(state, "product", context, status=status)


def _card(product: Product) -> Json:
    return {
        "code": product.code,
        "title": product.title,
        "summary": product.summary,
        "pricing": PRICING_NAMES[product.pricing],
        "pricing_explained": _PRICING_EXPLAINED[product.pricing],
        "identity": product.identity,
        "url": url("products", product.code),
        "prices": [
            _price(dimension, "up front, per term") for dimension in product.entitled if product.is_contract
        ]
        + [_price(dimension, "as used, by the hour") for dimension in product.metered],
    }


def _price(dimension: Dimension, billed: str) -> Json:
    unit = dimension.unit.removesuffix("s") if dimension.unit else "unit"
    return {
        "key": dimension.key,
        "label": dimension.label,
        "unit": unit,
        "billed": billed,
        "price": money(dimension.price),
    }
