"""The pages of buying: arrival, claiming, the subscription. Each authorizes, calls one flow, answers."""

from __future__ import annotations

import logging

from allauth.decorators import rate_limit
from cryptography.x509.verification import Store
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.models import Membership, User
from billing import registration, sns_endpoint, tasks
from billing.arrivals import arrivals_of
from billing.aws.client import get_marketplace
from billing.aws.sns_signature import Fetch, download
from billing.error_reports import TOKEN_FIELD
from billing.forms import ClaimForm, registration_pk
from billing.subscriptions import subscriptions_of

logger = logging.getLogger(__name__)

OFFER_TYPE_FIELD = "x-amzn-marketplace-offer-type"

# What a failed arrival answers: the buyer's fault, ours, or nobody's.
_STATUS = {"missing": 400, "invalid": 400, "expired": 400, "foreign": 400, "unavailable": 503}


@csrf_exempt  # posted by the buyer's browser from AWS's site, which cannot know our CSRF token
@sensitive_post_parameters(TOKEN_FIELD)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    """The fulfillment URL. A GET answers 200, because AWS checks that; a POST brings a buyer."""
    if request.method != "POST":
        return render(request, "billing/register_help.html")
    response: HttpResponse = _arrive(request)
    return response


@rate_limit(action="marketplace_register")  # type: ignore[untyped-decorator, no-untyped-call]  # allauth's
@sensitive_variables()
def _arrive(request: HttpRequest) -> HttpResponse:
    try:
        arrival = registration.arrive(
            get_marketplace(),
            token=request.POST.get(TOKEN_FIELD, ""),
            free_trial_hint=request.POST.get(OFFER_TYPE_FIELD) == "free-trial",
            now=timezone.now(),
        )
    except registration.RegistrationRefused as refused:
        again = request.POST.get(TOKEN_FIELD, "") if refused.reason == "unavailable" else None
        return render(
            request,
            "billing/register_failed.html",
            {"reason": refused.reason, "token": again},
            status=_STATUS[refused.reason],
        )
    tasks.ring(tasks.run_effects)
    response = redirect("billing:welcome")
    response.status_code = 303
    registration.remember(response, arrival, secure=settings.SESSION_COOKIE_SECURE)
    return response


@never_cache
def welcome(request: HttpRequest) -> HttpResponse:
    """Shows what was bought, and asks who it is for."""
    return render(request, "billing/welcome.html", {"arrivals": arrivals_of(request)})


@never_cache
def claim(request: HttpRequest) -> HttpResponse:
    """The buyer's confirmation: from here on the purchase is their organization's."""
    user = request.user
    if request.method != "POST":  # a reloaded address, not a confirmation
        return redirect("billing:welcome")
    if not isinstance(user, User):
        return redirect_to_login(reverse("billing:welcome"))
    pk = registration_pk(request.POST.get("registration", ""))
    arrival = registration.of_visitor(request, pk, user=user) if pk is not None else None
    if arrival is None:
        messages.error(request, _("That purchase is not waiting for you any more. Open it from AWS again."))
        return redirect("billing:welcome")
    form = ClaimForm(request.POST, user=user, registration=arrival)
    if not form.is_valid():
        arrivals = arrivals_of(request, bound=form, bound_pk=pk)
        return render(request, "billing/welcome.html", {"arrivals": arrivals}, status=422)
    try:
        agreement = registration.claim(
            arrival, by=user, now=timezone.now(), organization=form.chosen, new_name=form.cleaned_data["name"]
        )
    except registration.AlreadyClaimed:
        messages.error(
            request, _("Somebody else was faster: this purchase belongs to another workspace now.")
        )
        return redirect("billing:welcome")
    except registration.Unverified:
        messages.error(request, _("Confirm your e-mail address first, then set up your purchase."))
        return redirect("account_email")
    except registration.PurchaseOver:
        messages.error(request, _("This purchase failed or has ended: there is nothing to set up."))
        return redirect("billing:welcome")
    except registration.ClaimRefused:
        messages.error(
            request, _("You cannot attach a purchase there. Ask an owner or admin of the workspace.")
        )
        return redirect("billing:welcome")
    tasks.ring(tasks.poll_events)
    messages.success(request, _("Your purchase is set up."))
    assert agreement.organization is not None
    response = redirect(agreement.organization)
    registration.forget(response, arrival)
    return response


@never_cache
def dismiss(request: HttpRequest) -> HttpResponse:
    """ "Not mine": a purchase that this browser was sent with, or that was remembered, is forgotten."""
    user = request.user
    if request.method != "POST":
        return redirect("billing:welcome")
    if not isinstance(user, User):
        return redirect_to_login(reverse("billing:welcome"))
    pk = registration_pk(request.POST.get("registration", ""))
    arrival = registration.of_visitor(request, pk, user=user) if pk is not None else None
    response = redirect("accounts:home")
    if arrival is not None:
        registration.dismiss(request, response, arrival, by=user)
    return response


@csrf_exempt  # posted by AWS SNS, which cannot know our CSRF token: its signature is verified instead
@never_cache
def sns(request: HttpRequest, *, fetch: Fetch = download, roots: Store | None = None) -> HttpResponse:
    """SNS's notifications over HTTPS. While SNS_ENDPOINT_TOPICS is empty there is no such address."""
    if not settings.SNS_ENDPOINT_TOPICS:
        raise Http404
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    topics = settings.SNS_ENDPOINT_TOPICS
    try:
        is_stored = sns_endpoint.receive(
            request.body, topics=topics, now=timezone.now(), fetch=fetch, roots=roots
        )
    except sns_endpoint.Refused as refused:
        logger.warning("Refused what was posted to the SNS endpoint. %s", refused)
        return HttpResponse(status=403)
    except sns_endpoint.Unreachable as error:
        logger.warning("What was posted to the SNS endpoint must come again. %s", error)
        return HttpResponse(status=503)
    if is_stored:
        tasks.ring(tasks.apply_events)
    return HttpResponse()


@organization_required
@role_required(Membership.Role.OWNER, Membership.Role.ADMIN)
def subscription(request: TenantRequest) -> HttpResponse:
    agreements = subscriptions_of(request.membership.organization, now=timezone.now())
    return render(request, "billing/subscription.html", {**workspace(request), "agreements": agreements})
