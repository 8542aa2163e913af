"""The welcome page: what was bought, and whose it is to be. Each view authorizes, calls one flow, answers."""

from __future__ import annotations

from typing import Any

from allauth.account import app_settings as allauth_settings
from allauth.account.forms import SignupForm
from allauth.utils import get_form_class
from django import forms
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from accounts.models import User
from billing import registration, tasks
from billing.arrivals import administered_by, arrivals_of
from billing.forms import ClaimForm, onboarding_form, registration_pk
from billing.models import Registration
from billing.onboarding import getting_ready, joining, visitors


@never_cache
def welcome(request: HttpRequest) -> HttpResponse:
    """Shows what was bought, and asks who it is for."""
    if isinstance(request.user, User):  # who came back signed in is remembered as who signs in now
        visitors.remember_for(request.user, request, now=timezone.now())
    return render(request, "billing/welcome.html", _what_waits(request))


@never_cache
def claim(request: HttpRequest) -> HttpResponse:
    """The buyer's confirmation: from here on the purchase is their organization's."""
    user = request.user
    if request.method != "POST":  # a reloaded address, not a confirmation
        return redirect("billing:welcome")
    if not isinstance(user, User):
        return redirect_to_login(reverse("billing:welcome"))
    arrival = posted_arrival(request, user)
    if arrival is None:
        messages.error(request, _("That purchase is not waiting for you any more. Open it from AWS again."))
        return redirect("billing:welcome")
    form = onboarding_form()(request.POST, organizations=administered_by(user), registration=arrival)
    if not form.is_valid():
        context = _what_waits(request, bound=form, bound_pk=arrival.pk)
        return render(request, "billing/welcome.html", context, status=422)
    try:
        agreement = registration.claim(
            arrival,
            by=user,
            now=timezone.now(),
            organization=form.chosen,
            new_name=form.cleaned_data["name"],
            answers=form.answers,
        )
    except registration.AlreadyClaimed:
        messages.error(
            request, _("Somebody else was faster: this purchase belongs to another workspace now.")
        )
        return redirect("billing:welcome")
    except registration.Unverified:
        return to_confirm_the_address(request)
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
    organization = agreement.organization
    assert organization is not None
    response = (
        redirect("billing:waiting", organization.slug)
        if getting_ready.is_unsettled(agreement)
        else redirect(organization)
    )
    visitors.forget(response, arrival)
    return response


@never_cache
def dismiss(request: HttpRequest) -> HttpResponse:
    """ "Not mine": a purchase that this browser was sent with, or that was remembered, is forgotten."""
    user = request.user
    if request.method != "POST":
        return redirect("billing:welcome")
    if not isinstance(user, User):
        return redirect_to_login(reverse("billing:welcome"))
    arrival = posted_arrival(request, user)
    response = redirect("accounts:home")
    if arrival is not None:
        visitors.dismiss(request, response, arrival, by=user)
    return response


def posted_arrival(request: HttpRequest, user: User) -> Registration | None:
    """The arrival that a form on the welcome page is about, if it is this visitor's."""
    pk = registration_pk(request.POST.get("registration", ""))
    return visitors.of_visitor(request, pk, user=user) if pk is not None else None


def to_confirm_the_address(request: HttpRequest) -> HttpResponse:
    messages.error(request, _("Confirm your e-mail address first, then set up your purchase."))
    return redirect("account_email")


def _what_waits(
    request: HttpRequest, *, bound: ClaimForm | None = None, bound_pk: int | None = None
) -> dict[str, Any]:
    arrivals = arrivals_of(request, now=timezone.now(), bound=bound, bound_pk=bound_pk)
    context: dict[str, Any] = {"arrivals": arrivals}
    if not isinstance(request.user, User):
        context["sign_up"] = _sign_up_form() if any(not each.over for each in arrivals) else None
    elif not arrivals:
        context["asked"] = joining.open_of(request.user).first()
    return context


def _sign_up_form() -> forms.Form:
    """allauth's own, to be posted to allauth's own page, which shows what is wrong with it."""
    form_class = get_form_class(allauth_settings.FORMS, "signup", SignupForm)  # type: ignore[no-untyped-call]  # allauth's
    form: forms.Form = form_class()
    return form
