"""The pages of buying: arrival from AWS, claiming, the subscription. Each authorizes, calls one flow, answers."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import TenantRequest, organization_required, role_required
from accounts.adapter import get_adapter
from accounts.models import Membership, User
from billing import registration, tasks
from billing.arrivals import arrivals_of
from billing.aws.client import get_marketplace
from billing.forms import ClaimForm, registration_pk
from billing.subscriptions import subscriptions_of

TOKEN_FIELD = "x-amzn-marketplace-token"
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


@require_POST
@login_required
def claim(request: HttpRequest) -> HttpResponse:
    """The buyer's confirmation: from here on the purchase is their organization's."""
    user = request.user
    assert isinstance(user, User)
    pk = registration_pk(request.POST.get("registration", ""))
    mine = {waiting.pk: waiting for waiting in registration.waiting_for(request)}
    if pk is None or pk not in mine:
        messages.error(request, _("That purchase is not waiting for you any more. Open it from AWS again."))
        return redirect("billing:welcome")
    form = ClaimForm(request.POST, user=user, registration=mine[pk])
    if not form.is_valid():
        arrivals = arrivals_of(request, bound=form, bound_pk=pk)
        return render(request, "billing/welcome.html", {"arrivals": arrivals}, status=422)
    try:
        agreement = registration.claim(
            mine[pk], by=user, now=timezone.now(), organization=form.chosen, new_name=form.cleaned_data["name"]
        )
    except registration.AlreadyClaimed:
        return redirect("billing:welcome")
    except registration.ClaimRefused:
        messages.error(request, _("You cannot attach a purchase there. Ask an owner or admin of the workspace."))
        return redirect("billing:welcome")
    tasks.ring(tasks.poll_events)
    messages.success(request, _("Your purchase is set up."))
    assert agreement.organization is not None
    response = redirect(agreement.organization)
    registration.forget(response, mine[pk])
    return response


@organization_required
@role_required(Membership.Role.OWNER, Membership.Role.ADMIN)
def subscription(request: TenantRequest) -> HttpResponse:
    organization = request.membership.organization
    return render(
        request,
        "billing/subscription.html",
        {
            "organization": organization,
            "membership": request.membership,
            "nav_items": get_adapter().nav_items(organization, request.user),
            "agreements": subscriptions_of(organization),
        },
    )
