"""Asking to join the workspace of one's AWS account, and the answers of those who run it."""

from __future__ import annotations

from allauth.decorators import rate_limit
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.access import TenantRequest, organization_required, role_required, workspace
from accounts.models import Membership, User
from accounts.organizations import RuleBroken
from billing import registration, tasks
from billing.models import JoinRequest
from billing.onboarding import joining
from billing.views.welcome import posted_arrival, to_confirm_the_address

_SHOWN = 50
_ADMINISTRATORS = (Membership.Role.OWNER, Membership.Role.ADMIN)


@never_cache
def ask(request: HttpRequest) -> HttpResponse:
    """One click on the welcome page, which mails the owners."""
    user = request.user
    if request.method != "POST":
        return redirect("billing:welcome")
    if not isinstance(user, User):
        return redirect_to_login(reverse("billing:welcome"))
    response: HttpResponse = _ask(request, user)
    return response


@rate_limit(action="join_request")  # type: ignore[untyped-decorator, no-untyped-call]  # allauth's
def _ask(request: HttpRequest, user: User) -> HttpResponse:
    arrival = posted_arrival(request, user)
    if arrival is None:
        messages.error(request, _("That purchase is not waiting for you any more. Open it from AWS again."))
        return redirect("billing:welcome")
    try:
        joining.ask(arrival, user=user, now=timezone.now())
    except registration.Unverified:
        return to_confirm_the_address(request)
    except registration.PurchaseOver:
        messages.error(request, _("This purchase failed or has ended: there is nothing to set up."))
    except RuleBroken as broken:
        messages.error(request, str(broken))
    else:
        tasks.ring(tasks.run_effects)
        messages.success(request, _("The owners have been asked. We write to you when they have answered."))
    return redirect("billing:welcome")


@never_cache
@organization_required
@role_required(*_ADMINISTRATORS)
def requests(request: TenantRequest) -> HttpResponse:
    """Who asks to join, and what became of those who did."""
    organization = request.membership.organization
    about = ("user", "answered_by", "registration__agreement__product", "registration__agreement__customer")
    answered = organization.join_requests.exclude(is_approved=None).order_by("-answered_at")
    frame = workspace(request)
    # That somebody asks is what the page itself says.
    frame["notices"] = [notice for notice in frame["notices"] if notice.url != request.path]
    context = {
        "open_requests": joining.open_to(organization).select_related(*about)[:_SHOWN],
        "answered_requests": answered.select_related(*about)[:_SHOWN],
    }
    return render(request, "billing/requests.html", {**frame, **context})


@never_cache
@require_POST
@organization_required
@role_required(*_ADMINISTRATORS)
def answer(request: TenantRequest, pk: int) -> HttpResponse:
    asked = get_object_or_404(JoinRequest, pk=pk, organization=request.membership.organization)
    approve = request.POST.get("answer") == "approve"
    if not approve and request.POST.get("answer") != "refuse":
        messages.error(request, _("Choose whether to approve or to refuse the request."))
        return redirect("billing:requests", request.membership.organization.slug)
    now = timezone.now()
    try:
        answered = joining.answer(asked, approve=approve, by=request.user, now=now)
    except registration.Unverified:
        return to_confirm_the_address(request)
    except RuleBroken as broken:
        messages.error(request, str(broken))
    else:
        tasks.ring(tasks.run_effects)
        _tell(request, answered, is_new=answered.answered_at == now)
    return redirect("billing:requests", request.membership.organization.slug)


def _tell(request: TenantRequest, answered: JoinRequest, *, is_new: bool) -> None:
    if not is_new:
        messages.info(request, _("That request has been answered already."))
    elif answered.is_approved:
        sentence = _("%(name)s is a member of the workspace now.")
        messages.success(request, sentence % {"name": answered.user})
    else:
        messages.success(request, _("The request was refused. Nobody was added."))
