"""Pages for people: which address shows what. What a page cannot answer is a page too."""

from __future__ import annotations

from billing.simulator.errors import Refused
from billing.simulator.pages import action_pages, seller_pages, store_pages, subscription_pages
from billing.simulator.pages.render import problem, stylesheet
from billing.simulator.state import State
from billing.simulator.web import Request, Response


def answer(state: State, request: Request) -> Response:
    if request.method not in ("GET", "HEAD", "POST"):
        return problem(state, "Pages are read with GET and changed with POST.", status=405)
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
        return store_pages.store(state, request)
    if request.path == "/simulator.css":
        return stylesheet()
    if section == "products" and rest:
        return store_pages.subscribe(state, rest, request) if is_post else store_pages.product(state, rest)
    if section == "subscriptions":
        return _subscriptions(state, rest, request)
    return seller_pages.route(state, section, rest, request)


def _subscriptions(state: State, rest: str, request: Request) -> Response | None:
    agreement_id, _, name = rest.partition("/")
    if name in ("", "bought", "setup"):
        if request.method == "POST":
            return None
        if not agreement_id:
            return subscription_pages.manage(state, request)
        if not name:
            return subscription_pages.agreement(state, agreement_id, request)
        return subscription_pages.setup(state, agreement_id, is_new=name == "bought")
    return action_pages.answer(state, agreement_id, name, request)
