"""Pages for people: which address shows what, and the buyer's half (store, purchase, subscriptions)."""

from __future__ import annotations

from billing.simulator import control, purchases, seller_pages
from billing.simulator.catalog import Dimension, Product
from billing.simulator.errors import Refused
from billing.simulator.render import money, page, problem, readable, stylesheet, url
from billing.simulator.shapes import Json
from billing.simulator.state import State
from billing.simulator.web import Request, Response, redirect

_PRICING_NAMES = {
    "subscription": "Pay as you go",
    "contract": "Contract",
    "contract_with_consumption": "Contract with pay as you go beyond it",
}
OFFER_TYPE_TRIAL = "free-trial"


def answer(state: State, request: Request) -> Response:
    if request.method == "POST" and not _is_ours(request):
        return problem(state, "Forms of other sites are not accepted here.", status=403)
    try:
        response = _route(state, request)
    except Refused as refusal:
        return problem(state, str(refusal))
    return response or problem(state, "There is no such page.", status=404)


def _is_ours(request: Request) -> bool:
    """Browsers name the site a form was on; a page elsewhere must not buy or cancel here."""
    origin = request.header("Origin")
    return not origin or origin.rpartition("://")[2] == request.host


def _route(state: State, request: Request) -> Response | None:
    section, _, rest = request.path.strip("/").partition("/")
    is_post = request.method == "POST"
    if section == "" and not is_post:
        return _store(state)
    if request.path == "/simulator.css":
        return stylesheet()
    if section == "products" and rest:
        return _subscribe(state, rest, request) if is_post else _product(state, rest)
    if section == "subscriptions":
        return _subscriptions(state, rest, is_post=is_post)
    return seller_pages.route(state, section, rest, request)


def _store(state: State) -> Response:
    with state.lock:
        products = [_card(product) for product in state.products.values()]
    return page(state, "store", {"products": products})


def _card(product: Product) -> Json:
    return {
        "code": product.code,
        "title": product.title,
        "summary": product.summary,
        "pricing": _PRICING_NAMES[product.pricing],
        "identity": product.identity,
        "url": url("products", product.code),
        "entitled": [_offer(dimension) for dimension in product.entitled] if product.is_contract else [],
        "metered": [_offer(dimension) for dimension in product.metered],
    }


def _offer(dimension: Dimension) -> Json:
    return {
        "key": dimension.key,
        "label": dimension.label,
        "unit": dimension.unit,
        "price": money(dimension.price),
        "type": dimension.value_type,
        "default": str(dimension.default_quantity),
        "is_on": dimension.default_quantity is True,
    }


def _product(state: State, code: str) -> Response:
    with state.lock:
        product = state.product(code)
    # A new buyer each time: a second purchase by the same one is a matter of typing its account.
    return page(state, "product", {"product": _card(product), "account": purchases.random_account_id()})


def _subscribe(state: State, code: str, request: Request) -> Response:
    form = request.form
    with state.lock:
        product = state.product(code)
        sold = product.entitled if product.is_contract else []
        # An unticked box is not sent at all; it still means "no".
        quantities = {dimension.key: form.get(f"quantity-{dimension.key}", "") for dimension in sold}
        purchase = purchases.subscribe(
            state,
            product_code=code,
            aws_account_id=form.get("aws_account_id", "").strip() or None,
            quantities=quantities,
            free_trial="free_trial" in form,
        )
    return redirect(url("subscriptions", purchase.agreement.agreement_id, "bought"))


def _subscriptions(state: State, rest: str, *, is_post: bool) -> Response | None:
    if not rest and not is_post:
        return _manage(state)
    agreement_id, _, action = rest.partition("/")
    if action == "cancel" and is_post:
        with state.lock:
            purchases.cancel(state, state.agreement(agreement_id))
        return redirect(url("subscriptions"))
    if action in ("bought", "setup") and not is_post:
        return _setup(state, agreement_id, is_new=action == "bought")
    return None


def _manage(state: State) -> Response:
    accounts: dict[str, list[Json]] = {}
    with state.lock:
        for agreement in reversed(list(state.agreements.values())):
            described = readable(control.describe(state, agreement))
            product = state.product(agreement.product_code)
            accounts.setdefault(agreement.aws_account_id, []).append(
                {
                    **described,
                    "title": product.title,
                    "quantities": _bought(product, described["quantities"]),
                    "setup_url": url("subscriptions", agreement.agreement_id, "setup"),
                    "cancel_url": url("subscriptions", agreement.agreement_id, "cancel"),
                }
            )
    shown = [{"id": account, "agreements": agreements} for account, agreements in accounts.items()]
    return page(state, "subscriptions", {"accounts": shown})


def _bought(product: Product, quantities: Json) -> list[Json]:
    labels = {dimension.key: dimension.label for dimension in product.entitled}
    words = {True: "yes", False: "no"}
    return [
        {"label": labels.get(key, key), "value": words[value] if isinstance(value, bool) else str(value)}
        for key, value in quantities.items()
    ]


def _setup(state: State, agreement_id: str, *, is_new: bool) -> Response:
    """Hand the buyer a fresh token and the button that carries it to the seller's site."""
    with state.lock:
        agreement = state.agreement(agreement_id)
        product = state.product(agreement.product_code)
        context = {
            "is_new": is_new,
            "title": product.title,
            "fulfillment_url": product.fulfillment_url or state.fulfillment_url,
            "token": purchases.issue_token(state, agreement),
            "offer_type": OFFER_TYPE_TRIAL if agreement.trial_ends_at else "",
            "agreement": readable(control.describe(state, agreement)),
        }
    return page(state, "setup", context)
