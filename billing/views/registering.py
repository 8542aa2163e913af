"""The fulfillment URL, to which AWS's site sends a buyer's browser with a token."""

from __future__ import annotations

import logging

from allauth.core import ratelimit
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods
from redis.exceptions import RedisError

from billing import registration, tasks
from billing.aws.client import get_marketplace
from billing.error_reports import TOKEN_FIELD
from billing.onboarding import visitors

logger = logging.getLogger(__name__)

OFFER_TYPE_FIELD = "x-amzn-marketplace-offer-type"
# Anybody may post here. A token has no upper bound that AWS names; those seen are far below this.
LARGEST_ARRIVAL = 128 * 1024

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
    response: HttpResponse = ratelimit.respond_429(request) if _is_too_often(request) else _arrive(request)
    # This cross-site POST came without our cookies: a form on the page that answers it (that of a rate limit
    # has the language switch) must not replace the CSRF cookie that other tabs use.
    request.META.pop("CSRF_COOKIE_NEEDS_UPDATE", None)
    return response


register.body_limit = LARGEST_ARRIVAL  # type: ignore[attr-defined]  # marketplace_saas.body_size reads it


def _is_too_often(request: HttpRequest) -> bool:
    """Nobody, while limits cannot be kept: a buyer who has just paid is not turned away for that."""
    try:
        return not ratelimit.consume(request, action="marketplace_register")
    except RedisError as error:
        logger.warning("Arrivals are not limited: Redis does not answer (%s)", type(error).__name__)
        return False


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
    visitors.remember(response, arrival, secure=settings.SESSION_COOKIE_SECURE)
    return response
